use std::io::Read;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use http::HeaderMap;

use super::super::request::{Attach, NotResumed, Request, Wire};
use super::*;
use crate::config::LogConnections;
use crate::connections::{self, Command, Connection, ConnectionInfo, PermitHolder};
use crate::net::{Stream, Transport};
use crate::resilience::Caller;
use crate::stage::secs;
use crate::telemetry::Metrics;
use crate::upstream::opening::Opening;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct World {
    metrics: Arc<Metrics>,
    sessions: Arc<Registry>,
}

impl World {
    fn new() -> Self {
        Self { metrics: Metrics::new("outrigger").unwrap(), sessions: Registry::new() }
    }

    fn gate(&self, route: &str) -> Arc<Gate> {
        self.sessions.gate(route, None, self.metrics.sessions(route))
    }

    fn outcome(&self, outcome: ResumeOutcome) -> u64 {
        self.metrics.sessions("r").resumes.get(outcome)
    }

    fn enter(&self, route: &str) -> SessionGuard {
        self.enter_of(Caller(1), route)
    }

    fn enter_of(&self, caller: Caller, route: &str) -> SessionGuard {
        let protocol = Some(http::HeaderValue::from_static("chat"));
        let user = Some(Arc::from("ann"));
        self.sessions.enter(Identity { route: route.into(), user, caller, path: "/ws".into(), protocol })
    }
}

fn next(handle: &Handle) -> Option<Request> {
    handle.next_request()
}

fn ended(handle: &Handle) -> Option<EndRequest> {
    match next(handle) {
        Some(Request::End(why)) => Some(why),
        other => {
            assert!(other.is_none(), "{other:?}");
            None
        }
    }
}

#[test]
fn a_ticket_opens_its_session_until_it_is_used_or_the_session_is_gone() {
    let world = World::new();
    let gate = world.gate("r");
    let session = world.enter("r");
    let (first, first_ticket) = gate.issue(session.handle()).unwrap();
    let grant = gate.check(&first_ticket).unwrap();
    assert_eq!(grant, ResumeGrant { session: session.handle().id(), generation: first });
    // The client comes back with it twice: the ticket of the first time was lost.
    assert!(session.handle().prove(first));
    let (_, lost) = gate.issue(session.handle()).unwrap();
    assert!(gate.check(&lost).is_ok());
    assert!(session.handle().prove(first));
    let (third, third_ticket) = gate.issue(session.handle()).unwrap();
    assert_eq!(gate.check(&lost), Err(None));
    assert!(gate.check(&first_ticket).is_ok());
    assert!(session.handle().prove(third));
    assert_eq!(gate.check(&first_ticket), Err(None));
    assert_eq!(world.outcome(ResumeOutcome::Used), 2);

    session.end(SessionEnd::Window, 12);
    assert_eq!(gate.check(&third_ticket), Err(Some(EndedSession { received: 12, why: "window" })));
    let lost = world.enter("r");
    let (_, ticket) = gate.issue(lost.handle()).unwrap();
    // Its task has panicked: what it had received nobody knows.
    drop(lost);
    assert_eq!(gate.check(&ticket), Err(None));
    assert_eq!(world.outcome(ResumeOutcome::Gone), 2);
    assert!(world.sessions.is_empty());
}

#[test]
fn a_ticket_that_is_none_of_the_route_is_refused_without_a_look_up() {
    let world = World::new();
    let session = world.enter("r");
    let (_, ticket) = world.gate("r").issue(session.handle()).unwrap();
    assert!(world.gate("r").check(&ticket).is_ok(), "after a reload too");
    // Held during the checks, so that a look-up would wait for ever.
    let all: Vec<_> = world.sessions.shards.iter().map(|shard| shard.lock()).collect();
    let graves = world.sessions.graves.lock();
    assert_eq!(world.gate("other").check(&ticket), Err(None));
    let mut text: Vec<u8> = ticket.as_str().into();
    for at in 0..text.len() {
        let before = text[at];
        text[at] = if before == b'A' { b'B' } else { b'A' };
        assert_eq!(world.gate("r").check(&TicketText::read(&text).unwrap()), Err(None), "{at}");
        text[at] = before;
    }
    world.gate("r").on_malformed();
    drop((all, graves));
    assert_eq!(world.outcome(ResumeOutcome::Forged), 61);
    let forged_elsewhere = world.metrics.sessions("other").resumes.get(ResumeOutcome::Forged);
    assert_eq!(forged_elsewhere, 1, "the name of the route is signed");
}

