//! `config/outrigger.yaml` and `.env.example` say what is so.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::*;
use crate::config::shape::{Shape, shape_at};

/// Every setting that has a default of its own, as `a.b.c`.
fn leaves() -> BTreeSet<String> {
    fn walk(prefix: &str, value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&path, value, into);
                }
            }
            _ => drop(into.insert(prefix.to_owned())),
        }
    }
    let mut leaves = BTreeSet::new();
    walk("", &serde_json::to_value(RawConfig::default()).unwrap(), &mut leaves);
    assert!(leaves.len() > 100, "{leaves:?}");
    leaves
}

fn shipped() -> Sources {
    Sources { file: Some(project("config/outrigger.yaml")), ..Sources::default() }
}

#[test]
fn the_shipped_file_gives_every_setting_its_default() {
    assert_eq!(load(shipped()).unwrap(), Config::default());
    assert_eq!(effective(&shipped()).unwrap(), effective(&Sources::default()).unwrap());

    let text = fs::read_to_string(project("config/outrigger.yaml")).unwrap();
    let node =
        super::super::yaml::parse(&text, |line, column| Location::File { name: "f".into(), line, column });
    let node = node.node.unwrap();
    for leaf in leaves() {
        assert!(node.at(&Path::default().key(&leaf).0).is_some(), "{leaf} is not in config/outrigger.yaml");
    }
}

#[test]
fn every_line_of_the_shipped_file_that_sets_something_says_why() {
    let text = fs::read_to_string(project("config/outrigger.yaml")).unwrap();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let is_section = line.trim_end().ends_with(':') || line.trim_end() == "routes: []";
        assert!(line.is_empty() || is_section || line.contains(" # "), "{line}");
    }
}

#[test]
fn what_is_marked_as_later_is_what_is_refused() {
    let text = fs::read_to_string(project("config/outrigger.yaml")).unwrap();
    let mut path: Vec<&str> = Vec::new();
    let mut later = 0;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty()) {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let Some((key, rest)) = line.trim_start().split_once(':') else { panic!("{line}") };
        path.truncate(depth);
        path.push(key);
        if rest.split(" # ").next().unwrap_or_default().trim().is_empty() {
            continue; // a section: its keys are marked
        }
        let name = format!("OUTRIGGER__{}", path.join("__").to_uppercase());
        // Fits no key, so it is told either as a wrong value or as not supported.
        let told = load(from_env(&[(&name, "[1, '\u{7f} ']")])).err().map(|errors| errors.to_string());
        let refused = told.as_ref().is_some_and(|told| told.contains("not supported yet"));
        assert_eq!(refused, rest.contains("(later)"), "{}: {told:?}", path.join("."));
        later += usize::from(refused);
    }
    assert!(later > 4, "{later}");
}

#[test]
fn the_environment_example_lists_every_setting_with_its_default() {
    let text = fs::read_to_string(project(".env.example")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# OUTRIGGER__"));
    let env: Vec<(String, String)> = lines
        .map(|line| line.split_once('=').expect(line))
        .map(|(name, value)| (format!("OUTRIGGER__{name}"), value.to_owned()))
        .collect();
    let listed: BTreeSet<String> = env
        .iter()
        .map(|(name, _)| name.trim_start_matches("OUTRIGGER__").to_lowercase().replace("__", "."))
        .collect();
    assert_eq!(listed, leaves());
    let sources = Sources { env, ..Sources::default() };
    assert_eq!(load(sources.clone()).unwrap_or_else(|errors| panic!("{errors}")), Config::default());
    assert_eq!(effective(&sources).unwrap(), effective(&Sources::default()).unwrap());
}

#[test]
fn each_type_tells_what_it_reads() {
    let shape = |path: &str| {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        shape_at::<RawConfig>(&path)
    };
    assert_eq!(shape("listen.address"), Some(Shape::Text));
    assert_eq!(shape("admin.token"), Some(Shape::Text));
    let clocks: &[_] = &["mode", "interval", "timeout", "max_missed"];
    assert_eq!(shape("policy.heartbeat"), Some(Shape::Keys(clocks)));
    assert_eq!(shape("upstream.heartbeat"), Some(Shape::Nested), "a word or a map");
    assert_eq!(shape("policy.heartbeat.interval"), Some(Shape::Text));
    assert_eq!(shape("routes"), Some(Shape::Nested));
    assert_eq!(shape("policy.breaker.statuses"), Some(Shape::Nested));
    assert_eq!(shape("policy.nothing"), None);
}

/// `# … with __A, __B (default)` below a setting that is null.
#[test]
fn the_environment_example_names_the_keys_of_what_is_off() {
    let text = fs::read_to_string(project(".env.example")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut compared = 0;
    for pair in lines.windows(2) {
        let [name, with] = pair else { continue };
        let Some(name) = name.strip_prefix("# OUTRIGGER__").and_then(|name| name.strip_suffix("=null"))
        else {
            continue;
        };
        let path: Vec<String> = name.to_lowercase().split("__").map(str::to_owned).collect();
        let Some(Shape::Keys(keys)) = shape_at::<RawConfig>(&path) else { continue };
        let listed: Vec<String> = with
            .split("__")
            .skip(1)
            .map(|rest| {
                rest.chars()
                    .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                    .collect::<String>()
                    .to_lowercase()
            })
            .collect();
        assert_eq!(listed, keys, "{name}");
        compared += 1;
    }
    assert!(compared > 5, "{compared}");
}
