//! What a client of a feed costs the proxy that has no WebSocket: a poll that waits, and an event stream on which nothing
//! is said. Run by hand: `cargo test --release --test fallback_memory -- --ignored --nocapture`

#[allow(dead_code, unused_imports, reason = "`tests/it` uses all of it")]
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::feed::FEED;
use support::proxy::Proxy;
use support::upstream::Upstream;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CLIENTS: usize = 5000;

/// As many as are open before it is measured: what is made once is not theirs.
const FIRST: usize = 100;

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
    outrigger::internals::raise_descriptor_limit();
    let proxy =
        Proxy::to_url(url).yaml(FEED).yaml("policy: {fallback: {poll: true, sse: true}}").spawn().await;
    println!("\nlistening on {}", proxy.address());
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_client_of_a_feed_without_a_websocket() {
    outrigger::internals::raise_descriptor_limit();
    for endpoint in ["poll?timeout=55s", "events"] {
        let upstream = Upstream::by_hand().await;
        let mut child = Command::new(std::env::current_exe().expect("this very program"))
            .args(["--ignored", "--exact", "proxy", "--nocapture"])
            .env("MEASURED_UPSTREAM", upstream.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let told = lines.by_ref().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        let address: std::net::SocketAddr = told.expect("it listens").parse().expect("an address");
        // About what a browser sends.
        let head = format!(
            "GET /feed/a/{endpoint} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {}\r\nCookie: {}\r\n\
             Accept: */*\r\nAccept-Language: en\r\nOrigin: http://{address}\r\n\r\n",
            "u".repeat(120),
            "c".repeat(300),
        );
        let mut open = Vec::new();
        let mut before = 0;
        for at in 0..CLIENTS + FIRST {
            if at == FIRST {
                tokio::time::sleep(Duration::from_secs(2)).await;
                before = pss(child.id());
            }
            let mut socket = TcpStream::connect(address).await.expect("it accepts");
            socket.write_all(head.as_bytes()).await.expect("it reads");
            open.push(socket);
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        let grown = pss(child.id()).saturating_sub(before);
        let mut answered = 0;
        for socket in &open {
            answered += usize::from(socket.try_read(&mut [0; 4096]).is_ok());
        }
        println!(
            "{endpoint}: {} bytes for each of {CLIENTS}; {answered} of all were sent something",
            grown / CLIENTS
        );
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
}
