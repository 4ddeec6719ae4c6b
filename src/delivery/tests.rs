//! A shard, driven by hand ([`crate::stage`]): raw clients, a log.

mod control;
mod delivering;
mod ending;
mod events;
mod fairness;
mod link;
mod memory;
mod secure;
mod slow;
mod walk;

use std::any::Any;
use std::cell::Cell;
use std::collections::HashMap;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use socket2::{Domain, SockRef, Type};
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::fanout::Fanout;
use super::shard::{Shard, ShardHandle};
use super::{Arrival, ClientMemory, EventsWire, FeedHello, FromClients, Settings, Wire};
use crate::config::{Config, LogConnections, Policy};
use crate::connections::{Connection, ConnectionInfo, Handle, Registry};
use crate::frame::Kind;
use crate::log::{Log, Logs, Message, NewEntry, Writer};
use crate::memory::Budget;
use crate::net::{Stream, Transport, Workers};
use crate::resilience::Expiry;
use crate::stage::{self, Driven, Wakes, frame, millis, secs};
use crate::telemetry::{BreakerScope, Metrics};

/// Kernel buffers that are soon full.
const SMALL: usize = 4 * 1024;

/// One raw client.
struct Client {
    socket: Option<UnixStream>,
    heard: Vec<u8>,
    is_ended: bool,
    handle: Arc<Handle>,
    /// Its place in a quota.
    held: Weak<()>,
}

impl Client {
    fn say(&mut self, first: u8, payload: &[u8]) {
        let Some(socket) = &mut self.socket else { return };
        // A shard that has let it go does not hear it.
        let _ = socket.write_all(&frame(first, payload, true));
    }

    /// Whole frames that have come since the last call.
    fn hear(&mut self) -> Vec<(u8, Vec<u8>)> {
        if let Some(socket) = &mut self.socket {
            self.is_ended |= stage::read_all(socket, &mut self.heard);
        }
        stage::take_frames(&mut self.heard, Some(false))
    }

    /// Messages that have come since the last call, as text.
    fn messages(&mut self) -> Vec<String> {
        let is_message = |first: u8| first & 0x0f < 3;
        let texts = self.hear().into_iter().filter(|(first, _)| is_message(*first));
        texts.map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
    }

    /// The code of the Close that has come last.
    fn close_code(&mut self) -> Option<u16> {
        stage::close_code(&self.hear())
    }
}

/// A shard, its log, and whoever came.
struct Stage {
    writer: Writer,
    log: Arc<Log>,
    shard_handle: Arc<ShardHandle>,
    fanout: Arc<Fanout>,
    shard: Option<Pin<Box<Shard>>>,
    wakes: Arc<Wakes>,
    polls: usize,
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
    budget: Arc<Budget>,
    client_memory: Arc<ClientMemory>,
    from_clients: Option<mpsc::Receiver<(Kind, Bytes)>>,
    written: u64,
    /// When the credentials of clients end, counted from their coming.
    expires: Option<Duration>,
    /// Of the next client.
    hello: Cell<Option<FeedHello>>,
    /// The next client is sent an event stream.
    events: Cell<Option<EventsWire>>,
    /// For how long the machine is suspended then: the wall clock is ahead by so much.
    suspended: Duration,
}

impl Stage {
    fn open(settings: &str) -> Self {
        Self::with(settings, |_| FromClients::Drop)
    }

    fn with(
        settings: &str,
        from_clients: impl FnOnce(&mut Option<mpsc::Receiver<(Kind, Bytes)>>) -> FromClients,
    ) -> Self {
        let config = Config::from_yaml(settings).unwrap();
        let budget = Arc::new(Budget::new(config.max_buffered));
        let client_memory = ClientMemory::new(Budget::half_of(&budget));
        Self::sharing(settings, from_clients, budget, client_memory)
    }

    /// Another feed of the same process.
    fn beside(&self, settings: &str) -> Self {
        let client_memory = Arc::clone(&self.client_memory);
        Self::sharing(settings, |_| FromClients::Drop, Arc::clone(&self.budget), client_memory)
    }

    fn sharing(
        settings: &str,
        from_clients: impl FnOnce(&mut Option<mpsc::Receiver<(Kind, Bytes)>>) -> FromClients,
        budget: Arc<Budget>,
        client_memory: Arc<ClientMemory>,
    ) -> Self {
        let config = Config::from_yaml(settings).unwrap();
        let policy = Arc::clone(&config.routes.last().unwrap().policy);
        let metrics = Metrics::new("outrigger").unwrap();
        let logs = Logs::new(Arc::clone(&budget), Arc::clone(&metrics));
        let writer = Log::new(&policy.history, &logs);
        let log = Arc::clone(writer.log());
        let settings = Arc::new(Settings {
            policy: Arc::clone(&policy),
            metrics: metrics.feeds("r"),
            recipients: metrics.breaker(BreakerScope::Recipient, "r"),
            channels: metrics.breaker(BreakerScope::Channel, "r"),
            client_memory: Arc::clone(&client_memory),
            process: Arc::clone(&metrics),
            shards: 1,
            workers: Workers::default(),
        });
        let mut receiver = None;
        let fanout = Fanout::new(Arc::clone(&log), from_clients(&mut receiver), settings);
        let shard_handle = ShardHandle::new(None);
        let shard = Shard::new(Arc::clone(&shard_handle), Arc::clone(fanout.shared()), log.reader(), 1);
        Self {
            writer,
            log,
            shard_handle,
            fanout,
            shard: Some(Box::pin(shard)),
            wakes: Wakes::woken(),
            polls: 0,
            policy,
            registry: Registry::new(Arc::clone(&metrics), LogConnections::Off),
            metrics,
            budget,
            client_memory,
            from_clients: receiver,
            written: 0,
            expires: None,
            hello: Cell::default(),
            events: Cell::default(),
            suspended: Duration::ZERO,
        }
    }

