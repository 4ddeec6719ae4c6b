//! Serves one connection by its script.

use std::future::pending;
use std::io;
use std::ops::{ControlFlow, Deref, DerefMut};
use std::time::Duration;

use tokio::time::sleep;

use super::script::{Act, Answer, Plain, Script};
use super::{Open, Request, lock};
use crate::support::DEADLINE;
use crate::support::http::{self, Head};
use crate::support::link::{Closed, End, Link, Received};
use crate::support::wire::{self, Frame, Length, Role};

/// An upstream's end of a connection. All reading and writing is [`Link`]'s.
pub struct ServerConn {
    link: Link,
    /// The request that opened it.
    pub request: Request,
    open: Open,
}

impl Deref for ServerConn {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for ServerConn {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl ServerConn {
    /// Answers a handshake that was handed over unanswered ([`Answer::HandOver`]).
    pub async fn accept_websocket(&mut self) {
        let response = Script::default().handshake_response(&self.request.head);
        self.send_bytes(&response).await;
    }

    /// As [`Link::reset`].
    pub fn reset(self) {
        self.link.reset();
    }

    async fn hand_over(mut self) {
        self.link.set_deadline(DEADLINE);
        let shared = self.open.0.clone();
        // Refused only where the test has dropped its upstream.
        let _ = shared.by_hand.send(self).await;
    }
}

/// A script may rightly wait longer than any test: only the test's own waits have a deadline.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn serve(mut link: Link, open: Open) {
    link.set_deadline(NO_DEADLINE);
    let script = lock(&open.0.script).clone();
    match script.answer {
        Answer::Hangup => return,
        Answer::NeverRead => pending().await,
        _ => {}
    }
    loop {
        let Ok(head) = link.try_read_head().await else { return };
        if head.asks_for_websocket() {
            return handshake(link, open, head, &script).await;
        }
        let mut request = Request { head, body: Vec::new(), early: Vec::new() };
        if matches!(script.plain, Plain::HandOver) {
            lock(&open.0.requests).push(request.clone());
            return ServerConn { link, request, open }.hand_over().await;
        }
        let framing = request.head.body(request.head.method(), false);
        let Ok((body, _)) = link.read_body(framing).await else { return };
        request.body = body;
        lock(&open.0.requests).push(request.clone());
        sleep(script.delay).await;
        match answer_plain(&mut link, &request, &script.plain).await {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) | Err(_) => return,
        }
    }
}

async fn answer_plain(link: &mut Link, request: &Request, plain: &Plain) -> io::Result<ControlFlow<()>> {
    let bodiless = request.head.method() == "HEAD";
    match plain {
        Plain::Fixed(status, headers, body) => {
            let mut response = http::response(*status, headers, body);
            if bodiless {
                response.truncate(response.len() - body.len());
            }
            link.try_send_bytes(&response).await?;
        }
        Plain::Chunked(parts, pause) => {
            link.try_send_bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    sleep(*pause).await;
                }
                link.try_send_bytes(&http::chunk(part)).await?;
            }
            link.try_send_bytes(&http::chunk(b"")).await?;
        }
        Plain::UntilEnd(body) => {
            let head: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            link.try_send_bytes(&[head, body].concat()).await?;
            link.finish_writing().await;
            return Ok(ControlFlow::Break(()));
        }
        Plain::EchoBody => link.try_send_bytes(&http::response(200, &[], &request.body)).await?,
        Plain::Raw(bytes) => link.try_send_bytes(bytes).await?,
        Plain::Silent => ignore(link).await,
        Plain::HandOver => unreachable!("the connection was handed over"),
    }
    let last = request.head.headers.lists("Connection", "close");
    Ok(if last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}

