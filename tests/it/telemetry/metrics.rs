//! What `/metrics` shows: every name that operators were promised, with its labels, before and after
//! something happened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::DEADLINE;
use crate::support::metrics::Metrics;
use crate::support::proxy::Proxy;
use crate::support::tls;
use crate::support::upstream::{Act, Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::Frame;

/// Every metric, with its type and the names of its labels.
const PROMISED: &[(&str, &str, &[&str])] = &[
    ("clients", "gauge", &["route"]),
    ("fallback_clients", "gauge", &["route", "transport"]),
    ("connections_total", "counter", &["route"]),
    ("disconnections_total", "counter", &["route", "reason"]),
    ("closes_total", "counter", &["by", "code"]),
    ("handshakes_total", "counter", &["route", "outcome"]),
    ("refusals_total", "counter", &["route", "reason"]),
    ("connection_duration_seconds", "histogram", &["route"]),
    ("upstream_handshake_seconds", "histogram", &[]),
    ("upstream_errors_total", "counter", &["kind"]),
    ("http_requests_total", "counter", &["route", "class"]),
    ("messages_in_total", "counter", &[]),
    ("messages_out_total", "counter", &[]),
    ("bytes_in_total", "counter", &[]),
    ("bytes_out_total", "counter", &[]),
    ("heartbeat_rtt_seconds", "histogram", &[]),
    ("heartbeat_missed_total", "counter", &[]),
    ("buffered_bytes", "gauge", &[]),
    ("limit", "gauge", &["kind", "route"]),
    ("draining", "gauge", &[]),
    ("accept_errors_total", "counter", &[]),
    ("tls_handshake_failures_total", "counter", &["reason"]),
    ("tls_certificate_expiry_timestamp_seconds", "gauge", &["kind"]),
    ("breaker_state", "gauge", &["scope", "route"]),
    ("breaker_transitions_total", "counter", &["scope", "route", "to"]),
    ("breaker_waiting", "gauge", &["route"]),
    ("build_info", "gauge", &["version"]),
];

/// Shown as well, and free to change.
const FURTHER: &[&str] = &[
    "drain_cut_total",
    "uplink_losses_total",
    "upstream_retries_total",
    "auth_failures_total",
    "auth_waiting",
    "jwks_fetches_total",
    "http2_rapid_resets_total",
    "connections_refused_total",
    "handshakes_in_progress",
    "proxy_protocol_errors_total",
    "request_errors_total",
    "ambiguous_paths_total",
    "http_idle",
    "http_idle_closed_total",
    "memory_cuts_total",
    "task_panics_total",
    "discarded_bytes_total",
    "dials_in_progress",
    "http_connections",
    "http_requests_in_flight",
    "handshakes_queued",
    "rate_keys",
    "rate_untracked_total",
    "refusals_closing",
    "refusals_not_closed_total",
    "log_lines_dropped_total",
    "config_reloads_total",
    "config_last_reload_success_timestamp_seconds",
    "channels",
    "channels_connected",
    "uplink_dials_total",
    "feed_messages_total",
    "published_total",
    "uplink_dropped_total",
    "uplink_forwarded_total",
    "messages_missed_total",
    "messages_conflated_total",
    "delivery_acknowledged_total",
    "message_failures_total",
    "injections_total",
    "history_messages",
    "history_bytes",
    "history_trimmed_total",
    "memory_buffered_bytes",
    "sessions",
    "sessions_connected",
    "session_ends_total",
    "resumes_total",
    "redials_total",
    "recovery_seconds",
    "messages_replayed_total",
    "messages_lost_total",
    "session_queue_longest_messages",
];

/// Types by name, out of the `# TYPE` lines.
fn types(metrics: &Metrics) -> BTreeMap<&str, &str> {
    let lines = metrics.0.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

/// Names of the labels that samples of `name` carry; `le` is a histogram's own.
fn labels<'a>(metrics: &'a Metrics, name: &str) -> BTreeSet<&'a str> {
    let of = |line: &&str| {
        let own = line.split(['{', ' ']).next().unwrap_or_default();
        own == name || own.strip_prefix(name).is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
    };
    let samples = metrics.0.lines().filter(of);
    let pairs = samples.filter_map(|line| Some(line.split_once('{')?.1.split_once('}')?.0));
    let names = pairs.flat_map(|pairs| pairs.split(',')).filter_map(|pair| Some(pair.split_once('=')?.0));
    names.filter(|label| *label != "le").collect()
}

