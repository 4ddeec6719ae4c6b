//! Requests of HTTP/1.1 that wait.

use super::*;

/// Lets all tasks do what they can by what has come so far.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_that_waits_is_answered_and_its_connection_goes_on() {
    let mut proxy = Proxy::new();
    let (mut client, task) = proxy.connect().await;
    for (path, said) in [("/poll?1", "one"), ("/poll?2", "two"), ("/poll?3", "")] {
        client.get(path.split('?').next().unwrap()).await;
        let poll = proxy.asked_poll().await;
        settle().await;
        assert_eq!(proxy.counts(), (0, 1, 1), "it is on its way to nothing, and a drain waits for it");
        poll.send(said).unwrap();
        let head = client.expect(said).await;
        assert!(!head.contains("onnection: close"), "{head}");
        client.get("/next").await;
        client.expect("/next").await;
    }
    drop(client);
    task.await.unwrap();
    assert_eq!(proxy.counts(), (0, 0, 0));
}

#[tokio::test]
async fn requests_behind_one_that_waits_are_answered_after_it_wherever_they_are_cut() {
    let all = [request("/poll"), request("/one"), request("/two")].concat();
    for cut in 0..=all.len() {
        let mut proxy = Proxy::new();
        let (mut client, _task) = proxy.connect().await;
        client.say(&all[..cut]).await;
        let early = if cut >= request("/poll").len() { Some(proxy.asked_poll().await) } else { None };
        settle().await;
        client.say(&all[cut..]).await;
        let poll = match early {
            Some(poll) => poll,
            None => proxy.asked_poll().await,
        };
        settle().await;
        poll.send("polled").unwrap();
        client.expect("polled").await;
        client.expect("/one").await;
        client.expect("/two").await;
    }
}

#[tokio::test]
async fn an_answer_before_one_that_waits_is_sent_whole() {
    let mut proxy = Proxy::new();
    let (mut client, _task) = proxy.connect().await;
    client.say(&[request("/big"), request("/poll"), request("/next")].concat()).await;
    let answering = tokio::spawn(async move { proxy.asked_poll().await.send("polled").unwrap() });
    let (_, body) = client.answer().await;
    assert_eq!(body.len(), BIG);
    client.expect("polled").await;
    client.expect("/next").await;
    answering.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_while_its_request_waits_is_noticed() {
    let much = "x".repeat(5000);
    // How the client goes, what it has sent right behind its request, and what it sends later.
    for (how, behind, later) in [
        ("drop", "", ""),
        ("half", "", ""),
        ("reset", "", ""),
        ("drop", "GET /", ""),
        ("half", "GET /", ""),
        ("reset", "GET /", ""),
        ("drop", "", "GET /"),
        ("half", "", "GET /"),
        ("reset", "", "GET /"),
        ("half", "GET / HTTP/1.1\r\n", "Host: x\r\n\r\n"),
        ("stay", "", &*much),
        ("stay", &*much, ""),
        ("stay", &much[..3000], &much[..3000]),
    ] {
        let mut proxy = Proxy::new();
        let (mut client, task) = proxy.connect().await;
        client.say(&[&*request("/poll"), behind].concat()).await;
        let mut poll = proxy.asked_poll().await;
        settle().await;
        client.say(later).await;
        settle().await;
        let mut kept = None;
        match how {
            "reset" => client.reset(),
            "half" => {
                client.socket.shutdown().await.unwrap();
                kept = Some(client);
            }
            "stay" => kept = Some(client),
            _ => drop(client),
        }
        let gone = timeout(DEADLINE, poll.closed()).await;
        assert!(gone.is_ok(), "{how}, {} behind, {} later", behind.len(), later.len());
        drop(kept);
        task.await.unwrap();
        assert_eq!(proxy.counts(), (0, 0, 0));
    }
}

#[tokio::test]
async fn what_is_not_yet_too_much_behind_a_request_is_kept() {
    let mut proxy = Proxy::new();
    let (mut client, _task) = proxy.connect().await;
    let long = format!("/{}", "y".repeat(4000));
    client.get("/poll").await;
    let poll = proxy.asked_poll().await;
    settle().await;
    client.get(&long).await;
    settle().await;
    poll.send("polled").unwrap();
    client.expect("polled").await;
    client.expect(&long).await;
}

#[tokio::test]
async fn a_connection_ends_after_the_answer_where_it_would_have_ended_without_a_wait() {
    for (head, goes_on) in [
        ("GET /poll HTTP/1.0\r\nHost: x\r\n\r\n", false),
        ("GET /poll HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", true),
        ("GET /poll HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false),
        ("GET /poll HTTP/1.1\r\nHost: x\r\n\r\n", true),
    ] {
        let answers = async |waits: bool| {
            let mut proxy = Proxy::new();
            let (mut client, _task) = proxy.connect().await;
            let head = if waits { head.to_owned() } else { head.replace("/poll", "/polled") };
            client.say(&head).await;
            if waits {
                let poll = proxy.asked_poll().await;
                settle().await;
                poll.send("/polled").unwrap();
            }
            let (head, body) = client.answer().await;
            assert_eq!(body, "/polled");
            if goes_on {
                client.get("/next").await;
                client.answer().await;
                return head;
            }
            assert_eq!(client.rest().await, "");
            head
        };
        let without_date = |head: String| {
            head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("date: ")).collect::<String>()
        };
        assert_eq!(without_date(answers(true).await), without_date(answers(false).await), "{head}");
    }
}

#[tokio::test]
async fn a_request_with_a_body_waits_where_it_is() {
    let mut proxy = Proxy::new();
    let (mut client, _task) = proxy.connect().await;
    client.say("POST /poll HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await;
    let poll = proxy.asked_poll().await;
    settle().await;
    poll.send("polled").unwrap();
    client.expect("polled").await;
}

#[tokio::test(start_paused = true)]
async fn a_request_may_wait_for_longer_than_anything_else_may_take() {
    let mut proxy = Proxy::new();
    let (mut client, _task) = proxy.connect().await;
    client.get("/poll").await;
    let poll = proxy.asked_poll().await;
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    poll.send("polled").unwrap();
    client.expect("polled").await;
    let (begun, mut end) = (Instant::now(), [0]);
    assert_eq!(client.socket.read(&mut end).await.unwrap(), 0, "it is let go");
    let idle = begun.elapsed();
    let keep_alive = proxy.state.snapshot().listen.keep_alive;
    assert!((keep_alive..keep_alive + Duration::from_secs(1)).contains(&idle), "as an idle one: {idle:?}");
}

#[tokio::test]
async fn a_cut_ends_a_request_that_waits() {
    let mut proxy = Proxy::new();
    let (mut client, task) = proxy.connect().await;
    client.get("/poll").await;
    let mut poll = proxy.asked_poll().await;
    settle().await;
    proxy.state.drain.cut();
    timeout(DEADLINE, poll.closed()).await.unwrap();
    task.await.unwrap();
    let error = client.socket.read(&mut [0]).await.unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ConnectionReset,
        "an end could be taken for one of an answer"
    );
}
