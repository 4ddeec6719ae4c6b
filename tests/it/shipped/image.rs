//! The image that the Dockerfile makes, without a registry and without a builder: the files of its last stage are
//! laid out as its COPY lines say, and the program runs with that tree as its root, read-only, as nobody.
//!
//! The binary is this build's, or the one that `OUTRIGGER_IMAGE_BINARY` names (a static one, as the Dockerfile builds
//! it: `cargo build --release --target x86_64-unknown-linux-musl`). What a dynamic one is linked with is laid beside
//! it, which the image does not do: there it is static.
//!
//! Another root and mounts take root's rights; where they are missing the test says so (`support::wanted`).

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::wait::eventually;
use crate::support::wanted;

/// One line of a Dockerfile, continuations put together.
#[derive(Debug)]
struct Instruction {
    name: String,
    rest: String,
}

#[test]
fn the_last_stage_is_a_program_for_nobody_and_no_system() {
    let stages = stages();
    let last = stages.last().unwrap();
    let the = |name: &str| {
        let found =
            Vec::from_iter(last.iter().filter(|line| line.name == name).map(|line| line.rest.as_str()));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    };
    assert_eq!(the("FROM"), "scratch");
    let (user, group) = the("USER").split_once(':').unwrap();
    assert!(
        user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0,
        "a number tells what it is"
    );
    assert_eq!(the("ENTRYPOINT"), r#"["/outrigger"]"#);
    assert_eq!(the("CMD"), r#"["run"]"#);
    assert_eq!(the("EXPOSE"), "8080", "the port of the default configuration");
    for label in ["title", "description", "licenses", "version", "revision", "source"] {
        assert!(the("LABEL").contains(&format!("org.opencontainers.image.{label}=")), "{label}");
    }
    let version = last.iter().find_map(|line| line.rest.strip_prefix("VERSION=")).unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    // Kubernetes has probes of its own, and there is no shell for anything else.
    for name in ["HEALTHCHECK", "RUN", "SHELL", "ADD"] {
        assert!(last.iter().all(|line| line.name != name), "{name}");
    }
}

#[test]
fn what_the_dockerfile_copies_is_sent_to_the_builder() {
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    let sent = Vec::from_iter(ignored.lines().filter_map(|line| line.strip_prefix('!')));
    assert!(ignored.lines().any(|line| line == "*"), "the rest is not");
    let mut copied = Vec::new();
    for line in stages().iter().flatten().filter(|line| line.name == "COPY" && !line.rest.contains("--from"))
    {
        let words = Vec::from_iter(line.rest.split(' '));
        copied.extend(words[..words.len() - 1].iter().map(|word| word.trim_end_matches('/').to_owned()));
    }
    for path in &copied {
        assert!(root().join(path).exists(), "{path} does not exist");
        assert!(sent.contains(&path.as_str()), ".dockerignore keeps {path} back");
    }
    assert_eq!(copied.len(), sent.len(), "left: copied, right: sent: {copied:?} {sent:?}");
}

#[test]
fn the_build_stage_knows_every_target_and_a_compiler_that_is_new_enough() {
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let after = |text: &str, start: &str| {
        text.split_once(start).unwrap().1.chars().take_while(|c| !"\"\n".contains(*c)).collect::<String>()
    };
    let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    let (used, needed) = (after(&dockerfile, "ARG RUST_VERSION="), after(&manifest, "rust-version = \""));
    assert!(minor(&used) >= minor(&needed), "{used} is older than {needed}");
    // Cargo wants a file for each target that the manifest names, whether it is built or not.
    for section in manifest.split("[[bench]]").skip(1) {
        let bench = format!("benches/{}.rs", after(section, "name = \""));
        assert!(dockerfile.contains(&bench), "{bench} has nothing in its place");
    }
    // What is compiled is in src/, or copied beside it.
    let outside = std::process::Command::new("grep")
        .args(["-rnE", r#"include_(str|bytes)!\("(\.\./){2}"#, "src", "--include=*.rs"])
        .current_dir(root())
        .output()
        .unwrap();
    for line in String::from_utf8(outside.stdout).unwrap().lines() {
        let (file, rest) = line.split_once(':').unwrap();
        let number: usize = rest.split(':').next().unwrap().parse().unwrap();
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let is_test =
            text.lines().take(number).any(|line| line.trim() == "#[cfg(test)]") || file.contains("tests");
        let named = rest.split('"').nth(1).unwrap();
        let included = root().join(file).parent().unwrap().join(named).canonicalize().unwrap();
        let is_copied = |line: &Instruction| {
            let mut sources = line.rest.split(' ').map(|source| root().join(source).canonicalize());
            line.name == "COPY" && sources.any(|source| source.is_ok_and(|source| source == included))
        };
        assert!(is_test || stages()[0].iter().any(is_copied), "{line} is not in the image's context");
    }
}

#[tokio::test]
async fn the_program_runs_in_a_read_only_root_as_nobody() {
    let Some(tree) = Tree::new().await else { return };
    let version = tree.output(&["--version"]).await;
    assert_eq!(version, format!("outrigger {}\n", env!("CARGO_PKG_VERSION")));
    let checked = tree.output(&["check", "--config", "/etc/outrigger/config/outrigger.yaml"]).await;
    assert!(checked.contains("127.0.0.1:0"), "{checked}");

    let mut running = tree.start(&["run", "--config", "/etc/outrigger/config/outrigger.yaml"]);
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("\"ready\"") {
                return serde_json::from_str::<serde_json::Value>(&line).unwrap();
            }
        }
        panic!("it ended before it was ready");
    };
    let ready = timeout(DEADLINE, ready).await.expect("it is ready in time");
    let address = |key: &str| ready[key].as_str().unwrap().parse::<SocketAddr>().unwrap();
    let ask = async |path: &'static str| {
        let dial = RawClient::plain(address("admin")).path(path).header("Connection", "close");
        dial.answer().await.response
    };
    assert_eq!(ask("/healthz").await.status(), 200);
    // The line in the log comes a moment before the state.
    eventually(DEADLINE, || async { ask("/readyz").await.status() == 200 }).await;
    let metrics = ask("/metrics").await.text();
    assert!(metrics.contains("outrigger_clients{") && metrics.contains("process_open_fds"), "{metrics}");
    // Nobody is behind it, and it says so.
    let refused = RawClient::plain(address("listen")).header("Connection", "close").answer().await.response;
    assert_eq!(refused.status(), 502);

    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id().unwrap())).unwrap();
    let ids = |key: &str| status.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let user = tree.user.split(':').next().unwrap();
    assert!(ids("Uid:").split_whitespace().skip(1).all(|id| id == user), "{status}");
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", running.id().unwrap())).unwrap();
    let of_root = mounts.lines().map(|line| Vec::from_iter(line.split(' '))).rfind(|line| line[1] == "/");
    assert!(of_root.is_some_and(|line| line[3].split(',').any(|option| option == "ro")), "{mounts}");

    // As the preStop hook does it, and then the kubelet.
    let admin = format!("http://{}", address("admin"));
    assert_eq!(tree.output(&["drain", "--wait", "--admin", &admin]).await, "drained\n");
    crate::support::binary::signal(running.id().unwrap(), "TERM").await;
    let status = timeout(DEADLINE, running.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(tree.files(), tree.laid_out, "something was written");
}

