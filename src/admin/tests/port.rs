//! Connections of the port: how many, for how long, and what a stop does to them.

use super::process::Publish;
use super::*;

#[tokio::test]
async fn a_head_too_long_is_refused_and_a_body_is_not_read() {
    let port = Port::open(false, None, None).await;
    let filler = "x".repeat(server::HEADER_BYTES);
    let answer = port.ask_with("GET /healthz", &format!("X-Filler: {filler}\r\n")).await;
    assert_eq!(answer.status, 431);
    let filler = "x".repeat(server::HEADER_BYTES - 200);
    let answer = port.ask_with("GET /healthz", &format!("X-Filler: {filler}\r\n")).await;
    assert_eq!(answer.status, 200, "what fits passes");
    // The body never comes; the answer does.
    let answer = port.ask_with("POST /api/admin/drain", "Content-Length: 100000\r\n").await;
    assert_eq!(answer.status, 202);
}

#[tokio::test(start_paused = true)]
async fn who_dawdles_over_a_request_is_cut() {
    let port = Port::open(false, None, None).await;
    let began = tokio::time::Instant::now();
    for beginning in ["", "GET /healthz HT"] {
        let mut stream = port.send(beginning).await;
        let mut rest = Vec::new();
        // Paused time runs on only while everybody waits: this ends by the port's own clock.
        stream.read_to_end(&mut rest).await.unwrap();
    }
    assert!(began.elapsed() >= server::HEADER_TIMEOUT, "{:?}", began.elapsed());
    assert!(began.elapsed() < 3 * server::HEADER_TIMEOUT, "{:?}", began.elapsed());
}

const PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LAST_PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn whoever_keeps_all_connections_keeps_no_probe_out() {
    let port = Port::open(true, None, None).await;
    let mut kept = Vec::new();
    for n in 0..server::CONNECTIONS {
        // Half of them ask, and stay; half say nothing whole.
        let mut stream = port.send(if n % 2 == 0 { PROBE } else { "GET /healthz HTTP/1.1\r\n" }).await;
        if n % 2 == 0 {
            // An answer proves that this one is among those accepted.
            timeout(SOON, stream.read_exact(&mut [0; 1])).await.unwrap().unwrap();
        }
        kept.push(stream);
    }
    let began = tokio::time::Instant::now();
    for _ in 0..10 {
        assert_eq!(read_answer(port.send(LAST_PROBE).await).await.status, 200);
    }
    assert!(
        began.elapsed() < server::HEADER_TIMEOUT,
        "none had to run out of time first: {:?}",
        began.elapsed()
    );
    // Who has rested longest has gone, and who came last is still there.
    let mut youngest = kept.swap_remove(server::CONNECTIONS - 2);
    youngest.write_all(LAST_PROBE.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, youngest.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(
        rest.ends_with(b"ok\n") && rest.windows(8).filter(|at| at == b"HTTP/1.1").count() == 1,
        "{rest:?}"
    );
}

#[tokio::test]
async fn beyond_the_connection_bound_one_waits_for_a_place_while_all_are_being_answered() {
    let (asked, mut are_asked) = tokio::sync::watch::channel(0);
    let publish: Publish = Box::new(move |_| {
        asked.send_modify(|asked| *asked += 1);
        Box::pin(std::future::pending())
    });
    let admin = Arc::new(Process { publish, ..Process::bare(Lifecycle::new()) }.admin());
    let body = r#"{"route":"r","text":"x"}"#;
    let line = "POST /api/admin/broadcast HTTP/1.1\r\nHost: localhost\r\n";
    let request = format!("{line}Content-Length: {}\r\n\r\n{body}", body.len());
    stopped_under(&admin, async |address| {
        let mut asking = Vec::new();
        for _ in 0..server::CONNECTIONS {
            asking.push(send_to(address, &request).await);
        }
        are_asked.wait_for(|asked| *asked == server::CONNECTIONS).await.unwrap();
        let mut waiting = send_to(address, LAST_PROBE).await;
        let early = timeout(Duration::from_millis(200), waiting.read_u8()).await;
        assert!(early.is_err(), "no place, no answer: {early:?}");
        asking.pop();
        assert_eq!(read_answer(waiting).await.status, 200);
    })
    .await;
}

/// Runs `serve` and, beside it, a client that returns once it wants the port to stop. Gives what the
/// client had, and the time from the stop to the end of `serve`.
async fn stopped_under<T>(admin: &Arc<Admin>, client: impl AsyncFnOnce(SocketAddr) -> T) -> (T, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let access = Access::All(Guard::new(address, &[], None));
    let client = async {
        let had = client(address).await;
        drop(stop);
        (had, tokio::time::Instant::now())
    };
    let ((), (had, began)) = tokio::join!(serve(listener, access, Arc::clone(admin), stopped), client);
    (had, began.elapsed())
}

fn admin(upstream: Option<UpstreamCheck>) -> Arc<Admin> {
    let lifecycle = Lifecycle::new();
    lifecycle.ready();
    Arc::new(Process { upstream, ..Process::bare(lifecycle) }.admin())
}

async fn send_to(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

const WAIT: &str = "POST /api/admin/drain?wait=true HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_stop_ends_idle_connections_at_once() {
    let admin = admin(None);
    let (mut idle, took) = stopped_under(&admin, async |address| {
        let fresh = send_to(address, "").await;
        let mut used = send_to(address, "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(used.read_u8().await.unwrap());
        }
        [fresh, used]
    })
    .await;
    assert!(took < server::GRACE, "{took:?}");
    for stream in &mut idle {
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_cuts_who_waits_and_leaves_nothing_behind() {
    let admin = admin(None);
    let (mut waiting, took) = stopped_under(&admin, async |address| {
        let waiting = send_to(address, WAIT).await;
        admin.operations.lifecycle().until(State::Draining).await;
        waiting
    })
    .await;
    assert_eq!(Arc::strong_count(&admin), 1, "no connection holds it any more");
    assert!(took >= server::GRACE && took < 2 * server::GRACE, "{took:?}");
    let mut rest = Vec::new();
    let _ = waiting.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn an_answer_under_way_at_a_stop_is_still_given() {
    let (asked, mut is_asked) = tokio::sync::watch::channel(());
    let (go, may_go) = tokio::sync::watch::channel(());
    let admin = admin(Some(Box::new(move || {
        asked.send_replace(());
        let mut may_go = may_go.clone();
        Box::pin(async move { may_go.changed().await.map_err(|gone| gone.to_string()) })
    })));
    let (answered, answer) = oneshot::channel();
    let ((), took) = stopped_under(&admin, async |address| {
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let asking = send_to(address, request).await;
        is_asked.changed().await.unwrap();
        tokio::spawn(async move {
            // Refused: the port has seen the stop.
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            go.send_replace(());
            let _ = answered.send(read_answer(asking).await);
        });
    })
    .await;
    assert!(took < server::GRACE, "{took:?}");
    let answer = answer.await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up_by_the_kernel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    server::set_options(&stream).unwrap();
    let bound = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
    assert_eq!(bound, Some(server::UNSENT_TIMEOUT));
}
