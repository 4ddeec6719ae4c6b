//! What connections take whose requests wait. Run by hand:
//! `cargo test --lib connection::tests::memory -- --ignored --nocapture`

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::server::request;

const CONNECTIONS: usize = 10_000;

/// Proportional set size of a process, in bytes.
fn pss(pid: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = text.lines().find(|line| line.starts_with("Pss:")).expect("a size");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

/// The measured process. It ends with its standard input.
#[tokio::test]
#[ignore = "started by the other one"]
async fn proxy() {
    if std::env::var_os("MEASURED").is_none() {
        return;
    }
    crate::net::raise_descriptor_limit();
    let mut proxy = Proxy::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nlistening on {}", listener.local_addr().unwrap());
    let mut waiting = Vec::with_capacity(CONNECTIONS);
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    let accept = async {
        loop {
            tokio::select! {
                accepted = listener.accept() => drop(proxy.serve(Stream::Tcp(accepted.unwrap().0))),
                Some(asked) = proxy.asked.recv() => waiting.push(asked),
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = end => {}
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn ten_thousand_requests_that_wait() {
    fn size<A, F: Future>(_: impl FnOnce(Arc<State>, Arc<HttpConnection>, Arc<Peer>, A) -> F) -> usize {
        size_of::<F>()
    }
    fn task<F: Future>(_: impl FnOnce(Arc<State>, Stream, Peer, HandshakePermit) -> F) -> usize {
        size_of::<F>()
    }
    println!("a connection's task: {}", task(super::super::serve));
    println!("a request's future: {}", size(request::serve_http1));
    println!("HttpConnection: {}", size_of::<HttpConnection>());
    crate::net::raise_descriptor_limit();
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .args(["server::connection::tests::memory::proxy", "--exact", "--ignored", "--nocapture"])
        .env("MEASURED", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address =
        lines.find_map(|line| line.unwrap().strip_prefix("listening on ").map(str::to_owned)).unwrap();
    let headers = format!("User-Agent: {}\r\nCookie: {}\r\n", "u".repeat(120), "c".repeat(300));
    let open = async |path: &str| {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket
    };
    // What the process takes once, however many there are.
    let mut warm = Vec::new();
    for _ in 0..100 {
        warm.push(open("/poll").await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = pss(child.id());
    let mut waiting = Vec::new();
    for _ in 0..CONNECTIONS {
        waiting.push(open("/poll").await);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let each = (pss(child.id()) - before) / CONNECTIONS;
    println!("each of {CONNECTIONS} takes {each} bytes");
    drop(child.stdin.take());
    child.wait().unwrap();
}
