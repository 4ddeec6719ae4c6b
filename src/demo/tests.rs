//! The demo server over real sockets: what the page in a browser would do.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;

/// Generous: nothing here takes that long unless it is broken.
const SOON: Duration = Duration::from_secs(20);

struct Demo {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

impl Demo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        Self { address, stop, served: tokio::spawn(serve(listener, "outrigger drain <now>".into(), stopped)) }
    }

    async fn open(&self, path: &str) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}{path}", self.address);
        timeout(SOON, client_async(url, stream)).await.unwrap().unwrap().0
    }

    /// Status line, headers and body as they came.
    async fn ask(&self, request: &str) -> String {
        self.ask_with(request, "").await
    }

    async fn ask_with(&self, request: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let address = self.address;
        let request = format!("{request} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    /// Whether somebody listens, without a moment in which a paused clock could go on.
    fn is_up(&self) -> bool {
        std::net::TcpStream::connect(self.address).is_ok()
    }
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Message> {
    timeout(SOON, socket.next()).await.expect("something happens").transpose().unwrap()
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere_and_follows_its_own_address() {
    let demo = Demo::start().await;
    let answer = demo.ask("GET /").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/html; charset=utf-8\r\n"));
    let (_, page) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(page, PAGE.replace("{{DRAIN}}", "outrigger drain &lt;now&gt;"));
    assert!(page.contains("location.host"));
    for elsewhere in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(elsewhere), "the page loads something: {elsewhere}");
    }
    for path in ["/echo", "/ticker", "/session/ticker", "/api/time", "/kill"] {
        assert!(page.contains(&format!("\"{path}\"")), "{path}");
    }
}

#[tokio::test]
async fn the_time_is_plain_json() {
    let demo = Demo::start().await;
    let before = unix_ms();
    let answer = demo.ask("GET /api/time").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("content-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let told = u128::from(body["unix_ms"].as_u64().unwrap());
    assert!(before <= told && told <= unix_ms(), "{told}");
}

#[tokio::test]
async fn what_is_no_request_for_anything_here_is_told_so() {
    let demo = Demo::start().await;
    for (request, status) in [
        ("GET /nothing", "404"),
        ("POST /", "405"),
        ("GET /kill", "405"),
        ("GET /echo", "400"),
        ("GET /session/ticker", "400"),
    ] {
        let answer = demo.ask(request).await;
        assert_eq!(&answer["HTTP/1.1 ".len()..][..3], status, "{request}");
    }
}

#[tokio::test]
async fn echo_says_what_it_hears() {
    let demo = Demo::start().await;
    let mut socket = demo.open("/echo").await;
    let big = vec![7; 1 << 20];
    for message in
        [Message::text("hello"), Message::binary(vec![0, 255]), Message::text(""), Message::binary(big)]
    {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await, Some(message));
    }
    socket.send(Message::Ping(vec![1, 2].into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::Pong(vec![1, 2].into())));
}

#[tokio::test]
async fn echo_closes_when_asked_with_the_code_and_reason_given() {
    let demo = Demo::start().await;
    let mut socket = demo.open("/echo").await;
    socket.send(Message::text("/close 99")).await.unwrap();
    let Some(Message::Text(usage)) = next(&mut socket).await else { panic!("no usage") };
    assert!(usage.contains("/close CODE REASON"), "{usage}");
    socket.send(Message::text("/close 4001 so long")).await.unwrap();
    let frame = CloseFrame { code: CloseCode::from(4001), reason: "so long".into() };
    assert_eq!(next(&mut socket).await, Some(Message::Close(Some(frame))));
    assert_eq!(next(&mut socket).await, None);
}

#[tokio::test]
async fn a_clients_close_is_answered() {
    let demo = Demo::start().await;
    for path in ["/echo", "/ticker", "/session/ticker"] {
        let mut socket = demo.open(path).await;
        let frame = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
        socket.close(Some(frame.clone())).await.unwrap();
        assert_eq!(next(&mut socket).await, Some(Message::Close(Some(frame))), "{path}");
        assert_eq!(next(&mut socket).await, None, "{path}");
    }
}

/// The next one, as generation and number.
async fn tick(socket: &mut WebSocketStream<TcpStream>) -> (u64, u64) {
    let message = said(socket).await;
    assert_eq!(message["type"], "tick");
    assert!(message["unix_ms"].as_u64().unwrap() > 0);
    (message["generation"].as_u64().unwrap(), message["n"].as_u64().unwrap())
}

async fn said(socket: &mut WebSocketStream<TcpStream>) -> serde_json::Value {
    let Some(Message::Text(text)) = next(socket).await else { panic!("nothing was said") };
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_ticker_ticks_each_second_for_all_alike_and_answers_meanwhile() {
    let demo = Demo::start().await;
    let mut socket = demo.open("/ticker").await;
    socket.send(Message::Ping(vec![9].into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::Pong(vec![9].into())));
    let began = tokio::time::Instant::now();
    let (_, first) = tick(&mut socket).await;
    for n in first + 1..first + 5 {
        assert_eq!(tick(&mut socket).await, (1, n));
    }
    let took = began.elapsed();
    // The first may have come at once; a paused clock may run one tick ahead of who reads.
    assert!(Duration::from_secs(4) <= took && took <= Duration::from_secs(6), "{took:?}");

    let mut other = demo.open("/session/ticker").await;
    let (_, n) = tick(&mut other).await;
    assert!(n > first + 4, "who comes late hears no earlier tick: {n}");
    while tick(&mut socket).await != (1, n) {}

    other.send(Message::text("a \"word\"")).await.unwrap();
    let heard = loop {
        let message = said(&mut other).await;
        if message["type"] == "heard" {
            break message;
        }
    };
    assert_eq!(heard, serde_json::json!({ "type": "heard", "generation": 1, "text": "a \"word\"" }));
}

#[tokio::test(start_paused = true)]
async fn a_kill_resets_all_and_3_seconds_later_there_is_another_server() {
    let demo = Demo::start().await;
    let mut sockets = Vec::new();
    for path in ["/echo", "/ticker", "/session/ticker"] {
        sockets.push(demo.open(path).await);
    }
    let mut silent = TcpStream::connect(demo.address).await.unwrap();

    let answer = demo.ask("POST /kill").await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    for socket in &mut sockets {
        let end = loop {
            match timeout(SOON, socket.next()).await.expect("the connection ended") {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
        assert!(matches!(&end, Some(Err(tungstenite::Error::Io(error))) if is_reset(error)), "{end:?}");
    }
    let end = timeout(SOON, silent.read_u8()).await.expect("the connection ended").unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);

    let died = tokio::time::Instant::now();
    while !demo.is_up() {
        assert!(died.elapsed() < SOON, "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let away = died.elapsed();
    assert!(Duration::from_millis(2500) <= away && away <= Duration::from_millis(3500), "{away:?}");
    let (generation, n) = tick(&mut demo.open("/ticker").await).await;
    assert_eq!(generation, 2);
    assert!(n < 3, "it counts from its own start: {n}");
    assert!(demo.ask("POST /kill").await.starts_with("HTTP/1.1 202 "), "it can die again");
}

#[tokio::test]
async fn only_its_own_page_can_kill_it_and_what_is_no_page() {
    let demo = Demo::start().await;
    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", demo.address);
    for foreign in
        ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n", "Host: evil.example\r\n"]
    {
        let answer = demo.ask_with("POST /kill", foreign).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{foreign}: {answer}");
    }
    assert!(demo.ask("GET /api/time").await.starts_with("HTTP/1.1 200 "), "it is alive");
    let answer = demo.ask_with("POST /kill", &own).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[tokio::test]
async fn a_stop_ends_everything_without_a_goodbye() {
    let demo = Demo::start().await;
    let mut echo = demo.open("/echo").await;
    let mut ticker = demo.open("/ticker").await;
    demo.stop.send(()).unwrap();
    timeout(SOON, demo.served).await.expect("serve returns").unwrap().unwrap();
    for socket in [&mut echo, &mut ticker] {
        let ended = timeout(SOON, socket.next()).await.expect("the connection ended");
        assert!(matches!(ended, None | Some(Err(_))), "{ended:?}");
    }
    assert!(TcpStream::connect(demo.address).await.is_err(), "nothing listens any more");
}
