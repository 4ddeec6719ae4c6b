//! Metrics that expressions ask for, against the rows of `docs/metrics.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::engine::Selector;

/// Labels that targets have in Kubernetes.
const OF_TARGETS: [&str; 4] = ["namespace", "pod", "instance", "job"];

/// What every Prometheus client tells of its process.
const OF_PROCESSES: [&str; 3] =
    ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"];

/// Each documented metric, with the words of its column of labels: their names and their values.
pub fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documented = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `outrigger_")) {
        let cells = Vec::from_iter(line.split(" | "));
        let quoted = |cell: &str| Vec::from_iter(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        let name = quoted(cells[0]).remove(0);
        let mut labels = BTreeSet::from_iter(quoted(cells[2]));
        let mut names = vec![name.clone()];
        if cells[1] == "histogram" {
            labels.insert("le".into());
            names = ["bucket", "sum", "count"].map(|part| format!("{name}_{part}")).into();
        }
        documented.extend(names.into_iter().map(|name| (name, labels.clone())));
    }
    assert!(documented.len() > 40, "{documented:?}");
    documented
}

/// What is wrong with a selector, if anything is.
pub fn check(selector: &Selector, documented: &BTreeMap<String, BTreeSet<String>>) -> Result<(), String> {
    let metric = selector.metric.as_str();
    let none = BTreeSet::new();
    let words = match documented.get(metric) {
        Some(words) => words,
        None if OF_PROCESSES.contains(&metric) => &none,
        None => return Err(format!("{metric} is not in docs/metrics.md")),
    };
    for (label, _, value) in &selector.matchers {
        if !words.contains(label) && !OF_TARGETS.contains(&label.as_str()) {
            return Err(format!("{metric} has no label {label}"));
        }
        for value in value.split('|').filter(|value| !value.starts_with('$')) {
            if !words.contains(value) {
                return Err(format!("{label} of {metric} is never {value}"));
            }
        }
    }
    Ok(())
}

#[test]
fn a_metric_a_label_and_a_value_that_are_not_documented_are_told() {
    let documented = documented();
    let ask = |metric: &str, label: &str, value: &str| {
        let matchers = vec![(label.to_owned(), "Equal".to_owned(), value.to_owned())];
        check(&Selector { metric: metric.to_owned(), matchers }, &documented)
    };
    assert_eq!(ask("outrigger_handshakes_total", "outcome", "accepted|rate_limited"), Ok(()));
    assert!(ask("outrigger_handshake_total", "outcome", "accepted").is_err());
    assert!(ask("outrigger_handshakes_total", "result", "accepted").is_err());
    assert!(ask("outrigger_handshakes_total", "outcome", "accepted|lost").is_err());
    assert!(ask("outrigger_heartbeat_rtt_seconds", "le", "1").is_err(), "it is a histogram");
}
