//! The JSON Schema says of a file what loading it says, as far as one can tell without the rest of it.

use std::collections::HashMap;
use std::fs;

use jsonschema::Validator;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

use super::*;
use crate::config::schema::generate::generate;
use crate::config::schema::{EXTENSION_PREFIX, unsupported_settings};
use crate::yaml::is_null;

fn printed() -> Value {
    serde_json::from_str(schema()).unwrap()
}

fn validator() -> Validator {
    jsonschema::validator_for(&printed()).unwrap()
}

/// A file as an editor sees it: plain text is a number or a truth where YAML 1.2's core schema says so.
fn as_json(text: &str) -> Value {
    type Events<'a> = Box<dyn Iterator<Item = Event<'a>> + 'a>;

    fn scalar(text: &str, is_plain: bool) -> Value {
        let number = || text.parse::<f64>().ok().filter(|number| number.is_finite());
        let starts_as_one =
            text.trim_start_matches(['-', '+']).starts_with(|first: char| first.is_ascii_digit());
        match text {
            text if !is_plain => text.into(),
            text if is_null(text) => Value::Null,
            "true" | "True" | "TRUE" => true.into(),
            "false" | "False" | "FALSE" => false.into(),
            text => match text.parse::<u64>() {
                Ok(whole) => whole.into(),
                Err(_) => number()
                    .filter(|_| starts_as_one)
                    .and_then(Number::from_f64)
                    .map_or_else(|| text.into(), Value::Number),
            },
        }
    }

    fn value<'a>(event: Event<'a>, events: &mut Events<'a>, anchors: &mut HashMap<usize, Value>) -> Value {
        let (anchor, read) = match event {
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(&text, style == ScalarStyle::Plain)),
            Event::Alias(anchor) => return anchors[&anchor].clone(),
            Event::SequenceStart(anchor, _) => {
                let mut list = Vec::new();
                loop {
                    match events.next().unwrap() {
                        Event::SequenceEnd => break (anchor, Value::Array(list)),
                        event => list.push(value(event, events, anchors)),
                    }
                }
            }
            Event::MappingStart(anchor, _) => {
                let mut map = Map::new();
                let mut merged = Vec::new();
                loop {
                    let key = match events.next().unwrap() {
                        Event::MappingEnd => break,
                        Event::Scalar(text, ..) => text.into_owned(),
                        other => panic!("{other:?}"),
                    };
                    let next = events.next().unwrap();
                    let inner = value(next, events, anchors);
                    match (key.as_str(), inner) {
                        ("<<", Value::Array(maps)) => merged.extend(maps),
                        ("<<", one) => merged.push(one),
                        (_, inner) => drop(map.insert(key, inner)),
                    }
                }
                for (key, inner) in merged.into_iter().filter_map(|map| map.as_object().cloned()).flatten() {
                    map.entry(key).or_insert(inner);
                }
                (anchor, Value::Object(map))
            }
            other => panic!("{other:?}"),
        };
        anchors.insert(anchor, read.clone());
        read
    }

    let events = Parser::new_from_str(text).map(|event| event.unwrap().0);
    let is_frame = |event: &Event<'_>| {
        matches!(event, Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd)
    };
    let mut events: Events<'_> = Box::new(events.filter(move |event| !is_frame(event)));
    match events.next() {
        None | Some(Event::StreamEnd) => Value::Object(Map::new()),
        // Everything commented out.
        Some(event) => match value(event, &mut events, &mut HashMap::new()) {
            Value::Null => Value::Object(Map::new()),
            value => value,
        },
    }
}

