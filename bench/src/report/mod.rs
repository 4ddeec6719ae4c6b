//! From result lines to tables: medians of each proxy, paired ratios, and the verdict.
//!
//! A run that failed, or that counted an error, is left out of every figure and told in the last
//! column; one of outrigger's own fails its target (see [`verdict`]).

mod stats;
mod verdict;

use std::error::Error;
use std::fmt::Write;

use serde_json::Value;
use stats::{Series, Summary};

/// The proxy that the others are compared with.
const OURS: &str = "outrigger";

/// One column of a table.
struct Column {
    key: &'static str,
    heading: &'static str,
    /// Followed by a column of paired ratios.
    paired: bool,
}

const fn alone(key: &'static str, heading: &'static str) -> Column {
    Column { key, heading, paired: false }
}

const fn paired(key: &'static str, heading: &'static str) -> Column {
    Column { key, heading, paired: true }
}

/// What is told of a workload, by the beginning of its name.
const TABLES: &[(&str, &[Column])] = &[
    (
        "echo",
        &[
            paired("cpu_us_per_message", "CPU µs/message"),
            alone("user_us_per_message", "user"),
            alone("kernel_us_per_message", "kernel"),
            paired("p50_us", "p50 µs"),
            paired("p99_us", "p99 µs"),
            alone("messages_per_s", "messages/s"),
            alone("proxy_cpu_pct", "proxy CPU %"),
            alone("proxy_waited_pct", "it waited %"),
            alone("generator_cpu_pct", "generator CPU %"),
            alone("upstream_cpu_pct", "upstream CPU %"),
            alone("pss_after_kb", "PSS KiB"),
        ],
    ),
    (
        "idle",
        &[
            paired("pss_bytes_per_conn", "PSS bytes/connection"),
            alone("conns", "connections"),
            alone("pss_before_kb", "PSS KiB before"),
            alone("pss_idle_kb", "idle"),
            alone("pss_closed_kb", "closed"),
            alone("given_back_pct", "given back %"),
            alone("idle_cpu_pct", "idle CPU %"),
            alone("idle_wakeups_per_s", "wake-ups/s"),
            paired("cpu_us_per_handshake", "CPU µs to open one"),
        ],
    ),
    (
        "handshakes",
        &[
            paired("cpu_us_per_handshake", "CPU µs/handshake"),
            alone("user_us_per_handshake", "user"),
            alone("kernel_us_per_handshake", "kernel"),
            paired("p50_us", "p50 µs"),
            paired("p99_us", "p99 µs"),
            alone("handshakes_per_s", "per s"),
            alone("proxy_cpu_pct", "proxy CPU %"),
            alone("proxy_waited_pct", "it waited %"),
            alone("generator_cpu_pct", "generator CPU %"),
        ],
    ),
    // Before its prefix.
    (
        "fanout-stalled",
        &[
            alone("p99_without_us", "others' p99 µs without"),
            alone("p99_with_us", "with"),
            alone("p99_beyond_a_tenth_us", "with − 1.1 × without"),
            alone("cpu_us_per_delivery", "CPU µs/delivery without"),
            paired("cpu_us_with", "with"),
            alone("stalled_cut", "stalled ones cut"),
            alone("pss_after_kb", "PSS KiB without"),
            alone("pss_stalled_kb", "with"),
            alone("missed", "messages missed"),
            alone("generator_cpu_pct", "generator CPU %"),
        ],
    ),
    (
        "fanout",
        &[
            paired("cpu_us_per_delivery", "CPU µs/delivery"),
            alone("p50_us", "p50 µs"),
            paired("p99_us", "p99 µs"),
            alone("max_us", "max µs"),
            alone("delivered", "delivered"),
            paired("pss_bytes_per_subscriber", "PSS bytes/subscriber"),
            alone("feed_links", "links to the feed"),
            alone("proxy_cpu_pct", "proxy CPU %"),
            alone("proxy_waited_pct", "it waited %"),
            alone("generator_cpu_pct", "generator CPU %"),
        ],
    ),
    (
        "stalled",
        &[
            paired("stalled_cost_kb", "cost KiB"),
            alone("pss_growth_kb", "of it PSS growth"),
            alone("kernel_client_kb", "socket to the client"),
            alone("kernel_upstream_kb", "socket to the upstream"),
            alone("p99_without_us", "others' p99 µs without"),
            alone("p99_with_us", "with"),
            alone("p99_with_to_without", "with ÷ without"),
            alone("missed_with", "messages missed"),
            paired("cpu_us_per_delivery", "CPU µs/delivery"),
        ],
    ),
];

/// Prints everything about the result lines in `file`.
pub fn print(file: &str) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    let results = Results::parse(&text).map_err(|e| format!("{file}: {e}"))?;
    for workload in results.workloads() {
        print!("{}", table(&results, workload));
    }
    print!("{}", verdict::table(&results));
    Ok(())
}

struct Run {
    workload: String,
    proxy: String,
    round: u64,
    figures: Value,
}

impl Run {
    fn failed(&self) -> bool {
        self.figures["failed"] == Value::Bool(true) || self.figures["errors"].as_u64() != Some(0)
    }
}

/// All runs of a file.
struct Results(Vec<Run>);

