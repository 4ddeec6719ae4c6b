//! The steps of a release, in `scripts/release/`: those that can be taken here are taken. And what is said of the messages of
//! commits, by `scripts/check-commits.sh`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::{end, folder, good, read, root, skipped, tool};

fn scripts() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("scripts/release")).unwrap();
    let mut scripts = Vec::from_iter(entries.map(|entry| entry.unwrap().path()));
    scripts.sort();
    assert!(scripts.len() > 5, "{scripts:?}");
    scripts
}

fn run(tree: &Path, script: &str, args: &[&str]) -> (Option<i32>, String) {
    end(Command::new(tree.join("scripts/release").join(script)).args(args).current_dir("/"))
}

#[test]
fn every_script_is_executable_and_says_how_it_is_called() {
    for path in scripts() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#!/usr/bin/env bash\n#"), "{name}");
        assert!(text.contains("\nset -euo pipefail\n"), "{name}");
        assert!(
            text.contains(&format!("#   scripts/release/{name}")),
            "{name} does not say how it is called"
        );
        good(Command::new("bash").arg("-n").arg(&path));
    }
}

#[test]
fn the_linter_finds_nothing_in_the_scripts() {
    if skipped() {
        return;
    }
    let others = [".ci/run", "scripts/check-commits.sh", "scripts/setup-tests.sh"];
    good(tool("shellcheck").args(scripts()).args(others));
}

