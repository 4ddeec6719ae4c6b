use std::cell::RefCell;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{sleep, timeout};

use super::*;

/// What an address does with whoever connects to it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Play {
    /// Answers after so many milliseconds.
    Answer(u64),
    Fail(u64, io::ErrorKind),
    UnresponsiveAddress,
}

fn addresses(count: u16) -> Vec<SocketAddr> {
    (0..count).map(|index| SocketAddr::from(([10, 0, 0, 1], index))).collect()
}

/// The winner, or the kind of the failure; when it was known, and when each attempt began.
async fn play(plays: &[Play], millis: u64) -> (Result<Winner<u16>, io::ErrorKind>, u128, Vec<u128>) {
    let start = Instant::now();
    let started = RefCell::new(Vec::new());
    let connect = |address: SocketAddr| {
        started.borrow_mut().push(start.elapsed().as_millis());
        let play = plays[usize::from(address.port())];
        async move {
            match play {
                Play::Answer(after) => sleep(Duration::from_millis(after)).await,
                Play::Fail(after, kind) => {
                    sleep(Duration::from_millis(after)).await;
                    return Err(kind.into());
                }
                Play::UnresponsiveAddress => std::future::pending().await,
            }
            Ok(address.port())
        }
    };
    let addresses = addresses(plays.len() as u16);
    let winner = race(&addresses, start + Duration::from_millis(millis), connect).await;
    (winner.map_err(|error| error.kind()), start.elapsed().as_millis(), started.take())
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_silent_delays_the_next_by_a_quarter_of_a_second() {
    use io::ErrorKind::ConnectionRefused;
    // what the addresses do, who wins, when, when attempts began, who was silent
    type Case<'a> = (&'a [Play], u16, u128, &'a [u128], &'a [usize]);
    let cases: &[Case<'_>] = &[
        (&[Play::Answer(5), Play::Answer(0)], 0, 5, &[0], &[]),
        (&[Play::UnresponsiveAddress, Play::Answer(5)], 1, 255, &[0, 250], &[0]),
        (
            &[Play::UnresponsiveAddress, Play::UnresponsiveAddress, Play::Answer(1)],
            2,
            501,
            &[0, 250, 500],
            &[0, 1],
        ),
        (&[Play::Fail(3, ConnectionRefused), Play::Answer(5)], 1, 8, &[0, 3], &[]),
        // One that is slow may still win, and who began after it has not been silent.
        (&[Play::Answer(300), Play::UnresponsiveAddress], 0, 300, &[0, 250], &[]),
        (
            &[Play::UnresponsiveAddress, Play::Fail(10, ConnectionRefused), Play::Answer(5)],
            2,
            265,
            &[0, 250, 260],
            &[0],
        ),
    ];
    for (plays, index, when, started, unresponsive) in cases {
        let (winner, took, began) = play(plays, 2000).await;
        let winner = winner.unwrap();
        assert_eq!((winner.connection, took, &began[..]), (*index, *when, *started), "{plays:?}");
        assert_eq!(
            (winner.index, &winner.unresponsive[..]),
            (usize::from(*index), *unresponsive),
            "{plays:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_failure_that_says_most_is_told_and_at_once() {
    use io::ErrorKind::{ConnectionRefused, NetworkUnreachable};
    for plays in [
        [Play::Fail(1, ConnectionRefused), Play::Fail(1, NetworkUnreachable)],
        [Play::Fail(1, NetworkUnreachable), Play::Fail(1, ConnectionRefused)],
    ] {
        let (failed, took, _) = play(&plays, 2000).await;
        assert_eq!((failed.unwrap_err(), took), (ConnectionRefused, 2), "{plays:?}");
    }
    let (failed, _, _) = play(&[Play::Fail(1, NetworkUnreachable); 2], 2000).await;
    assert_eq!(failed.unwrap_err(), NetworkUnreachable);
}

#[tokio::test(start_paused = true)]
async fn who_loses_is_dropped_with_its_socket() {
    let alive = Rc::new(());
    let connect = |address: SocketAddr| {
        let alive = Rc::clone(&alive);
        async move {
            let _alive = alive;
            if address.port() < 2 {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    };
    race(&addresses(3), Instant::now() + Duration::from_secs(2), connect).await.unwrap();
    assert_eq!(Rc::strong_count(&alive), 1, "what is left is ours");
}

/// A listener that takes nobody in, and whose backlog is full: who connects to it hears nothing.
async fn black_hole() -> (SocketAddr, Vec<Box<dyn Send>>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held: Vec<Box<dyn Send>> = vec![Box::new(listener)];
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        held.push(Box::new(stream));
    }
    (address, held)
}

#[tokio::test]
async fn an_address_that_swallows_what_it_is_sent_costs_the_next_a_quarter_of_a_second_and_then_nothing() {
    let (dead, _held) = black_hole().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = listener.local_addr().unwrap();
    // Shares of this would be many times the delay.
    let deadline = || Instant::now() + Duration::from_secs(60);
    for found in [vec![dead, alive], vec![alive, dead], vec![dead, dead, alive, dead]] {
        let connector = TcpConnector::new("name", 1);
        let connect = || connector.connect_to_any(found.clone(), deadline());
        let first = timeout(Duration::from_secs(10), connect()).await.expect("the next one has its turn");
        assert_eq!(first.unwrap().peer_addr().unwrap(), alive, "{found:?}");
        let is_first = found[0] == alive;
        assert_eq!(connector.unresponsive().len(), usize::from(!is_first), "{found:?}");
        let since = Instant::now();
        connect().await.unwrap();
        assert!(since.elapsed() < schedule::DELAY, "{:?}", since.elapsed());
    }
    let connector = TcpConnector::new("name", 1);
    let none = connector.connect_to_any(vec![], deadline()).await.unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_was_silent_is_remembered_for_a_while_and_until_it_answers() {
    let connector = TcpConnector::new("name", 1);
    let known =
        || connector.unresponsive().iter().map(|unresponsive| unresponsive.address).collect::<Vec<_>>();
    let all = addresses(100);
    connector.remember(all[9], all[..2].iter().copied());
    assert_eq!(known(), all[..2]);
    connector.remember(all[0], std::iter::empty());
    assert_eq!(known(), all[1..2], "it has answered");
    tokio::time::advance(REMEMBERED_FOR / 2).await;
    connector.remember(all[9], all[2..3].iter().copied());
    tokio::time::advance(REMEMBERED_FOR / 2).await;
    connector.remember(all[9], std::iter::empty());
    assert_eq!(known(), all[2..3], "the first one's time is over");
    connector.remember(all[99], all[..99].iter().copied());
    assert_eq!(known().len(), MAX_UNRESPONSIVE);
}

#[tokio::test]
async fn a_server_on_one_family_is_reached_by_a_name_that_has_both() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let v4 = listener.local_addr().unwrap();
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v4.port()));
    let deadline = Instant::now() + Duration::from_secs(60);
    for found in [vec![v6, v4], vec![v4, v6]] {
        let stream = TcpConnector::new("name", 1).connect_to_any(found, deadline).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), v4);
    }
    TcpConnector::new("localhost", v4.port()).connect(deadline).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lookups_that_nobody_waits_for_any_more_are_bounded_until_they_end() {
    let (permits, attempts) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(10)));
    // As a resolver that does not answer for 20 seconds.
    let lookup = || {
        let attempts = Arc::clone(&attempts);
        async move {
            let _counted = attempts.try_acquire().expect("there are few");
            sleep(Duration::from_secs(20)).await;
            Ok(addresses(1))
        }
    };
    for _ in 0..5 {
        let abandoned = timeout(Duration::from_secs(2), look_up(&permits, lookup())).await;
        assert!(abandoned.is_err());
        assert!(attempts.available_permits() >= 8, "two at a time");
    }
    assert_eq!(attempts.available_permits(), 8, "they go on");
    // Who waits now has a place when the first ends.
    let found = timeout(Duration::from_secs(60), look_up(&permits, lookup())).await.expect("in time");
    assert_eq!(found.unwrap(), addresses(1));
}

#[tokio::test(start_paused = true)]
async fn a_name_with_many_addresses_that_are_silent_holds_few_sockets_at_a_time() {
    let (started, attempts) = (RefCell::new(0), Rc::new(()));
    let connect = |address: SocketAddr| {
        *started.borrow_mut() += 1;
        let held = Rc::clone(&attempts);
        assert!(Rc::strong_count(&attempts) <= MAX_ATTEMPTS + 1, "one for each, and ours");
        async move {
            let _held = held;
            if address.port() < 99 {
                std::future::pending::<()>().await;
            }
            Ok(address.port())
        }
    };
    let winner = race(&addresses(100), Instant::now() + Duration::from_secs(2), connect).await.unwrap();
    assert_eq!((winner.connection, started.take()), (99, 100), "each has had its turn");
    let mut unresponsive = winner.unresponsive;
    unresponsive.sort_unstable();
    assert_eq!(unresponsive, (0..99).collect::<Vec<_>>());
}
