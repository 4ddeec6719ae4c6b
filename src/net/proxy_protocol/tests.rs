use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use super::*;

/// Version 2 with this command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&V2_SIGNATURE[..], &[command, family], &length, rest].concat()
}

const V4: [u8; 12] = [203, 0, 113, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];

fn v6_addresses() -> Vec<u8> {
    let (source, destination): (Ipv6Addr, Ipv6Addr) = ("2001:db8::7".parse().unwrap(), Ipv6Addr::LOCALHOST);
    [&source.octets()[..], &destination.octets(), &[0x12, 0x67, 0x01, 0xbb]].concat()
}

/// Source and destination.
type Ends = Option<(&'static str, &'static str)>;

/// Headers, and whom they name.
fn headers() -> Vec<(Vec<u8>, Ends)> {
    let v4 = Some(("203.0.113.7:4711", "198.51.100.1:443"));
    let v6 = Some(("[2001:db8::7]:4711", "[::1]:443"));
    let line = |text: &str| format!("{text}\r\n").into_bytes();
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535";
    let all_ones = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    let mut filled = format!("PROXY UNKNOWN {}", "x".repeat(200));
    filled.truncate(MAX_V1_LINE - 2);
    vec![
        (line("PROXY TCP4 203.0.113.7 198.51.100.1 4711 443"), v4),
        (line("PROXY TCP6 2001:db8::7 ::1 4711 443"), v6),
        (line("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535"), Some(("0.0.0.0:0", "255.255.255.255:65535"))),
        (line(longest), Some((all_ones, all_ones))),
        (line("PROXY UNKNOWN"), None),
        (line("PROXY UNKNOWN ffff::1 whatever 99999"), None),
        (line(&filled), None),
        (v2(0x21, 0x11, &V4), v4),
        (v2(0x21, 0x21, &v6_addresses()), v6),
        // With TLVs, whose own lengths are nobody's business.
        (v2(0x21, 0x11, &[&V4[..], &[0x04, 0, 1, 0, 0xea, 0xff, 0xff]].concat()), v4),
        (v2(0x21, 0x21, &[v6_addresses(), vec![0; MAX_REST - 36]].concat()), v6),
        (v2(0x21, 0x31, &[b'/'; 216]), None),
        (v2(0x21, 0x00, b""), None),
        (v2(0x21, 0x00, b"\x03\0\x04abcd"), None),
        // LOCAL, whatever follows.
        (v2(0x20, 0x00, b""), None),
        (v2(0x20, 0x11, &V4), None),
        (v2(0x20, 0xff, &[0; 300]), None),
    ]
}

fn addresses(ends: Option<(&str, &str)>) -> Option<Addresses> {
    ends.map(|(source, destination)| Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    })
}

#[test]
fn headers_are_read_wherever_they_are_cut() {
    for (bytes, ends) in headers() {
        let whole = Parsed::Header { len: bytes.len(), addresses: addresses(ends) };
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Parsed::NeedMore, "{} at {cut}", bytes.escape_ascii());
        }
        assert_eq!(parse(&bytes), whole, "{}", bytes.escape_ascii());
        let behind = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(parse(&behind), whole, "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_begins_like_a_header_and_is_none_is_malformed_as_soon_as_that_can_be_seen() {
    let announced = |length: u16| [&V2_SIGNATURE[..], &[0x21, 0x11], &length.to_be_bytes()].concat();
    let lines = [
        "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\n",
        "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443 \r\n",
        "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443 1\r\n",
        "PROXY TCP4  203.0.113.7 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 203.0.113.7 198.51.100.1 4711\r\n",
        "PROXY TCP4 203.0.113.7 198.51.100.1 4711 65536\r\n",
        "PROXY TCP4 203.0.113.7 198.51.100.1 +4711 443\r\n",
        "PROXY TCP4 203.0.113.7 198.51.100.1 04711 443\r\n",
        "PROXY TCP4 203.0.113.7 198.51.100.1  443\r\n",
        "PROXY TCP4 203.0.113.07 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 203.0.113 198.51.100.1 4711 443\r\n",
        "PROXY TCP4 2001:db8::7 ::1 4711 443\r\n",
        "PROXY TCP6 203.0.113.7 198.51.100.1 4711 443\r\n",
        "PROXY TCP6 [2001:db8::7] ::1 4711 443\r\n",
        "PROXY UDP4 203.0.113.7 198.51.100.1 4711 443\r\n",
        "PROXY tcp4 203.0.113.7 198.51.100.1 4711 443\r\n",
        "PROXY TCP4\r\n",
        "PROXY \r\n",
        "PROXY \n",
        "PROXY UNKNOWN\u{e9}\n",
    ];
    let longest = [&b"PROXY UNKNOWN "[..], &[b'x'; MAX_V1_LINE]].concat();
    let mut cases: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    cases.extend([
        longest[..MAX_V1_LINE].to_vec(),
        b"PROXY UNKNOWN \xff\xfe\r\n".to_vec(),
        // Version 2: wrong version, command, family or protocol; too long or too short for what it says.
        v2(0x11, 0x11, &V4)[..V2_HEAD_LEN].to_vec(),
        v2(0x31, 0x11, &V4)[..V2_HEAD_LEN].to_vec(),
        v2(0x22, 0x11, &V4)[..V2_HEAD_LEN].to_vec(),
        v2(0x21, 0x12, &V4)[..V2_HEAD_LEN].to_vec(),
        v2(0x21, 0x10, &V4)[..V2_HEAD_LEN].to_vec(),
        v2(0x21, 0x22, &v6_addresses())[..V2_HEAD_LEN].to_vec(),
        v2(0x21, 0x32, &[0; 216])[..V2_HEAD_LEN].to_vec(),
        v2(0x21, 0x41, &V4)[..V2_HEAD_LEN].to_vec(),
        v2(0x21, 0x01, &V4)[..V2_HEAD_LEN].to_vec(),
        announced(4097),
        announced(u16::MAX),
        v2(0x21, 0x11, &V4[..11]),
        v2(0x21, 0x11, b""),
        v2(0x21, 0x21, &v6_addresses()[..35]),
        v2(0x21, 0x31, &[0; 215]),
    ]);
    for bytes in cases {
        assert!(matches!(parse(&bytes), Parsed::Malformed(_)), "{}", bytes.escape_ascii());
        assert_eq!(parse(&bytes[..bytes.len() - 1]), Parsed::NeedMore, "{}", bytes.escape_ascii());
    }
}

