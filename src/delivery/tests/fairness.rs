//! Turns: one client that is never done, or many at once, take from the others no more than a turn each.

use super::*;
use crate::delivery::close::{CloseCause, Dismissal};
use crate::frame::CloseCode;
use crate::telemetry::{By, Reason};

/// Clients that are looked at in one poll, for whatever cause.
const LOOKS: usize = 64;

/// An empty text, as a client says it.
const EMPTY: [u8; 6] = [0x81, 0x80, 0, 0, 0, 0];

/// Writes as many packets as the socket takes, and answers how many that were.
fn stuff(client: &mut Client, packet: &[u8]) -> usize {
    let mut socket = client.socket.as_ref().unwrap();
    (0..).take_while(|_| socket.write(packet).is_ok()).count()
}

fn widen(client: &Client) {
    SockRef::from(client.socket.as_ref().unwrap()).set_send_buffer_size(1 << 20).unwrap();
}

/// One poll, after the sockets were looked at.
async fn poll_once(stage: &mut Stage) {
    tokio::task::yield_now().await;
    stage.poll();
}

/// What one read may bring beyond what its turn has left.
const READ: usize = 16 * 1024;

#[tokio::test(start_paused = true)]
async fn one_look_takes_so_many_frames_and_goes_on_in_the_next_turn() {
    let mut stage = Stage::open("policy: {heartbeat: null}");
    let mut noisy = stage.come(false);
    stage.turn().await;
    widen(&noisy);
    let said = stuff(&mut noisy, &EMPTY.repeat(100)) * 100;
    assert!(said > 20_000, "{said} frames are enough to show something");
    let mut taken = 0;
    for _ in 0..1000 {
        poll_once(&mut stage).await;
        let now = stage.metric("uplink_dropped_total") as usize;
        assert!(now - taken <= 1024 + READ / EMPTY.len(), "{} frames in one poll", now - taken);
        taken = now;
    }
    assert_eq!(taken, said, "nothing is forgotten");
}

