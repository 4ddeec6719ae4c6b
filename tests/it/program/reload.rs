//! Changing the configuration of a running proxy: what changes for whom, and what is said of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::DEADLINE;
use crate::support::binary::{Builder, Running};
use crate::support::client::RawClient;
use crate::support::files::Folder;
use crate::support::tls::{self, Authority, Pem};
use crate::support::upstream::{Answer, Plain, Upstream};
use crate::support::wait::eventually;

const APPLIED: &str = "outrigger_config_reloads_total{outcome=\"applied\"}";
const UNCHANGED: &str = "outrigger_config_reloads_total{outcome=\"unchanged\"}";
const FAILED: &str = "outrigger_config_reloads_total{outcome=\"failed\"}";
const SUCCESS: &str = "outrigger_config_last_reload_success_timestamp_seconds";

/// The proxy, by the configuration `outrigger.yaml` of this folder, once it watches: it was told to reload by then,
/// and that was one for [`UNCHANGED`].
async fn run(folder: &Folder) -> Running {
    let running = start(folder).await;
    running.binary.signal("HUP").await;
    counted(&running, UNCHANGED, 1.0).await;
    running
}

async fn start(folder: &Folder) -> Running {
    let file = folder.path("outrigger.yaml");
    Builder::new(&["run", "--config", file.to_str().unwrap()]).spawn().ready().await
}

/// A configuration in front of `upstream`, and more of it.
fn yaml(upstream: &Upstream, more: &str) -> String {
    format!(
        "listen: {{ address: '127.0.0.1:0' }}\nadmin: {{ address: '127.0.0.1:0' }}\nupstream: {{ url: '{}' }}\n{more}\n",
        upstream.url()
    )
}

/// Waits until a counter has come to `count`.
async fn counted(running: &Running, sample: &str, count: f64) {
    eventually(DEADLINE, || async {
        let metrics = running.metrics().await;
        match metrics.get(sample) == Some(count) {
            true => Ok(()),
            false => Err(format!("{sample} {:?}\n{}", metrics.get(sample), running.binary.said())),
        }
    })
    .await;
}

async fn counts(running: &Running) -> [f64; 3] {
    let metrics = running.metrics().await;
    [APPLIED, UNCHANGED, FAILED].map(|sample| metrics.get(sample).expect("it is there from the start"))
}

/// Whether a process has a handler for SIGHUP, the first of all signals.
fn catches_hangups(id: u32) -> Result<(), String> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).map_err(|error| error.to_string())?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux tells it");
    match u64::from_str_radix(caught.trim(), 16).expect("a bit for each signal") & 1 {
        1 => Ok(()),
        _ => Err(status),
    }
}

/// What a client is closed with for a message of `bytes`, or `None` if the server echoes it.
async fn fate(client: &mut RawClient, bytes: usize) -> Option<u16> {
    let text = "x".repeat(bytes);
    client.text(&text).await;
    let frame = client.next_frame().await;
    (frame.payload != text.as_bytes()).then(|| frame.close_status().0)
}

#[tokio::test]
async fn a_policy_that_is_written_holds_for_new_connections_and_open_ones_keep_theirs() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("policy");
    folder.write("outrigger.yaml", &yaml(&upstream, "policy: { max_frame: 1KiB, max_message: 1KiB }"));
    let mut running = run(&folder).await;
    let mut before = RawClient::connect(running.address(), "/").await;

    folder.write("outrigger.yaml", &yaml(&upstream, "policy: { max_frame: 100, max_message: 100 }"));
    counted(&running, APPLIED, 1.0).await;
    let mut after = RawClient::connect(running.address(), "/").await;
    assert_eq!(fate(&mut after, 500).await, Some(1009), "the new limit");
    assert_eq!(fate(&mut before, 500).await, None, "the old limit");
    assert_eq!(fate(&mut before, 1500).await, Some(1009), "still the old limit");
    running.binary.line_with("the configuration has changed").await;
    assert_eq!(counts(&running).await, [1.0, 1.0, 0.0]);
}

#[tokio::test]
async fn a_start_is_no_reload_but_a_success_and_a_change_right_after_it_is_not_missed() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("start");
    folder.write("outrigger.yaml", &yaml(&upstream, ""));
    let running = start(&folder).await;
    assert_eq!(counts(&running).await, [0.0; 3]);
    assert!(running.metrics().await.get(SUCCESS) > Some(1e9));
    drop(running);

    let running = start(&folder).await;
    folder.write("outrigger.yaml", &yaml(&upstream, "policy: { max_frame: 1KiB, max_message: 1KiB }"));
    counted(&running, APPLIED, 1.0).await;
}

