//! What outrigger has to reach, and whether it did.

use std::fmt::Write;

use super::stats::{self, Summary};
use super::{OURS, Results, number, spread};

/// The peers among which the best of a round is looked for.
const PEERS: &[&str] = &["nginx", "haproxy", "envoy", "forward"];

/// How a figure is held against its limit.
enum Rule {
    /// Median of our figure divided, round by round, by that of the round's best peer.
    ToBest(f64),
    /// Median of our figure divided, round by round, by this peer's.
    To(&'static str, f64),
    /// Median of what this variant of ours takes, divided, round by round, by our own figure.
    Costs(&'static str, f64),
    /// Median of what this variant of ours takes more, round by round.
    Adds(&'static str, f64),
    /// Median of what we take more than this peer, round by round.
    Beyond(&'static str, f64),
    /// Median of the figure of this variant of ours divided, round by round, by its own of this workload: at most so far from 1.
    Flat(&'static str, &'static str, f64),
    /// Median of our figure divided, round by round, by our own of this workload.
    ToOwn(&'static str, f64),
    /// Median of our figure.
    AtMost(f64),
    /// Our worst round.
    NeverAbove(f64),
    /// Median of our figure.
    AtLeast(f64),
}

struct Target {
    workload: &'static str,
    key: &'static str,
    what: &'static str,
    rule: Rule,
}

const fn target(workload: &'static str, key: &'static str, what: &'static str, rule: Rule) -> Target {
    Target { workload, key, what, rule }
}

/// The fan-out that the others are held against.
const FANOUT: &str = "fanout-1000x20x256";

/// The same to clients with event streams.
const EVENTS: &str = "fanout-events";

/// Ours in mode session, whose cost is held against that of a tunnel.
const SESSION: &str = "outrigger-session";

/// In the order of the table.
const TARGETS: &[Target] = &[
    target("echo-64x16", "cpu_us_per_message", "CPU per message", Rule::To("nginx", 1.0)),
    target("echo-64x16", "user_us_per_message", "user time per message, µs", Rule::AtMost(0.6)),
    target("echo-64x16", "cpu_us_per_message", "CPU per message", Rule::ToBest(1.05)),
    target("echo-64x1K", "cpu_us_per_message", "CPU per message", Rule::To("nginx", 1.0)),
    target("echo-64x1K", "cpu_us_per_message", "CPU per message", Rule::ToBest(1.05)),
    target("echo-64x64K", "cpu_us_per_message", "CPU per message", Rule::ToBest(0.85)),
    target("echo-1x16", "cpu_us_per_message", "CPU per message", Rule::To("nginx", 1.05)),
    target("handshakes", "cpu_us_per_handshake", "CPU per handshake", Rule::To("nginx", 1.15)),
    target("handshakes", "user_us_per_handshake", "user time per handshake, µs", Rule::AtMost(14.0)),
    target(
        "handshakes",
        "kernel_us_per_handshake",
        "kernel µs of it beyond nginx",
        Rule::Beyond("nginx", 3.0),
    ),
    target("handshakes", "cpu_us_per_handshake", "CPU µs that admission adds", Rule::Adds("guarded", 25.0)),
    target("echo-64x16", "cpu_us_per_message", "CPU per message of a session", Rule::Costs(SESSION, 1.6)),
    target("echo-64x64K", "cpu_us_per_message", "CPU per message of a session", Rule::Costs(SESSION, 2.0)),
    target(
        "echo-1000x16-paced",
        "cpu_us_per_message",
        "CPU per message of a session",
        Rule::Costs(SESSION, 2.5),
    ),
    target(
        "spread-5000",
        "cpu_us_per_message",
        "CPU per message of a session, flat",
        Rule::Flat(SESSION, "spread-100", 0.1),
    ),
    target("idle", "pss_bytes_per_conn", "PSS bytes per connection", Rule::AtMost(1500.0)),
    target("idle", "pss_bytes_per_conn", "PSS bytes that a session adds", Rule::Adds(SESSION, 4096.0)),
    target("idle", "given_back_pct", "% of it given back on close", Rule::AtLeast(95.0)),
    target("idle", "binary_bytes", "bytes of the stripped binary", Rule::AtMost(14e6)),
    // max_lag, 1 MiB by default, and 512 KiB.
    target("stalled", "stalled_cost_kb", "KiB for a client that does not read", Rule::NeverAbove(1536.0)),
    target("stalled", "p99_with_to_without", "the others' p99, with ÷ without it", Rule::AtMost(1.25)),
    target("stalled", "missed_with", "messages the others missed", Rule::NeverAbove(0.0)),
    target(FANOUT, "cpu_us_per_delivery", "CPU per delivery", Rule::To("nchan", 1.05)),
    target(FANOUT, "cpu_us_per_delivery", "CPU per delivery", Rule::To("bare", 1.08)),
    target(FANOUT, "cpu_us_per_delivery", "CPU µs per delivery", Rule::AtMost(6.5)),
    target(FANOUT, "p99_us", "p99 of a delivery", Rule::To("nchan", 1.0)),
    target(FANOUT, "pss_bytes_per_subscriber", "PSS bytes per idle subscriber", Rule::AtMost(2048.0)),
    target(FANOUT, "feed_links", "connections to the server", Rule::NeverAbove(1.0)),
    target(EVENTS, "cpu_us_per_delivery", "CPU per event, to a frame's", Rule::ToOwn(FANOUT, 1.2)),
    target(EVENTS, "pss_bytes_per_subscriber", "PSS bytes per idle event stream", Rule::AtMost(3072.0)),
    target("fanout-100", "cpu_us_per_delivery", "CPU per delivery, flat", Rule::Flat(OURS, FANOUT, 0.15)),
    target("fanout-5000", "cpu_us_per_delivery", "CPU per delivery, flat", Rule::Flat(OURS, FANOUT, 0.15)),
    target(
        "fanout-stalled",
        "p99_beyond_a_tenth_us",
        "µs of p99 that stalled ones cost",
        Rule::AtMost(1000.0),
    ),
    // In all of its run: of those that read, nobody may miss one.
    target("fanout-stalled", "missed", "messages the others missed", Rule::NeverAbove(0.0)),
];

struct Outcome {
    measured: Summary,
    limit: String,
    met: bool,
    /// Which peers were the best, and in how many rounds.
    note: String,
}

/// The table of verdicts, in Markdown; empty if outrigger did not run.
pub fn table(results: &Results) -> String {
    let mut out = String::new();
    if !results.proxies().contains(&OURS) {
        return out;
    }
    out += "\n## Verdict\n\n| workload | target | measured (min..max) | limit | verdict |\n|---|---|---:|---:|---|\n";
    for target in TARGETS.iter().filter(|t| results.workloads().contains(&t.workload)) {
        let failed = results.failed(target.workload, OURS);
        let (measured, limit, verdict) = match outcome(results, target) {
            None => ("–".into(), "–".into(), "no data".into()),
            Some(o) => {
                let met = if o.met && failed == 0 { "met" } else { "**missed**" };
                (spread(o.measured), o.limit, format!("{met}{}", o.note))
            }
        };
        let failures = if failed > 0 { format!(" (failed runs: {failed})") } else { String::new() };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {measured} | {limit} | {verdict}{failures} |",
            target.workload, target.what
        );
    }
    out
}

fn outcome(results: &Results, target: &Target) -> Option<Outcome> {
    let series = |proxy| results.series(target.workload, proxy, target.key);
    let ours = series(OURS);
    let mut note = String::new();
    let (values, limit) = match target.rule {
        Rule::ToBest(limit) => {
            let peers: Vec<_> = PEERS.iter().map(|p| (*p, series(p))).collect();
            let (best, wins) = stats::best(&peers);
            let wins: Vec<String> = wins.iter().map(|(who, n)| format!("{who} {n}×")).collect();
            note = format!("; best peer: {}", wins.join(", "));
            let absent: Vec<&str> = peers.iter().filter(|(_, s)| s.is_empty()).map(|(p, _)| *p).collect();
            if !absent.is_empty() {
                note += &format!("; not measured: {}", absent.join(", "));
            }
            (stats::ratios(&ours, &best), format!("≤ {limit} × best"))
        }
        Rule::To(peer, limit) => (stats::ratios(&ours, &series(peer)), format!("≤ {limit} × {peer}")),
        Rule::Costs(variant, limit) => {
            (stats::ratios(&series(variant), &ours), format!("≤ {limit} × {OURS}"))
        }
        Rule::Adds(variant, limit) => {
            (stats::differences(&series(variant), &ours), format!("≤ {}", number(limit)))
        }
        Rule::Beyond(peer, limit) => {
            (stats::differences(&ours, &series(peer)), format!("≤ {} beyond {peer}", number(limit)))
        }
        Rule::Flat(variant, workload, by) => {
            let to_there =
                |proxy| stats::ratios(&series(proxy), &results.series(workload, proxy, target.key));
            // The kernel's own work for a socket that is not in the caches grows too.
            let yardstick = if variant == OURS { "bare" } else { OURS };
            if let Some(grown) = stats::summary(to_there(yardstick)) {
                note = format!("; {yardstick}: {}", spread(grown));
            }
            (to_there(variant), format!("{}..{} × {workload}", number(1.0 - by), number(1.0 + by)))
        }
        Rule::ToOwn(workload, limit) => {
            let there = results.series(workload, OURS, target.key);
            (stats::ratios(&ours, &there), format!("≤ {limit} × {workload}"))
        }
        Rule::AtMost(limit) | Rule::NeverAbove(limit) => {
            (ours.into_values().collect(), format!("≤ {}", number(limit)))
        }
        Rule::AtLeast(limit) => (ours.into_values().collect(), format!("≥ {}", number(limit))),
    };
    let measured = stats::summary(values)?;
    let met = match target.rule {
        Rule::ToBest(limit)
        | Rule::To(_, limit)
        | Rule::Costs(_, limit)
        | Rule::Adds(_, limit)
        | Rule::Beyond(_, limit)
        | Rule::ToOwn(_, limit)
        | Rule::AtMost(limit) => measured.median <= limit,
        Rule::Flat(_, _, by) => (measured.median - 1.0).abs() <= by,
        Rule::NeverAbove(limit) => measured.max <= limit,
        Rule::AtLeast(limit) => measured.median >= limit,
    };
    Some(Outcome { measured, limit, met, note })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(lines: &[String]) -> String {
        table(&Results::parse(&lines.join("\n")).unwrap())
    }

    fn cpu(proxy: &str, round: u64, cpu: f64) -> String {
        format!(
            r#"{{"workload":"echo-64x16","proxy":"{proxy}","round":{round},"cpu_us_per_message":{cpu},"errors":0}}"#
        )
    }

    #[test]
    fn the_median_of_the_rounds_is_held_against_the_best_peer_of_each() {
        let mut lines = vec![];
        // Against nginx 2.0 and 1.0, against haproxy 0.5 and 1.5: the best of each round gives 2.0, 1.5.
        for (round, ours, nginx, haproxy) in [(1, 4.0, 2.0, 8.0), (2, 6.0, 6.0, 4.0)] {
            lines.extend([
                cpu(OURS, round, ours),
                cpu("nginx", round, nginx),
                cpu("haproxy", round, haproxy),
            ]);
        }
        let text = verdicts(&lines);
        let row = text.lines().find(|l| l.contains("best peer")).unwrap();
        assert!(row.contains("1.75 (1.5..2)"), "{row}");
        assert!(row.contains("**missed**; best peer: nginx 1×, haproxy 1×"), "{row}");
        assert!(row.contains("not measured: envoy, forward"), "{row}");
    }

    #[test]
    fn a_target_is_met_at_its_limit_but_not_with_a_failed_run() {
        let mut lines = vec![cpu(OURS, 1, 1.05), cpu("nginx", 1, 1.0)];
        assert!(verdicts(&lines).contains("| met; best peer: nginx 1×"));
        lines.push(r#"{"workload":"echo-64x16","proxy":"outrigger","round":2,"failed":true}"#.into());
        let text = verdicts(&lines);
        assert!(text.contains("**missed**") && text.contains("(failed runs: 1)"), "{text}");
    }

    #[test]
    fn what_we_take_beyond_a_peer_is_that_of_the_same_round() {
        let kernel = |proxy: &str, round: u64, us: f64| {
            format!(
                r#"{{"workload":"handshakes","proxy":"{proxy}","round":{round},"kernel_us_per_handshake":{us},"errors":0}}"#
            )
        };
        for (ours, verdict) in [(63.0, "2.5 (2..3) | ≤ 3 beyond nginx | met"), (65.0, "3.5 (2..5)")] {
            let text = verdicts(&[
                kernel(OURS, 1, ours),
                kernel("nginx", 1, 60.0),
                kernel(OURS, 2, 22.0),
                kernel("nginx", 2, 20.0),
            ]);
            let row = text.lines().find(|line| line.contains("beyond nginx")).unwrap();
            assert!(row.contains(verdict), "{row}");
            assert_eq!(row.contains("**missed**"), ours > 64.0, "{row}");
        }
    }

    #[test]
    fn the_cost_of_a_stalled_client_is_that_of_the_worst_round() {
        let cost = |round: u64, kb: f64| {
            format!(
                r#"{{"workload":"stalled","proxy":"outrigger","round":{round},"stalled_cost_kb":{kb},"errors":0}}"#
            )
        };
        assert!(verdicts(&[cost(1, 100.0), cost(2, 1536.0)]).contains("| met |"));
        assert!(verdicts(&[cost(1, 100.0), cost(2, 100.0), cost(3, 1537.0)]).contains("**missed**"));
    }

    #[test]
    fn flat_is_near_our_own_figure_of_the_other_workload_on_both_sides() {
        let cpu = |workload: &str, proxy: &str, cpu: f64| {
            format!(
                r#"{{"workload":"{workload}","proxy":"{proxy}","round":1,"cpu_us_per_delivery":{cpu},"errors":0}}"#
            )
        };
        let row = |of_100: f64| {
            let text = verdicts(&[
                cpu(FANOUT, OURS, 4.0),
                cpu("fanout-100", OURS, of_100),
                cpu(FANOUT, "bare", 2.0),
                cpu("fanout-100", "bare", 3.0),
            ]);
            text.lines().find(|l| l.starts_with("| fanout-100 ")).unwrap().to_owned()
        };
        for near in [3.5, 4.5] {
            assert!(
                row(near).ends_with("| 0.85..1.15 × fanout-1000x20x256 | met; bare: 1.5 (1.5..1.5) |"),
                "{}",
                row(near)
            );
        }
        assert!(row(3.3).contains("**missed**") && row(4.7).contains("**missed**"));
    }

    #[test]
    fn a_session_is_held_against_the_tunnel_of_the_same_round() {
        let row = |session: [f64; 2]| {
            let lines = [
                cpu(OURS, 1, 1.0),
                cpu(SESSION, 1, session[0]),
                cpu(OURS, 2, 2.0),
                cpu(SESSION, 2, session[1]),
            ];
            let text = verdicts(&lines);
            text.lines().find(|line| line.contains("of a session")).unwrap().to_owned()
        };
        assert!(row([1.5, 3.2]).contains("1.55 (1.5..1.6) | ≤ 1.6 × outrigger | met"), "{}", row([1.5, 3.2]));
        assert!(row([1.7, 3.4]).contains("**missed**"), "{}", row([1.7, 3.4]));
    }

    #[test]
    fn without_runs_of_ours_there_is_no_verdict() {
        assert_eq!(verdicts(&[cpu("nginx", 1, 1.0)]), "");
    }

    #[test]
    fn events_are_held_against_the_frames_of_the_same_round() {
        let cpu = |workload: &str, round: u64, cpu: f64| {
            format!(
                r#"{{"workload":"{workload}","proxy":"outrigger","round":{round},"cpu_us_per_delivery":{cpu},"errors":0}}"#
            )
        };
        for (events, verdict) in [(6.0, "met"), (6.1, "**missed**")] {
            let lines = [cpu(FANOUT, 1, 5.0), cpu(EVENTS, 1, events)];
            let text = verdicts(&lines);
            let row = text.lines().find(|l| l.starts_with("| fanout-events | CPU per event")).unwrap();
            assert!(row.ends_with(&format!("| ≤ 1.2 × fanout-1000x20x256 | {verdict} |")), "{row}");
        }
    }
}
