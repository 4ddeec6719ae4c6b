use std::task::Waker;

use bytes::Bytes;

use super::*;
use crate::connections::handle::Pending;
use crate::connections::{Admitted, Command, ConnectionPermit, PermitHolder, Via};
use crate::frame::CloseCode;
use crate::telemetry::RouteMetrics;

fn registry() -> (Arc<Registry>, Arc<RouteMetrics>) {
    let metrics = Metrics::new("outrigger").unwrap();
    let route = metrics.route("r");
    (Registry::new(metrics, LogConnections::Off), route)
}

fn enter(registry: &Arc<Registry>, route: &Arc<RouteMetrics>) -> ConnectionGuard {
    registry.enter(ConnectionInfo {
        client: None,
        user: None,
        channel: None,
        request_id: "x".into(),
        route: Arc::clone(route),
    })
}

#[test]
fn how_long_a_client_was_there_is_kept_in_a_few_bytes() {
    for millis in [0, 1, 255, 256, 65_536, 4_294_967_296, (1 << 48) - 1] {
        assert_eq!(DurationMillis::of(Duration::from_millis(millis)).millis(), millis);
    }
    assert_eq!(DurationMillis::of(Duration::MAX).millis(), (1 << 48) - 1);
    assert_eq!(size_of::<ConnectionGuard>(), 3 * size_of::<usize>(), "each connection has one");
}

#[test]
fn a_connection_leaves_whatever_ends_it_and_its_counts_stay() {
    let (registry, route) = registry();
    let mut orderly = enter(&registry, &route);
    let dropped = enter(&registry, &route);
    orderly.handle().on_in(2, 20);
    dropped.handle().on_in(1, 10);
    dropped.handle().set_buffered(7);
    registry.gather();
    assert_eq!((registry.len(), route.clients.get()), (2, 2));
    assert_eq!(
        (registry.metrics.connections.messages_in.get(), registry.metrics.connections.buffered.get()),
        (3, 7)
    );
    orderly.leave(EndReport { reason: Reason::ClientClose, close: None, fault: None });
    drop(orderly);
    drop(dropped);
    registry.gather();
    assert_eq!((registry.len(), route.clients.get()), (0, 0));
    assert_eq!(
        (registry.metrics.connections.messages_in.get(), registry.metrics.connections.bytes_in.get()),
        (3, 30)
    );
    assert_eq!((route.connections.get(), route.duration.get_sample_count()), (2, 2), "each ended once");
}

#[test]
fn who_is_gone_counts_no_more_and_what_its_server_still_costs_is_added_up() {
    let (registry, route) = registry();
    let mut live = enter(&registry, &route);
    live.handle().on_in(1, 10);
    live.client_gone();
    assert_eq!((registry.clients(), route.clients.get(), registry.len()), (0, 0, 1));
    assert_eq!(route.duration.get_sample_count(), 0, "why is not known");
    let ended = EndReport { reason: Reason::ClientLost, close: None, fault: None };
    live.ended(ended);
    live.ended(ended);
    assert_eq!((route.duration.get_sample_count(), registry.len()), (1, 1));
    live.handle().on_discarded(5);
    registry.gather();
    assert_eq!(
        (registry.metrics.connections.bytes_in.get(), registry.metrics.connections.discarded.get()),
        (10, 5)
    );
    live.leave(ended);
    live.leave(ended);
    drop(live);
    registry.gather();
    assert_eq!((registry.len(), registry.clients(), route.clients.get()), (0, 0, 0));
    assert_eq!(
        (registry.metrics.connections.bytes_in.get(), registry.metrics.connections.discarded.get()),
        (10, 5)
    );
    assert_eq!(route.duration.get_sample_count(), 1, "once");
}

#[test]
fn the_newest_date_is_taken_once_and_a_cut_after_it_whichever_was_sent_first() {
    let (registry, route) = registry();
    let live = enter(&registry, &route);
    let all = registry.all();
    let close_at = |code| Command::CloseAt { at: all[0].since, code: CloseCode(code) };
    for sent in [
        [close_at(1001), close_at(1012), Command::Cut],
        [close_at(1001), Command::Cut, close_at(1012)],
        [Command::Cut, close_at(1001), close_at(1012)],
    ] {
        sent.into_iter().for_each(|command| all[0].send(command));
        assert_eq!(
            live.handle().take_commands(),
            [None, Some(close_at(1012)), Some(Command::Cut)],
            "{sent:?}"
        );
        assert_eq!(live.handle().take_commands(), [None; 3]);
    }
}

#[test]
fn who_is_replaced_hears_so_first_whatever_else_was_asked() {
    let (registry, route) = registry();
    let live = enter(&registry, &route);
    let close_at = Command::CloseAt { at: live.handle().since, code: CloseCode(1012) };
    for order in [[Command::Replace, close_at, Command::Cut], [Command::Cut, close_at, Command::Replace]] {
        for command in order {
            live.handle().send(command);
        }
        let taken = live.handle().take_commands();
        assert_eq!(taken, [Some(Command::Replace), Some(close_at), Some(Command::Cut)]);
        assert_eq!(live.handle().take_commands(), [None; 3]);
    }
}