#[tokio::test]
async fn a_request_on_a_connection_that_is_open_meets_the_new_routes_and_a_later_handshake_too() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("routes");
    folder.write("outrigger.yaml", &yaml(&upstream, ""));
    let running = run(&folder).await;
    let mut open = running.plain().path("/closed/x").connect().await;
    let request = "GET /closed/x HTTP/1.1\r\nHost: a\r\n\r\n";
    open.send_bytes(request.as_bytes()).await;
    assert_eq!(open.read_response("GET").await.status(), 200);

    let route = "routes: [{ name: closed, path: '/closed/{*rest}', policy: { http: { mode: refuse } } }]";
    folder.write("outrigger.yaml", &yaml(&upstream, route));
    counted(&running, APPLIED, 1.0).await;
    open.send_bytes(request.as_bytes()).await;
    assert_eq!(open.read_response("GET").await.status(), 404);
    RawClient::connect(running.address(), "/closed/ws").await;
    assert_eq!(running.metrics().await.get("outrigger_connections_total{route=\"closed\"}"), Some(1.0));
}

#[tokio::test]
async fn another_upstream_gets_whoever_comes_and_an_equal_one_keeps_its_pool() {
    let upstream = Upstream::builder().on_request(Plain::fixed(200, &[], "old")).spawn().await;
    let other = Upstream::builder().on_request(Plain::fixed(200, &[], "new")).spawn().await;
    let folder = Folder::new("upstream");
    folder.write("outrigger.yaml", &yaml(&upstream, ""));
    let running = run(&folder).await;
    assert_eq!(running.plain().answer().await.response.text(), "old");
    folder.write("outrigger.yaml", &yaml(&upstream, "policy: { idle_timeout: 3m }"));
    counted(&running, APPLIED, 1.0).await;
    assert_eq!(running.plain().answer().await.response.text(), "old");
    assert_eq!(upstream.accepted(), 1, "the pooled connection served both");

    folder.write("outrigger.yaml", &yaml(&other, "policy: { idle_timeout: 3m }"));
    counted(&running, APPLIED, 2.0).await;
    assert_eq!(running.plain().answer().await.response.text(), "new");
}

#[tokio::test]
async fn a_kubernetes_mount_that_swaps_its_data_is_read_again_each_time() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("kubernetes");
    let version = |name: &str, bytes: usize| {
        fs::create_dir(folder.path(name)).unwrap();
        let policy = format!("policy: {{ max_frame: {bytes}, max_message: {bytes} }}");
        folder.write(&format!("{name}/outrigger.yaml"), &yaml(&upstream, &policy));
    };
    version("..1", 1000);
    symlink("..1", folder.path("..data")).unwrap();
    symlink("..data/outrigger.yaml", folder.path("outrigger.yaml")).unwrap();
    let running = run(&folder).await;
    for (old, new, bytes, round) in [("..1", "..2", 200, 1.0), ("..2", "..3", 100, 2.0)] {
        version(new, bytes);
        symlink(new, folder.path("..data_tmp")).unwrap();
        fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
        fs::remove_dir_all(folder.path(old)).unwrap();
        counted(&running, APPLIED, round).await;
        let mut client = RawClient::connect(running.address(), "/").await;
        assert_eq!(fate(&mut client, bytes).await, None, "{new}");
        assert_eq!(fate(&mut client, bytes + 1).await, Some(1009), "{new}");
    }
}

#[tokio::test]
async fn sighup_has_it_read_again_and_never_ends_the_process() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("sighup");
    folder.write("outrigger.yaml", &yaml(&upstream, ""));
    let mut running = run(&folder).await;
    for round in [2.0, 3.0] {
        running.binary.signal("HUP").await;
        counted(&running, UNCHANGED, round).await;
    }
    assert!(running.binary.is_running());
    running.binary.line_with("the configuration is unchanged").await;
}

