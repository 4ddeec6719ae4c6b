//! What the program prints for people and programs that write configurations: warnings, the schema, completions and
//! manual pages.

use std::process::Command;

use crate::support::binary::{Binary, Builder};
use crate::support::files::TempFile;
use crate::support::upstream::Upstream;

const COMMANDS: [&str; 12] = [
    "run",
    "check",
    "demo",
    "drain",
    "health",
    "channels",
    "subscribers",
    "publish",
    "inject",
    "schema",
    "completions",
    "man",
];

#[tokio::test]
async fn check_and_the_start_tell_what_does_nothing_where_it_stands() {
    let text = "policy:\n  delivery: {throttle: {key: /a}}\nroutes:\n  - path: /{*rest}\n    name: all\n  - path: /ws\n";
    let file = TempFile::new("idle.yaml", text);
    let expected = [
        format!(
            "outrigger: warning: {}:2:14: policy.delivery.throttle does nothing: only routes of mode broadcast read it; \
             set mode: broadcast on a route, or leave it out",
            file.path()
        ),
        format!(
            "outrigger: warning: {}:6:5: routes[1].path does nothing: routes[0] (all) stands before it and takes all of \
             its requests; put it before that one, or leave it out",
            file.path()
        ),
    ];
    let output = Builder::new(&["check", "--config", file.path()]).output().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(output.stderr.lines().collect::<Vec<_>>(), expected);
    assert!(output.stdout.contains("throttle:"), "{}", output.stdout);

    let upstream = Upstream::echo().await;
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", &upstream.url()];
    let mut running = Builder::new(&["run", "--config", file.path()]).args(&ports).spawn();
    let line = running.line_with("policy.delivery.throttle does nothing").await;
    assert!(line.contains("WARN"), "{line}");
    running.line_with("routes[1].path does nothing").await;
    running.line_with("ready").await;
}

#[tokio::test]
async fn a_quiet_check_prints_problems_and_warnings_only() {
    let good = TempFile::new("quiet.yaml", "drain: {spread: 1s}\n");
    let idle = TempFile::new("quiet-idle.yaml", "policy: {compression: deflate}\n");
    let bad = TempFile::new("quiet-bad.yaml", "drain: {sprad: 1s}\n");
    for (file, code, said) in
        [(&good, 0, ""), (&idle, 0, "compression does nothing"), (&bad, 2, "did you mean `spread`?")]
    {
        for flag in ["--quiet", "-q"] {
            let output = Builder::new(&["check", flag, "--config", file.path()]).output().await;
            assert_eq!((output.code, output.stdout.as_str()), (Some(code), ""), "{}", output.stderr);
            assert!(
                output.stderr.contains(said) && output.stderr.is_empty() == said.is_empty(),
                "{}",
                output.stderr
            );
        }
    }
}

#[tokio::test]
async fn a_check_without_a_file_prints_a_starter_that_editors_know_and_check_takes() {
    let starter = Builder::new(&["check"]).output().await;
    let first = "# yaml-language-server: $schema=outrigger.schema.json\n";
    assert!(starter.stdout.starts_with(first), "{}", starter.stdout);
    let file = TempFile::new("starter.yaml", &starter.stdout);
    let again = Builder::new(&["check", "--config", file.path()]).output().await;
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""));
    assert!(starter.stdout.ends_with(&again.stdout), "{}", again.stdout);
    assert!(again.stdout.starts_with("listen:\n"), "{}", again.stdout);
}

#[tokio::test]
async fn the_schema_is_printed_and_each_file_that_is_shipped_names_it() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let output = Builder::new(&["schema"]).output().await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    let on_file = std::fs::read_to_string(root.join("outrigger.schema.json")).expect("it is shipped");
    assert!(output.stdout == on_file, "UPDATE_GOLDEN=1 cargo test --lib schema writes it anew");
    let examples = std::fs::read_dir(root.join("examples")).expect("it is a folder");
    let examples = examples.map(|entry| entry.expect("it can be read").path());
    let yaml = examples.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let mut named = 0;
    for path in yaml.chain([root.join("outrigger.yaml")]) {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        if is_no_configuration(&text) {
            continue;
        }
        let first = text.lines().next().unwrap_or_default();
        let schema = first.strip_prefix("# yaml-language-server: $schema=");
        let schema = schema.unwrap_or_else(|| panic!("{} does not begin with its schema", path.display()));
        let target = path.parent().expect("it is in a folder").join(schema);
        assert!(target.exists(), "{}: {schema} leads nowhere", path.display());
        named += 1;
    }
    assert!(named > 5, "only {named}");
}

/// Files for other programs stand beside the examples.
fn is_no_configuration(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("services:"))
}

#[tokio::test]
async fn completions_name_every_command_and_bash_can_source_them() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = Builder::new(&["completions", shell]).output().await;
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{shell}");
        for command in COMMANDS {
            assert!(output.stdout.contains(command), "{shell}: no {command}");
        }
        if shell == "bash" {
            let file = TempFile::new("completions.bash", &output.stdout);
            let checked = Command::new("bash").args(["-n", file.path()]).output().expect("bash is there");
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
            // It registers itself, and knows what may follow.
            let script = format!(
                "source {}; complete -p outrigger; COMP_WORDS=(outrigger sch); COMP_CWORD=1; _outrigger outrigger sch \
                 outrigger; echo \"${{COMPREPLY[@]}}\"",
                file.path()
            );
            let sourced = Command::new("bash").args(["-c", &script]).output().expect("bash is there");
            let said = String::from_utf8_lossy(&sourced.stdout);
            assert!(said.contains("-F _outrigger") && said.trim_end().ends_with("schema"), "{said}");
        }
    }
    let wrong = Builder::new(&["completions", "tcsh"]).output().await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""));
    assert!(wrong.stderr.contains("zsh"), "{}", wrong.stderr);
}

#[tokio::test]
async fn the_manual_has_a_page_for_the_program_and_one_for_each_command() {
    let page = Builder::new(&["man"]).output().await;
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    assert!(page.stdout.contains(".TH outrigger 1"), "{}", page.stdout);
    for command in COMMANDS {
        assert!(page.stdout.contains(&format!("outrigger\\-{command}(1)")), "{command}: {}", page.stdout);
        let own = Builder::new(&["man", command]).output().await;
        assert_eq!(own.code, Some(0), "{command}: {}", own.stderr);
        assert!(own.stdout.contains(&format!(".TH outrigger-{command} 1")), "{command}: {}", own.stdout);
    }
    let check = Builder::new(&["man", "check"]).output().await.stdout;
    assert!(check.contains("\\-\\-quiet") && check.contains("\\-\\-config"), "{check}");
    let wrong = Builder::new(&["man", "walk"]).output().await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(1), ""));
    assert!(wrong.stderr.contains("there is no command \"walk\"; there are run, check"), "{}", wrong.stderr);
}

#[tokio::test]
async fn a_reload_tells_what_does_nothing() {
    let upstream = Upstream::echo().await;
    let file = TempFile::new("reloaded.yaml", "drain: {spread: 0s}\n");
    let args = ["run", "--config", file.path(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut running: Binary = Builder::new(&args).args(&["--upstream", &upstream.url()]).spawn();
    running.line_with("ready").await;
    std::fs::write(file.path(), "policy: {history: {messages: 7}}\n").expect("it can be written");
    let line = running.line_with("policy.history.messages does nothing").await;
    assert!(line.contains("WARN"), "{line}");
}