async fn after_one_connection(prefix: Option<&str>) -> (Upstream, Proxy) {
    let upstream = Upstream::echo().await;
    // A feed and a session that nobody asks for, or there would be none to tell of.
    let prefix_line = prefix.map(|prefix| format!("metrics: {{prefix: {prefix}}}\n")).unwrap_or_default();
    let settings = format!(
        "{prefix_line}routes: [{{name: feed, path: /feed, mode: broadcast}}, {{name: kept, path: /kept, mode: session}}]\n"
    );
    // Over TLS, or there would be no certificate to tell of.
    let proxy = Proxy::to(&upstream).yaml(&settings).tls(tls::listen()).spawn().await;
    let mut client = proxy.dial().tls(tls::client()).open().await;
    client.close(1000, "").await;
    client.closed().await;
    let gone = format!("{}_clients", prefix.unwrap_or("outrigger"));
    eventually(DEADLINE, || async { proxy.metrics().await.sum(&gone) == 0.0 }).await;
    (upstream, proxy)
}

#[tokio::test]
async fn every_promised_metric_is_there_with_its_type_and_its_labels() {
    for prefix in [None, Some("edge")] {
        let (_upstream, proxy) = after_one_connection(prefix).await;
        let metrics = proxy.metrics().await;
        let types = types(&metrics);
        for (name, kind, expected) in PROMISED {
            let full = format!("{}_{name}", prefix.unwrap_or("outrigger"));
            assert_eq!(types.get(full.as_str()), Some(kind), "{full} in\n{}", metrics.0);
            assert_eq!(labels(&metrics, &full), expected.iter().copied().collect(), "{full}");
        }
        for name in ["process_open_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"] {
            assert!(types.contains_key(name), "{name} in\n{}", metrics.0);
        }
    }
}

#[tokio::test]
async fn nothing_is_shown_that_was_not_promised_or_named_here() {
    let (_upstream, proxy) = after_one_connection(None).await;
    let metrics = proxy.metrics().await;
    let shown = types(&metrics).into_keys().filter_map(|name| name.strip_prefix("outrigger_"));
    let known = PROMISED.iter().map(|(name, _, _)| *name).chain(FURTHER.iter().copied());
    assert_eq!(shown.collect::<BTreeSet<_>>(), known.collect());
    assert!(
        types(&metrics).keys().all(|name| name.starts_with("outrigger_") || name.starts_with("process_"))
    );
}

#[tokio::test]
async fn the_document_and_the_port_name_the_same_metrics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let document = std::fs::read_to_string(path).expect("the metrics are documented");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `outrigger_"));
    let named = rows.filter_map(|row| row.split_once('`')).map(|(name, rest)| (name.to_owned(), rest));
    let named: BTreeMap<String, &str> = named.collect();

    let (_upstream, proxy) = after_one_connection(None).await;
    let metrics = proxy.metrics().await;
    let types = types(&metrics);
    let shown = types.iter().filter_map(|(name, kind)| Some((name.strip_prefix("outrigger_")?, *kind)));
    let shown: BTreeMap<_, _> = shown.collect();
    let documented: BTreeSet<_> = named.keys().map(String::as_str).collect();
    assert_eq!(documented, shown.keys().copied().collect(), "names in docs/metrics.md and in /metrics");
    for (name, rest) in &named {
        let mut cells = rest.split(" | ").skip(1);
        assert_eq!(cells.next(), Some(shown[name.as_str()]), "the type of {name}");
        let told = cells.next().unwrap_or_default();
        for label in labels(&metrics, &format!("outrigger_{name}")) {
            assert!(told.contains(&format!("`{label}`")), "{name}: the document lacks the label {label}");
        }
    }
}

