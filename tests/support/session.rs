//! A route of mode session: `chat`, under every path. Its server is played by hand, dies and comes back.

use std::future::Future;
use std::panic::Location;

use super::DEADLINE;
use super::client::{Dial, RawClient};
use super::link::{Closed, End, Link, Message};
use super::proxy::{Builder, Proxy};
use super::upstream::{self, ServerConn, Upstream};
use super::wait::eventually;
use super::wire::{self, Frame, Length, Role};

pub const CHAT: &str = "routes: [{name: chat, path: '/{*rest}', mode: session}]";

/// Redials at once.
pub const EAGER: &str = "redial: {base: 10ms, cap: 50ms}";

/// What clients are told where `notices` is on.
pub const LOST: &str = r#"{"type":"outrigger","event":"upstream_lost"}"#;
pub const RESTORED: &str = r#"{"type":"outrigger","event":"upstream_restored"}"#;

/// A proxy with that route, and this in its policy. It redials at once, unless the policy says otherwise.
pub fn session(upstream: &Upstream, policy: &str) -> Builder {
    Proxy::to(upstream).yaml(CHAT).yaml(&policy_line(policy))
}

/// `policy` as a section, in which servers are redialled at once unless it says otherwise.
pub fn policy_line(policy: &str) -> String {
    let parts = if policy.contains("redial:") { [policy, ""] } else { [EAGER, policy] };
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    format!("policy: {{{}}}", Vec::from_iter(parts).join(", "))
}

/// How a server goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// As a process that is killed while it has something unread.
    Reset,
    /// As a process that is killed and has read everything.
    Fin,
    /// Within a frame.
    MidFrame,
    /// Between two frames of a message.
    MidMessage,
    /// With a Close.
    Close(u16),
}

/// A session with the test at both of its ends. The ends come first, so that they are gone before the proxy is.
pub struct Session {
    pub client: RawClient,
    server: Option<ServerConn>,
    pub proxy: Proxy,
    pub upstream: Upstream,
}

impl Session {
    /// With this policy.
    pub async fn open(policy: &str) -> Self {
        Self::shaped(policy, |dial| dial, |proxy| proxy).await
    }

    /// With a handshake and a proxy of the test's own.
    pub async fn shaped(
        policy: &str,
        dial: impl FnOnce(Dial) -> Dial,
        proxy: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        Self::before(Upstream::builder(), policy, dial, proxy).await
    }

    /// As [`Session::shaped`], before a server of the test's own.
    pub async fn before(
        upstream: upstream::Builder,
        policy: &str,
        dial: impl FnOnce(Dial) -> Dial,
        proxy: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let upstream = upstream.by_hand().spawn().await;
        let proxy = proxy(session(&upstream, policy)).spawn().await;
        let client = dial(proxy.dial()).open().await;
        let server = Some(upstream.accept().await);
        let session = Self { client, server, proxy, upstream };
        session.proxy.attached(1.0).await;
        session
    }

    /// The server's end of the present link.
    pub fn server(&mut self) -> &mut ServerConn {
        self.server.as_mut().expect("the server is there")
    }

    /// Both ends at once.
    pub fn ends(&mut self) -> (&mut RawClient, &mut ServerConn) {
        (&mut self.client, self.server.as_mut().expect("the server is there"))
    }

    /// The server goes, and is not there any more: returns when the proxy knows.
    pub async fn lose(&mut self, how: Death) {
        self.upstream.stop().await;
        self.die(how).await;
        self.proxy.connected(0.0).await;
    }

    /// The present link ends; the server may be dialled.
    pub async fn die(&mut self, how: Death) {
        die(self.server.take().expect("the server is there"), how).await;
    }

    /// The server is there again, and the session's next link with it.
    pub async fn back(&mut self) {
        self.upstream.start().await;
        self.next_link().await;
    }

    /// The session's next link, at a server that was there all the time.
    pub async fn next_link(&mut self) {
        let server = self.upstream.accept().await;
        // What is held of the last one is let go only when the next one is there.
        self.server = Some(server);
    }

    /// A text each way must arrive, and nothing before it.
    #[track_caller]
    pub fn works(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        let (client, server) = self.ends();
        works(client, server, caller)
    }

