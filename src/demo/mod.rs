//! The server that `outrigger demo` puts behind the proxy: an ordinary one, without a heartbeat, a drain and limits
//! of its own.
//!
//! | path | what it is |
//! | --- | --- |
//! | `/` | a page to click on; it opens both WebSockets at whatever address it was loaded from |
//! | `/echo` | a WebSocket that says what it hears; on `/close CODE REASON` it closes |
//! | `/ticker` | a WebSocket that sends a JSON tick each second |
//! | `/api/time` | plain JSON |
//!
//! # Invariants
//! 1. It knows nothing of the proxy: no import from another folder, no header of ours.
//! 2. Nothing here outlasts [`serve`]: WebSockets end without a Close, as when a server dies.
//!
//! # Not here
//! The proxy in front of it, and the command that starts both.

mod clock;
mod sockets;

use std::convert::Infallible;
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
use sockets::Socket;

/// Serves the demo on `listener` until `stop` completes; then every connection is dropped. The page tells people to
/// call `drain`.
pub(crate) async fn serve(listener: TcpListener, drain: String, stop: impl Future) {
    let page: Bytes = PAGE.replace("{{DRAIN}}", &escaped(&drain)).into();
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, page.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the demo server could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

/// The WebSocket that a request on this connection has asked for.
type PendingUpgrade = Arc<Mutex<Option<(Socket, OnUpgrade)>>>;

async fn connection(stream: TcpStream, page: Bytes) {
    // A small message is sent at once; if this fails, it costs milliseconds only.
    let _ = stream.set_nodelay(true);
    let pending = PendingUpgrade::default();
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
    let pending = pending.lock().take();
    if let Some((socket, upgrade)) = pending
        && let Ok(upgraded) = upgrade.await
    {
        socket.run(TokioIo::new(upgraded)).await;
    }
}

fn answer(mut request: Request<Incoming>, page: &Bytes, pending: &PendingUpgrade) -> Response<Full<Bytes>> {
    let socket = match request.uri().path() {
        "/" => return read(&request, "text/html; charset=utf-8", page.clone()),
        "/api/time" => return read(&request, "application/json", time().into()),
        "/echo" => Socket::Echo,
        "/ticker" => Socket::Ticker,
        _ => return text(StatusCode::NOT_FOUND, "here are /, /echo, /ticker and /api/time\n"),
    };
    match create_response_with_body(&request, Full::default) {
        Ok(response) => {
            let upgrade = hyper::upgrade::on(&mut request);
            *pending.lock() = Some((socket, upgrade));
            response
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("this is a WebSocket: {error}\n")),
    }
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

#[cfg(test)]
mod tests;