#[test]
fn every_command_wakes_the_connection_and_not_the_first_only() {
    struct Woken(AtomicU64);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let (registry, route) = registry();
    let live = enter(&registry, &route);
    let woken = Arc::new(Woken(AtomicU64::new(0)));
    live.handle().wake_with(&Waker::from(Arc::clone(&woken)));
    for sent in 1..=3 {
        live.handle().send(Command::Cut);
        assert_eq!(woken.0.load(Relaxed), sent);
        assert_eq!(live.handle().take_commands(), [None, None, Some(Command::Cut)]);
    }
}

#[test]
fn neither_a_command_nor_an_injection_is_lost_to_the_other() {
    let (registry, route) = registry();
    let live = enter(&registry, &route);
    let handle = live.handle();
    handle.accept_injections(100);
    for first in [true, false] {
        if first {
            handle.send(Command::Cut);
        }
        handle.inject(&Bytes::from_static(b"frame")).unwrap();
        if !first {
            handle.send(Command::Cut);
        }
        assert_eq!(
            handle.take_pending(),
            Pending { commands: [None, None, Some(Command::Cut)], has_injections: true }
        );
        assert_eq!(handle.take_pending(), Pending::default(), "told once");
        assert_eq!(handle.next_injection().as_deref(), Some(&b"frame"[..]), "but it stays");
        assert_eq!(handle.next_injection(), None);
    }
    handle.inject(&Bytes::from_static(b"frame")).unwrap();
    assert_eq!(handle.take_commands(), [None; 3]);
    assert!(handle.next_injection().is_some());
}

#[test]
fn an_injection_wakes_the_connection_and_what_waits_at_its_end_is_counted() {
    struct Woken(AtomicU64);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let (registry, route) = registry();
    let live = enter(&registry, &route);
    let handle = Arc::clone(&registry.all()[0]);
    let woken = Arc::new(Woken(AtomicU64::new(0)));
    handle.wake_with(&Waker::from(Arc::clone(&woken)));
    let frame = Bytes::from_static(b"frame");
    assert_eq!(handle.inject(&frame), Err(Injection::Ended), "nobody has said that they are taken");
    assert_eq!(woken.0.load(Relaxed), 0);
    handle.accept_injections(100);
    for n in 1..=3 {
        handle.inject(&frame).unwrap();
        assert_eq!(woken.0.load(Relaxed), n);
    }
    drop(live);
    assert_eq!(handle.inject(&frame), Err(Injection::Ended));
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == "outrigger_injections_total").unwrap();
    let ended = family.get_metric().iter().find(|m| m.get_label()[0].value() == "ended").unwrap();
    assert_eq!(ended.get_counter().get_value(), 3.0);
}

#[derive(Debug, Default)]
struct Holder(Mutex<Vec<Command>>);

impl PermitHolder for Holder {
    fn command(&self, command: Command) {
        self.0.lock().push(command);
    }
}

/// Has its holder replaced as soon as it is held, and tells which connection that was.
#[derive(Debug)]
struct Permit(Arc<AtomicU64>);

impl ConnectionPermit for Permit {
    fn on_open(&mut self, id: u64, holder: Arc<dyn PermitHolder>) {
        self.0.store(id, Relaxed);
        holder.command(Command::Replace);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}

#[test]
fn a_permit_belongs_to_a_connection_or_to_what_outlives_it() {
    let (registry, route) = registry();
    let held_by = Arc::new(AtomicU64::new(0));
    let admitted = || {
        let info = ConnectionInfo {
            client: None,
            user: None,
            channel: None,
            request_id: "x".into(),
            route: Arc::clone(&route),
        };
        let permit = Some(Box::new(Permit(Arc::clone(&held_by))) as Box<dyn ConnectionPermit>);
        Admitted { info, expires: None, permit }
    };
    let connection = admitted().open(&registry);
    assert_eq!(held_by.load(Relaxed), connection.guard.handle().id);
    assert_eq!(connection.guard.handle().take_commands()[0], Some(Command::Replace));
    drop(connection);
    assert_eq!(held_by.load(Relaxed), 0, "it is given back with its connection");

    let holder = Arc::new(Holder::default());
    let (connection, held) = admitted().open_for(holder.clone(), &registry, Via::WebSocket);
    assert_eq!(held_by.load(Relaxed), connection.guard.handle().id);
    assert_eq!(connection.guard.handle().take_commands(), [None; 3]);
    assert_eq!(*holder.0.lock(), [Command::Replace]);
    drop(connection);
    assert_ne!(held_by.load(Relaxed), 0, "the client may come back");
    drop(held);
    assert_eq!(held_by.load(Relaxed), 0);
}