#[tokio::test]
async fn a_file_that_is_touched_or_written_as_it_was_changes_nothing() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("touched");
    let text = yaml(&upstream, "policy: { idle_timeout: 3m }");
    folder.write("outrigger.yaml", &text);
    let running = run(&folder).await;
    folder.write("outrigger.yaml", &text);
    counted(&running, UNCHANGED, 2.0).await;
    folder.write("outrigger.yaml", &text.replace("3m }", "180s } # the same"));
    counted(&running, UNCHANGED, 3.0).await;
    assert_eq!(counts(&running).await, [0.0, 3.0, 0.0]);
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing_and_all_that_is_wrong_is_told() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("wrong");
    folder.write("outrigger.yaml", &yaml(&upstream, ""));
    let mut running = run(&folder).await;
    folder.write("outrigger.yaml", &yaml(&upstream, "polcy: {}\ndrain: { spread: soon }"));
    counted(&running, FAILED, 1.0).await;
    let line = running.binary.line_with("the one before still holds").await;
    for words in [
        "2 problems",
        "outrigger.yaml:4:1: polcy",
        "did you mean `policy`",
        "outrigger.yaml:5:18: drain.spread",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert!(line.contains("\"ERROR\""), "{line}");
    let mut client = RawClient::connect(running.address(), "/").await;
    assert_eq!(fate(&mut client, 5000).await, None);

    let rounds = [("gone", 2.0), ("empty", 3.0), ("blank", 4.0), ("without a word", 5.0), ("no YAML", 6.0)];
    for (what, round) in rounds {
        match what {
            "gone" => fs::remove_file(folder.path("outrigger.yaml")).unwrap(),
            "empty" => folder.write("outrigger.yaml", ""),
            // What a template makes of a value that is not there.
            "blank" => folder.write("outrigger.yaml", "  \n\n"),
            "without a word" => folder.write("outrigger.yaml", "\u{feff}---\n"),
            _ => folder.write("outrigger.yaml", "listen: ["),
        }
        eventually(DEADLINE, || async {
            let metrics = running.metrics().await;
            if metrics.get(FAILED) >= Some(round) { Ok(()) } else { Err(running.binary.said()) }
        })
        .await;
        RawClient::connect(running.address(), "/").await;
    }
    // It is not given up on.
    folder.write("outrigger.yaml", &yaml(&upstream, "policy: { max_frame: 100, max_message: 100 }"));
    counted(&running, APPLIED, 1.0).await;
}

#[tokio::test]
async fn in_text_what_is_wrong_is_told_line_by_line_as_check_tells_it() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("lines");
    let text = yaml(&upstream, "log: { format: text }");
    folder.write("outrigger.yaml", &text);
    let mut binary =
        Builder::new(&["run", "--config", &folder.path("outrigger.yaml").display().to_string()]).spawn();
    binary.line_with(" ready ").await;
    let wrong = yaml(&upstream, "log: { format: text }\npolcy: {}\ndrain: { spread: soon }");
    folder.write("outrigger.yaml", &wrong);
    // The last of them.
    binary.line_with("accepted: a duration").await;
    let check = Builder::new(&["check", "--config", &folder.path("outrigger.yaml").display().to_string()]);
    let told = check.output().await.stderr.replace("outrigger: 2", "2");
    let lines = binary.lines();
    let at = lines.iter().position(|line| line.contains("the one before still holds")).expect("it is told");
    let logged: Vec<&str> =
        lines[at + 1..].iter().filter_map(|line| line.split_once("reload: ")).map(|(_, told)| told).collect();
    let expected: Vec<&str> = told.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(logged, expected);
    assert!(lines[at..].iter().all(|line| line.contains("ERROR") && !line.contains("\\n")), "{lines:?}");
}

/// A folder with a certificate and its key, as a mounted secret has them.
fn put_certificate(folder: &Folder, name: &str, pem: &Pem) {
    fs::create_dir_all(folder.path(name)).unwrap();
    folder.write(&format!("{name}/tls.crt"), &pem.cert);
    folder.write(&format!("{name}/tls.key"), &pem.key);
}

/// Has `..data` lead to `name`, at once.
fn lead_to(folder: &Folder, name: &str) {
    let link = folder.path("..data_tmp");
    symlink(folder.path(name), &link).unwrap();
    fs::rename(link, folder.path("..data")).unwrap();
}