impl Results {
    fn parse(text: &str) -> Result<Self, String> {
        let runs = text.lines().enumerate().map(|(i, line)| {
            let figures: Value = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", i + 1))?;
            let tag = |key: &str| figures[key].as_str().map(str::to_owned);
            let (Some(workload), Some(proxy)) = (tag("workload"), tag("proxy")) else {
                return Err(format!("line {}: has no workload or no proxy", i + 1));
            };
            let round = figures["round"].as_u64().ok_or(format!("line {}: has no round", i + 1))?;
            Ok(Run { workload, proxy, round, figures })
        });
        runs.collect::<Result<_, _>>().map(Self)
    }

    fn workloads(&self) -> Vec<&str> {
        distinct(self.0.iter().map(|r| r.workload.as_str()))
    }

    fn proxies(&self) -> Vec<&str> {
        distinct(self.0.iter().map(|r| r.proxy.as_str()))
    }

    fn of<'a>(&'a self, workload: &'a str, proxy: &'a str) -> impl Iterator<Item = &'a Run> {
        self.0.iter().filter(move |r| r.workload == workload && r.proxy == proxy)
    }

    fn series(&self, workload: &str, proxy: &str, key: &str) -> Series {
        let good = self.of(workload, proxy).filter(|r| !r.failed());
        good.filter_map(|r| Some((r.round, r.figures[key].as_f64()?))).collect()
    }

    fn failed(&self, workload: &str, proxy: &str) -> usize {
        self.of(workload, proxy).filter(|r| r.failed()).count()
    }
}

/// In the order of their first appearance.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// One workload, in Markdown: medians, and for paired columns ours divided by each peer's.
fn table(results: &Results, workload: &str) -> String {
    let Some((_, columns)) = TABLES.iter().find(|(prefix, _)| workload.starts_with(prefix)) else {
        return String::new();
    };
    let mut heads = vec!["proxy"];
    for column in *columns {
        heads.push(column.heading);
        if column.paired {
            heads.push("outrigger ÷ it");
        }
    }
    heads.extend(["runs", "failed"]);
    let mut out =
        format!("\n### {workload}\n\n| {} |\n|---{}|\n", heads.join(" | "), "|---:".repeat(heads.len() - 1));
    for proxy in results.proxies() {
        let mut cells = vec![proxy.to_owned()];
        for column in *columns {
            let theirs = results.series(workload, proxy, column.key);
            cells.push(stats::summary(theirs.values().copied()).map_or("–".into(), |s| number(s.median)));
            if column.paired {
                let ours = results.series(workload, OURS, column.key);
                let ratio = stats::summary(stats::ratios(&ours, &theirs)).filter(|_| proxy != OURS);
                cells.push(ratio.map_or("–".into(), spread));
            }
        }
        let (runs, failed) = (results.of(workload, proxy).count(), results.failed(workload, proxy));
        if runs > 0 {
            cells.extend([runs.to_string(), failed.to_string()]);
            let _ = writeln!(out, "| {} |", cells.join(" | ")); // writing to a string cannot fail
        }
    }
    out
}

/// `median (min..max)`
fn spread(s: Summary) -> String {
    format!("{} ({}..{})", number(s.median), number(s.min), number(s.max))
}

/// At most two digits after the point, and none that say nothing.
fn number(v: f64) -> String {
    let v = if v.abs() < 0.005 { 0.0 } else { v }; // no "-0"
    if v.abs() >= 1000.0 {
        return format!("{v:.0}");
    }
    let text = format!("{v:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_medians_and_paired_ratios_and_leaves_failed_runs_out() {
        let text = r#"{"workload":"echo-64x16","proxy":"outrigger","round":1,"cpu_us_per_message":9.0,"errors":0}
{"workload":"echo-64x16","proxy":"nginx","round":1,"cpu_us_per_message":10.0,"errors":0}
{"workload":"echo-64x16","proxy":"nginx","round":2,"cpu_us_per_message":1.0,"errors":3}
{"workload":"echo-64x16","proxy":"direct","round":1,"p50_us":12.345,"errors":0}"#;
        let results = Results::parse(text).unwrap();
        let table = table(&results, "echo-64x16");
        let row = |proxy: &str| table.lines().find(|l| l.starts_with(&format!("| {proxy}"))).unwrap();
        assert!(row("nginx").starts_with("| nginx | 10 | 0.9 (0.9..0.9) |"), "{table}");
        assert!(row("nginx").ends_with("| 2 | 1 |"), "{table}");
        assert!(row("outrigger").starts_with("| outrigger | 9 | – |"), "{table}");
        assert!(row("direct").starts_with("| direct | – | – | – | – | 12.35 | – |"), "{table}");
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = |text| Results::parse(text).err().unwrap();
        assert!(error("{\"workload\":\"idle\",\"proxy\":\"nginx\",\"round\":1}\n{").starts_with("line 2"));
        assert_eq!(error("{\"workload\":\"idle\",\"proxy\":\"nginx\"}"), "line 1: has no round");
    }

    #[test]
    fn numbers_are_short() {
        for (v, text) in [
            (-0.001, "0"),
            (0.0, "0"),
            (10.0, "10"),
            (1.5, "1.5"),
            (0.854, "0.85"),
            (100.0, "100"),
            (12345.6, "12346"),
        ] {
            assert_eq!(number(v), text);
        }
    }
}
