//! What is written is what was read; what is injected twice is injected once; and no text is too strange.

use proptest::prelude::*;

use super::options::{Configuration, Options, Ports, SecretMount, Sleep};
use super::read::read;
use crate::yaml::write;
use crate::yaml::{Map, Scalar, Style, Value};

/// Words that some reader of YAML takes for something else than a string.
const WORDS: [&str; 36] = [
    "yes",
    "No",
    "on",
    "y",
    "true",
    "False",
    "null",
    "~",
    "Null",
    "0x10",
    "1e3",
    "012",
    "0o14",
    "1_000",
    "0b11",
    "+1",
    "-5",
    ".5",
    ".inf",
    "-.INF",
    ".nan",
    "1:30",
    "12:30:45",
    "2001-01-01",
    "2001-01-01T00:00:00Z",
    "=",
    "123456789012345678901234567890",
    "a b",
    "http://a:80/?b=c#d",
    "-x",
    "a#b",
    "a:b",
    "1.10",
    "0",
    "1e",
    "x'y",
];

/// Texts that need quotes, or escapes, or that blocks cannot carry.
const TEXTS: [&str; 34] = [
    "",
    " ",
    "  a",
    "a  ",
    "\t",
    "a\tb",
    "\ta\nb",
    "a\n",
    "a\nb",
    "a\n\n",
    "\n",
    "\na",
    " a\nb",
    "a\n b\n",
    "a\n \nb",
    "a\n  ",
    "a\r\nb",
    "# a",
    "a # b",
    "a: b",
    "- a",
    "---",
    "...",
    "---\n...\n",
    "'",
    "\"",
    "\\",
    "'\n\"\\",
    "<<",
    "*a",
    "&a",
    "!a",
    "über 🦀 \u{a0}\u{85}\u{2028}\u{feff}",
    "\u{0}\u{7}\u{1b}\u{7f}",
];

fn scalar() -> impl Strategy<Value = Scalar> {
    let style = prop_oneof![Just(Style::Single), Just(Style::Double), Just(Style::Block)];
    let word = prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned);
    let text = prop_oneof![
        prop::sample::select(TEXTS.to_vec()).prop_map(str::to_owned),
        prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
        "[ -~\n\t]{0,20}",
        any::<String>(),
    ];
    prop_oneof![
        word.prop_map(Scalar::plain),
        (text.clone(), style).prop_map(|(text, style)| Scalar { text, style }),
        text.prop_map(Scalar::text),
    ]
}

fn key() -> impl Strategy<Value = Scalar> {
    scalar().prop_filter("a key is something", |key| {
        !(key.style == Style::Plain && Value::Scalar(key.clone()).is_null())
    })
}

fn map_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec((key(), value), 0..5).prop_map(|entries| {
        let mut map = Map::default();
        for (key, value) in entries {
            if map.get(&key.text).is_none() {
                map.0.push((key, value));
            }
        }
        Value::Map(map)
    })
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_map(Value::Scalar).prop_recursive(5, 40, 5, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List), map_of(inner)]
    })
}

