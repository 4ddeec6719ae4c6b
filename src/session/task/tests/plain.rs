//! Sessions whose clients have no tickets: the server may go, and the client does not notice.

use super::*;

const QUIET: &str = "{heartbeat: null, notices: false, redial: {base: 20ms, cap: 200ms}}";

#[tokio::test(start_paused = true)]
async fn what_one_side_says_the_other_one_hears_and_pings_are_answered_here() {
    let (mut stage, mut client, mut server) = Stage::plain(QUIET).await;
    let long = "x".repeat(70_000);
    client.text("one");
    client.say(0x82, b"");
    client.text(&long);
    client.say(0x89, b"are you there");
    server.text("from the server");
    server.say(0x89, b"and you");
    stage.settle().await;
    let heard = server.hear();
    let said: Vec<_> = heard.iter().filter(|(first, _)| first & 0x0f < 3).cloned().collect();
    assert_eq!(said, [(0x81, b"one".to_vec()), (0x82, Vec::new()), (0x81, long.into_bytes())]);
    assert!(heard.contains(&(0x8a, b"and you".to_vec())));
    let heard = client.hear();
    assert_eq!(texts(&heard), ["from the server"]);
    assert!(heard.contains(&(0x8a, b"are you there".to_vec())));
    client.say(0x88, &close(4001, "enough").1);
    stage.settle().await;
    assert_eq!(client.hear().last(), Some(&close(4001, "")));
    assert_eq!(server.hear().last(), Some(&close(4001, "enough")));
    assert_eq!(stage.connections.len(), 0, "the client does not wait for the server");
    server.cut();
    stage.settle().await;
    stage.is_over();
    assert_eq!(stage.ends(SessionEnd::Client), (1, 0));
}

