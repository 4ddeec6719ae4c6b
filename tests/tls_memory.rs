//! What an idle connection over TLS costs the proxy. Run by hand:
//! `cargo test --release --test tls_memory -- --ignored --nocapture`

#[allow(dead_code, unused_imports, reason = "`tests/it` uses all of it")]
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::client::RawClient;
use support::proxy::Proxy;
use support::tls;
use support::upstream::Upstream;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CONNECTIONS: usize = 2000;

/// Proportional set size of a process, in bytes.
fn pss(pid: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = text.lines().find(|line| line.starts_with("Pss:")).expect("a size");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

/// The measured process: the proxy alone. It ends with its standard input.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "started by the other one"]
async fn proxy() {
    let Ok(url) = std::env::var("MEASURED_UPSTREAM") else { return };
    let mut builder = Proxy::to_url(url);
    let hops = std::env::var("MEASURED_HOPS").unwrap_or_default();
    let file = |name: &str| tls::file(name, &std::env::var(name).expect("made by the other one"));
    if hops.contains("client") {
        builder = builder.tls(outrigger::config::ListenTls {
            cert: file("MEASURED_CERT"),
            key: file("MEASURED_KEY"),
            clients: None,
            min_version: outrigger::config::TlsVersion::V1_2,
        });
    }
    if hops.contains("upstream") {
        let ca = Some(file("MEASURED_CA"));
        builder = builder.upstream_tls(outrigger::config::UpstreamTls { ca, ..Default::default() });
    }
    let proxy = builder.spawn().await;
    println!("\nlistening on {}", proxy.address());
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn an_idle_connection_over_tls() {
    outrigger::internals::raise_descriptor_limit();
    for hops in ["", "client", "client upstream"] {
        let mut upstream = Upstream::builder();
        if hops.contains("upstream") {
            upstream = upstream.tls(tls::server());
        }
        let upstream = upstream.spawn().await;
        let listen = tls::listen();
        let text = |file: &outrigger::config::File| String::from_utf8(file.contents.to_vec()).expect("PEM");
        let mut child = Command::new(std::env::current_exe().expect("this very program"))
            .args(["--ignored", "--exact", "proxy", "--nocapture"])
            .env("MEASURED_UPSTREAM", upstream.url())
            .env("MEASURED_HOPS", hops)
            .env("MEASURED_CERT", text(&listen.cert))
            .env("MEASURED_KEY", text(&listen.key))
            .env("MEASURED_CA", tls::Authority::known().pem())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let told = lines.by_ref().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        let address: std::net::SocketAddr = told.expect("it listens").parse().expect("an address");
        let mut open: Vec<RawClient> = Vec::new();
        let mut before = 0;
        // The first ones are for what is made once.
        for at in 0..CONNECTIONS + 100 {
            if at == 100 {
                tokio::time::sleep(Duration::from_secs(3)).await;
                before = pss(child.id());
            }
            let dial = RawClient::dial(address);
            let dial = if hops.contains("client") { dial.tls(tls::client()) } else { dial };
            open.push(dial.open().await);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let grown = pss(child.id()).saturating_sub(before);
        println!("TLS on {hops:?}: {} bytes for each of {CONNECTIONS} idle connections", grown / CONNECTIONS);
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
}