fn read_all(text: &str) -> Vec<Value> {
    let documents = read(text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    documents.into_iter().map(|document| document.value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_written_is_read_back_the_same(documents in prop::collection::vec(map_of(value()), 1..4)) {
        let text = write(&documents);
        let again = read_all(&text);
        prop_assert_eq!(&again, &documents, "{}", text);
        prop_assert_eq!(write(&again), text, "the second time it is the same bytes");
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused(text in "[-a: \\[\\]{},&*!|>'\"%#\n<?\t]{0,60}|\\PC{0,40}") {
        if let Ok(documents) = read(&text) {
            let values: Vec<_> = documents.into_iter().map(|document| document.value).collect();
            if values.iter().all(|value| matches!(value, Value::Map(_))) {
                prop_assert_eq!(&read_all(&write(&values)), &values, "{:?}", text);
            }
        }
        let manifest = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {text}\n");
        let _ = super::inject("a.yaml", &manifest, &Options::default());
        let _ = super::inject("a.yaml", &text, &Options::default());
    }
}

/// A workload with `other` wherever something of the user's may stand.
fn workload(kind: &str, hook: Option<Value>, grace: Option<u64>, other: &Value) -> Value {
    let mut app = Map::default();
    app.set("name", Value::text("app"));
    app.set("args", Value::List(vec![other.clone()]));
    app.set("ports", Value::List(vec![Value::map([("containerPort", Value::number(3000))])]));
    if let Some(hook) = hook {
        app.set("lifecycle", Value::map([("preStop", hook)]));
    }
    let mut spec = Map::default();
    spec.set("other", other.clone());
    if let Some(grace) = grace {
        spec.set("terminationGracePeriodSeconds", Value::number(grace));
    }
    spec.set("containers", Value::List(vec![Value::Map(app)]));
    let labels = Value::map([("app", Value::text("a"))]);
    let name =
        Value::map([("name", Value::text("web")), ("labels", labels), ("annotations", annotations(other))]);
    let spec = match kind {
        "Pod" => Value::Map(spec),
        _ => Value::map([("template", Value::map([("metadata", name.clone()), ("spec", Value::Map(spec))]))]),
    };
    let version = if kind == "Pod" { "v1" } else { "apps/v1" };
    Value::map([
        ("apiVersion", Value::text(version)),
        ("kind", Value::text(kind)),
        ("metadata", name),
        ("spec", spec),
    ])
}

fn annotations(other: &Value) -> Value {
    Value::map([("mine", other.clone())])
}

fn hook() -> impl Strategy<Value = Option<Value>> {
    let exec = |words: Vec<Value>| Value::map([("exec", Value::map([("command", Value::List(words))]))]);
    prop_oneof![
        Just(None),
        Just(Some(exec(vec![Value::text("/save.sh")]))),
        (0_u64..40).prop_map(move |seconds| Some(exec(vec![
            Value::text("sleep"),
            Value::text(seconds.to_string())
        ]))),
        (0_u64..40).prop_map(|seconds| {
            Some(Value::map([("sleep", Value::map([("seconds", Value::number(seconds))]))]))
        }),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let configuration = prop_oneof![
        Just(Configuration::Default),
        Just(Configuration::Named("mine".into())),
        Just(Configuration::Text(
            "# a comment\ndrain: {delay: 1500ms, spread: 2s}\nadmin: {token_file: /t}\n".into()
        )),
    ];
    let secret = prop::sample::select(vec![("keys", "/"), ("a.b", "/t"), ("keys", "/k/")])
        .prop_map(|(name, path)| SecretMount { name: name.into(), path: format!("{path}{name}") });
    let secrets = prop::collection::vec(secret, 0..3).prop_filter(
        "a folder for each",
        |secrets| !matches!(&**secrets, [one, other] if one.path == other.path),
    );
    (any::<bool>(), any::<bool>(), any::<bool>(), configuration, secrets).prop_map(
        |(native, exec, services, configuration, secrets)| Options {
            secrets,
            native_sidecar: native,
            sleep: if exec { Sleep::Exec } else { Sleep::Action },
            services,
            configuration,
            ..Options::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn injecting_twice_is_injecting_once_and_changes_nothing_of_the_user_s(
        kind in prop::sample::select(vec!["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"]),
        hook in hook(),
        grace in prop::option::of(0_u64..100),
        other in value(),
        first in options(),
        second in options(),
    ) {
        let before = workload(kind, hook.clone(), grace, &other);
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: a}, ports: [{port: 3000}]}\n";
        let manifest = format!("{}---\n{service}", write([&before]));
        let once = super::inject("a.yaml", &manifest, &first).unwrap_or_else(|error| panic!("{error}")).text;
        let twice = super::inject("a.yaml", &once, &first).unwrap_or_else(|error| panic!("{error}")).text;
        prop_assert_eq!(&twice, &once);

        // Whatever was said before, what is said last holds; and it finds the user's own numbers.
        let changed = super::inject("a.yaml", &once, &second).unwrap_or_else(|error| panic!("{error}")).text;
        let again = super::inject("a.yaml", &changed, &second).unwrap_or_else(|error| panic!("{error}")).text;
        prop_assert_eq!(&again, &changed);

        for text in [&once, &changed] {
            let documents = read_all(text);
            let object = documents.iter().find(|value| value.text_at(&["kind"]) == Some(kind)).unwrap();
            let root = if kind == "Pod" { object } else { object.at(&["spec", "template"]).unwrap() };
            let spec = root.at(&["spec"]).unwrap();
            let both = [spec.list_at(&["initContainers"]), spec.list_at(&["containers"])].concat();
            let sidecars = both.iter().filter(|item| item.text_at(&["name"]) == Some("outrigger")).count();
            prop_assert_eq!(sidecars, 1);
            let app = both.iter().find(|item| item.text_at(&["name"]) == Some("app")).unwrap();
            prop_assert_eq!(app.list_at(&["args"]), std::slice::from_ref(&other));
            prop_assert_eq!(spec.as_map().unwrap().get("other"), Some(&other));
            let annotations = root.at(&["metadata", "annotations"]).unwrap().as_map().unwrap();
            prop_assert_eq!(annotations.get("mine"), Some(&other));
            if let Some(hook) = &hook {
                prop_assert_eq!(app.at(&["lifecycle", "preStop"]), Some(hook), "an existing hook is kept");
            }
            let drain = annotations.get("outrigger/drain-seconds").and_then(Value::as_text).unwrap();
            let drain = super::settings::Drain::from_annotation(drain).unwrap();
            let total: u64 = spec.text_at(&["terminationGracePeriodSeconds"]).unwrap().parse().unwrap();
            prop_assert_eq!(total, drain.delay + drain.timeout + grace.unwrap_or(30));
        }
    }
}

/// One of the server's own ports, or another; never one of the proxy's.
fn port_of_a_rule() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "{port: 3000}",
        "{port: http, protocol: TCP}",
        "{port: 3000, protocol: UDP}",
        "{port: 2000, endPort: 4000}",
        "{port: 9100}",
        "{protocol: TCP}",
    ])
    .prop_map(str::to_owned)
}

fn rules(peer: &'static str) -> impl Strategy<Value = String> {
    let peers = prop::sample::select(vec![
        "",
        "{podSelector: {matchLabels: {app: a}}}",
        "{namespaceSelector: {}}",
        "{ipBlock: {cidr: 10.0.0.0/8}}",
    ]);
    let rule = (peers, prop::collection::vec(port_of_a_rule(), 0..4))
        .prop_map(move |(peers, ports)| format!("{{{peer}: [{peers}], ports: [{}]}}", ports.join(", ")));
    prop::collection::vec(rule, 0..4).prop_map(|rules| rules.join(", "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_beside_a_workload_follows_once_and_wherever_the_proxy_moves(
        ingress in rules("from"),
        egress in rules("to"),
        selector in prop::sample::select(vec!["{}", "{matchLabels: {app: a}}", "{matchLabels: {app: b}}"]),
        service_port in prop::sample::select(vec!["{port: 80, targetPort: http}", "{port: 3000}", "{port: 80, targetPort: 9100}"]),
        backend in prop::sample::select(vec!["{number: 80}", "{number: 3000}", "{name: http}"]),
        clients in (20_000_u16..20_003, 20_000_u16..20_003),
        probes in (20_010_u16..20_012, 20_010_u16..20_012),
        is_led_at_once in any::<bool>(),
    ) {
        let manifest = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {{podSelector: {selector}, \
             policyTypes: [Ingress, Egress], ingress: [{ingress}], egress: [{egress}]}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{selector: {{app: a}}, ports: [{service_port}]}}\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i}}\nspec: {{rules: [{{http: {{paths: [{{backend: \
             {{service: {{name: s, port: {backend}}}}}}}]}}}}]}}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: w}}\nspec: {{template: {{metadata: {{labels: {{app: a}}}}, \
             spec: {{containers: [{{name: c, ports: [{{name: http, containerPort: 3000}}]}}]}}}}}}\n"
        );
        let with = |client, probes, services| {
            Options { ports: Ports { client, admin: 19_090, probes }, services, ..Options::default() }
        };
        let first = with(clients.0, probes.0, is_led_at_once);
        let second = with(clients.1, probes.1, true);
        let done = |text: &str, options: &Options| super::inject("a.yaml", text, options).unwrap_or_else(|error| panic!("{error}")).text;
        let once = done(&manifest, &first);
        prop_assert_eq!(&done(&once, &first), &once, "twice is once");
        prop_assert_eq!(&done(&once, &second), &done(&manifest, &second), "as if it had been there from the beginning");
    }
}

