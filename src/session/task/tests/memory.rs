//! What an idle session is made of.

use super::*;
use crate::log::Log;
use crate::session::task::control::Control;
use crate::session::task::resumable::Resumable;

/// Each step of the allocator that one of these grows by is paid for by every session there is.
#[test]
fn what_a_session_at_rest_is_made_of_stays_small() {
    let reference_counts = 2 * size_of::<usize>();
    let sizes = [
        ("task", size_of::<Task>(), 1240),
        ("uplink", size_of::<Uplink>(), 528),
        ("log", size_of::<Log>() + reference_counts, 80),
        ("client's link, in the task", size_of::<Option<Link>>(), 280),
        ("outbox, in the task", size_of::<Outbox>(), 240),
        ("with a ticket: control", size_of::<Control>(), 128),
        ("with a ticket: resumable", size_of::<Resumable>(), 104),
        ("with a ticket: handle", size_of::<Handle>() + reference_counts, 208),
        ("with a greeting", size_of::<Greetings>(), 128),
    ];
    let beyond: Vec<_> = sizes.into_iter().filter(|(_, size, most)| size > most).collect();
    assert!(beyond.is_empty(), "{beyond:?}");
}

/// Either end begins a message and does not end it. Nobody answers a Close.
#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_end_is_no_way_around_the_memory_of_the_process() {
    for is_client in [true, false] {
        let (mut stage, mut client, mut server) = Stage::plain("{heartbeat: null}").await;
        let budget = Arc::clone(&stage.budget);
        let mut others = budget.share();
        let kept = budget.used();
        let (mut rest, mut most) = (8 << 20, 0);
        let end = if is_client { &mut client } else { &mut server };
        let first = end.frame(0x02, &vec![b'x'; rest]);
        let mut sent = 0;
        while rest > 0 && stage.task.is_some() {
            let count = end.write(&first[sent..first.len().min(sent + 100_000)]);
            sent += count;
            rest = rest.saturating_sub(count.max(1));
            stage.turn().await;
            if sent > 500_000 {
                others.set(budget.limit());
            }
            most = most.max(budget.used() - others.held());
            if count == 0 {
                break;
            }
        }
        assert!(most < 4 << 20, "{most}");
        stage.pass(millis(50)).await;
        assert!(budget.used() - others.held() <= kept, "{} is held: {}", budget.used(), stage.state());
        assert_eq!(stage.ends(SessionEnd::Memory), (1, 0), "client: {is_client}");
        stage.pass(secs(6)).await;
        drop(others);
        stage.is_over();
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_owns_no_buffer() {
    let policy = "{heartbeat: null, session: {resume_window: 1m, greeting: [{match: {first: 1}}]}}";
    for has_ticket in [false, true] {
        let (mut stage, mut client, mut server) = Stage::open(policy, has_ticket, WIDE).await;
        let hello = has_ticket.then(|| tickets::Hello::of(&client.hear()[0]));
        client.text("greeting");
        for n in 0..20 {
            client.text(&"c".repeat(n * 500));
            server.text(&"s".repeat(n * 500));
        }
        for _ in 0..20 {
            stage.settle().await;
            for (first, payload) in server.hear() {
                if first == 0x89 {
                    server.say(0x8a, &payload);
                }
            }
            client.hear();
            stage.pass(millis(300)).await;
        }
        if let Some(hello) = hello {
            client.say(0x81, &hello.control(r#"{"seen":20}"#));
        }
        stage.settle().await;
        let task = stage.task();
        let uplink = task.uplink.as_ref().unwrap();
        let held = (task.client.as_ref().unwrap().held(), uplink.buffered(), task.outbox.held());
        assert_eq!(held, (0, 0, 0), "client, server, outbox: {}", stage.state());
        assert!(task.outage.is_none() && task.parting.is_none());
        let kept = task.opening.size() + task.greetings.as_ref().unwrap().held();
        assert_eq!(stage.budget.used(), kept, "the handshake and the greeting, for the next server");
    }
}
