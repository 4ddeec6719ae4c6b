//! Commands in the documents: ours have to be what the program takes; of the others at least their names are known.

use clap::Parser;

use super::blocks::root;

/// Commands of others. One that is not here is told as a problem: it may be a misspelling of ours.
const OTHERS: &[&str] = &[
    "apt",
    "apt-get",
    "cargo",
    "cosign",
    "curl",
    "cut",
    "docker",
    "export",
    "gh",
    "helm",
    "install",
    "journalctl",
    "kubectl",
    "man",
    "openssl",
    "printf",
    "sha256sum",
    "source",
    "sudoedit",
    "systemctl",
    "tar",
];

/// Whether each command of a block is one.
pub(super) fn check(text: &str) -> Result<(), String> {
    let has_prompts = text.lines().any(|line| line.starts_with("$ "));
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        // Where there are prompts, what has none is an answer.
        let line = match (has_prompts, line.strip_prefix("$ ")) {
            (true, None) => continue,
            (_, Some(command)) => command,
            (false, None) => line,
        };
        let line = line.split(" # ").next().unwrap_or_default();
        for words in commands(line) {
            command(&words)?;
        }
    }
    Ok(())
}

/// The commands of a line, each in its words: split at pipes and lists, also those in `$( … )`.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), String::new(), None);
    let mut chars = line.chars().peekable();
    // A word ends; with `is_over` the command does, too.
    let mut end = |word: &mut String, words: &mut Vec<String>, is_over: bool| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
        if is_over && !words.is_empty() {
            all.push(std::mem::take(words));
        }
    };
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '$') if chars.peek() == Some(&'(') => {
                chars.next();
                let mut depth = 1;
                let inner: String = chars
                    .by_ref()
                    .take_while(|c| {
                        depth += i32::from(*c == '(') - i32::from(*c == ')');
                        depth > 0
                    })
                    .collect();
                word.push_str("$()");
                let mut kept = (std::mem::take(&mut word), std::mem::take(&mut words));
                end(&mut word, &mut words, true);
                for command in commands(&inner) {
                    words = command;
                    end(&mut word, &mut words, true);
                }
                std::mem::swap(&mut word, &mut kept.0);
                std::mem::swap(&mut words, &mut kept.1);
            }
            (None, '|' | '&' | ';') => end(&mut word, &mut words, true),
            (None, c) if c.is_whitespace() => end(&mut word, &mut words, false),
            (_, c) => word.push(c),
        }
    }
    end(&mut word, &mut words, true);
    all
}

/// One command. Variables before it are left out, as a shell does.
fn command(words: &[String]) -> Result<(), String> {
    let is_variable = |word: &&String| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
        })
    };
    let words: Vec<&str> = words.iter().skip_while(is_variable).map(String::as_str).collect();
    let Some((&name, rest)) = words.split_first() else { return Ok(()) };
    let is_ours = |word: &str| word.rsplit('/').next() == Some("outrigger");
    // What runs another program is judged by that.
    let ours = match name {
        _ if is_ours(name) => Some(rest),
        "sudo" => return command(&rest.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()),
        "cargo" | "kubectl" | "docker" => {
            let inner = rest.iter().position(|word| *word == "--").map(|at| &rest[at + 1..]);
            match rest.first() {
                Some(&"run") if name == "cargo" => inner,
                _ => inner
                    .filter(|inner| inner.first().is_some_and(|word| is_ours(word)))
                    .map(|inner| &inner[1..]),
            }
        }
        _ => None,
    };
    if let Some(args) = ours {
        // What a shell would put elsewhere is no argument.
        let args = args.iter().take_while(|word| !word.starts_with(['>', '<']));
        return outrigger::cli::Cli::try_parse_from(std::iter::once(&"outrigger").chain(args))
            .map(drop)
            .or_else(|error| if error.use_stderr() { Err(error.to_string()) } else { Ok(()) });
    }
    match name {
        "make" => rest.iter().try_for_each(|target| target_of_make(target)),
        _ if OTHERS.contains(&name) => Ok(()),
        _ => Err(format!("{name} is no command that is known; see tests/recipes/shell.rs")),
    }
}

fn target_of_make(target: &str) -> Result<(), String> {
    let makefile = std::fs::read_to_string(root().join("Makefile")).map_err(|error| error.to_string())?;
    let is_there =
        makefile.lines().any(|line| line.strip_prefix(target).is_some_and(|rest| rest.starts_with(':')));
    is_there.then_some(()).ok_or_else(|| format!("the Makefile has no {target}"))
}

#[test]
fn a_line_is_taken_apart_as_a_shell_does() {
    for (line, expected) in [
        ("a b 'c d' \"e f\"", vec![vec!["a", "b", "c d", "e f"]]),
        ("a | b && c; d", vec![vec!["a"], vec!["b"], vec!["c"], vec!["d"]]),
        ("x=$(a | b -c) d", vec![vec!["a"], vec!["b", "-c"], vec!["x=$()", "d"]]),
        ("a \"$(b $(c))\"", vec![vec!["c"], vec!["b", "$()"], vec!["a", "$()"]]),
    ] {
        assert_eq!(commands(line), expected, "{line}");
    }
}