#[test]
fn a_text_keeps_the_way_it_is_written_in_where_that_carries_it() {
    let cases = [
        ("a: yes\n", "a: yes\n"),
        ("a: 'yes'\n", "a: 'yes'\n"),
        ("a: \"yes\"\n", "a: \"yes\"\n"),
        ("a: !!str 012\n", "a: \"012\"\n"),
        ("a:\n", "a: null\n"),
        ("a: ~\n", "a: ~\n"),
        ("a: {}\nb: []\n", "a: {}\nb: []\n"),
        ("a: one\n  two\n", "a: one two\n"),
        ("a: one\n\n  two\n", "a: |-\n  one\n  two\n"),
        ("a: |\n  one\n   two\n\n  three\n", "a: |\n  one\n   two\n\n  three\n"),
        ("a: |+\n  one\n\nb: 1\n", "a: |+\n  one\n\nb: 1\n"),
        ("a: >\n  one\n  two\n", "a: |\n  one two\n"),
        ("a: [[1, 2], {b: 3}]\n", "a:\n- - 1\n  - 2\n- b: 3\n"),
        ("1: a\n'2': b\n", "1: a\n'2': b\n"),
        // Nothing is left that another tool would have to resolve.
        ("a: &x {b: 1, c: 2}\nd: *x\n", "a:\n  b: 1\n  c: 2\nd:\n  b: 1\n  c: 2\n"),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 5}\n", "a:\n  b: 1\n  c: 2\nd:\n  b: 5\n  c: 2\n"),
        ("\u{feff}a: 1\r\nb: 2\r\n---\n\n---\nc: 3\n", "a: 1\nb: 2\n---\nc: 3\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(write(&read_all(text)), expected, "{text}");
    }
}

