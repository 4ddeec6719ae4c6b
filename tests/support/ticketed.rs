//! A session whose client has a ticket, with the test at both of its ends. As in `session`, the route is `chat`.

use std::future::Future;
use std::panic::Location;

use serde_json::Value;

use super::client::Dial;
use super::link::Message;
use super::proxy::{Builder, Proxy};
use super::session::{Talks, session, works};
use super::ticket_client::{Cut, Event, TicketClient};
use super::upstream::{self, ServerConn, Upstream};

pub struct Ticketed {
    pub client: TicketClient,
    server: Option<ServerConn>,
    /// What the client was told first.
    pub hello: Value,
    pub proxy: Proxy,
    pub upstream: Upstream,
}

impl Ticketed {
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

    /// As [`Ticketed::shaped`], before a server of the test's own.
    pub async fn before(
        upstream: upstream::Builder,
        policy: &str,
        dial: impl FnOnce(Dial) -> Dial,
        proxy: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let upstream = upstream.by_hand().spawn().await;
        let proxy = proxy(session(&upstream, policy)).spawn().await;
        let mut client = TicketClient::new(dial(proxy.dial()));
        let hello = client.begin_anew().await;
        let server = Some(upstream.accept().await);
        Self { client, server, hello, proxy, upstream }
    }

    /// The server's end of the present link.
    pub fn server(&mut self) -> &mut ServerConn {
        self.server.as_mut().expect("the server is there")
    }

    /// Both ends at once.
    pub fn ends(&mut self) -> (&mut TicketClient, &mut ServerConn) {
        (&mut self.client, self.server.as_mut().expect("the server is there"))
    }

    /// Takes the server's end away.
    pub fn take_server(&mut self) -> ServerConn {
        self.server.take().expect("the server is there")
    }

    /// The session's next link to a server.
    pub async fn next_server(&mut self) {
        self.server = Some(self.upstream.accept().await);
    }

    /// A message each way must arrive, and nothing before it.
    #[track_caller]
    pub fn works(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        let (client, server) = self.ends();
        works(client, server, caller)
    }

    /// The client's network goes, and the proxy knows. Silence it cannot know.
    pub async fn lose_client(&mut self, how: Cut) {
        self.client.cut(how).await;
        if how != Cut::Silence {
            self.proxy.away(1.0).await;
        }
    }

    /// What the client has had is known to the proxy.
    pub async fn confirm(&mut self) {
        self.client.confirm().await;
        self.client.control(r#"{"ping":77}"#).await;
        assert_eq!(self.client.is_told("pong").await, 77);
    }

    /// All that the client said was received, and it knows.
    pub async fn all_received(&mut self) {
        while self.client.unacknowledged() > 0 {
            let Event::Control(_) = self.client.next().await else {
                panic!("only an acknowledgement is due")
            };
        }
    }
}

impl Talks for TicketClient {
    async fn says(&mut self, text: &str) {
        self.say(text).await;
    }

    async fn hears(&mut self) -> Message {
        self.next_message().await
    }
}

impl Proxy {
    /// Waits until so many sessions are without their clients.
    #[track_caller]
    pub fn away(&self, count: f64) -> impl Future<Output = ()> {
        self.becomes_soon("outrigger_sessions{route=\"chat\",state=\"away\"}", count)
    }

    /// Tickets that went so.
    pub async fn resumes(&self, outcome: &str) -> f64 {
        self.metric(&format!("outrigger_resumes_total{{outcome=\"{outcome}\",route=\"chat\"}}")).await
    }

    /// Waits until so many sessions have ended so.
    #[track_caller]
    pub fn ends_sessions(&self, why: &str, count: f64) -> impl Future<Output = ()> {
        self.becomes_soon(format!("outrigger_session_ends_total{{why=\"{why}\",route=\"chat\"}}"), count)
    }
}