#[test]
fn replicas_with_one_key_tell_each_others_tickets_from_forged_ones() {
    let keys = TokenKeys::of("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
    let (here, there) = (World::new(), World::new());
    let gate = |world: &World| world.sessions.gate("r", Some(&keys), world.metrics.sessions("r"));
    let session = here.enter("r");
    let (_, ticket) = gate(&here).issue(session.handle()).unwrap();
    assert!(gate(&here).check(&ticket).is_ok());
    assert_eq!(gate(&there).check(&ticket), Err(None));
    assert_eq!((there.outcome(ResumeOutcome::Elsewhere), there.outcome(ResumeOutcome::Forged)), (1, 0));
    assert_eq!(there.gate("r").check(&ticket), Err(None), "with a key of its own it cannot tell");
    assert_eq!(there.outcome(ResumeOutcome::Forged), 1);
}

#[test]
fn a_session_is_its_users_on_its_path_with_its_subprotocol() {
    let world = World::new();
    let (gate, session) = (world.gate("r"), world.enter("r"));
    let (_, ticket) = gate.issue(session.handle()).unwrap();
    let grant = gate.check(&ticket).unwrap();
    assert!(gate.is_owner(&grant, Some("ann"), "/ws"));
    for (user, path) in [(Some("bob"), "/ws"), (None, "/ws"), (Some("ann"), "/ws/"), (Some("ann"), "/other")]
    {
        assert!(!gate.is_owner(&grant, user, path), "{user:?} {path}");
    }
    assert_eq!(world.outcome(ResumeOutcome::Foreign), 4);
    let offers = |offer: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("sec-websocket-protocol", offer.parse().unwrap());
        session.handle().is_offered_by(&headers)
    };
    assert!(offers("soap, chat") && !offers("soap") && !offers("Chat"));
    assert!(!session.handle().is_offered_by(&HeaderMap::new()));
}

#[test]
fn who_goes_away_often_ends_sessions_of_its_own() {
    let world = World::new();
    let mut victim = world.enter_of(Caller(1), "r");
    victim.detach(3);
    let mut sessions: Vec<SessionGuard> = (0..9).map(|_| world.enter_of(Caller(2), "r")).collect();
    for session in &mut sessions {
        session.detach(3);
    }
    assert_eq!(ended(victim.handle()), None);
    let stay = sessions.iter().filter(|session| ended(session.handle()).is_none()).count();
    assert_eq!((stay, victim.detached.len()), (2, 3));
}

#[test]
fn beyond_the_bound_the_session_without_its_client_for_longest_goes() {
    let world = World::new();
    let mut sessions: Vec<SessionGuard> = (0..5).map(|_| world.enter("r")).collect();
    let mut other = world.enter("other");
    other.detach(3);
    for session in &mut sessions[..3] {
        session.detach(3);
    }
    // The first one comes back, and goes again: it is the last now.
    sessions[0].attach();
    sessions[0].detach(3);
    assert!(sessions.iter().all(|session| ended(session.handle()).is_none()));
    sessions[3].detach(3);
    let evicted =
        |sessions: &[SessionGuard]| Vec::from_iter(sessions.iter().map(|session| ended(session.handle())));
    assert_eq!(evicted(&sessions), [None, Some(EndRequest::Evicted), None, None, None]);
    sessions[4].detach(3);
    assert_eq!(evicted(&sessions), [None, None, Some(EndRequest::Evicted), None, None]);
    assert_eq!((sessions[0].detached.len(), ended(other.handle())), (3, None));
    // Those that were asked to go give back what they do not have any more.
    sessions.drain(1..3);
    assert_eq!(sessions[0].detached.len(), 3);
    // A reload that allows fewer of them.
    sessions[1].attach();
    sessions[1].detach(1);
    assert_eq!(sessions[0].detached.len(), 2, "one for each that comes");

    world.sessions.end_detached();
    let drained = Some(EndRequest::Drained);
    assert_eq!(evicted(&sessions)[1..], [drained, drained]);
    assert_eq!(ended(other.handle()), drained);
    drop(sessions);
    assert_eq!(world.sessions.len(), 1);
}

#[test]
fn a_route_is_forgotten_with_its_last_session() {
    let world = World::new();
    for n in 0..100 {
        drop(world.enter(&format!("route {n}")));
    }
    let kept = world.enter("kept");
    let _also = world.enter("also");
    assert_eq!(world.sessions.detached.lock().len(), 2);
    assert!(Arc::ptr_eq(&kept.detached, &world.enter("kept").detached));
}

