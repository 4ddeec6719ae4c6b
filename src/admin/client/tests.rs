use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::admin::tests::process::Process;
use crate::admin::{Access, Guard, serve};
use crate::connections::lifecycle::{Lifecycle, State};

/// Generous: nothing here takes that long unless it is broken.
const SOON: Duration = Duration::from_secs(20);

/// The real admin port, and the life it moves.
async fn proxy(token: Option<&str>) -> (String, Lifecycle, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let life = Lifecycle::new();
    life.ready();
    let process = Process { clients: 5, ..Process::bare(life.clone()) };
    let access = Access::All(Guard::new(address, &[], token.map(secret)));
    let served =
        tokio::spawn(serve(listener, access, Arc::new(process.admin()), std::future::pending::<()>()));
    (format!("http://{address}"), life, served)
}

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

/// A server that gives one canned answer to each connection in turn, once it has the request, and then
/// listens no more.
async fn canned(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            requests.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (url, server)
}

const DRAINING: &str = "HTTP/1.1 202 Accepted\r\n\r\n{\"state\":\"draining\",\"clients\":3}\n";

async fn drain(url: &str, token: Option<&Secret>, wait: bool) -> Result<Drain, ClientError> {
    Client::new(url, token)?.drain(wait).await
}

async fn drain_soon(url: &str, token: Option<&Secret>, wait: bool) -> Result<Drain, ClientError> {
    timeout(SOON, drain(url, token, wait)).await.expect("drain returns")
}

#[tokio::test]
async fn without_wait_it_returns_once_the_drain_is_accepted() {
    let (url, life, _) = proxy(None).await;
    assert_eq!(drain_soon(&url, None, false).await.unwrap(), Drain::Accepted { clients: 5 });
    assert_eq!(life.state(), State::Draining);
    assert_eq!(drain_soon(&format!("{url}/"), None, false).await.unwrap(), Drain::Accepted { clients: 5 });
    life.drained();
    assert_eq!(drain_soon(&url, None, false).await.unwrap(), Drain::Done);
}

#[tokio::test]
async fn with_wait_it_returns_when_everybody_has_gone() {
    let (url, life, _) = proxy(None).await;
    let waiting = tokio::spawn(async move { drain(&url, None, true).await });
    timeout(SOON, life.until(State::Draining)).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    life.drained();
    assert_eq!(timeout(SOON, waiting).await.unwrap().unwrap().unwrap(), Drain::Done);
}

#[tokio::test]
async fn a_process_that_ends_while_it_is_waited_for_has_drained() {
    for answers in [&[DRAINING, ""][..], &[DRAINING, "HTTP/1.1 202 Acc"], &[DRAINING]] {
        let (url, server) = canned(answers).await;
        assert_eq!(drain_soon(&url, None, true).await.unwrap(), Drain::Done, "{answers:?}");
        let requests = server.await.unwrap();
        assert!(requests[0].starts_with("POST /api/admin/drain HTTP/1.1\r\n"), "{requests:?}");
        if let Some(second) = requests.get(1) {
            assert!(second.starts_with("POST /api/admin/drain?wait=true HTTP/1.1\r\n"), "{second}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_the_drain_was_accepted_is_an_error() {
    for answer in [&[""][..], &["HTTP/1.1 202 Accepted\r\n"], &["SSH-2.0-x\r\n"]] {
        let (url, _server) = canned(answer).await;
        let error = drain_soon(&url, None, true).await.unwrap_err();
        assert!(matches!(error, ClientError::Ended { .. }), "{answer:?}: {error}");
        assert!(error.to_string().contains("--admin"), "{error}");
    }
}

#[tokio::test]
async fn a_token_is_sent_and_a_missing_or_wrong_one_told_apart() {
    let (url, life, _) = proxy(Some("s3cret")).await;
    let missing = drain_soon(&url, None, false).await.unwrap_err().to_string();
    let wrong = drain_soon(&url, Some(&secret("hunter2")), false).await.unwrap_err().to_string();
    assert!(missing.contains("none was given") && missing.contains("--token-file"), "{missing}");
    assert!(wrong.contains("is another") && !wrong.contains("hunter2"), "{wrong}");
    assert_eq!(life.state(), State::Ready);
    drain_soon(&url, Some(&secret("s3cret")), false).await.unwrap();
    assert_eq!(life.state(), State::Draining);

    let error = drain_soon(&url, Some(&secret("two\nlines")), false).await.unwrap_err();
    assert!(matches!(error, ClientError::Token), "{error}");
}

#[tokio::test]
async fn where_nothing_listens_it_says_what_to_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for wait in [false, true] {
        let error = drain_soon(&url, None, wait).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("is the proxy running?") && text.contains("--admin"), "{text}");
    }
}

#[tokio::test]
async fn another_server_on_that_port_has_drained_nobody() {
    const CASES: &[&str] = &[
        "HTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\n{\"state\":\"draining\",\"clients\":3}",
        "HTTP/1.1 202 Accepted\r\n\r\n{}",
        "HTTP/1.1 202 Accepted\r\n\r\n{\"state\":\"ready\",\"clients\":3}",
        "HTTP/1.1 404 Not Found\r\n\r\nnot found",
        "HTTP/1.1 401 Unauthorized\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n",
    ];
    for answer in CASES {
        let (url, _server) = canned(std::slice::from_ref(answer)).await;
        let error = drain_soon(&url, None, true).await.unwrap_err();
        assert!(matches!(error, ClientError::NotOutrigger { .. }), "{answer}: {error}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_admin_ports_own_words() {
    let (url, _server) =
        canned(&["HTTP/1.1 403 Forbidden\r\n\r\n{\"error\":\"ask for \\u001b127.0.0.1\"}"]).await;
    let error = drain_soon(&url, None, false).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status: StatusCode::FORBIDDEN, .. }), "{error}");
    let text = error.to_string();
    assert!(text.ends_with("(403 Forbidden): ask for \\u001b127.0.0.1"), "{text:?}");
}

#[tokio::test(start_paused = true)]
async fn who_accepts_and_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let error = drain(&url, None, true).await.unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    assert!(error.to_string().contains("within 10 s"), "{error}");
}

#[test]
fn an_admin_address_is_read_or_refused_with_the_form_it_should_have() {
    const READ: &[(&str, &str, u16)] = &[
        ("http://127.0.0.1:9090", "127.0.0.1", 9090),
        ("http://127.0.0.1:9090/", "127.0.0.1", 9090),
        ("HTTP://localhost", "localhost", 80),
        ("localhost:9090", "localhost", 9090),
        ("http://[::1]:9090", "::1", 9090),
    ];
    for (url, host, port) in READ {
        let admin = AdminAddress::parse(url).unwrap();
        assert_eq!((admin.host.as_str(), admin.port), (*host, *port), "{url}");
    }
    const REFUSED: &[(&str, &str)] = &[
        ("https://127.0.0.1:9090", "another scheme"),
        ("http://127.0.0.1:9090/api", "a path"),
        ("http://user:secret@127.0.0.1:9090", "user info"),
        ("http://", "no readable host"),
        ("", "no readable host"),
        ("http://:9090", "no readable host"),
        ("http://127.0.0.1:99999", "no readable"),
        ("http://127.0.0.1:", "no readable"),
        ("http://local host:9090", "no readable host"),
    ];
    for (url, problem) in REFUSED {
        let error = AdminAddress::parse(url).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains("http://HOST:PORT"), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