#[tokio::test]
async fn every_value_a_label_can_take_is_there_before_the_first_event() {
    let upstream = Upstream::echo().await;
    let routes =
        "routes: [{name: chat, path: /chat}, {path: /feed}, {name: kept, path: /kept, mode: session}]";
    let proxy = Proxy::to(&upstream).yaml(routes).spawn().await;
    let metrics = proxy.metrics().await;
    for sample in [
        "outrigger_sessions{route=\"kept\",state=\"away\"}",
        "outrigger_sessions_connected{route=\"kept\"}",
        "outrigger_session_ends_total{route=\"kept\",why=\"upstream_lost\"}",
        "outrigger_resumes_total{outcome=\"elsewhere\",route=\"kept\"}",
        "outrigger_redials_total{outcome=\"failed\",route=\"kept\"}",
        "outrigger_messages_lost_total{reason=\"uncertain\",route=\"kept\"}",
        "outrigger_messages_missed_total{route=\"kept\"}",
        "outrigger_recovery_seconds_count{side=\"upstream\"}",
    ] {
        assert_eq!(metrics.get(sample), Some(0.0), "{sample}: a rate() needs a zero to begin with");
    }
    for route in ["chat", "/feed", "default"] {
        let zeros = [
            format!("outrigger_clients{{route=\"{route}\"}}"),
            format!("outrigger_connections_total{{route=\"{route}\"}}"),
            format!("outrigger_disconnections_total{{route=\"{route}\",reason=\"upstream_lost\"}}"),
            format!("outrigger_handshakes_total{{route=\"{route}\",outcome=\"unreachable\"}}"),
            format!("outrigger_http_requests_total{{route=\"{route}\",class=\"5xx\"}}"),
        ];
        for sample in zeros {
            assert_eq!(metrics.get(&sample), Some(0.0), "{sample}: a rate() needs a zero to begin with");
        }
    }
    assert_eq!(metrics.get("outrigger_upstream_errors_total{kind=\"connect\"}"), Some(0.0));
    let version = format!("outrigger_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(metrics.get(&version), Some(1.0));
    let descriptors = metrics.get("outrigger_limit{kind=\"descriptors\",route=\"\"}");
    assert!(descriptors.is_some_and(|limit| limit >= 1024.0), "{descriptors:?}");
}

#[tokio::test]
async fn a_connection_is_told_by_what_it_did() {
    let upstream = Upstream::builder().on_text("bye", [Act::Close(4001, "")]).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("routes: [{name: chat, path: /chat}]").spawn().await;
    let mut client = proxy.connect("/chat").await;
    assert_eq!(proxy.metric("outrigger_clients{route=\"chat\"}").await, 1.0);
    client.text("hello").await;
    client.expect_text("hello").await;
    for part in Frame::fragments(crate::support::wire::BINARY, &[b"one ", b"message"]) {
        client.send_frame(&part).await;
    }
    client.expect_binary(b"one message").await;
    client.ping(b"no message").await;
    client.expect_pong(b"no message").await;
    client.text("bye").await;
    client.closed().await;
    eventually(DEADLINE, || async { proxy.metric("outrigger_clients{route=\"chat\"}").await == 0.0 }).await;

    let metrics = proxy.metrics().await;
    let expected = [
        ("outrigger_connections_total{route=\"chat\"}", 1.0),
        ("outrigger_connections_total{route=\"default\"}", 0.0),
        ("outrigger_handshakes_total{route=\"chat\",outcome=\"accepted\"}", 1.0),
        ("outrigger_upstream_handshake_seconds_count", 1.0),
        ("outrigger_disconnections_total{route=\"chat\",reason=\"upstream_close\"}", 1.0),
        ("outrigger_closes_total{by=\"upstream\",code=\"4xxx\"}", 1.0),
        ("outrigger_connection_duration_seconds_count{route=\"chat\"}", 1.0),
        ("outrigger_messages_in_total", 3.0),
        ("outrigger_messages_out_total", 2.0),
        // hello, two fragments, a ping, bye and the Close with its code: each masked.
        ("outrigger_bytes_in_total", (6 + 5 + 6 + 4 + 6 + 7 + 6 + 10 + 6 + 3 + 6 + 2) as f64),
        ("outrigger_bytes_out_total", (2 + 5 + 2 + 4 + 2 + 7 + 2 + 10 + 2 + 2) as f64),
        ("outrigger_buffered_bytes", 0.0),
    ];
    for (sample, value) in expected {
        assert_eq!(metrics.get(sample), Some(value), "{sample}");
    }
    assert_eq!(metrics.sum("outrigger_disconnections_total"), 1.0);
}

#[tokio::test]
async fn a_plain_request_and_a_refused_handshake_are_no_connection() {
    let upstream = Upstream::builder().answering(Answer::refuse(403, &[], "no")).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    assert_eq!(proxy.plain().answer().await.response.status(), 200);
    assert_eq!(proxy.dial().refused().await.status(), 403);
    let metrics = proxy.metrics().await;
    for name in ["outrigger_connections_total", "outrigger_disconnections_total", "outrigger_clients"] {
        assert_eq!(metrics.sum(name), 0.0, "{name}");
    }
    assert_eq!(metrics.get("outrigger_http_requests_total{route=\"default\",class=\"2xx\"}"), Some(1.0));
    assert_eq!(metrics.sum("outrigger_http_requests_total"), 1.0, "a handshake is counted as a handshake");
    assert_eq!(metrics.sum("outrigger_handshakes_total"), 1.0);
    assert_eq!(metrics.get("outrigger_upstream_handshake_seconds_count"), Some(1.0));
}