#[test]
fn requests_are_taken_in_order_and_an_end_before_all_of_them() {
    let world = World::new();
    let session = world.enter("r");
    let handle = session.handle();
    let wakes = Arc::new(Wakes::default());
    handle.wake_with(&Waker::from(Arc::clone(&wakes)));
    let mut cx = Context::from_waker(Waker::noop());
    let (mut first, mut second) = (pin!(handle.ask(1, 5)), pin!(handle.ask(1, 6)));
    assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
    handle.end(EndRequest::Evicted);
    handle.command(Command::Replace);
    handle.end(EndRequest::Drained);
    assert_eq!(wakes.0.load(SeqCst), 5);
    let taken = next(handle);
    assert!(matches!(taken, Some(Request::End(EndRequest::Replaced))), "what concerns it wherever it is");
    let Some(Request::Ask(ask)) = next(handle) else { panic!() };
    assert_eq!(ask.seen, 5);
    ask.answer.send(Ok(())).unwrap();
    assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    handle.command(Command::Replace);
    handle.command(Command::Cut);
    assert!(
        matches!(next(handle), Some(Request::End(EndRequest::Cut))),
        "but for the one that waits for nobody"
    );
    let Some(Request::Ask(ask)) = next(handle) else { panic!() };
    assert_eq!(ask.seen, 6);
    drop(ask);
    assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(Err(NotResumed::Gone)));
    assert!(next(handle).is_none());
}

#[test]
fn an_inbox_is_bounded_and_whoever_waits_hears_of_its_end() {
    let world = World::new();
    let session = world.enter("r");
    let handle = Arc::clone(session.handle());
    let mut cx = Context::from_waker(Waker::noop());
    let mut asks: Vec<_> = (0..16).map(|seen| Box::pin(handle.ask(1, seen))).collect();
    assert!(asks.iter_mut().all(|ask| ask.as_mut().poll(&mut cx).is_pending()));
    assert_eq!(pin!(handle.ask(1, 16)).poll(&mut cx), Poll::Ready(Err(NotResumed::Busy)));
    drop(session);
    for ask in &mut asks {
        assert_eq!(ask.as_mut().poll(&mut cx), Poll::Ready(Err(NotResumed::Gone)));
    }
    assert_eq!(pin!(handle.ask(1, 0)).poll(&mut cx), Poll::Ready(Err(NotResumed::Gone)));
    handle.end(EndRequest::Cut);
    assert!(next(&handle).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_grave_is_forgotten_after_two_minutes() {
    let world = World::new();
    let (gate, session) = (world.gate("r"), world.enter("r"));
    let (_, ticket) = gate.issue(session.handle()).unwrap();
    session.end(SessionEnd::Evicted, 3);
    tokio::time::advance(secs(119)).await;
    assert_eq!(gate.check(&ticket), Err(Some(EndedSession { received: 3, why: "evicted" })));
    tokio::time::advance(secs(1)).await;
    assert_eq!(gate.check(&ticket), Err(None));
}

impl World {
    /// A client that comes back with its first ticket, having seen so much; and the other end of its socket.
    fn client(&self, seen: u64) -> (Box<Attach>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
        let connections = connections::Registry::new(Arc::clone(&self.metrics), LogConnections::Off);
        let guard = connections.enter(ConnectionInfo {
            client: None,
            user: None,
            channel: None,
            request_id: "x".into(),
            route: self.metrics.route("r"),
        });
        let attach = Attach {
            generation: 1,
            seen,
            transport: Transport { stream, read_ahead: bytes::Bytes::new() },
            wire: Wire::WebSocket { has_deflate: false },
            connection: Connection { guard, expires: None, held: None },
            nonce: None,
            opening: Opening::of_one_client(&"/ws".parse().unwrap(), HeaderMap::new()),
            keys: Arc::new(TicketKeys::random()),
        };
        (Box::new(attach), theirs)
    }
}

#[tokio::test]
async fn of_clients_that_attach_at_the_same_moment_each_has_its_place_and_none_is_left_hanging() {
    let world = World::new();
    let session = world.enter("r");
    let handle = Arc::clone(session.handle());
    let (mut attaching, mut sockets) = (Vec::new(), Vec::new());
    for seen in 0..16 {
        let (attach, socket) = world.client(seen);
        attaching.push(handle.attach(attach));
        sockets.push(socket);
    }
    let (attach, _socket) = world.client(16);
    let back = handle.attach(attach).returned().await;
    assert_eq!(back.expect("there is no room").seen, 16, "it is handed back, to be closed with a word");
    for seen in 0..3 {
        let Some(Request::Attach(attach, _)) = next(&handle) else { panic!() };
        assert_eq!(attach.seen, seen);
    }
    session.end(SessionEnd::Client, 0);
    let (attach, socket) = world.client(17);
    attaching.push(handle.attach(attach));
    sockets.push(socket);
    // Those that waited are handed back when the session ends, and so is who comes later.
    for (nth, attaching) in attaching.into_iter().enumerate() {
        let back = attaching.returned().await.map(|attach| attach.seen);
        let expected = if nth == 16 { 17 } else { nth as u64 };
        assert_eq!(back, (nth >= 3).then_some(expected));
    }
    for socket in &mut sockets {
        assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