    /// The client says these while its server is away: returns when the proxy has them.
    pub async fn says_meanwhile(&mut self, texts: &[&str]) {
        let before = self.proxy.metric("outrigger_messages_in_total").await;
        for text in texts {
            self.client.text(text).await;
        }
        self.proxy.becomes("outrigger_messages_in_total", before + texts.len() as f64).await;
    }

    /// What is said to the server until now is proven to be taken: it answers the pings that come after it, and the
    /// proxy has read that.
    pub async fn proves(&mut self) {
        let (client, server) = self.ends();
        let frame = server.next_frame().await;
        assert_eq!(frame.opcode, wire::PING, "a receipt is asked for: {frame:?}");
        server.send_frame(&Frame::pong(frame.payload)).await;
        server.text("proven").await;
        client.expect_text("proven").await;
    }

    /// The client must be told all these, in any order, and then the last one.
    #[track_caller]
    pub fn is_told(&mut self, any_order: &[&str], last: &str) -> impl Future<Output = ()> {
        let caller = Location::caller();
        let mut due: Vec<String> = any_order.iter().map(|text| (*text).to_owned()).collect();
        let last = last.to_owned();
        async move {
            loop {
                let Message::Text(text) = self.client.next_message().await else {
                    panic!("{caller}: nobody says bytes here")
                };
                if text == last {
                    assert!(due.is_empty(), "{caller}: not told before {last}: {due:?}");
                    return;
                }
                let place = due.iter().position(|one| *one == text);
                due.remove(place.unwrap_or_else(|| panic!("{caller}: {text} was not due: {due:?}, {last}")));
            }
        }
    }

    /// Both ends read to their ends at once, as each waits for the other's: the client's, and the server's.
    #[track_caller]
    pub fn closed(&mut self) -> impl Future<Output = (Closed, Closed)> {
        let (client, server) = self.ends();
        let (client, server) = (client.closed(), server.closed());
        async move { tokio::join!(client, server) }
    }

    /// The metrics tell, soon, that the only session is over for `why`, and its only connection for `reason`.
    #[track_caller]
    pub fn is_over(&self, why: &str, reason: &str) -> impl Future<Output = ()> {
        self.proxy.is_over(why, reason)
    }
}

/// Who talks with a server: plain, or with a ticket.
pub trait Talks {
    async fn says(&mut self, text: &str);
    async fn hears(&mut self) -> Message;
}

impl Talks for RawClient {
    async fn says(&mut self, text: &str) {
        self.text(text).await;
    }

    async fn hears(&mut self) -> Message {
        self.next_message().await
    }
}

/// A text each way must arrive, and nothing before it.
pub async fn works(client: &mut impl Talks, server: &mut ServerConn, caller: &Location<'_>) {
    for text in ["up", "and again up"] {
        client.says(text).await;
        let heard = server.next_message().await;
        assert_eq!(heard, Message::Text(text.to_owned()), "{caller}: at the server");
    }
    server.text("down").await;
    let heard = client.hears().await;
    assert_eq!(heard, Message::Text("down".to_owned()), "{caller}: at the client");
}

/// Ends a server's link so.
pub async fn die(mut server: ServerConn, how: Death) {
    match how {
        Death::Reset => server.reset(),
        Death::Fin => server.finish_writing().await,
        Death::MidFrame => {
            let torn = Frame::text("the beginning of").length(Length::Claimed(1000));
            server.send_bytes(&torn.encode(Role::Server)).await;
            server.finish_writing().await;
        }
        Death::MidMessage => {
            server.send_frame(&Frame::text("the first half").not_final()).await;
            server.finish_writing().await;
        }
        Death::Close(code) => {
            server.close(code, "until later").await;
            let closed = server.closed().await;
            assert_eq!(closed.code, code, "the Close is answered");
        }
    }
}

/// Code, reason, and how the socket ended.
pub fn said(closed: &Closed) -> (u16, &str, End) {
    (closed.code, &closed.reason, closed.then)
}