#[test]
fn other_protocols_are_told_apart_by_their_first_bytes() {
    const CASES: &[(&[u8], usize)] = &[
        (b"GET / HTTP/1.1\r\n", 1),
        (b"POST / HTTP/1.1\r\n", 2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 3),
        (b"PROPFIND / HTTP/1.1\r\n", 4),
        (b"PROXY\t", 6),
        (b"proxy TCP4", 1),
        (b"\x16\x03\x01\x02\x00\x01", 1),
        (b"\r\nGET / HTTP/1.1\r\n", 3),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
    ];
    for (bytes, known_at) in CASES {
        for cut in 0..=bytes.len() {
            let expected = if cut < *known_at { Parsed::NeedMore } else { Parsed::NotProxy };
            assert_eq!(parse(&bytes[..cut]), expected, "{} at {cut}", bytes.escape_ascii());
        }
    }
}

proptest! {
    #[test]
    fn bytes_from_the_wire_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), signature in 0..3) {
        let signature: &[u8] = [b"", V1_PREFIX, V2_SIGNATURE][signature as usize];
        bytes.splice(..0, signature.iter().copied());
        if let Parsed::Header { len, .. } = parse(&bytes) {
            prop_assert!(len <= bytes.len());
        }
    }
}

async fn pair() -> (TcpStream, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    (client, Stream::Tcp(listener.accept().await.unwrap().0))
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.unwrap()
}

/// What is left of the stream after its writer has ended it.
async fn rest(mut stream: Stream) -> Vec<u8> {
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    rest
}

#[tokio::test]
async fn a_header_is_taken_off_the_socket_and_not_a_byte_more() {
    for (bytes, ends) in headers() {
        let (mut client, mut stream) = pair().await;
        client.write_all(&[&bytes[..], b"GET /"].concat()).await.unwrap();
        client.shutdown().await.unwrap();
        match soon(read(&mut stream)).await {
            Ok(ReadOutcome::Header(found)) => assert_eq!(found, addresses(ends), "{}", bytes.escape_ascii()),
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
        assert_eq!(rest(stream).await, b"GET /");
    }
}

#[tokio::test]
async fn what_is_no_header_stays_on_the_socket() {
    let (mut client, mut stream) = pair().await;
    client.write_all(b"PRI * HTTP/2.0").await.unwrap();
    client.shutdown().await.unwrap();
    assert!(matches!(soon(read(&mut stream)).await, Ok(ReadOutcome::None)));
    assert_eq!(rest(stream).await, b"PRI * HTTP/2.0");
    // Over a Unix socket it is the same.
    let (mut client, server) = UnixStream::pair().unwrap();
    let mut stream = Stream::Unix(server);
    client.write_all(b"PROXY UNKNOWN\r\nGET").await.unwrap();
    assert!(matches!(soon(read(&mut stream)).await, Ok(ReadOutcome::Header(None))));
    client.shutdown().await.unwrap();
    assert_eq!(rest(stream).await, b"GET");
}

#[tokio::test]
async fn an_end_ends_the_wait() {
    let (client, mut stream) = pair().await;
    drop(client);
    assert!(matches!(soon(read(&mut stream)).await, Ok(ReadOutcome::Closed)));
    for sent in [&b"P"[..], b"PROXY TCP4 203.0.113.7", &V2_SIGNATURE[..], &V2_SIGNATURE[..5]] {
        let (mut client, mut stream) = pair().await;
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let result = soon(read(&mut stream)).await;
        assert!(matches!(result, Err(ReadError::Malformed(_))), "{}: {result:?}", sent.escape_ascii());
    }
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_costs_a_poll_a_byte_and_no_spinning() {
    let header = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n";
    let (mut client, mut stream) = pair().await;
    let polls = AtomicUsize::new(0);
    let mut reading = pin!(read(&mut stream));
    let counted = poll_fn(|cx| {
        polls.fetch_add(1, SeqCst);
        reading.as_mut().poll(cx)
    });
    let sending = async {
        for byte in header {
            client.write_all(&[*byte]).await.unwrap();
            let before = polls.load(SeqCst);
            // Far longer than a look takes; a poll that spins never lets this task go on at all.
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(polls.load(SeqCst) <= before + 4, "{} polls for one byte", polls.load(SeqCst) - before);
        }
    };
    let (result, ()) = soon(async { tokio::join!(counted, sending) }).await;
    assert!(matches!(result, Ok(ReadOutcome::Header(Some(_)))), "{result:?}");
    let once = poll_fn(|_| Poll::Ready(polls.load(SeqCst))).await;
    assert!(once >= header.len() / 2, "it was looked at as it came: {once}");
}
