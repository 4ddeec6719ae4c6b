//! One connection with the test at both of its ends: a client, the proxy, and a server played by hand.

use std::future::Future;
use std::panic::Location;

use super::DEADLINE;
use super::client::{Dial, RawClient};
use super::link::{Link, Received};
use super::proxy::Proxy;
use super::tls;
use super::upstream::{self, ServerConn, Upstream};
use super::wait::eventually;
use super::wire::{Frame, Length, Role};

/// An open connection. The ends come first, so that they are gone before the proxy is.
pub struct Pair {
    pub client: RawClient,
    pub server: ServerConn,
    pub proxy: Proxy,
    pub upstream: Upstream,
}

impl Pair {
    /// With this configuration (see [`super::proxy::Builder::yaml`]).
    pub async fn open(yaml: &str) -> Self {
        Self::shaped(yaml, Upstream::builder(), |dial| dial).await
    }

    /// With an upstream and a handshake of the test's own.
    pub async fn shaped(yaml: &str, upstream: upstream::Builder, shape: impl FnOnce(Dial) -> Dial) -> Self {
        let upstream = upstream.by_hand().spawn().await;
        let proxy = Proxy::to(&upstream).yaml(yaml).spawn().await;
        let client = shape(proxy.dial()).open().await;
        let server = upstream.accept().await;
        Self { client, server, proxy, upstream }
    }

    /// As [`Pair::shaped`], over TLS on the hops that are told.
    pub async fn secured(yaml: &str, client: bool, server: bool, shape: impl FnOnce(Dial) -> Dial) -> Self {
        let mut upstream = Upstream::builder().by_hand();
        if server {
            upstream = upstream.tls(tls::server());
        }
        let upstream = upstream.spawn().await;
        let mut proxy = Proxy::to(&upstream).yaml(yaml);
        if client {
            proxy = proxy.tls(tls::listen());
        }
        if server {
            proxy = proxy.upstream_tls(tls::upstream());
        }
        let proxy = proxy.spawn().await;
        let dial = shape(proxy.dial());
        let client = if client { dial.tls(tls::client()) } else { dial }.open().await;
        let server = upstream.accept().await;
        Self { client, server, proxy, upstream }
    }

    /// Another connection through the same proxy.
    pub async fn another(&self) -> (RawClient, ServerConn) {
        let client = self.proxy.connect("/").await;
        (client, self.upstream.accept().await)
    }

    /// A text of the client's must arrive, and one of the server's.
    #[track_caller]
    pub fn works(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            for text in ["up", "and again up"] {
                self.client.text(text).await;
                let seen = self.server.receive().await;
                let is_it = matches!(&seen, Received::Frame(frame) if frame.payload == text.as_bytes());
                assert!(is_it, "{caller}: {text:?} was due, but: {seen:?}");
            }
            self.server.text("down").await;
            let seen = self.client.receive().await;
            let is_it = matches!(&seen, Received::Frame(frame) if frame.payload == b"down");
            assert!(is_it, "{caller}: \"down\" was due, but: {seen:?}");
        }
    }

    /// The client writes to a server that does not read, until some of it is left in the proxy; no more
    /// than that, so that the end of the client's stream would still get through. Answers with how many
    /// messages (of zeros) that took.
    pub async fn block_the_upstream(&mut self) -> usize {
        self.server.stop_reading();
        let frame = Frame::binary(vec![0; 16 * 1024]);
        for count in 1..2000 {
            self.client.send_frame(&frame).await;
            if self.proxy.metric("outrigger_buffered_bytes").await > 0.0 {
                return count;
            }
        }
        panic!("32 MiB went to a server that does not read");
    }

    /// As [`Proxy::tells`].
    #[track_caller]
    pub fn tells(&self, reason: &str, close: Option<(&str, &str)>) -> impl Future<Output = ()> {
        self.proxy.tells(reason, close)
    }
}

impl Proxy {
    /// The metrics tell, soon, that its only connection ended for `reason`, and that `close` (who, code)
    /// was the first Close of it; `None`: that there was none.
    #[track_caller]
    pub fn tells(&self, reason: &str, close: Option<(&str, &str)>) -> impl Future<Output = ()> {
        let wanted_reason =
            format!("outrigger_disconnections_total{{reason=\"{reason}\",route=\"default\"}}");
        let wanted_close =
            close.map(|(by, code)| format!("outrigger_closes_total{{by=\"{by}\",code=\"{code}\"}}"));
        eventually(DEADLINE, move || {
            let (wanted_reason, wanted_close) = (wanted_reason.clone(), wanted_close.clone());
            async move {
                let metrics = self.metrics().await;
                let is_told = metrics.get("outrigger_clients{route=\"default\"}") == Some(0.0)
                    && metrics.get("outrigger_buffered_bytes") == Some(0.0)
                    && metrics.sum("outrigger_disconnections_total") == 1.0
                    && metrics.get(&wanted_reason) == Some(1.0)
                    && match &wanted_close {
                        Some(close) => metrics.get(close) == Some(1.0),
                        None => true,
                    }
                    && metrics.sum("outrigger_closes_total") == f64::from(u8::from(wanted_close.is_some()));
                if is_told {
                    return Ok(());
                }
                let names =
                    ["outrigger_clients", "outrigger_buffered", "outrigger_disconn", "outrigger_closes"];
                let shown = metrics
                    .0
                    .lines()
                    .filter(|line| names.iter().any(|name| line.starts_with(name)) && !line.ends_with("} 0"));
                let shown = Vec::from_iter(shown).join(", ");
                Err(format!("{shown} instead of {wanted_reason} and {wanted_close:?}"))
            }
        })
    }
}

/// The header of a frame of 1000 bytes, and ten of them.
pub fn half_a_frame(by: Role) -> Vec<u8> {
    Frame::binary(b"ten bytes.").length(Length::Claimed(1000)).encode(by)
}

/// Sends half a frame that surely reached the other end.
pub async fn send_half_a_frame(from: &mut Link, by: Role, to: &mut Link) {
    let half = half_a_frame(by);
    from.send_bytes(&half).await;
    assert_eq!(to.read_exactly(half.len()).await, Ok(half));
}