/// The next messages must be these texts, and nothing in between.
#[track_caller]
pub fn hears(link: &mut Link, texts: &[&str]) -> impl Future<Output = ()> {
    let caller = Location::caller();
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    async move {
        for (at, text) in texts.iter().enumerate() {
            let heard = link.next_message().await;
            assert_eq!(heard, Message::Text(text.clone()), "{caller}: number {at} of {texts:?}");
        }
    }
}

impl Proxy {
    /// A number that the route counts.
    pub async fn chat(&self, name: &str) -> f64 {
        self.metric(&format!("outrigger_{name}{{route=\"chat\"}}")).await
    }

    /// Waits until so many sessions have their clients.
    #[track_caller]
    pub fn attached(&self, count: f64) -> impl Future<Output = ()> {
        self.becomes_soon("outrigger_sessions{route=\"chat\",state=\"attached\"}", count)
    }

    /// Waits until so many sessions have their server.
    #[track_caller]
    pub fn connected(&self, count: f64) -> impl Future<Output = ()> {
        self.becomes_soon("outrigger_sessions_connected{route=\"chat\"}", count)
    }

    /// Dials of lost servers that went so.
    pub async fn redials(&self, outcome: &str) -> f64 {
        self.metric(&format!("outrigger_redials_total{{outcome=\"{outcome}\",route=\"chat\"}}")).await
    }

    /// Messages of clients that were lost so, or may be.
    pub async fn messages_lost(&self, reason: &str) -> f64 {
        self.metric(&format!("outrigger_messages_lost_total{{reason=\"{reason}\",route=\"chat\"}}")).await
    }

    /// Waits until so many messages of clients were lost so.
    #[track_caller]
    pub fn loses_messages(&self, reason: &str, count: f64) -> impl Future<Output = ()> {
        let sample = format!("outrigger_messages_lost_total{{reason=\"{reason}\",route=\"chat\"}}");
        self.becomes_soon(sample, count)
    }

    /// Sessions that ended so.
    pub async fn session_ends(&self, why: &str) -> f64 {
        self.metric(&format!("outrigger_session_ends_total{{why=\"{why}\",route=\"chat\"}}")).await
    }

    /// Waits until a sample is this; tells where from.
    #[track_caller]
    pub fn becomes_soon(&self, sample: impl Into<String>, expected: f64) -> impl Future<Output = ()> {
        let sample = sample.into();
        eventually(DEADLINE, move || {
            let sample = sample.clone();
            async move {
                match self.metric(&sample).await {
                    there if there == expected => Ok(()),
                    there => Err(format!("{sample} is {there} instead of {expected}")),
                }
            }
        })
    }

    /// The metrics tell, soon, that the only session is over for `why`, its only connection for `reason`, and that
    /// nothing is left of it.
    #[track_caller]
    pub fn is_over(&self, why: &str, reason: &str) -> impl Future<Output = ()> {
        let why = format!("outrigger_session_ends_total{{why=\"{why}\",route=\"chat\"}}");
        let reason = format!("outrigger_disconnections_total{{reason=\"{reason}\",route=\"chat\"}}");
        eventually(DEADLINE, move || {
            let (why, reason) = (why.clone(), reason.clone());
            async move {
                let metrics = self.metrics().await;
                let is_told = metrics.get(&why) == Some(1.0)
                    && metrics.sum("outrigger_session_ends_total") == 1.0
                    && metrics.get(&reason) == Some(1.0)
                    && metrics.sum("outrigger_disconnections_total") == 1.0
                    && metrics.sum("outrigger_sessions") == 0.0
                    && metrics.sum("outrigger_sessions_connected") == 0.0
                    && metrics.get("outrigger_clients{route=\"chat\"}") == Some(0.0)
                    && metrics.get("outrigger_buffered_bytes") == Some(0.0);
                if is_told {
                    return Ok(());
                }
                let names =
                    ["outrigger_clients", "outrigger_buffered", "outrigger_disconn", "outrigger_session"];
                let shown = metrics
                    .0
                    .lines()
                    .filter(|line| names.iter().any(|name| line.starts_with(name)) && !line.ends_with("} 0"));
                let shown = Vec::from_iter(shown).join(", ");
                Err(format!("{shown} instead of {why} and {reason}"))
            }
        })
    }
}
