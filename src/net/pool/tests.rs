use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    timeout(SOON, pool.send(Request::new(Empty::new()), dial)).await.unwrap().unwrap()
}

fn idle(pool: &Pool<Empty<Bytes>>) -> usize {
    pool.idle.lock().kept.iter().filter(|kept| !kept.sender.is_closed()).count()
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
    until(|| pool.idle.lock().kept.is_empty()).await;
    // And once more, after there were none.
    ask(&pool, address).await.1.keep();
    until(|| idle(&pool) == 1).await;
    until(|| pool.idle.lock().kept.is_empty()).await;
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
