//! What the documents say is so: they name every setting, every answer, and files that exist.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test, as it should")]

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use outrigger::config::Config;

#[test]
fn the_settings_in_the_document_are_those_that_are_built_with_the_defaults_they_have() {
    let mut documented = BTreeMap::new();
    for row in rows("docs/configuration.md") {
        let [key, _, default, meaning] = &row[..] else { continue };
        // A bare key is one of a map that has a table of its own.
        let is_setting = |key: &&str| key.contains('.') || matches!(*key, "routes" | "trusted_proxies");
        let Some(key) = code(key).filter(is_setting) else { continue };
        assert!(!meaning.is_empty(), "{key} has no meaning");
        let default = code(default).map(str::to_owned);
        assert!(documented.insert(key.to_owned(), default).is_none(), "{key} stands there twice");
    }
    let shipped = built_settings();
    let names = |of: &BTreeMap<String, Option<String>>| of.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&documented), names(&shipped), "left: the document, right: config/outrigger.yaml");
    for (key, default) in &shipped {
        if let Some(default) = default {
            assert_eq!(documented[key].as_ref(), Some(default), "the default of {key}");
        }
    }
}

#[test]
fn the_yaml_in_the_documents_is_accepted() {
    let mut found = 0;
    for file in documents() {
        for block in fenced(&read(&file), "yaml") {
            // Files that an example names are on nobody's disk.
            let is_elsewhere = |told: String| told.contains("cannot be read: No such file");
            if let Err(errors) = Config::from_yaml(&block)
                && !errors.iter().all(|error| is_elsewhere(error.to_string()))
            {
                panic!("{}: {errors}\n{block}", file.display());
            }
            found += 1;
        }
    }
    assert!(found > 1, "no YAML was found in the documents");
}

#[test]
fn the_close_reasons_in_the_document_are_those_that_are_sent() {
    let source = read("src/tunnel/ending.rs".as_ref());
    let actions = between(&source, "fn close_actions(", "\n}");
    let is_reason =
        |text: &&str| text.contains(' ') && text.bytes().all(|b| b.is_ascii_lowercase() || b == b' ');
    // What feeds alone say, when their own task has failed.
    let of_code = |path: &PathBuf| !path.iter().any(|part| part == "tests" || part == "tests.rs");
    let feeds = files(&root().join("src/delivery"), "rs").into_iter().filter(of_code);
    let feeds: String = feeds.map(|path| read(&path)).collect();
    let failed = feeds.split("ControlFrame::close(").skip(1).filter_map(|rest| rest.split('"').nth(1));
    let source = read("src/session/cause.rs".as_ref());
    let sessions = ["fn to_client(", "fn to_server("].map(|function| between(&source, function, "\n    }"));
    let said = quoted(actions).chain(failed).chain(sessions.into_iter().flat_map(quoted));
    let sent: BTreeSet<_> = said.filter(is_reason).map(str::to_owned).collect();
    assert!(sent.len() > 5, "{sent:?}");
    let section = between_headings("docs/close-codes.md", "## Closes by the proxy");
    let documented: BTreeSet<_> =
        table(&section).iter().flatten().flat_map(|cell| quoted(cell)).map(str::to_owned).collect();
    assert_eq!(documented, sent, "left: the document, right: the code");
}

#[test]
fn the_disconnect_reasons_in_the_document_are_those_that_are_counted() {
    use outrigger::internals::{Label, Reason};
    let section = between_headings("docs/operations.md", "## Why connections end");
    let documented: BTreeSet<_> =
        table(&section).iter().filter_map(|row| code(row.first()?)).map(str::to_owned).collect();
    let counted = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(documented, counted, "left: the document, right: the code");
}

#[test]
fn nothing_imports_what_stands_above_it() {
    // The folders as ARCHITECTURE.md stacks them, the lowest first; those of one floor do not meet.
    let architecture = read("ARCHITECTURE.md".as_ref());
    let floors: Vec<Vec<&str>> = fenced(&architecture, "floors")
        .first()
        .expect("ARCHITECTURE.md has a block `floors`")
        .lines()
        .map(|line| Vec::from_iter(line.split_once("  ").map_or(line, |(names, _)| names).split(' ')))
        .rev()
        .map(|names| names.into_iter().map(|name| String::leak(name.to_owned()) as &str).collect())
        .collect();
    let floor_of = |name: &str| floors.iter().position(|floor| floor.contains(&name));
    let mut seen = BTreeSet::new();
    for file in files(&root().join("src"), "rs") {
        let inside = file.strip_prefix(root().join("src")).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let from = first.trim_end_matches(".rs");
        // The last is what unit tests share.
        if matches!(from, "lib" | "main" | "stage") {
            continue;
        }
        let own = floor_of(from).unwrap_or_else(|| panic!("{from} is on no floor in ARCHITECTURE.md"));
        seen.insert(from.to_owned());
        for line in read(&file).lines().filter(|line| !line.trim_start().starts_with("//")) {
            for rest in line.split("crate::").skip(1) {
                let to: String =
                    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let Some(other) = floor_of(&to) else { continue };
                assert!(
                    to == from || other < own,
                    "{}: {from} stands below or beside {to}\n{line}",
                    inside.display()
                );
            }
        }
    }
    let stacked: BTreeSet<_> = floors.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(seen, stacked, "left: src/, right: ARCHITECTURE.md");
}

