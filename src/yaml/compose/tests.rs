//! What is composed of a text, and what is an error in it.

use super::*;
use crate::yaml::{Layout, Value, write_as};

const DIALECT: Dialect = Dialect {
    max_bytes: 1000,
    max_depth: 4,
    max_nodes: 40,
    max_repeated_bytes: 100,
    max_errors: 3,
    key_limit: KeyLimit::Chars(5),
    documents: Documents::Many,
    tags: Tags::Core,
};

/// Documents as they are written, and errors with their positions.
fn read(text: &str, dialect: &Dialect) -> (Vec<String>, Vec<String>) {
    let Composed { documents, errors, .. } = compose(text, dialect);
    let shown = documents
        .into_iter()
        .map(|document| write_as(Layout::KUBECTL, [&Value::from(Rc::unwrap_or_clone(document.root))]));
    let told =
        errors.into_iter().map(|Error { mark, kind, .. }| format!("{}:{} {kind}", mark.line, mark.column));
    (shown.collect(), told.collect())
}

#[test]
fn documents_come_with_aliases_and_merge_keys_resolved() {
    for (text, documents) in [
        ("", &[][..]),
        ("a: 1\n---\n---\n'b': x", &["a: 1\n", "null\n", "'b': x\n"]),
        ("\u{feff}a: &x [1]\nb: *x", &["a:\n- 1\nb:\n- 1\n"]),
        ("- &x {a: 1, b: 2}\n- {b: 3, <<: *x}", &["- a: 1\n  b: 2\n- b: 3\n  a: 1\n"]),
        ("<<: [{a: 1}, {a: 2, b: 3}]", &["a: 1\nb: 3\n"]),
        ("'<<': {a: 1}", &["'<<':\n  a: 1\n"]),
        ("a: !!str 1\nb: !!seq []", &["a: \"1\"\nb: []\n"]),
    ] {
        let (found, errors) = read(text, &DIALECT);
        assert_eq!(
            (&*found, &*errors),
            (&*documents.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &[][..]),
            "{text:?}"
        );
    }
}

#[test]
fn whatever_two_readers_could_understand_differently_is_an_error_with_its_position() {
    for (text, errors) in [
        ("a: 1\na: 2", &["2:1 the key \"a\" is given twice"][..]),
        ("a: {b: 1, 'b': 2}", &["1:11 the key \"b\" is given twice"]),
        ("<<: 1", &["1:1 << takes a map, such as *anchor, or a list of them"]),
        ("<<: [{}, 1]", &["1:1 << takes a map, such as *anchor, or a list of them"]),
        ("{<<: {}, <<: {}}", &["1:10 a second << in one map; give one a list of maps"]),
        ("a: !x b", &["1:4 the tag !x is not supported"]),
        ("a: !!int 1", &["1:4 the tag tag:yaml.org,2002:int is not supported"]),
        ("? [a]\n: b", &["1:3 a list or map as a key; keys are words"]),
        ("~: b", &["1:1 an empty key"]),
        ("abcdef: 1", &["1:1 a key longer than 5 characters"]),
        ("a: &x [*x]", &["1:8 an alias inside of what it repeats, or of what was refused"]),
        (
            "~: 1\nnull: 2\n? {}\n: 3\n~: 4",
            &[
                "1:1 an empty key",
                "2:1 an empty key",
                "3:3 a list or map as a key; keys are words",
                "3:4 there may be more: mend these first",
            ],
        ),
    ] {
        let (_, found) = read(text, &DIALECT);
        assert_eq!(found, errors, "{text:?}");
    }
    let one = Dialect { documents: Documents::One, tags: Tags::None, ..DIALECT };
    assert_eq!(read("a: 1\n---\nb: 2", &one).1, ["2:1 a second YAML document; one file holds one"]);
    assert_eq!(read("!!str a", &one).1, ["1:1 the tag tag:yaml.org,2002:str is not supported"]);
}

#[test]
fn every_limit_ends_the_reading() {
    let long = "y".repeat(60);
    for (text, end) in [
        ("#".repeat(1001), "longer than 1000 bytes"),
        ("[".repeat(5), "nested deeper than 4 levels"),
        (format!("[{}]", "1, ".repeat(41)), "more than 40 values"),
        (format!("- &a [{}]\n- *a\n- *a\n- *a", "1, ".repeat(10)), "more than 40 values"),
        (format!("- &a {long}\n- *a\n- *a"), "aliases repeat more than 100 bytes"),
        (format!("- &a {{ab: {long}}}\n- *a\n- *a"), "aliases repeat more than 100 bytes"),
    ] {
        let composed = compose(&text, &DIALECT);
        assert!(!composed.is_complete, "{text}");
        let told = composed.errors.last().map(|error| error.kind.to_string()).unwrap_or_default();
        assert!(told.starts_with(end), "{text}: {told}");
    }
}

#[test]
fn a_node_is_found_where_it_was_written_also_behind_an_alias() {
    let composed = compose("a: &x\n  b: 1\nc: *x", &DIALECT);
    let Content::Map(root) = &composed.documents[0].root.content else { panic!("it is a map") };
    let marks: Vec<_> = root.iter().map(|entry| (entry.mark.line, entry.value.mark.line)).collect();
    assert_eq!(marks, [(1, 1), (3, 1)]);
}