#[tokio::test(start_paused = true)]
async fn who_fills_the_queue_to_the_server_leaves_it_to_others_for_a_while() {
    const ROOM: usize = 8;
    let forward = |said: &mut Option<mpsc::Receiver<(Kind, Bytes)>>| {
        let (tell, queue) = mpsc::channel(ROOM);
        *said = Some(queue);
        FromClients::Forward(tell)
    };
    let mut stage = Stage::with("policy: {heartbeat: null}", forward);
    let mut noisy = stage.come(false);
    let mut other = stage.come(false);
    stage.turn().await;
    widen(&noisy);
    stuff(&mut noisy, &EMPTY.repeat(100));
    let mut heard = 0;
    for round in 1..=20 {
        poll_once(&mut stage).await;
        let queue = stage.from_clients.as_mut().unwrap();
        let from_noisy = std::iter::from_fn(|| queue.try_recv().ok()).count();
        assert_eq!(from_noisy, ROOM, "it is heard again, round {round}");
        // Several turns of the shard within these milliseconds.
        for _ in 0..5 {
            other.say(0x81, b"here");
            poll_once(&mut stage).await;
            let queue = stage.from_clients.as_mut().unwrap();
            heard += std::iter::from_fn(|| queue.try_recv().ok()).filter(|(_, said)| *said == "here").count();
        }
        assert_eq!(heard, 5 * round, "round {round}");
        tokio::time::advance(Duration::from_millis(11)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_look_takes_so_many_bytes_and_goes_on_in_the_next_turn() {
    let mut stage = Stage::open("policy: {heartbeat: null}");
    let mut noisy = stage.come(false);
    stage.turn().await;
    widen(&noisy);
    const SIZE: usize = 1000;
    let packet = frame(0x82, &[7; SIZE], true).repeat(4);
    let said = stuff(&mut noisy, &packet) * 4;
    assert!(said > 150, "{said} messages are enough to show something");
    let mut taken = 0;
    for _ in 0..1000 {
        poll_once(&mut stage).await;
        let now = stage.metric("uplink_dropped_total") as usize;
        assert!((now - taken) * SIZE <= 64 * 1024, "{} messages in one poll", now - taken);
        taken = now;
    }
    assert_eq!(taken, said, "nothing is forgotten");
}

#[tokio::test(start_paused = true)]
async fn what_all_looks_of_a_turn_read_is_bounded_together() {
    let mut stage = Stage::open("policy: {heartbeat: null}");
    let mut crowd: Vec<_> = (0..60).map(|_| stage.come(false)).collect();
    stage.turn().await;
    let mut said = 0;
    for client in &mut crowd {
        said += stuff(client, &EMPTY.repeat(500)) * 500;
    }
    let mut taken = 0;
    for _ in 0..10_000 {
        poll_once(&mut stage).await;
        let now = stage.metric("uplink_dropped_total") as usize;
        assert!(now - taken <= 4096 + READ / EMPTY.len(), "{} frames in one poll", now - taken);
        taken = now;
        if taken == said {
            return;
        }
    }
    panic!("{taken} of {said} frames");
}

#[tokio::test(start_paused = true)]
async fn who_was_woken_first_is_looked_at_first() {
    let mut stage = Stage::with("policy: {heartbeat: null}", |receiver| {
        let (sender, queue) = mpsc::channel(1000);
        *receiver = Some(queue);
        FromClients::Forward(sender)
    });
    let mut clients: Vec<_> = (0..200).map(|_| stage.come(false)).collect();
    stage.turn().await;
    for (n, client) in clients.iter_mut().enumerate() {
        client.say(0x81, n.to_string().as_bytes());
    }
    stage.turn().await;
    let queue = stage.from_clients.as_mut().unwrap();
    let mut heard = Vec::new();
    while let Ok((_, payload)) = queue.try_recv() {
        heard.push(std::str::from_utf8(&payload).unwrap().parse::<usize>().unwrap());
    }
    assert_eq!(heard, (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_pass_goes_on_beside_clients_that_never_let_go() {
    let mut stage = Stage::open("policy: {heartbeat: null}");
    let mut crowd: Vec<_> = (0..3 * LOOKS).map(|_| stage.come(false)).collect();
    let mut quiet = stage.come(false);
    stage.turn().await;
    stage.write("for all");
    let mut polls = 0;
    while quiet.messages().is_empty() {
        for client in &mut crowd {
            client.say(0x81, b"noise");
        }
        poll_once(&mut stage).await;
        polls += 1;
        assert!(polls <= 4, "as many as a pass over all takes, whoever was woken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_over_and_over_stands_in_the_list_once() {
    // One that is behind is due again and again, by its own doing and by each pass.
    let mut stage = Stage::open("policy: {heartbeat: null, history: {messages: 20000, bytes: 64MiB}}");
    let mut clients: Vec<_> = (0..10).map(|_| stage.come(false)).collect();
    stage.turn().await;
    for _ in 0..50 {
        stage.flood(300, 500);
        poll_once(&mut stage).await;
        for client in &mut clients {
            client.hear();
        }
        let waiting = stage.shard.as_ref().unwrap().waiting();
        assert!(waiting <= clients.len(), "{waiting} places for {} clients", clients.len());
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_run_out_together_are_seen_to_in_turns() {
    let mut stage = Stage::open("policy: {heartbeat: {interval: 10s, timeout: 5s}}");
    let mut clients: Vec<_> = (0..5 * LOOKS).map(|_| stage.come(false)).collect();
    let mut reader = stage.come(false);
    stage.turn().await;
    // Not so late that they were to be heard first.
    tokio::time::advance(millis(10_010)).await;
    stage.write("meanwhile");
    let (mut pinged, mut polls, mut has_heard) = (0, 0, false);
    while pinged < clients.len() {
        poll_once(&mut stage).await;
        polls += 1;
        let pings = |client: &mut Client| client.hear().iter().filter(|(first, _)| *first == 0x89).count();
        let now: usize = clients.iter_mut().map(pings).sum();
        // Whoever was woken by what it is sent may be looked at beside those whose clocks have run out.
        assert!(now <= 2 * LOOKS, "{now} pings in one poll");
        pinged += now;
        has_heard |= !reader.messages().is_empty();
        assert!(polls < 6 || has_heard, "what is sent does not wait for all clocks");
        assert!(polls < 50);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_at_the_door_is_let_in_by_turns() {
    let mut stage = Stage::open("policy: {heartbeat: null, limits: {connections: 0}}");
    let mut early = stage.come(false);
    stage.turn().await;
    let crowd: Vec<_> = (0..500).map(|_| stage.come(false)).collect();
    stage.write("meanwhile");
    let mut polls = 0;
    while early.messages().is_empty() {
        let before = stage.shard.as_ref().unwrap().clients();
        poll_once(&mut stage).await;
        polls += 1;
        let seated = stage.shard.as_ref().unwrap().clients();
        assert!(seated - before <= LOOKS, "{} were let in at once", seated - before);
        assert!(polls <= 2, "whoever is there does not wait for those who come");
    }
    stage.turn().await;
    assert_eq!(stage.shard.as_ref().unwrap().clients(), crowd.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn all_are_told_in_turns_that_the_feed_is_over_whoever_comes_meanwhile() {
    let mut stage = Stage::open("policy: {heartbeat: null, close_timeout: 60s}");
    let mut clients: Vec<_> = (0..500).map(|_| stage.come(false)).collect();
    stage.turn().await;
    let over = CloseCause::new(Reason::UpstreamClose, By::Upstream, CloseCode(4001), "over");
    stage.shard_handle.close(&Arc::new(over));
    for _ in 0..3 {
        poll_once(&mut stage).await;
        clients.push(stage.come(false));
    }
    let told = clients.iter_mut().filter_map(Client::close_code).count();
    assert!(told <= 3 * LOOKS, "{told} in three turns");
    stage.turn().await;
    let rest = clients.iter_mut().filter_map(Client::close_code).count();
    assert_eq!(told + rest, clients.len(), "each once");
}

#[tokio::test(start_paused = true)]
async fn all_are_dismissed_in_turns_and_nobody_who_comes_meanwhile() {
    let mut stage = Stage::open("policy: {heartbeat: null, close_timeout: 60s}");
    let mut clients: Vec<_> = (0..500).map(|_| stage.come(false)).collect();
    stage.turn().await;
    // Places in the list that are free for whoever comes.
    clients.drain(..100);
    stage.turn().await;
    let cause = CloseCause::new(Reason::UpstreamLost, By::Proxy, CloseCode(1012), "upstream lost");
    let (cause, from) = (Arc::new(cause), Instant::now());
    stage.shard_handle.dismiss(&Arc::new(Dismissal { cause, from, over: Duration::ZERO }));
    let mut later = Vec::new();
    for _ in 0..3 {
        poll_once(&mut stage).await;
        later.push(stage.come(false));
    }
    let told = clients.iter_mut().filter_map(Client::close_code).count();
    assert!(told <= 3 * LOOKS, "{told} in three turns");
    stage.turn().await;
    let rest = clients.iter_mut().filter_map(Client::close_code).count();
    assert_eq!(told + rest, clients.len(), "each once");
    assert_eq!(later.iter_mut().filter_map(Client::close_code).count(), 0);
    assert_eq!(stage.shard.as_ref().unwrap().clients(), clients.len() + later.len(), "they were let in");
}

#[tokio::test(start_paused = true)]
async fn control_frames_beyond_their_rate_close_their_client_alone() {
    let mut stage = Stage::open("policy: {heartbeat: null, limits: {control_rate: {rate: 10/s, burst: 20}}}");
    let (mut noisy, mut quiet) = (stage.come(false), stage.come(false));
    stage.turn().await;
    for client in [&mut noisy, &mut quiet] {
        for _ in 0..20 {
            client.say(0x89, b"?");
        }
    }
    stage.turn().await;
    assert_eq!(noisy.hear(), [(0x8a, b"?".to_vec())], "the newest is answered, and all are within the burst");
    stage.pass(millis(500)).await;
    for n in 0..6 {
        noisy.say(if n % 2 == 0 { 0x8a } else { 0x89 }, b"!");
    }
    for _ in 0..5 {
        quiet.say(0x89, b"?");
    }
    stage.turn().await;
    assert_eq!(noisy.close_code(), Some(1008));
    assert!(quiet.hear().iter().all(|(first, _)| *first == 0x8a));
    noisy.say(0x88, &1008_u16.to_be_bytes());
    stage.pass(secs(6)).await;
    assert_eq!(stage.ends(), HashMap::from([("control_rate".to_owned(), 1)]));
    stage.write("still there");
    stage.turn().await;
    assert_eq!(quiet.messages(), ["still there"]);
}

#[tokio::test(start_paused = true)]
async fn clients_of_feeds_may_say_a_thousand_control_frames_unless_that_is_set_otherwise() {
    for (setting, most) in [("", Some(1000)), ("policy: {limits: {control_rate: null}}", None)] {
        let mut stage = Stage::open(setting);
        let mut client = stage.come(false);
        stage.turn().await;
        for _ in 0..10 {
            for _ in 0..100 {
                client.say(0x8a, b"");
            }
            stage.turn().await;
        }
        assert_eq!(client.close_code(), None);
        client.say(0x8a, b"");
        stage.turn().await;
        assert_eq!(client.close_code(), most.map(|_| 1008), "{setting}");
    }
}

#[tokio::test(start_paused = true)]
async fn pongs_that_are_texts_count_as_those_that_are_control_frames() {
    let policy = "heartbeat: {mode: json}, limits: {control_rate: {rate: 10/s, burst: 20}}";
    for is_forwarding in [false, true] {
        let mut stage = Stage::with(&format!("policy: {{{policy}}}"), |receiver| {
            let (sender, queue) = mpsc::channel(1000);
            *receiver = Some(queue);
            if is_forwarding { FromClients::Forward(sender) } else { FromClients::Drop }
        });
        let mut client = stage.come(false);
        for n in 1..=21 {
            stage.turn().await;
            assert_eq!(client.close_code(), None, "before number {n}, forwarding: {is_forwarding}");
            client.say(0x81, br#"{"type":"pong"}"#);
        }
        stage.turn().await;
        assert_eq!(client.close_code(), Some(1008), "forwarding: {is_forwarding}");
    }
}