/// Whether every value of a file has the form that its key wants; `None`: it cannot be read at all.
fn has_fitting_forms(text: &str) -> Option<bool> {
    let Layers { mut trees, source_problems, is_unreadable, .. } = Layers::inline(text);
    if is_unreadable || !source_problems.is_empty() {
        return None;
    }
    let mut problems = Problems::new(trees.clone());
    let mut root = trees.pop().unwrap_or_else(|| Node::empty(Location::Merged));
    let routes = root.take("routes");
    let _: RawConfig = problems.read(&mut root);
    match routes.map(|node| node.kind) {
        None => {}
        Some(Kind::List(list)) => {
            for mut route in list {
                let _: RawRoute = problems.read(&mut route);
                for (key, is_policy) in [("upstream", false), ("policy", true)] {
                    let Some(mut own) = route.take(key) else { continue };
                    if is_policy {
                        let _: RawPolicy = problems.read(&mut own);
                    } else {
                        let _: RawUpstream = problems.read(&mut own);
                    }
                }
            }
        }
        Some(_) => return Some(false),
    }
    Some(problems.is_empty())
}

fn yaml_in(folder: &str) -> Vec<PathBuf> {
    if folder == "config/examples" {
        return examples();
    }
    let entries = fs::read_dir(project(folder)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn the_schema_on_file_is_the_one_that_the_structs_make_and_that_is_printed() {
    let path = project("config/outrigger.schema.json");
    let (made, _) = generate();
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&path, &made).unwrap();
    }
    let on_file = fs::read_to_string(&path).unwrap_or_default();
    assert!(on_file == made, "UPDATE_GOLDEN=1 writes {} anew", path.display());
    assert_eq!(schema(), made);
}

#[test]
fn what_is_not_built_is_known_from_the_document_itself() {
    let (_, mut made) = generate();
    let mut found = unsupported_settings();
    made.sort();
    found.sort();
    assert!(made.len() > 6, "{made:?}");
    assert_eq!(found, made);
}

#[test]
fn the_charts_schema_has_that_of_the_configuration_in_it() {
    let chart: Value =
        serde_json::from_str(&fs::read_to_string(project("helm/outrigger/values.schema.json")).unwrap())
            .unwrap();
    let mut expected = printed();
    expected.as_object_mut().unwrap().remove("$schema");
    let text = expected.to_string().replace("\"#/properties/", "\"#/$defs/config/properties/");
    let expected: Value = serde_json::from_str(&text).unwrap();
    assert!(chart["$defs"]["config"] == expected, "python3 helm/schema.py writes it anew");
    assert_eq!(chart["properties"]["config"]["$ref"], "#/$defs/config");
}

#[test]
fn every_setting_has_a_description_and_every_one_with_a_default_tells_it() {
    fn walk(node: &Value, path: &str, count: &mut usize) {
        for (key, property) in node["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            let told = property["description"].as_str().unwrap_or_default();
            assert!(told.len() > 3, "{path} has no description");
            assert!(!told.starts_with('`'), "{path} has that of its struct: {told}");
            let is_section = property["properties"].is_object() || property["allOf"].is_array();
            let has_none = path.contains("[].") || path.ends_with(".on_join.last");
            assert!(is_section || has_none || property.get("default").is_some(), "{path} has no default");
            *count += 1;
            walk(property, &path, count);
        }
        for form in node["anyOf"].as_array().into_iter().flatten() {
            walk(form, path, count);
        }
        if node["items"].is_object() {
            walk(&node["items"], &format!("{path}[]"), count);
        }
    }
    let mut count = 0;
    walk(&printed(), "", &mut count);
    assert!(count > 170, "{count}");
}

#[test]
fn files_that_load_are_valid_and_files_with_a_wrong_form_are_not() {
    let validator = validator();
    let mut wrong = 0;
    for folder in ["config", "config/examples", "tests/config/good", "tests/config/bad"] {
        for path in yaml_in(folder) {
            let name = path.display();
            let text = fs::read_to_string(&path).unwrap();
            // A broken file is told as such by every reader of YAML.
            let Some(is_fitting) = has_fitting_forms(&text) else { continue };
            assert!(is_fitting || folder.ends_with("bad"), "{name}");
            let told = validator.iter_errors(&as_json(&text)).map(|e| e.to_string()).collect::<Vec<_>>();
            if !is_fitting {
                assert!(!told.is_empty(), "{name} is valid by the schema");
                wrong += 1;
            } else if !folder.ends_with("bad") {
                assert_eq!(told, Vec::<String>::new(), "{name}");
            }
        }
    }
    assert!(wrong > 8, "only {wrong} files have a wrong form");
}

