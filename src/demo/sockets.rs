//! The two WebSockets. Pings and Close frames are answered by tungstenite whenever the socket is read,
//! so that both loops read until it ends.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep_until;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use super::clock::unix_ms;
use super::process::Process;

/// Which of them a path leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Socket {
    Echo,
    Ticker,
}

impl Socket {
    /// Serves the WebSocket until either side ends it.
    pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, process: &Process) {
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        let (name, ended) = match self {
            Self::Echo => ("echo", echo(socket).await),
            Self::Ticker => ("ticker", ticker(socket, process).await),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, socket = name, "a demo WebSocket broke");
        }
    }
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
) -> Result<(), tungstenite::Error> {
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(words) => match EchoCommand::read(&words) {
                EchoCommand::Echo => socket.send(Message::Text(words)).await?,
                EchoCommand::Close(frame) => socket.close(Some(frame)).await?,
                EchoCommand::Invalid => socket.send(Message::text(CLOSE_USAGE)).await?,
            },
            bytes @ Message::Binary(_) => socket.send(bytes).await?,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
    Ok(())
}

async fn ticker<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    process: &Process,
) -> Result<(), tungstenite::Error> {
    let generation = process.generation;
    let mut n = process.ticks();
    loop {
        tokio::select! {
            () = sleep_until(process.tick_at(n + 1)) => {
                // Where the client took nothing for a while, the ticks meanwhile are left out.
                n = process.ticks().max(n + 1);
                let tick = format!(
                    "{{\"type\":\"tick\",\"generation\":{generation},\"n\":{n},\"unix_ms\":{}}}",
                    unix_ms()
                );
                socket.send(Message::text(tick)).await?;
            }
            heard = socket.next() => match heard.transpose()? {
                Some(Message::Text(words)) => {
                    let heard = json!({ "type": "heard", "generation": generation, "text": words.as_str() });
                    socket.send(Message::text(heard.to_string())).await?;
                }
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

/// What a text message asks the echo socket to do.
#[derive(Debug, PartialEq)]
enum EchoCommand {
    Echo,
    Close(CloseFrame),
    /// It begins like a command, and is not a valid one.
    Invalid,
}

impl EchoCommand {
    fn read(words: &str) -> Self {
        let Some(rest) = words.strip_prefix("/close") else { return Self::Echo };
        if !rest.is_empty() && !rest.starts_with(' ') {
            return Self::Echo;
        }
        let (code, reason) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        match code.parse::<u16>().map(CloseCode::from) {
            Ok(code) if code.is_allowed() && reason.len() <= MAX_REASON => {
                Self::Close(CloseFrame { code, reason: Utf8Bytes::from(reason) })
            }
            _ => Self::Invalid,
        }
    }
}

const CLOSE_USAGE: &str = "to be closed say /close CODE REASON, with a code such as 1000 or 4001 \
                           and a reason of at most 123 bytes";
/// A control frame's payload is at most 125 bytes, two of them the code (RFC 6455 §5.5.1).
const MAX_REASON: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_to_close_is_told_from_words_that_look_like_one() {
        let close = |code: u16, reason: &str| {
            EchoCommand::Close(CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from(reason) })
        };
        let long = "x".repeat(MAX_REASON);
        let cases = [
            ("hello".to_owned(), EchoCommand::Echo),
            ("say /close 1000".into(), EchoCommand::Echo),
            ("/closed".into(), EchoCommand::Echo),
            ("/close 4001 so long".into(), close(4001, "so long")),
            ("/close 1000".into(), close(1000, "")),
            (format!("/close 1000 {long}"), close(1000, &long)),
            (format!("/close 1000 {long}x"), EchoCommand::Invalid),
            ("/close".into(), EchoCommand::Invalid),
            ("/close now".into(), EchoCommand::Invalid),
            ("/close 1006".into(), EchoCommand::Invalid),
            ("/close 999".into(), EchoCommand::Invalid),
            ("/close 70000".into(), EchoCommand::Invalid),
        ];
        for (words, order) in cases {
            assert_eq!(EchoCommand::read(&words), order, "{words}");
        }
    }
}