#[test]
fn files_of_a_folder_import_each_other_in_a_circle_only_where_the_list_says_so() {
    let mut sources = BTreeMap::new();
    for file in files(&root().join("src"), "rs") {
        let inside = file.strip_prefix(root().join("src")).unwrap().with_extension("");
        let mut module: Vec<_> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        // What the crate declares and exports belongs to no room.
        if !matches!(&module[..], [root] if matches!(root.as_str(), "lib" | "main")) {
            sources.insert(module, read(&file));
        }
    }
    let written =
        |circle: Vec<Vec<String>>| circle.iter().map(|module| module.join("::")).collect::<Vec<_>>();
    let found: BTreeSet<_> = imports::circles(&sources).into_iter().map(written).collect();
    let list = read("tests/docs/circles.txt".as_ref());
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let listed = lines.map(|line| Vec::from_iter(line.split(' ').map(str::to_owned))).collect();
    let lines = |circles: &BTreeSet<Vec<String>>, others: &BTreeSet<Vec<String>>| {
        circles.difference(others).map(|circle| format!("{}\n", circle.join(" "))).collect::<String>()
    };
    assert!(
        found == listed,
        "circles that tests/docs/circles.txt does not list:\n{}\nand that it lists though they are gone or smaller \
         now:\n{}\nOpen a new one: what both sides need goes into a file below them. Take off one that is gone.",
        lines(&found, &listed),
        lines(&listed, &found),
    );
}

#[test]
fn names_in_the_map_are_those_of_the_code() {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut known = BTreeSet::new();
    for file in files(&root().join("src"), "rs") {
        known.extend(file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()));
        let text = read(&file);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        known.extend(code.flat_map(|line| line.split(|c| !is_word(c))).map(str::to_owned));
    }
    let mut checked = 0;
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(document.as_ref());
        for span in text.split('`').skip(1).step_by(2).filter(|span| !span.contains(char::is_whitespace)) {
            let is_name = span.contains("::") || span.starts_with(|c: char| c.is_ascii_uppercase());
            let is_path = span.contains('/') && span.chars().all(|c| is_word(c) || "/.-".contains(c));
            // What tests install is not there before they do.
            let is_made = ["foo/", ".venv", "node_modules"].iter().any(|part| span.contains(part));
            let exists = if is_path && !is_made {
                root().join(span).exists() || root().join("src").join(span).exists()
            } else if is_name && !is_path && span.chars().all(|c| is_word(c) || c == ':') {
                span.split("::").all(|part| known.contains(part) || part == "outrigger")
            } else {
                continue;
            };
            assert!(exists, "{document}: there is no `{span}`");
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} names were found");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut checked = 0;
    for file in documents() {
        for link in links(&read(&file)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", file.display());
            if !anchor.is_empty() {
                let anchors: Vec<_> = headings(&read(&target)).map(|heading| slug(&heading)).collect();
                assert!(
                    anchors.iter().any(|known| known == anchor),
                    "{}: {link} is none of {anchors:?}",
                    file.display()
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} links were found");
}

/// Settings of the shipped file that are not marked as later, each with its default where it has one.
fn built_settings() -> BTreeMap<String, Option<String>> {
    let mut settings = BTreeMap::new();
    let mut path: Vec<String> = Vec::new();
    let text = read("config/outrigger.yaml".as_ref());
    let (sections, routes) = text.split_once("\nroutes: []").expect("routes come last");
    for line in sections.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty()) {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let (key, rest) = line.trim_start().split_once(':').unwrap();
        let (value, why) = rest.split_once(" # ").unwrap_or((rest, ""));
        path.truncate(depth);
        path.push(key.to_owned());
        if !value.trim().is_empty() && !why.starts_with("(later)") {
            settings.insert(path.join("."), Some(value.trim().to_owned()));
        }
    }
    settings.insert("routes".into(), Some("[]".into()));
    for line in routes.lines().filter_map(|line| line.trim_start().strip_prefix("# ")) {
        let key = line.trim_start_matches(['-', ' ']).split(':').next().unwrap();
        settings.insert(format!("routes[].{key}"), None);
    }
    assert!(settings.len() > 50, "{settings:?}");
    settings
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The project's own documents, packages of others not among them.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    for folder in ["docs", "bench", "fuzz"] {
        found.extend(files(&root().join(folder), "md"));
    }
    found.push(root().join("tests/interop/README.md"));
    found.push(root().join("helm/outrigger/README.md"));
    assert!(found.len() > 5, "{found:?}");
    found
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("target"))
        .flat_map(|path| match path.is_dir() {
            true => files(&path, extension),
            false => Vec::from_iter(path.extension().is_some_and(|found| found == extension).then_some(path)),
        })
        .collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("there is no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("there is no {end:?} after {start}")).0
}

/// What stands under a heading, up to the next one of its level.
fn between_headings(path: &str, heading: &str) -> String {
    let text = format!("{}\n## ", read(path.as_ref()));
    between(&text, &format!("\n{heading}"), "\n## ").to_owned()
}

fn rows(path: &str) -> Vec<Vec<String>> {
    table(&read(path.as_ref()))
}

/// The cells of every table row.
fn table(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).map(cells).collect()
}

/// What stands in backticks, if the cell is that and nothing else.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('"').skip(1).step_by(2)
}

fn fenced(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .map(|rest| between(&format!("\n{rest}"), "", "\n```").trim_start_matches('\n').to_owned())
        .collect()
}

/// The targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for (index, block) in text.split("```").enumerate() {
        if index % 2 == 1 {
            continue;
        }
        links.extend(block.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    links
}

fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_owned())
}

/// A heading's anchor, as GitHub makes it.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