/// Every setting on its own with every kind of value: each is valid where its form is read, and nowhere else.
#[test]
fn the_schema_and_the_loader_agree_on_each_single_value() {
    const VALUES: [&str; 39] = [
        "null",
        "true",
        "false",
        "off",
        "0",
        "1",
        "7",
        "100",
        "0.5",
        "1.5",
        "-1",
        "1012",
        "1005",
        "503",
        "99999999999",
        "soon",
        "auto",
        "30s",
        "0s",
        "1d",
        "64KiB",
        "1KB",
        "100/s",
        "0/s",
        "[]",
        "{}",
        "[7]",
        "[soon, 30s]",
        "{ a: b }",
        "''",
        "http://127.0.0.1",
        "127.0.0.1:80",
        "[[]]",
        "path",
        "/a",
        "header:x-a",
        "[path, query]",
        "{ last: 7 }",
        "1.2",
    ];
    let validator = validator();
    let printed = printed();
    let mut settings = Vec::new();
    keys_of(&printed, "", &mut settings);
    assert!(settings.len() > 170, "{settings:?}");
    let mut unlike = String::new();
    for (setting, is_unsupported) in settings {
        for value in VALUES {
            let text = match setting.strip_prefix("routes[].") {
                Some("path") => format!("routes: [{{ path: {value} }}]"),
                Some(key) => format!("routes: [{{ path: /a, {key}: {value} }}]"),
                None => {
                    setting.rsplit('.').fold(value.to_owned(), |inner, key| match key.strip_suffix("[]") {
                        Some(key) => format!("{{ {key}: [{inner}] }}"),
                        None => format!("{{ {key}: {inner} }}"),
                    })
                }
            };
            let is_read = has_fitting_forms(&text).unwrap_or_else(|| panic!("{text}"));
            let is_valid = validator.is_valid(&as_json(&text));
            // What nobody may have as a token is a matter of taste and not of form, and how base64 ends takes more than
            // a pattern; what is not built is read and then refused.
            let is_stricter = is_read
                || setting.ends_with(".base64")
                || setting == "admin.token" && matches!(value, "off" | "false");
            if is_read && !is_valid && !is_unsupported || is_valid && !is_stricter {
                unlike.push_str(&format!("{text}: read {is_read}, valid {is_valid}\n"));
            }
        }
    }
    assert!(unlike.is_empty(), "\n{unlike}");
}

/// Each setting of a schema as `a.b`, and whether only its default is accepted.
fn keys_of(node: &Value, path: &str, into: &mut Vec<(String, bool)>) {
    for (key, property) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let is_unsupported = property["description"].as_str().is_some_and(|told| told.starts_with("(later)"));
        into.push((path.clone(), is_unsupported));
        keys_of(property, &path, into);
    }
    for form in node["anyOf"].as_array().into_iter().flatten() {
        keys_of(form, path, into);
    }
    if node["items"].is_object() {
        keys_of(&node["items"], &format!("{path}[]"), into);
    }
}

#[test]
fn what_is_not_built_is_valid_as_its_default_only() {
    let validator = validator();
    for (text, is_valid) in [
        ("telemetry: { enabled: false, path: /.outrigger/telemetry }", true),
        ("telemetry: { enabled: true }", false),
        ("policy: { session: { identity: null } }", true),
        ("policy: { session: { identity: { discriminator: 'query:tab' } } }", false),
        ("policy: { fallback: { prefix: '' } }", true),
        ("policy: { history: { store: disk } }", false),
        ("store: { redis: null }", true),
        ("store: { redis: { url: 'redis://a' } }", false),
    ] {
        assert_eq!(validator.is_valid(&as_json(text)), is_valid, "{text}");
        assert_eq!(Config::from_yaml(text).is_ok(), is_valid, "{text}");
    }
}