/// The certificate that a new client is shown.
async fn shown(running: &Running) -> Vec<u8> {
    let client = running.dial().tls(tls::client()).open().await;
    client.tls().peer_certificates().expect("a server shows one")[0].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_under_load_and_a_broken_one_keeps_the_old() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("certificate");
    let [first, second] = ["first", "second"].map(|name| {
        let pem = Authority::known().issue(&["127.0.0.1"], name);
        put_certificate(&folder, name, &pem);
        pem
    });
    put_certificate(&folder, "broken", &Pem { cert: second.cert.clone(), key: first.key.clone() });
    lead_to(&folder, "first");
    let data = folder.path("..data");
    let data = data.display();
    folder.write(
        "outrigger.yaml",
        &yaml(&upstream, "policy: { handshake_rate: { global: null } }").replacen(
            "listen: {",
            &format!("listen: {{ tls: {{ cert_file: '{data}/tls.crt', key_file: '{data}/tls.key' }},"),
            1,
        ),
    );
    let running = run(&folder).await;
    let mut open = running.dial().tls(tls::client()).open().await;
    let before = shown(&running).await;

    // Clients come and go all the while; none of them may notice.
    let stop = Arc::new(AtomicBool::new(false));
    let load = Vec::from_iter((0..8).map(|_| {
        let (stop, address) = (Arc::clone(&stop), running.address());
        tokio::spawn(async move {
            let mut served = 0;
            while !stop.load(Relaxed) {
                let mut client = RawClient::dial(address).tls(tls::client()).open().await;
                client.text("hello").await;
                assert_eq!(client.next_frame().await.payload, b"hello");
                served += 1;
            }
            served
        })
    }));
    lead_to(&folder, "second");
    counted(&running, APPLIED, 1.0).await;
    let after = shown(&running).await;
    assert_ne!(before, after, "the new one is shown");
    lead_to(&folder, "broken");
    counted(&running, FAILED, 1.0).await;
    // Lines are written behind the work that they tell of.
    eventually(DEADLINE, async || match running.binary.said() {
        said if said.contains("listen.tls.key_file") => Ok(()),
        said => Err(said),
    })
    .await;
    assert_eq!(shown(&running).await, after, "the one that works goes on");
    assert!(
        running
            .metrics()
            .await
            .get("outrigger_tls_certificate_expiry_timestamp_seconds{kind=\"listen\"}")
            .is_some()
    );
    stop.store(true, Relaxed);
    for task in load {
        assert!(task.await.expect("no client has failed") > 0);
    }
    open.text("still here").await;
    assert_eq!(open.next_frame().await.payload, b"still here");
}

#[tokio::test]
async fn a_file_that_a_setting_names_is_watched_also_while_it_is_missing() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("named");
    let keys = |user: &str| format!("{user}:{}\n", "0".repeat(64));
    let auth = |name: &str| {
        let file = folder.path(name).display().to_string();
        yaml(&upstream, &format!("policy: {{ auth: {{ api_keys: {{ file: '{file}' }} }} }}"))
    };
    folder.write("keys", &keys("ann"));
    folder.write("outrigger.yaml", &auth("keys"));
    let running = run(&folder).await;
    folder.write("keys", &keys("bob"));
    counted(&running, APPLIED, 1.0).await;
    folder.write("keys", "bob");
    counted(&running, FAILED, 1.0).await;
    folder.write("keys", &keys("bob"));
    counted(&running, UNCHANGED, 2.0).await;

    folder.write("outrigger.yaml", &auth("later/keys"));
    counted(&running, FAILED, 2.0).await;
    fs::create_dir(folder.path("later")).unwrap();
    folder.write("later/keys", &keys("carol"));
    counted(&running, APPLIED, 2.0).await;
    assert!(!running.binary.said().contains("00000000"), "keys are never shown");
}

#[tokio::test]
async fn what_takes_a_restart_is_named_once_and_the_rest_holds() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("restart");
    folder.write("outrigger.yaml", &yaml(&upstream, ""));
    let mut running = run(&folder).await;
    let text = yaml(
        &upstream,
        "log: { level: debug }\nmetrics: { prefix: edge }\npolicy: { max_frame: 100, max_message: 100 }",
    );
    folder.write("outrigger.yaml", &text.replacen("127.0.0.1:0", "127.0.0.1:1", 1));
    counted(&running, APPLIED, 1.0).await;
    let line = running.binary.line_with("take a restart").await;
    assert!(line.contains("\"listen.address or listen.unix, log.level, metrics.prefix\""), "{line}");
    let mut client = RawClient::connect(running.address(), "/").await;
    assert_eq!(fate(&mut client, 500).await, Some(1009), "the rest holds");
    let said = running.binary.said();
    assert_eq!(said.matches("take a restart").count(), 1, "{said}");
}

