//! The demo server over real sockets: what the page in a browser would do.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;

/// Generous: nothing here takes that long unless it is broken.
const SOON: Duration = Duration::from_secs(20);

struct Demo {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
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
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
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
    for path in ["/echo", "/ticker", "/api/time"] {
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
    for (request, status) in [("GET /nothing", "404"), ("POST /", "405"), ("GET /echo", "400")] {
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
    for path in ["/echo", "/ticker"] {
        let mut socket = demo.open(path).await;
        let frame = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
        socket.close(Some(frame.clone())).await.unwrap();
        assert_eq!(next(&mut socket).await, Some(Message::Close(Some(frame))), "{path}");
        assert_eq!(next(&mut socket).await, None, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_ticker_ticks_each_second_and_answers_pings_meanwhile() {
    let demo = Demo::start().await;
    let mut socket = demo.open("/ticker").await;
    socket.send(Message::Ping(vec![9].into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::Pong(vec![9].into())));
    let began = tokio::time::Instant::now();
    for n in 1..=5 {
        let Some(Message::Text(tick)) = next(&mut socket).await else { panic!("no tick {n}") };
        let tick: serde_json::Value = serde_json::from_str(&tick).unwrap();
        assert_eq!((tick["type"].as_str(), tick["n"].as_u64()), (Some("tick"), Some(n)));
        assert!(tick["unix_ms"].as_u64().unwrap() > 0);
    }
    let took = began.elapsed();
    // The first may have come at once; a paused clock may run one tick ahead of who reads.
    assert!(Duration::from_secs(4) <= took && took <= Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn a_stop_ends_everything_without_a_goodbye() {
    let demo = Demo::start().await;
    let mut echo = demo.open("/echo").await;
    let mut ticker = demo.open("/ticker").await;
    demo.stop.send(()).unwrap();
    timeout(SOON, demo.served).await.expect("serve returns").unwrap();
    for socket in [&mut echo, &mut ticker] {
        let ended = timeout(SOON, socket.next()).await.expect("the connection ended");
        assert!(matches!(ended, None | Some(Err(_))), "{ended:?}");
    }
    assert!(TcpStream::connect(demo.address).await.is_err(), "nothing listens any more");
}