#[test]
fn a_key_of_the_operators_own_holds_anchors_and_is_not_read() {
    let text = "x-beat: &beat { interval: 20s, timeout: 5s }\nx-list: [&name word, { a: { b: *beat } }]\n\
                policy: { heartbeat: { <<: *beat, timeout: 7s } }\nupstream: { heartbeat: *beat }\n";
    let config = Config::from_yaml(text).unwrap_or_else(|errors| panic!("{errors}"));
    let route = &config.routes[0];
    let client = route.policy.heartbeat.map(|heartbeat| heartbeat.timing).unwrap();
    assert_eq!((client.interval.as_secs(), client.timeout.as_secs()), (20, 7));
    assert_eq!(route.upstream.heartbeat.in_tunnels().unwrap().timeout.as_secs(), 5);
    assert!(validator().is_valid(&as_json(text)));
    // Nowhere but there.
    for text in ["policy: { x-a: 1 }", "x: 1", "X-a: 1", "routes: [{ path: /a, x-a: 1 }]"] {
        assert!(told(Config::from_yaml(text)).contains("unknown key"), "{text}");
        assert!(!validator().is_valid(&as_json(text)), "{text}");
    }
    assert!(printed()["patternProperties"][format!("^{EXTENSION_PREFIX}")]["description"].is_string());
}

#[test]
fn a_key_at_a_wrong_place_is_told_where_it_belongs() {
    for (text, expected) in [
        ("policy: { session: { redial: {} } }", "did you mean `policy.redial`?"),
        ("policy: { session: { notices: true } }", "did you mean `policy.notices`?"),
        ("heartbeat: {}", "did you mean `policy.heartbeat` or `upstream.heartbeat`?"),
        ("idle_timeout: 5m", "did you mean `policy.idle_timeout`?"),
        ("idle_timout: 5m", "did you mean `policy.idle_timeout`?"),
        ("channel_key: [path]", "did you mean `policy.broadcast.channel_key`?"),
        ("url: http://a", "did you mean `upstream.url`?"),
        ("policy: { interval: 5s }", "did you mean `policy.heartbeat.interval`?"),
        (
            "policy: { delivery: { per_ip: 5 } }",
            "did you mean `policy.handshake_rate.per_ip` or `policy.limits.per_ip`?",
        ),
        ("policy: { listen: {} }", "did you mean `listen`?"),
        ("mode: broadcast", "did you mean `routes[].mode`"),
        ("routes: [{ path: /a, idle_timeout: 5m }]", "did you mean `routes[0].policy.idle_timeout`?"),
        (
            "routes: [{ path: /a, policy: { uplink: drop } }]",
            "did you mean `routes[0].policy.broadcast.uplink`?",
        ),
        ("routes: [{ path: /a, policy: { strip_prefix: /a } }]", "did you mean `routes[0].strip_prefix`?"),
        ("polcy: {}", "did you mean `policy`?"),
        ("something: {}", "unknown key\n"),
    ] {
        let told = told(Config::from_yaml(text));
        assert!(told.contains(expected), "{text}: {told}");
    }
}

#[test]
fn what_is_told_as_accepted_is_what_is_built() {
    for (text, accepted) in [
        ("routes: [{ path: /a, mode: bogus }]", "accepted: tunnel | session | broadcast\n"),
        (
            "bogus: {}",
            "accepted: listen, upstream, admin, trusted_proxies, log, metrics, memory, drain, policy, routes\n",
        ),
        ("policy: { fallback: { bogus: 1 } }", "accepted: sse, poll, replay, prefix\n"),
        ("store: { bogus: 1 }", "accepted: nothing yet\n"),
        (
            "routes: [{ path: /a, policy: { session: { bogus: 1 } } }]",
            "accepted: resume_window, max_detached, receipts, greeting, queue, token_key_file\n",
        ),
        ("policy: { history: { bogus: 1 } }", "accepted: messages, bytes, age, critical, on_join\n"),
    ] {
        let told = format!("{}\n", told(Config::from_yaml(text)));
        assert!(told.contains(accepted), "{text}: {told}");
    }
}