#[test]
fn what_readers_disagree_about_and_what_never_ends_is_unreadable() {
    let deep = format!("a: {}1{}", "[".repeat(120), "]".repeat(120));
    let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let long = format!("{}: 1", "k".repeat(600));
    let huge = " ".repeat(super::read::MAX_BYTES + 1);
    let cases = [
        ("a: 1\na: 2\n", (1, 2), "given twice"),
        ("a: 1\n'a': 2\n", (1, 2), "given twice"),
        ("a: 1\n---\nb: [1\n", (2, 4), "not valid YAML"),
        ("a: !!binary aGk=\n", (1, 1), "the tag"),
        ("a: !mine x\n", (1, 1), "the tag !mine"),
        ("? [a]\n: b\n", (1, 1), "keys are words"),
        (": b\n", (1, 1), "an empty key"),
        ("a: {<<: 5}\n", (1, 1), "merge key"),
        ("a: &x [*x]\n", (1, 1), ""),
        (&*deep, (1, 1), "nested deeper"),
        (&*bomb, (1, 6), "more than 500000 values"),
        (&*long, (1, 1), "a key of more than"),
        ("a: 1\nb: 'x\u{2028}y'\n", (1, 2), "U+2028"),
        (&*huge, (1, 1), "longer than"),
    ];
    for (text, (document, line), what) in cases {
        let shown: String = text.chars().take(60).collect();
        let error = read(text).expect_err(&shown);
        assert_eq!((error.document.unwrap_or(1), error.mark.line), (document, line), "{shown}: {error:?}");
        assert!(error.what.contains(what), "{shown}: {error:?}");
    }
}