    /// A client that has just come. With `is_narrow` its socket is soon full.
    fn come(&mut self, is_narrow: bool) -> Client {
        self.come_as(is_narrow, None, false)
    }

    /// A client whose socket keeps each write apart: one read takes what one write wrote.
    fn come_by_packets(&mut self) -> Client {
        let (ours, theirs) = socket2::Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        self.come_over(OwnedFd::from(ours).into(), OwnedFd::from(theirs).into(), None, false)
    }

    fn come_as(&mut self, is_narrow: bool, user: Option<&str>, has_deflate: bool) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        if is_narrow {
            for socket in [&ours, &theirs] {
                SockRef::from(socket).set_send_buffer_size(SMALL).unwrap();
            }
        }
        self.come_over(ours, theirs, user, has_deflate)
    }

    fn come_over(
        &mut self,
        ours: UnixStream,
        theirs: UnixStream,
        user: Option<&str>,
        has_deflate: bool,
    ) -> Client {
        let slot = Arc::new(());
        let held = Arc::downgrade(&slot);
        let arrival = self.arrive(ours, &theirs, user, has_deflate, Box::new(slot));
        let handle = self.newest();
        self.fanout.shared().on_client(true);
        self.shard_handle.join(arrival, self.log.join(self.policy.history.on_join)).expect("it is there");
        Client { socket: Some(theirs), heard: Vec::new(), is_ended: false, handle, held }
    }

    /// A client that comes to the feed as all do, and is served by a task of the runtime.
    fn come_by_itself(&mut self, held: Box<dyn Any + Send + Sync>) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let arrival = self.arrive(ours, &theirs, None, false, held);
        let handle = self.newest();
        self.fanout.join(arrival, self.log.join(self.policy.history.on_join));
        Client { socket: Some(theirs), heard: Vec::new(), is_ended: false, handle, held: Weak::new() }
    }

    fn newest(&self) -> Arc<Handle> {
        self.registry.all().into_iter().max_by_key(|handle| handle.id).unwrap()
    }

    fn arrive(
        &self,
        ours: UnixStream,
        theirs: &UnixStream,
        user: Option<&str>,
        has_deflate: bool,
        held: Box<dyn Any + Send + Sync>,
    ) -> Arrival {
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let about = ConnectionInfo {
            client: None,
            user: user.map(Arc::from),
            channel: Some("c".into()),
            request_id: "".into(),
            route: self.metrics.route("r"),
        };
        let guard = self.registry.enter(about);
        let stream = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
        let expires = self
            .expires
            .and_then(|left| Expiry::after(left, Instant::now(), SystemTime::now() - self.suspended));
        let connection = Connection { guard, expires, held: Some(held) };
        let wire = match self.events.take() {
            Some(wire) => Wire::Events(Box::new(wire)),
            None => Wire::WebSocket { has_deflate, hello: self.hello.take().map(Box::new) },
        };
        Arrival { transport: Transport { stream, read_ahead: Bytes::new() }, wire, connection }
    }

    /// Writes a text into the log.
    fn write(&mut self, text: &str) -> u64 {
        self.write_draft(text, false, None)
    }

    fn write_draft(&mut self, text: &str, is_critical: bool, to: Option<&str>) -> u64 {
        self.written += 1;
        let sequence = self.writer.append(NewEntry {
            message: Message::from_frame(Kind::Text, frame(0x81, text.as_bytes(), false).into()),
            deflated: None,
            is_critical,
            key: None,
            to: to.map(Arc::from),
        });
        self.writer.wake();
        sequence
    }

    /// Writes `n` messages of about `size` bytes, each with its number in front.
    fn flood(&mut self, n: usize, size: usize) {
        for _ in 0..n {
            let text = format!("{:08} {}", self.written + 1, "x".repeat(size));
            self.write(&text);
        }
    }

    /// All samples of a counter or gauge, added up.
    fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let Some(family) = families.iter().find(|family| family.name() == format!("outrigger_{name}")) else {
            return 0.0;
        };
        let value = |metric: &prometheus::proto::Metric| {
            metric.get_counter().get_value() + metric.get_gauge().get_value()
        };
        family.get_metric().iter().map(value).sum()
    }

    /// How many connections ended for which reasons.
    fn ends(&self) -> HashMap<String, u64> {
        let families = self.registry.gather();
        let family =
            families.iter().find(|family| family.name() == "outrigger_disconnections_total").unwrap();
        let reason = |metric: &prometheus::proto::Metric| {
            let reason = metric.get_label().iter().find(|label| label.name() == "reason").unwrap();
            (reason.value().to_owned(), metric.get_counter().get_value() as u64)
        };
        family.get_metric().iter().map(reason).filter(|(_, n)| *n > 0).collect()
    }
}

impl Driven for Stage {
    /// Each of many clients may be woken.
    const SPINS: usize = 2 * stage::SPINS;

    fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) {
        if let Some(shard) = &mut self.shard {
            self.polls += 1;
            // As it is spawned: the runtime's budget for this test's task is none of its business.
            let mut poll = pin!(unconstrained(shard.as_mut()));
            if poll.as_mut().poll(cx) == Poll::Ready(()) {
                self.shard = None;
            }
        }
    }

    fn armed(&self) -> Option<Instant> {
        self.shard.as_ref().and_then(|shard| shard.next_moment())
    }
}
