use std::net::SocketAddr;

use tokio::net::TcpListener;

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
    let permit = dialer.slots.acquire().await.unwrap();
    let error = dialer.dial().await.unwrap_err();
    assert!(matches!(error, DialError::TooManyDials { limit: 1, .. }), "{error}");
    assert!(error.to_string().contains("upstream.max_dials"), "{error}");
    drop(permit);
    dialer.dial().await.unwrap();
}