/// The files of the last stage, and what a kubelet adds: a configuration, and `/proc`.
struct Tree {
    root: PathBuf,
    user: String,
    laid_out: Vec<PathBuf>,
}

impl Tree {
    /// `None` where this cannot be done here.
    async fn new() -> Option<Self> {
        let may = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status().await;
        if !may.is_ok_and(|status| status.success()) {
            wanted::cannot_run(
                "another root and mounts take root's rights, and unshare, which util-linux has. As root: \
                 `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='sudo -E' cargo test --test it image`",
            );
            return None;
        }
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("image-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let binary = std::env::var_os("OUTRIGGER_IMAGE_BINARY")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_outrigger")), PathBuf::from);
        let stages = stages();
        let last = stages.last().unwrap();
        for line in last.iter().filter(|line| line.name == "COPY") {
            let words = Vec::from_iter(line.rest.split(' ').filter(|word| !word.starts_with("--")));
            let [from, to] = words[..] else { panic!("one file at a time: {line:?}") };
            let is_built = line.rest.contains("--from=build");
            let source = match from {
                "/outrigger" => binary.clone(),
                "/etc/ssl/certs/ca-certificates.crt" if !Path::new(from).exists() => continue,
                from if is_built => PathBuf::from(from),
                from => self::root().join(from),
            };
            lay(&source, &root, to);
        }
        for library in libraries(&binary).await {
            lay(&library, &root, library.to_str().unwrap());
        }
        // Unlike a container's, this root has the network of the machine: ports are the system's choice.
        let config = "listen: {address: '127.0.0.1:0'}\nadmin: {address: '127.0.0.1:0'}\n\
                      upstream: {url: 'http://127.0.0.1:9'}\ndrain: {spread: 0s}\n";
        let folder = root.join("etc/outrigger/config");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.join("proc")).unwrap();
        std::fs::write(folder.join("outrigger.yaml"), config).unwrap();
        let user = last.iter().find(|line| line.name == "USER").unwrap().rest.clone();
        let mut tree = Self { root, user, laid_out: Vec::new() };
        tree.laid_out = tree.files();
        Some(tree)
    }

    /// Starts the program in there. Every command before it becomes the next one, so that the child is the program.
    fn start(&self, args: &[&str]) -> Child {
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && \
                      mount -t proc proc \"$0/proc\" && user=$1 && shift && \
                      exec chroot --userspec=\"$user\" \"$0\" /outrigger \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(&self.root).arg(&self.user).args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// Runs it to its end, which has to be a good one.
    async fn output(&self, args: &[&str]) -> String {
        let output = timeout(DEADLINE, self.start(args).wait_with_output()).await.expect("it ends").unwrap();
        assert!(output.status.success(), "{args:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                }
                found.push(path);
            }
        }
        let mut found = Vec::new();
        walk(&self.root, &mut found);
        found.sort();
        found
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // The mounts went with their namespace.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn lay(source: &Path, root: &Path, to: &str) {
    let target = root.join(to.trim_start_matches('/'));
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::copy(source, &target).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    // As COPY leaves it: root's, and readable for all.
    let mode = std::fs::metadata(source).unwrap().mode() & 0o755;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What a binary is linked with at run time; nothing if it is static.
async fn libraries(binary: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(binary).output().await.expect("there is ldd");
    let said = String::from_utf8(output.stdout).unwrap();
    let is_path = |word: &&str| word.starts_with('/');
    let found = Vec::from_iter(said.lines().filter_map(|line| line.split_whitespace().find(is_path)));
    let wanted = std::env::var_os("OUTRIGGER_IMAGE_BINARY").is_none();
    assert!(wanted || found.is_empty(), "the image's binary has to be static: {said}");
    found.into_iter().map(PathBuf::from).collect()
}

/// The stages of the Dockerfile, each from its FROM on.
fn stages() -> Vec<Vec<Instruction>> {
    let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", "");
    let mut stages: Vec<Vec<Instruction>> = Vec::new();
    for line in joined.lines() {
        let (name, rest) = line.split_once(' ').unwrap();
        if name == "FROM" {
            stages.push(Vec::new());
        }
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = Instruction { name: name.to_owned(), rest };
        // What stands before the first FROM are its arguments.
        if let Some(stage) = stages.last_mut() {
            stage.push(line);
        }
    }
    assert_eq!(stages.len(), 2, "{stages:?}");
    stages
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
