//! What the documents and the chart's notes have users paste into a chart of theirs is pasted, and rendered.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cases::Case;
use super::engine::{Outcome, rendered};
use super::{root, typed};

/// The files of a chart by their paths.
pub type Chart = BTreeMap<String, String>;

/// A chart of each place that tells how to make one: the snippets as they stand there, each under the path in its
/// first line. What is left to the user is filled in: the head of `Chart.yaml`, and that of a Deployment.
pub fn charts() -> BTreeMap<&'static str, Chart> {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let notes = read("helm/outrigger/templates/NOTES.txt");
    // The notes are a template, and print what is one.
    let notes = notes.replace(r#"{{ "{{" }}"#, "{{").replace("{{ .Chart.Version }}", "0.1.0");
    let notes = notes
        .lines()
        .skip_while(|line| !line.starts_with("  # "))
        .take_while(|line| !line.starts_with("and "));
    let notes = String::from_iter(notes.map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))));
    BTreeMap::from([
        ("docs", chart(&fenced(&read("docs/kubernetes.md")))),
        ("readme", chart(&fenced(&read("helm/outrigger/README.md")))),
        ("notes", chart(&notes)),
    ])
}

/// The fenced blocks of a document that begin with the path of a file.
fn fenced(document: &str) -> String {
    let blocks = document.split("```yml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| path_of(block).is_some()).collect()
}

/// `# templates/deployment.yaml`, with or without a word on where in it.
fn path_of(line: &str) -> Option<&str> {
    let first = line.strip_prefix("# ")?.split([',', '\n']).next()?;
    let is_file = first.ends_with(".yaml") && !first.contains(' ');
    is_file.then_some(first)
}

fn chart(snippets: &str) -> Chart {
    let mut files = Chart::new();
    let mut current = None;
    for line in snippets.lines() {
        if let Some(path) = path_of(line) {
            current = Some(path.to_owned());
        }
        if let Some(path) = &current {
            let text = files.entry(path.clone()).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    let head = |files: &mut Chart, path: &str, key: &str, head: &str| {
        let text = files.entry(path.to_owned()).or_default();
        if !text.lines().any(|line| line.starts_with(key)) {
            text.insert_str(0, head);
        }
    };
    head(&mut files, "Chart.yaml", "name:", "apiVersion: v2\nname: pasted\nversion: 1.0.0\n");
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: pasted\n";
    head(&mut files, "templates/deployment.yaml", "kind:", deployment);
    files.entry("values.yaml".to_owned()).or_default();
    files
}

/// Each on a cluster with native sidecars, and on one without.
pub fn cases() -> Vec<Case> {
    let on = |chart: &'static str, kube: &'static str| Case {
        name: format!("snippet/{chart}/{kube}"),
        chart,
        kube,
        values: serde_json::json!({}),
    };
    ["docs", "readme", "notes"]
        .into_iter()
        .flat_map(|chart| [on(chart, "1.28.0"), on(chart, "1.31.0")])
        .collect()
}

#[test]
fn what_the_documents_have_users_paste_is_a_deployment_with_the_sidecar() {
    let Some(rendered) = rendered() else { return };
    for Case { name, kube, .. } in cases() {
        let outcome = rendered.good(&name);
        for found in &outcome.documents {
            if let Err(problem) = typed::check(&found.document) {
                panic!("{name}: {}: {problem}\n{}", found.file, outcome.files[&found.file]);
            }
        }
        // A chart that is known to be right.
        let expected = parts(rendered.good(&format!("inject/{kube}")));
        assert_eq!(parts(outcome), expected, "{name}");
        let service =
            outcome.all("Service").find(|service| service["metadata"]["name"] != "demo-outrigger-metrics");
        if let Some(service) = service {
            assert_eq!(service["spec"]["ports"][0]["targetPort"], 19_080, "{name}");
        }
    }
    for chart in ["docs", "readme"] {
        assert!(rendered.good(&format!("snippet/{chart}/1.31.0")).all("Service").count() == 1, "{chart}");
    }
}

/// What the chart's templates put into a Deployment, each with the place it has there. Its image is a value.
fn parts(outcome: &Outcome) -> BTreeMap<&'static str, Value> {
    let template = &outcome.the("Deployment")["spec"]["template"];
    let mut spec = template["spec"].clone();
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container.as_object_mut().unwrap().remove("image");
        }
    }
    let (mut server, mut beside) = (Value::Null, Vec::new());
    for container in spec["containers"].as_array().unwrap() {
        match container["name"].as_str() {
            Some("outrigger") => beside.push(container.clone()),
            _ => server = container["lifecycle"].clone(),
        }
    }
    BTreeMap::from([
        ("label", template["metadata"]["labels"]["outrigger-sidecar"].clone()),
        ("annotation", template["metadata"]["annotations"]["checksum/outrigger-config"].clone()),
        ("grace", spec["terminationGracePeriodSeconds"].clone()),
        ("init", spec["initContainers"].clone()),
        ("beside", Value::Array(beside)),
        ("hooks", server),
        ("volumes", spec["volumes"].clone()),
    ])
}