/// A copy of what tells a version, and of the scripts, which look around where they are.
fn tree(name: &str) -> PathBuf {
    let tree = folder(name);
    for file in [
        "Cargo.toml",
        "Dockerfile",
        "CHANGELOG.md",
        "helm/outrigger/Chart.yaml",
        "config/examples/docker-compose.yaml",
    ] {
        std::fs::create_dir_all(tree.join(file).parent().unwrap()).unwrap();
        std::fs::write(tree.join(file), read(file)).unwrap();
    }
    std::fs::create_dir_all(tree.join("scripts/release")).unwrap();
    for script in scripts() {
        std::fs::copy(&script, tree.join("scripts/release").join(script.file_name().unwrap())).unwrap();
    }
    tree
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{}: {from}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_tag_that_is_not_the_version_everywhere_makes_no_release() {
    let version = env!("CARGO_PKG_VERSION");
    let tag = format!("v{version}");
    assert_eq!(run(root(), "version.sh", &[]), (Some(0), format!("{version}\n")));

    let tree = tree("version");
    let changelog = tree.join("CHANGELOG.md");
    let (code, said) = run(&tree, "version.sh", &[&tag]);
    let is_released = read("CHANGELOG.md").contains(&format!("\n## {version}"));
    if !is_released {
        assert_eq!(code, Some(1));
        assert!(said.contains("CHANGELOG.md has no heading"), "{said}");
        let heading = format!("## Unreleased\n\n## {version} (2030-01-02)\n");
        replace(&changelog, "## Unreleased\n", &heading);
    }
    assert_eq!(run(&tree, "version.sh", &[&tag]), (Some(0), format!("{version}\n")));
    for wrong in ["v9.9.9", version] {
        let (code, said) = run(&tree, "version.sh", &[wrong]);
        assert_eq!(code, Some(1), "{wrong}: {said}");
    }
    // Each place where it stands is looked at.
    for (file, from) in [
        ("Dockerfile", format!("ARG VERSION={version}")),
        ("helm/outrigger/Chart.yaml", format!("\nversion: {version}")),
        ("helm/outrigger/Chart.yaml", format!("\nappVersion: {version}")),
        ("config/examples/docker-compose.yaml", format!("    image: outrigger:{version}")),
    ] {
        let before = std::fs::read_to_string(tree.join(file)).unwrap();
        replace(&tree.join(file), &from, &from.replace(version, "9.9.9"));
        let (code, said) = run(&tree, "version.sh", &[&tag]);
        assert_eq!(code, Some(1), "{from}");
        assert!(said.contains(file) && said.contains("9.9.9"), "{said}");
        std::fs::write(tree.join(file), before).unwrap();
    }

    // The notes are what stands under that heading, and not what stands under the next.
    let (code, notes) = run(&tree, "notes.sh", &[version]);
    assert_eq!(code, Some(0), "{notes}");
    assert!(!notes.contains("\n## ") && notes.contains("\n* ") && !notes.starts_with('\n'), "{notes}");
    replace(&changelog, &format!("\n## {version} "), "\n## 9.9.9 (2031-01-01)\n\n* Newer.\n\n## ");
    assert_eq!(run(&tree, "notes.sh", &["9.9.9"]), (Some(0), "* Newer.\n".into()));
    assert_eq!(run(&tree, "notes.sh", &["8.8.8"]).0, Some(1));
}

#[test]
fn an_archive_holds_what_the_document_says_and_is_the_same_each_time() {
    let folder = folder("pack");
    // Small, so that it is packed at once: it hands its questions on to the program.
    let binary = folder.join("built");
    let program = format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_outrigger"));
    std::fs::write(&binary, program).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o700)).unwrap();
    let target = "x86_64-unknown-linux-musl";
    let mut archives = Vec::new();
    for name in ["first", "second"] {
        let to = folder.join(name);
        let (code, said) = run(root(), "pack.sh", &[binary.to_str().unwrap(), target, to.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{said}");
        let path = PathBuf::from(said.trim());
        let name = format!("outrigger-{}-{target}.tar.gz", env!("CARGO_PKG_VERSION"));
        assert_eq!(path.file_name().unwrap().to_str(), Some(name.as_str()));
        archives.push(path);
    }
    assert_eq!(std::fs::read(&archives[0]).unwrap(), std::fs::read(&archives[1]).unwrap());
    good(Command::new("tar").arg("-xzf").arg(&archives[0]).arg("-C").arg(&folder));
    let tree = folder.join(format!("outrigger-{}-{target}", env!("CARGO_PKG_VERSION")));
    let told = good(Command::new(tree.join("outrigger")).arg("--version"));
    assert_eq!(told, format!("outrigger {}\n", env!("CARGO_PKG_VERSION")));
    for file in [
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "config/outrigger.yaml",
        "config/outrigger.schema.json",
        "config/examples/outrigger.service",
        "config/examples/docker-compose.yaml",
        "config/examples/node-ws.yaml",
        "rules/clients.yaml",
        "dashboards/outrigger.json",
        "man/outrigger.1",
        "man/outrigger-run.1",
        "completions/_outrigger",
    ] {
        assert!(tree.join(file).is_file(), "{file}");
    }
}

#[test]
fn every_command_has_a_page_and_shells_can_read_the_completions() {
    let folder = folder("extras");
    let (code, said) =
        run(root(), "extras.sh", &[env!("CARGO_BIN_EXE_outrigger"), folder.join("out").to_str().unwrap()]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let help = good(Command::new(env!("CARGO_BIN_EXE_outrigger")).arg("--help"));
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let page_of = |line: &str| match line.split_whitespace().next().unwrap() {
        "help" => "outrigger.1".to_owned(),
        name => format!("outrigger-{name}.1"),
    };
    let mut pages = Vec::from_iter(commands.lines().map(page_of));
    pages.sort();
    let man = folder.join("out/man");
    let entries = std::fs::read_dir(&man).unwrap();
    let mut found = Vec::from_iter(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
    found.sort();
    assert_eq!(found, pages, "left: made, right: commands");
    for page in found {
        let text = std::fs::read_to_string(man.join(&page)).unwrap();
        assert!(text.contains("\n.SH SYNOPSIS"), "{page}: {text}");
    }
    good(Command::new("bash").arg("-n").arg(folder.join("out/completions/outrigger")));
    for shell in ["_outrigger", "outrigger.fish"] {
        let text = std::fs::read_to_string(folder.join("out/completions").join(shell)).unwrap();
        assert!(text.contains("health"), "{shell}");
    }
}

#[test]
fn checksums_tell_a_file_that_has_changed() {
    let folder = folder("checksums");
    let empty = run(root(), "checksums.sh", &[folder.to_str().unwrap()]);
    assert_eq!(empty.0, Some(1), "of nothing there are none: {}", empty.1);
    for name in ["outrigger-1.tar.gz", "outrigger 1.deb"] {
        std::fs::write(folder.join(name), name).unwrap();
    }
    // Also when it was there already.
    for _ in 0..2 {
        assert_eq!(run(root(), "checksums.sh", &[folder.to_str().unwrap()]), (Some(0), String::new()));
    }
    let check =
        || end(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&folder));
    let (code, said) = check();
    assert_eq!((code, said.lines().count()), (Some(0), 2), "{said}");
    std::fs::write(folder.join("outrigger 1.deb"), "another").unwrap();
    assert_eq!(check().0, Some(1));
}

#[test]
fn releases_are_built_as_the_image_is() {
    let (dockerfile, build) = (read("Dockerfile"), read("scripts/release/build.sh"));
    let settings =
        dockerfile.lines().find_map(|line| line.strip_prefix("ENV CARGO_PROFILE_RELEASE_DEBUG=")).unwrap();
    assert!(build.contains(&format!("CARGO_PROFILE_RELEASE_DEBUG={settings}\n")), "{settings}");
    for page in ["LG_PAGE=16", "LG_PAGE=12"] {
        assert!(build.contains(page), "{page}");
    }
    assert!(dockerfile.contains("echo 16 || echo 12"), "what the script repeats has changed");
    let version = dockerfile.lines().find_map(|line| line.strip_prefix("ARG RUST_VERSION=")).unwrap();
    assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "toolchain.sh reads {version}");
}

/// Asks a program of the name of a commit-msg hook, or of its own, what it finds in a message.
fn judged(program: &Path, args: &[&str], message: &str) -> (Option<i32>, String) {
    let file = program.with_file_name("COMMIT_EDITMSG");
    std::fs::write(&file, message).unwrap();
    end(Command::new(program).args(args).arg(file).current_dir(root()))
}

#[test]
fn a_message_of_a_commit_is_held_to_what_contributing_asks() {
    let script = folder("commits").join("check-commits.sh");
    std::fs::copy(root().join("scripts/check-commits.sh"), &script).unwrap();
    let why = "\n\nBecause nobody could.\n";
    let longest = format!("Add {}", "ü".repeat(68));
    let too_long = format!("{longest}ü");
    // The message, and what is said of it: nothing where it is as it should be.
    let table: &[(&str, &[&str])] = &[
        (&format!("Count what is dropped{why}"), &[]),
        (&format!("{longest}{why}"), &[]),
        (&format!("check-commits.sh: say why{why}"), &[]),
        (&format!("Add what Adds adds{why}"), &[]),
        ("Merge branch 'delivery'\n", &[]),
        (&format!("Merge {too_long}.\nwith no empty line"), &[]),
        ("Revert \"Count what is dropped\"\n", &[]),
        (&format!("# A comment of git's.\nCount what is dropped{why}# Another one.\n"), &[]),
        ("Count what is dropped\n", &["warning: there is no body"]),
        ("Count what is dropped\n\n# Please enter the message.\n", &["warning: there is no body"]),
        (&format!("{too_long}{why}"), &["the subject has 73 characters, at most 72"]),
        (&format!("Count what is dropped.{why}"), &["the subject ends with a full stop"]),
        (&format!("count what is dropped{why}"), &["the subject begins with a small letter"]),
        (&format!("Added a counter{why}"), &["the subject is no order"]),
        (&format!("Fixes the counter{why}"), &["the subject is no order"]),
        (&format!("Updating{why}"), &["the subject is no order"]),
        ("Count what is dropped\nbecause nobody could\n", &["the second line is not empty"]),
        (&format!("fixup! Count what is dropped{why}"), &["is to be folded into the commit that it mends"]),
        ("squash! Count what is dropped\n", &["is to be folded into the commit that it mends"]),
        ("\n# Nothing but a comment.\n", &["has no subject"]),
        (
            "added a counter.\nas it is\n",
            &["ends with a full stop", "begins with a small letter", "the second line is not empty"],
        ),
    ];
    for (message, expected) in table {
        let (code, said) = judged(&script, &["--message"], message);
        let found = Vec::from_iter(said.lines().filter(|line| line.starts_with("the message: ")));
        assert_eq!(found.len(), expected.len(), "{message:?}\n{said}");
        for (line, expected) in found.iter().zip(*expected) {
            assert!(line.contains(expected), "{message:?}\n{said}");
        }
        let faults = found.iter().filter(|line| !line.contains(": warning: ")).count();
        let summary = format!("check-commits.sh: {faults} to mend, {} to look at", found.len() - faults);
        assert_eq!(said.lines().last(), Some(&*summary), "{message:?}");
        assert_eq!(code, Some(i32::from(faults > 0)), "{message:?}\n{said}");
    }
}

#[test]
fn the_check_of_messages_is_a_hook_too_and_says_how_it_is_called() {
    let hook = folder("commit-msg").join("commit-msg");
    std::os::unix::fs::symlink(root().join("scripts/check-commits.sh"), &hook).unwrap();
    assert_eq!(judged(&hook, &[], "Count what is dropped\n\nNobody could.\n").0, Some(0));
    let (code, said) = judged(&hook, &[], "Counted.\n\nNobody could.\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the message: the subject ends with a full stop"), "{said}");

    let script = root().join("scripts/check-commits.sh");
    for args in
        [&["--message"][..], &["--message", "/nowhere"], &["--help"], &["a..b", "c..d"], &["nobody..nowhere"]]
    {
        let (code, said) = end(Command::new(&script).args(args).current_dir(root()));
        assert_eq!(code, Some(2), "{args:?}\n{said}");
        assert!(!said.is_empty(), "{args:?}");
    }
    // Sources without a history have no commits to look at.
    if root().join(".git").exists() {
        assert_eq!(end(Command::new(&script).arg("HEAD..HEAD").current_dir(root())).0, Some(0));
    }
}
