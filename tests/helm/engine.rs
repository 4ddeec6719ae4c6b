//! Helm's own engine, in one Python process for all cases: `engine.py` beside this file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::{self, Case};
use super::snippets;
use super::wanted;

/// What came of everything.
#[derive(Debug, Deserialize)]
pub struct Rendered {
    cases: BTreeMap<String, Outcome>,
    pub queries: Vec<Query>,
    pub readme: String,
    pub values: Value,
    pub schema: Value,
    pub rules: Vec<Value>,
}

/// What came of one case.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    pub error: Option<String>,
    pub lint: Vec<String>,
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    #[serde(default)]
    pub documents: Vec<Document>,
}

/// One YAML document of a rendering.
#[derive(Debug, Clone, Deserialize)]
pub struct Document {
    pub file: String,
    pub document: Value,
}

/// An expression in a rule or a panel, and the metrics that it asks for.
#[derive(Debug, Deserialize)]
pub struct Query {
    #[serde(rename = "where")]
    pub place: String,
    pub text: String,
    pub selectors: Vec<Selector>,
}

/// A metric with its matchers: label, operator, value.
#[derive(Debug, Deserialize)]
pub struct Selector {
    pub metric: String,
    pub matchers: Vec<(String, String, String)>,
}

impl Rendered {
    /// The outcome of a case that has to succeed.
    pub fn good(&self, name: &str) -> &Outcome {
        let outcome = self.of(name);
        assert_eq!(outcome.error, None, "{name}");
        outcome
    }

    /// The outcome of any case.
    pub fn of(&self, name: &str) -> &Outcome {
        self.cases.get(name).unwrap_or_else(|| panic!("there is no case {name}"))
    }

    /// Every case that has to succeed.
    pub fn all_good(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        // What is pasted from documents is for a chart of the user's, and tested there.
        let is_good = |name: &&String| !name.starts_with("wrong/") && !name.starts_with("snippet/");
        let good = self.cases.keys().filter(is_good);
        good.map(|name| (name.as_str(), self.good(name)))
    }
}

impl Outcome {
    /// All documents of a kind.
    pub fn all(&self, kind: &str) -> impl Iterator<Item = &Value> + use<'_> {
        let kind = kind.to_owned();
        self.documents.iter().map(|found| &found.document).filter(move |document| document["kind"] == *kind)
    }

    /// The one document of a kind.
    pub fn the(&self, kind: &str) -> &Value {
        let found = Vec::from_iter(self.all(kind));
        assert_eq!(found.len(), 1, "{kind}: {:?}", self.files.keys());
        found[0]
    }

    /// Kinds, sorted.
    pub fn kinds(&self) -> Vec<&str> {
        let mut kinds =
            Vec::from_iter(self.documents.iter().filter_map(|found| found.document["kind"].as_str()));
        kinds.sort_unstable();
        kinds
    }

    /// The containers of the Deployment, the sidecar and the server, wherever they stand.
    pub fn container(&self, name: &str) -> Option<&Value> {
        let pod = &self.the("Deployment")["spec"]["template"]["spec"];
        let lists = [&pod["initContainers"], &pod["containers"]];
        lists.into_iter().filter_map(Value::as_array).flatten().find(|container| container["name"] == name)
    }

    /// The configuration that the proxy is given.
    pub fn config(&self) -> &str {
        let mut found = self.all("ConfigMap").filter_map(|map| map["data"]["outrigger.yaml"].as_str());
        found.next().expect("there is a configuration")
    }
}

/// Renders all cases, once; `None` where that is not asked for.
pub fn rendered() -> Option<&'static Rendered> {
    static RENDERED: OnceLock<Rendered> = OnceLock::new();
    (!wanted::skipped("Helm's engine"))
        .then(|| RENDERED.get_or_init(|| run(&[cases::all(), snippets::cases()].concat())))
}

fn run(cases: &[Case]) -> Rendered {
    let folder = folder();
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/setup-tests.sh", python.display());
    let order: Vec<_> = cases
        .iter()
        .map(|case| json!({"name": case.name, "chart": case.chart, "kube": case.kube, "values": case.values}))
        .collect();
    let mut command = Command::new(python);
    command.arg(folder.join("engine.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("Python can be started");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It reads everything before it answers anything.
    stdin
        .write_all(json!({ "cases": order, "charts": snippets::charts() }).to_string().as_bytes())
        .expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered: Rendered = serde_json::from_slice(&output.stdout).expect("it answers in JSON");
    assert_eq!(rendered.cases.len(), cases.len(), "two cases have the same name");
    rendered
}

/// Where the Python side, its packages and the golden files are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("helm")
}
