use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// Answers each request of a connection so, and tells of each connection.
async fn server(answer: &'static [u8]) -> (std::net::SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, count) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            accepted.send(()).await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 1024];
                while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    (address, count)
}

fn pool(keep_alive: Duration) -> Pool<Empty<Bytes>> {
    Pool::new(http1::Builder::new(), keep_alive, 2)
}

async fn ask(
    pool: &Pool<Empty<Bytes>>,
    address: std::net::SocketAddr,
) -> (Response<Incoming>, Lease<Empty<Bytes>>) {
    let dial = async { TcpStream::connect(address).await.map(Stream::Tcp) };
    timeout(SOON, pool.send(Request::new(Empty::new()), dial, || ())).await.unwrap().unwrap()
}

fn idle(pool: &Pool<Empty<Bytes>>) -> usize {
    pool.idle
        .inner
        .lock()
        .connections
        .iter()
        .filter(|connections| !connections.sender.inner.is_closed())
        .count()
}

async fn until(what: impl Fn() -> bool) {
    timeout(SOON, async {
        while !what() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn nobody_gets_a_connection_before_its_last_answer_was_judged() {
    let (address, mut accepted) = server(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let pool = pool(SOON);
    let (_, first) = ask(&pool, address).await;
    // Long enough for whatever would put it back by itself.
    sleep(Duration::from_millis(50)).await;
    assert_eq!(idle(&pool), 0);
    let (_, second) = ask(&pool, address).await;
    first.keep();
    drop(second);
    until(|| idle(&pool) == 1).await;
    let (_, third) = ask(&pool, address).await;
    third.keep();
    accepted.recv().await.unwrap();
    accepted.recv().await.unwrap();
    assert!(accepted.try_recv().is_err(), "the third went over the first one's");
}

#[tokio::test]
async fn a_connection_comes_back_once_its_answer_was_read() {
    let (address, _accepted) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let pool = pool(SOON);
    let (answer, lease) = ask(&pool, address).await;
    lease.keep();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    until(|| idle(&pool) == 1).await;
}

#[tokio::test]
async fn no_more_are_kept_than_may_be_and_none_for_longer() {
    let (address, _accepted) = server(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let pool = pool(Duration::from_millis(300));
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(ask(&pool, address).await.1);
    }
    for lease in leases {
        lease.keep();
    }
    until(|| idle(&pool) == 2).await;
    until(|| pool.idle.inner.lock().connections.is_empty()).await;
    // And once more, after there were none.
    ask(&pool, address).await.1.keep();
    until(|| idle(&pool) == 1).await;
    until(|| pool.idle.inner.lock().connections.is_empty()).await;
}

#[tokio::test]
async fn one_task_sweeps_however_often_the_last_connection_comes_and_goes() {
    let (address, _accepted) = server(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let pool = pool(SOON);
    for _ in 0..50 {
        ask(&pool, address).await.1.keep();
        until(|| idle(&pool) == 1).await;
    }
    // The server's two, the connection's, and the one that sweeps.
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks <= 4, "{tasks} tasks");
}

/// Answers the first request of each connection, and does away with the connection when it has the head of another
/// one. Tells the first line of each request, and the number of its connection.
async fn closing_at_the_second(resets: bool) -> (std::net::SocketAddr, mpsc::Receiver<(usize, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, requests) = mpsc::channel(16);
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut stream = tokio::io::BufReader::new(stream);
                for is_first in [true, false] {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    seen.send((number, head.lines().next().unwrap().to_owned())).await.unwrap();
                    if is_first {
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                    }
                }
                if resets {
                    stream.get_ref().set_zero_linger().unwrap();
                }
            });
        }
    });
    (address, requests)
}

/// A body of which nothing comes until `text` is sent, and then that.
fn pending_body() -> (mpsc::Sender<Bytes>, Late) {
    let (text, body) = mpsc::channel(1);
    (text, Late(body))
}

struct Late(mpsc::Receiver<Bytes>);

impl Body for Late {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|text| text.map(|text| Ok(http_body::Frame::data(text))))
    }
}

/// What became of a request over a connection that the server closes as it gets the request's head: the status, how
/// often it was tried again, and how often the server saw it. `text`: what of its body is there at once.
async fn over_a_stale_connection(
    method: Method,
    text: Option<&'static str>,
    resets: bool,
) -> (Option<u16>, usize, usize) {
    let (address, mut requests) = closing_at_the_second(resets).await;
    let pool: Pool<Late> = Pool::new(http1::Builder::new(), SOON, 2);
    let ended = || {
        let (sender, body) = pending_body();
        drop(sender);
        body
    };
    let dial = || async { TcpStream::connect(address).await.map(Stream::Tcp) };
    let request = Request::get("/first").body(ended()).unwrap();
    let (answer, lease) = timeout(SOON, pool.send(request, dial(), || ())).await.unwrap().unwrap();
    assert_eq!(answer.status(), 204);
    lease.keep();
    until(|| pool.idle.inner.lock().connections.len() == 1).await;

    let (sender, body) = pending_body();
    let repeats = std::sync::atomic::AtomicUsize::new(0);
    let request = Request::builder().method(method).uri("/second").body(body).unwrap();
    if let Some(text) = text {
        sender.send(text.into()).await.unwrap();
    }
    let send = pool.send(request, dial(), || {
        repeats.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let sent = timeout(SOON, send).await.expect("something comes of it");
    let status = sent.ok().map(|(answer, _)| answer.status().as_u16());
    let mut seen = 0;
    while let Ok((_, line)) = requests.try_recv() {
        seen += usize::from(line.contains("/second"));
    }
    (status, repeats.into_inner(), seen)
}

#[tokio::test]
async fn what_a_kept_connection_ends_on_is_sent_once_more_if_that_is_the_same_as_once() {
    for resets in [false, true] {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE]
        {
            let seen = over_a_stale_connection(method.clone(), None, resets).await;
            assert_eq!(seen, (Some(204), 1, 2), "{method}, resets: {resets}");
        }
        for method in [Method::POST, Method::PATCH] {
            let seen = over_a_stale_connection(method.clone(), None, resets).await;
            assert_eq!(seen, (None, 0, 1), "{method}, resets: {resets}");
        }
        let begun = over_a_stale_connection(Method::PUT, Some("a part"), resets).await;
        assert_eq!(begun, (None, 0, 1), "a body that was begun cannot be said again, resets: {resets}");
    }
}

#[tokio::test]
async fn nothing_is_sent_twice_over_a_new_connection_or_after_a_byte_of_an_answer() {
    // Both answer the first request of a connection. This one says a part of its second answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut head = [0; 1024];
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(b"H").await.unwrap();
        drop(stream);
        // Over a new one it says nothing at all.
        while let Ok((mut stream, _)) = listener.accept().await {
            assert!(stream.read(&mut head).await.unwrap() > 0);
        }
    });
    let pool = pool(SOON);
    let dial = || async { TcpStream::connect(address).await.map(Stream::Tcp) };
    ask(&pool, address).await.1.keep();
    until(|| idle(&pool) == 1).await;
    for why in ["a byte of the answer came", "the connection is new"] {
        let send = pool.send(Request::new(Empty::new()), dial(), || panic!("{why}"));
        let failed = timeout(SOON, send).await.unwrap();
        assert!(matches!(failed, Err(SendError::Http(_))), "{why}");
    }
}