/// Each end takes one byte at once, so that whatever is written is cut everywhere.
#[tokio::test(start_paused = true)]
async fn ends_that_take_one_byte_at_once_hear_all_of_it() {
    let rooms = Rooms { client: 1, server: 1 };
    let (mut stage, mut client, mut server) = Stage::open(QUIET, false, rooms).await;
    let text = |n: usize, masks| frame(0x81, &vec![b'x'; n], masks);
    let cases: [(usize, usize); 4] = [(1, 0), (3, 125), (2, 126), (5, 1_000)];
    for (messages, size) in cases {
        let said = text(size, true).repeat(messages);
        let heard = stage.trickle(&mut client, &said, &mut server).await;
        assert_eq!(texts(&heard), vec!["x".repeat(size); messages], "to the server");
        let said = text(size, false).repeat(messages);
        let heard = stage.trickle(&mut server, &said, &mut client).await;
        assert_eq!(texts(&heard), vec!["x".repeat(size); messages], "to the client");
        stage.settle().await;
    }
    let heard = stage.trickle(&mut server, &frame(0x88, b"\x0f\xa0over", false), &mut client).await;
    assert_eq!(heard, [close(4000, "over")]);
    client.cut();
    server.cut();
    stage.settle().await;
    stage.is_over();
    assert_eq!(stage.ends(SessionEnd::Server), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_the_server_is_away_waits_for_the_next_one() {
    let (mut stage, mut client, mut server) = Stage::plain(QUIET).await;
    client.text("before");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["before"]);
    server.cut();
    stage.settle().await;
    client.text("meanwhile");
    client.text("and more");
    stage.settle().await;
    assert_eq!(stage.task().outbox.waiting(), 2);
    // One that is not up yet, one that is busy, and one that accepts and speaks at once.
    drop(stage.dial().await);
    stage.dial().await.decline(503);
    let early = frame(0x81, b"early", false);
    let mut server = stage.dial().await.accept(&early);
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["meanwhile", "and more"]);
    assert_eq!(texts(&client.hear()), ["early"]);
    let lost = (stage.lost(MessageLoss::Uncertain), stage.lost(MessageLoss::Queue));
    assert_eq!(lost, (1, 0), "the first server may have taken the first message");
    let redials = &stage.plan.metrics.redials;
    let dials = [RedialOutcome::Failed, RedialOutcome::Refused, RedialOutcome::Ok].map(|o| redials.get(o));
    assert_eq!(dials, [1, 1, 1]);
    client.cut();
    stage.settle().await;
    assert_eq!(server.hear().last(), Some(&close(1001, "client lost")));
    server.cut();
    stage.settle().await;
    stage.is_over();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_half_left_is_said_again_from_its_beginning() {
    let (mut stage, mut client, mut server) =
        Stage::open(QUIET, false, Rooms { client: ROOM, server: 100 }).await;
    client.text(&"a".repeat(50));
    client.text(&"b".repeat(500));
    stage.settle().await;
    server.read(120);
    stage.settle().await;
    assert_eq!((server.frames().len(), server.half() > 0), (1, true), "the second one is begun");
    server.cut();
    let mut server = stage.new_server().await;
    assert_eq!(texts(&server.hear()), ["b".repeat(500)]);
    assert_eq!(stage.lost(MessageLoss::Uncertain), 1, "the first one");
}

#[tokio::test(start_paused = true)]
async fn in_a_drain_the_client_gets_the_rest_and_a_server_that_goes_is_not_dialled() {
    for is_server_lost in [false, true] {
        let (mut stage, mut client, mut server) = Stage::plain(QUIET).await;
        let at = Instant::now() + secs(5);
        let code = CloseCode(1012);
        stage.task().client.as_ref().unwrap().handle().send(Command::CloseAt { at, code });
        stage.settle().await;
        server.text("last");
        client.text("mine");
        stage.settle().await;
        assert_eq!(texts(&server.hear()), ["mine"]);
        if is_server_lost {
            server.cut();
        }
        stage.pass(millis(4_900)).await;
        assert_eq!(texts(&client.hear()), ["last"]);
        assert!(!client.is_ended && stage.next_dial().is_none());
        stage.pass(millis(200)).await;
        assert_eq!(client.hear(), [close(1012, "server is restarting")]);
        client.say(0x88, &close(1012, "").1);
        stage.settle().await;
        if !is_server_lost {
            assert_eq!(server.hear().last(), Some(&close(1001, "proxy is draining")));
            server.cut();
            stage.settle().await;
        }
        stage.is_over();
        assert_eq!(stage.ends(SessionEnd::Drain), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_stops_the_server_and_gets_all_of_it_later() {
    let policy = "{heartbeat: null, notices: false, delivery: {on_stall: backpressure, stall_timeout: 10m, \
                  max_lag: {messages: 10}}}";
    let (mut stage, mut client, mut server) =
        Stage::open(policy, false, Rooms { client: 50, server: 400 }).await;
    let said: Vec<u8> = (0..200).flat_map(|n| server.frame(0x81, format!("{n:020}").as_bytes())).collect();
    let mut at = 0;
    for _ in 0..50 {
        at += server.write(&said[at..]);
        stage.settle().await;
    }
    assert!(at < said.len(), "the server waits");
    assert!(stage.task().writer.log().head() < 60, "{}", stage.state());
    let mut heard = Vec::new();
    for _ in 0..1_000 {
        at += server.write(&said[at..]);
        heard.append(&mut client.hear());
        stage.settle().await;
    }
    assert_eq!(texts(&heard), (0..200).map(|n| format!("{n:020}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_nothing_stops_the_client_and_gets_all_of_it_later() {
    for replay in ["unsent", "unacknowledged"] {
        let policy = format!("{{heartbeat: null, session: {{queue: {{replay: {replay}, bytes: 2KiB}}}}}}");
        let rooms = Rooms { client: 400, server: 50 };
        let (mut stage, mut client, mut server) = Stage::open(&policy, false, rooms).await;
        let said: Vec<u8> =
            (0..200).flat_map(|n| client.frame(0x81, format!("{n:020}").as_bytes())).collect();
        let mut at = 0;
        for _ in 0..50 {
            at += client.write(&said[at..]);
            stage.settle().await;
        }
        assert!(at < said.len(), "the client waits");
        let mut heard = Vec::new();
        for _ in 0..2_000 {
            at += client.write(&said[at..]);
            for (first, payload) in server.hear() {
                match first {
                    // Else no more than the queue has room for may be under way.
                    0x89 => server.say(0x8a, &payload),
                    _ => heard.push((first, payload)),
                }
            }
            stage.settle().await;
            stage.pass(millis(5)).await;
        }
        assert_eq!(texts(&heard), (0..200).map(|n| format!("{n:020}")).collect::<Vec<_>>(), "{replay}");
    }
}