#[tokio::test]
async fn a_breaker_that_is_open_stays_open_unless_its_settings_change() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let folder = Folder::new("breaker");
    let settings = |more: &str, window: &str| {
        let breaker = format!("breaker: {{ min_calls: 3, open_for: 10m, window: {window} }}");
        yaml(&upstream, &format!("policy: {{ {breaker}, {more} }}"))
    };
    folder.write("outrigger.yaml", &settings("", "10s"));
    let running = run(&folder).await;
    let reason = async || {
        let response = running.dial().refused().await;
        response.header("X-Outrigger-Reason").expect("it is ours").to_owned()
    };
    for _ in 0..3 {
        assert_eq!(reason().await, "upstream_broken");
    }
    assert_eq!(reason().await, "breaker_open");

    folder.write("outrigger.yaml", &settings("max_frame: 1KiB", "10s"));
    counted(&running, APPLIED, 1.0).await;
    assert_eq!(reason().await, "breaker_open", "the server is no better for it");

    folder.write("outrigger.yaml", &settings("max_frame: 1KiB", "20s"));
    counted(&running, APPLIED, 2.0).await;
    assert_eq!(reason().await, "upstream_broken", "another breaker, which is closed");
    counted(&running, "outrigger_breaker_state{scope=\"upstream\",route=\"default\"}", 0.0).await;
    assert_eq!(upstream.accepted(), 4);
}

#[tokio::test]
async fn a_connection_that_is_kept_alive_keeps_no_breaker_of_before_in_the_metrics() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let folder = Folder::new("kept-breaker");
    let settings = |breaker: &str| yaml(&upstream, &format!("policy: {{ breaker: {breaker} }}"));
    folder.write("outrigger.yaml", &settings("{ min_calls: 3, open_for: 10m }"));
    let running = run(&folder).await;
    let mut open = running.plain().connect().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    open.send_bytes(request.as_bytes()).await;
    open.read_response("GET").await;
    for _ in 0..3 {
        running.dial().refused().await;
    }
    let state = "outrigger_breaker_state{scope=\"upstream\",route=\"default\"}";
    counted(&running, state, 2.0).await;

    folder.write("outrigger.yaml", &settings("null"));
    counted(&running, APPLIED, 1.0).await;
    counted(&running, state, 0.0).await;
    open.send_bytes(request.as_bytes()).await;
    open.read_response("GET").await;
}

#[tokio::test]
async fn a_drain_goes_by_the_newest_settings() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("drain");
    folder.write("outrigger.yaml", &yaml(&upstream, "drain: { spread: 60s, timeout: 90s }"));
    let mut running = run(&folder).await;
    let mut client = RawClient::connect(running.address(), "/").await;
    folder.write("outrigger.yaml", &yaml(&upstream, "drain: { spread: 0s, timeout: 10s, close_code: 4321 }"));
    counted(&running, APPLIED, 1.0).await;
    running.binary.signal("TERM").await;
    assert_eq!(client.closed().await.code, 4321);
    assert_eq!(running.binary.exited().await.code(), Some(0));
}

#[tokio::test]
async fn sighup_while_the_configuration_is_still_read_does_not_end_the_process() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("early");
    let pipe = folder.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let binary = Builder::new(&["run", "--config", pipe.to_str().unwrap()]).spawn();
    // It waits for whoever writes, and listens for signals already.
    eventually(DEADLINE, || async { catches_hangups(binary.id()) }).await;
    for _ in 0..5 {
        binary.signal("HUP").await;
    }
    let text = yaml(&upstream, "");
    tokio::task::spawn_blocking(move || fs::write(pipe, text)).await.unwrap().unwrap();
    let mut running = binary.ready().await;

    // Nobody writes a second time: that must neither hang nor mean the defaults. What was asked for during
    // the start may count as well.
    running.binary.signal("HUP").await;
    eventually(DEADLINE, || async { running.metrics().await.get(FAILED) >= Some(1.0) }).await;
    assert_eq!(running.metrics().await.get(APPLIED), Some(0.0));
    running.binary.line_with("it cannot be read a second time").await;
}
