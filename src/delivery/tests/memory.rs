//! Clients that hold more than the memory of the process allows, on several feeds.

use super::*;

/// Of which clients of feeds may hold half.
const MEMORY: &str = "memory: {max_buffered: 1MiB}\npolicy: {heartbeat: null, history: {messages: 4}, \
                      delivery: {stall_timeout: 10m, max_lag: {messages: 100000, bytes: 64MiB}}}";

/// Half of the memory, less a little.
const MOST: usize = 500_000;

async fn turn_both(one: &mut Stage, other: &mut Stage) {
    for _ in 0..3 {
        one.turn().await;
        other.turn().await;
    }
}

fn is_over(stage: &Stage) -> bool {
    stage.client_memory.budget().is_over()
}

#[tokio::test(start_paused = true)]
async fn the_largest_holder_of_the_process_goes_and_not_who_came_last_on_another_feed() {
    let mut big = Stage::open(MEMORY);
    let mut small = big.beside(MEMORY);
    let (_stalled, mut healthy) = (big.come(true), small.come(true));
    turn_both(&mut big, &mut small).await;
    big.flood(1, MOST);
    turn_both(&mut big, &mut small).await;
    assert_eq!((big.registry.len(), is_over(&big)), (1, false));
    // It takes what it is sent, and there is more of that than its socket has room for at once.
    let mut heard = 0;
    for _ in 0..20 {
        small.flood(1, 60_000);
        small.turn().await;
        big.turn().await;
        for _ in 0..200 {
            heard += healthy.messages().len();
            small.turn().await;
        }
    }
    assert_eq!((heard, healthy.is_ended), (20, false), "who takes what it is sent stays");
    assert_eq!(big.ends(), HashMap::from([("slow_consumer".to_owned(), 1)]));
    assert_eq!((big.metric("memory_cuts_total"), small.metric("memory_cuts_total")), (1.0, 0.0));
    assert!(!is_over(&big));
}

#[tokio::test(start_paused = true)]
async fn a_feed_on_which_nothing_happens_gives_when_another_one_needs_it_or_the_bound_is_lowered() {
    let mut quiet = Stage::open(MEMORY);
    let mut busy = quiet.beside(MEMORY);
    let _stuck: Vec<_> = (0..3).map(|_| quiet.come(true)).collect();
    let _other = busy.come(true);
    turn_both(&mut quiet, &mut busy).await;
    // Each stuck in a message of its own: who comes to a feed begins with what is new.
    quiet.flood(1, MOST);
    turn_both(&mut quiet, &mut busy).await;
    let before = quiet.budget.used();
    busy.flood(1, 100_000);
    turn_both(&mut quiet, &mut busy).await;
    assert_eq!((quiet.registry.len(), busy.registry.len()), (0, 1), "the three share one message");
    assert!(quiet.budget.used() < before, "{} of {before}", quiet.budget.used());
    quiet.budget.set_limit(100_000);
    quiet.client_memory.enforce_budget();
    turn_both(&mut quiet, &mut busy).await;
    assert_eq!(busy.registry.len(), 0);
    assert_eq!(busy.metric("memory_cuts_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_go_to_the_server_is_not_kept_for_it() {
    let mut stage =
        Stage::with("policy: {heartbeat: null, delivery: {max_lag: {bytes: 1000}}}", |receiver| {
            let (sender, queue) = mpsc::channel(1000);
            *receiver = Some(queue);
            FromClients::Forward(sender)
        });
    let mut client = stage.come(false);
    stage.turn().await;
    for size in [986, 987, 10_000] {
        client.say(0x82, &vec![7; size]);
    }
    stage.turn().await;
    assert_eq!(stage.budget.used(), 986);
    assert_eq!(stage.metric("uplink_dropped_total"), 2.0);
    let queue = stage.from_clients.as_mut().unwrap();
    assert_eq!(queue.try_recv().map(|(_, payload)| payload.len()), Ok(986));
    assert!(queue.try_recv().is_err());
}

/// Each step of the allocator that one of these grows by is paid for by every client there is.
#[test]
fn what_a_client_at_rest_is_made_of_stays_small() {
    use crate::delivery::subscriber::Subscriber;
    use crate::delivery::wake_list::SubscriberWaker;
    use crate::delivery::websocket::PingScheduler;
    let reference_counts = 2 * size_of::<usize>();
    let sizes = [
        (size_of::<Subscriber>(), 384),
        (size_of::<Handle>() + reference_counts, 224),
        (size_of::<PingScheduler>(), 224),
        (size_of::<SubscriberWaker>() + reference_counts, 48),
    ];
    for (size, step) in sizes {
        assert!(size <= step, "{sizes:?}");
    }
}