async fn handshake(mut link: Link, open: Open, head: Head, script: &Script) {
    // Also without a delay: what came together with the head counts as early.
    let early = link.peek_for(script.delay).await;
    let request = Request { head, body: Vec::new(), early };
    lock(&open.0.handshakes).push(request.clone());
    match script.answer {
        Answer::Silent => return ignore(&mut link).await,
        Answer::HangupAfterRequest => return,
        Answer::ResetAfterRequest => return link.reset(),
        Answer::HandOver => return ServerConn { link, request, open }.hand_over().await,
        _ => {}
    }
    let response = script.handshake_response(&request.head);
    let accepted = response.starts_with(b"HTTP/1.1 101 ");
    if link.try_send_bytes(&response).await.is_err() {
        return;
    }
    if !accepted {
        // A server that refuses keeps the connection for another request, as HTTP has it.
        return ignore(&mut link).await;
    }
    let conn = ServerConn { link, request, open };
    // An error is a peer that went away: that is the client's to tell.
    let _ = websocket(conn, script).await;
}

async fn websocket(mut conn: ServerConn, script: &Script) -> io::Result<()> {
    for act in &script.on_open {
        match perform(conn, act).await? {
            Some(on) => conn = on,
            None => return Ok(()),
        }
    }
    loop {
        let frame = match conn.receive().await {
            Received::Frame(frame) => frame,
            Received::End(then) => {
                record(&conn, 1006, String::new(), then);
                return Ok(());
            }
        };
        let acts = script.on_text.iter().find(|(text, _)| {
            frame.opcode == wire::TEXT && frame.fin && text.as_bytes() == frame.payload.as_slice()
        });
        if let Some((_, acts)) = acts {
            for act in acts {
                match perform(conn, act).await? {
                    Some(on) => conn = on,
                    None => return Ok(()),
                }
            }
            continue;
        }
        match frame.opcode {
            wire::PING => conn.try_send_frame(&Frame::pong(frame.payload)).await?,
            wire::PONG => {}
            wire::CLOSE => {
                let (code, reason) = frame.close_status();
                // A peer that is gone by now has still said its Close: that is what is recorded.
                let _ = conn.try_send_frame(&Frame::new(wire::CLOSE, frame.payload)).await;
                conn.finish_writing().await;
                let then = conn.closed().await.then;
                record(&conn, code, reason, then);
                return Ok(());
            }
            _ => {
                let echo = Frame { masking: wire::Masking::ByRole, length: Length::Minimal, ..frame };
                conn.try_send_frame(&echo).await?;
            }
        }
    }
}

/// Does it; `None` when the connection is done with.
async fn perform(mut conn: ServerConn, act: &Act) -> io::Result<Option<ServerConn>> {
    match act {
        Act::Send(frame) => conn.try_send_frame(frame).await?,
        Act::Bytes(bytes) => conn.try_send_bytes(bytes).await?,
        Act::Flood { messages, size } => {
            let mut payload = vec![0x2e; *size];
            for number in 0..*messages as u64 {
                if let Some(start) = payload.first_chunk_mut() {
                    *start = number.to_be_bytes();
                }
                conn.try_send_frame(&Frame::binary(&payload)).await?;
            }
        }
        Act::Close(code, reason) => {
            conn.try_send_frame(&Frame::close(*code, reason)).await?;
            let closed = conn.closed().await;
            record(&conn, closed.code, closed.reason, closed.then);
            return Ok(None);
        }
        Act::DieMidFrame => {
            let torn = Frame::binary(b"ten bytes.").length(Length::Claimed(1000));
            conn.try_send_bytes(&torn.encode(Role::Server)).await?;
            return Ok(None);
        }
        Act::Hangup => return Ok(None),
        Act::Reset => {
            conn.reset();
            return Ok(None);
        }
        Act::StopReading => {
            conn.stop_reading();
            pending::<()>().await;
        }
        Act::Ignore => {
            ignore(&mut conn).await;
            return Ok(None);
        }
        Act::HandOver => {
            conn.hand_over().await;
            return Ok(None);
        }
    }
    Ok(Some(conn))
}

/// Reads whatever comes until the connection ends.
async fn ignore(link: &mut Link) {
    link.discard_to_end().await;
}

fn record(conn: &ServerConn, code: u16, reason: String, then: End) {
    lock(&conn.open.0.endings).push(Closed { code, reason, then, before: Vec::new() });
}
