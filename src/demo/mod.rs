//! The server that `outrigger demo` puts behind the proxy: an ordinary one, without a heartbeat, a drain and limits
//! of its own. It can be killed, and starts anew after a while.
//!
//! | path | what it is |
//! | --- | --- |
//! | `/` | a page to click on; it opens WebSockets at whatever address it was loaded from |
//! | `/echo` | a WebSocket that says what it hears; on `/close CODE REASON` it closes |
//! | `/ticker`, `/session/ticker` | a WebSocket that sends a JSON tick each second, and says what it hears; two paths, so that a proxy can treat them in two ways |
//! | `/api/time` | plain JSON |
//! | `POST /kill` | ends the server as a crash does |
//!
//! # Invariants
//! 1. It knows nothing of the proxy: no import from another folder, no header of ours. The page does know the notices
//!    that clients are sent.
//! 2. Nothing here outlasts [`serve`]: WebSockets end without a Close, as when a server dies.
//! 3. A crash resets every connection at once. Until the server starts anew nothing listens on its port.
//!
//! # Why no process of its own, and SIGKILL?
//! The demo is one command, and whoever is on the other side of a socket cannot see the difference.
//!
//! # Not here
//! The proxy in front of it, and the command that starts both.

mod clock;
mod process;
mod same_origin;
mod sockets;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use clock::unix_ms;
use process::{Process, ProcessSocket, listen_again};
use same_origin::is_same_origin;
use sockets::Socket;

/// Serves the demo on `listener` until `stop` completes; then every connection is dropped. The page tells people to
/// call `drain`.
pub(crate) async fn serve(listener: TcpListener, drain: String, stop: impl Future) -> io::Result<()> {
    let page: Bytes = PAGE.replace("{{DRAIN}}", &escaped(&drain)).into();
    let mut connections = JoinSet::new();
    let ended = tokio::select! {
        _ = stop => Ok(()),
        ended = live_again_and_again(listener, &page, &mut connections) => ended,
    };
    connections.shutdown().await;
    ended
}

/// Ends only if the port cannot be had again.
async fn live_again_and_again(
    mut listener: TcpListener,
    page: &Bytes,
    connections: &mut JoinSet<()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let mut generation = 1;
    loop {
        let process = Process::start(generation);
        tokio::select! {
            () = process.killed() => {}
            () = accept(&listener, &process, page, connections) => {}
        }
        // First, so that whoever is cut finds that nobody listens.
        drop(listener);
        connections.shutdown().await;
        tracing::info!(generation, "the demo server was killed");
        listener = listen_again(address, AWAY).await?;
        generation += 1;
        tracing::info!(generation, "the demo server starts anew, and remembers nobody");
    }
}

/// Never completes.
async fn accept(listener: &TcpListener, process: &Arc<Process>, page: &Bytes, connections: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(process), page.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the demo server could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// What a request has asked for that comes after its answer.
enum Next {
    Upgrade(Socket, OnUpgrade),
    Crash,
}

type PendingNext = Arc<Mutex<Option<Next>>>;

async fn connection(stream: TcpStream, process: Arc<Process>, page: Bytes) {
    let stream = ProcessSocket::new(stream, Arc::clone(&process));
    let pending = PendingNext::default();
    let service = service_fn({
        let pending = Arc::clone(&pending);
        move |request| {
            let response = answer(request, &page, &pending);
            async move { Ok::<_, Infallible>(response) }
        }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Clients may hang up at any time, which needs no reaction.
    let _ = http.await;
    let next = pending.lock().take();
    match next {
        Some(Next::Upgrade(socket, upgrade)) => {
            if let Ok(upgraded) = upgrade.await {
                socket.run(TokioIo::new(upgraded), &process).await;
            }
        }
        // This connection is closed already: whoever asked has the answer.
        Some(Next::Crash) => process.kill(),
        None => {}
    }
}

fn answer(mut request: Request<Incoming>, page: &Bytes, pending: &PendingNext) -> Response<Full<Bytes>> {
    let socket = match request.uri().path() {
        "/" => return read(&request, "text/html; charset=utf-8", page.clone()),
        "/api/time" => return read(&request, "application/json", time().into()),
        "/kill" => return kill(&request, pending),
        "/echo" => Socket::Echo,
        "/ticker" | "/session/ticker" => Socket::Ticker,
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "here are /, /echo, /ticker, /session/ticker, /api/time and /kill\n",
            );
        }
    };
    match create_response_with_body(&request, Full::default) {
        Ok(response) => {
            let upgrade = hyper::upgrade::on(&mut request);
            *pending.lock() = Some(Next::Upgrade(socket, upgrade));
            response
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("this is a WebSocket: {error}\n")),
    }
}

fn kill(request: &Request<Incoming>, pending: &PendingNext) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "this is asked for with POST\n");
    }
    if !is_same_origin(request) {
        return text(
            StatusCode::FORBIDDEN,
            "only the demo's own page may ask for this, or what is no browser\n",
        );
    }
    *pending.lock() = Some(Next::Crash);
    let mut response = text(StatusCode::ACCEPTED, "the server dies now, and starts anew in 3 seconds\n");
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn read(request: &Request<Incoming>, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "this is read with GET\n");
    }
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Text as it stands in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn time() -> String {
    format!("{{\"unix_ms\":{}}}\n", unix_ms())
}

const PAGE: &str = include_str!("page.html");
/// After an accept that failed: out of descriptors, as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it is dead: time enough to type something meanwhile.
const AWAY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
