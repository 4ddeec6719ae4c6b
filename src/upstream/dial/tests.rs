use tokio::net::{TcpListener, TcpSocket};

use super::*;

fn dialer(address: SocketAddr, timeout: Duration) -> Dialer {
    let target = Target::Tcp { host: address.ip().to_string(), port: address.port() };
    let config = config::Upstream {
        target,
        connect_timeout: timeout,
        max_dials: 1,
        ..(*config::Config::default().routes[0].upstream).clone()
    };
    Dialer::new(&config, Metrics::new("outrigger").unwrap()).unwrap()
}

#[tokio::test]
async fn who_waits_for_a_place_in_vain_is_told_so_and_not_that_the_server_is_slow() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = dialer(listener.local_addr().unwrap(), Duration::from_millis(100));
    let place = dialer.places.acquire().await.unwrap();
    let error = dialer.dial().await.unwrap_err();
    assert!(matches!(error, DialError::NoPlace { places: 1, .. }), "{error}");
    assert!(error.to_string().contains("upstream.max_dials"), "{error}");
    drop(place);
    dialer.dial().await.unwrap();
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
async fn an_address_that_does_not_answer_leaves_time_for_the_next_one() {
    let (dead, _held) = black_hole().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = listener.local_addr().unwrap();
    let deadline = || Instant::now() + Duration::from_secs(2);
    for addresses in [vec![dead, alive], vec![alive, dead], vec![dead, dead, alive, dead]] {
        connect_to_any(addresses.clone(), deadline())
            .await
            .unwrap_or_else(|error| panic!("{addresses:?}: {error}"));
    }
    assert_eq!(connect_to_any(vec![], deadline()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}
