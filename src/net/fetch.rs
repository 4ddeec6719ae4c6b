//! A small HTTP client for admission: it fetches key sets, and asks authentication services.
//!
//! # Invariants
//! 1. Nothing is fetched without a deadline and a limit on the answer's body; the head is limited too.
//! 2. No redirect is followed, no proxy used, nothing decompressed: one request, one answer.
//! 3. An error shows no URL and no header: they may hold secrets.
//!
//! # Not here
//! What an answer means; how many requests there are at once (callers have bounds of their own).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use tokio::time::{Instant, timeout};

use super::head;
use super::pool::{Pool, SendError};
use super::tls::{self, Authorities, TlsError};
use super::{Broken, HeadLimit, Stream, TcpConnector, describe_io};
use crate::config::File;

/// Idle connections kept for one client: as many as handshakes wait at once in quiet times.
const MAX_IDLE: usize = 32;
/// Below what servers and the middle boxes before them usually keep: 60 s.
const KEEP_IDLE: Duration = Duration::from_secs(50);
/// A head is a few hundred bytes; cookies are the largest part of it.
const MAX_HEAD: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not `http` or `https`, or without a host.
    #[error("it is not a URL with http:// or https:// and a host")]
    Url,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Not within the deadline.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// No connection, or it broke, or what came was not HTTP.
    #[error("{0}")]
    Broken(String),
    /// The body is longer than it may be.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
}

/// Pooled connections to one server.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    pool: Arc<Pool<Empty<Bytes>>>,
    connector: Connector,
    /// All requests go to its host: pooled connections are not told apart by host.
    uri: Uri,
}

impl Fetch {
    /// For one URL, which the setting `key` names. `https` is checked with the authorities in `ca`, which
    /// comes with the setting that names it, or else with the system's.
    ///
    /// # Errors
    /// It is no URL of ours, or there are no authorities.
    pub(crate) fn new(
        key: &'static str,
        url: &str,
        ca: Option<(&'static str, &File)>,
    ) -> Result<(Self, Uri), FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::Url)?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(FetchError::Url);
        }
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => None,
            Some(scheme) if *scheme == Scheme::HTTPS => {
                let authorities =
                    ca.map_or(Authorities::System, |(key, file)| Authorities::File { key, file });
                Some(tls::Connector::new(key, authorities)?)
            }
            _ => return Err(FetchError::Url),
        };
        Ok((Self::with_tls(tls, uri.clone()), uri))
    }

    /// With TLS as it is set up there.
    fn with_tls(tls: Option<tls::Connector>, uri: Uri) -> Self {
        let mut builder = http1::Builder::new();
        builder
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            .max_headers(head::MAX_HEADERS)
            .title_case_headers(true);
        let pool = Arc::new(Pool::new(builder, KEEP_IDLE, MAX_IDLE));
        let default = default_port(&uri);
        let host = host(&uri).to_owned();
        let tcp = TcpConnector::new(&host, uri.port_u16().unwrap_or(default));
        Self { pool, connector: Connector { tcp, tls, host: host.into() }, uri }
    }

    /// Sends `request` to the host of the URL (of its own only the path and query count), and reads the whole answer,
    /// of at most `max_body` bytes, within `deadline`.
    ///
    /// # Errors
    /// There is no answer, or it is too long.
    pub(crate) async fn send(
        &self,
        mut request: Request<Empty<Bytes>>,
        deadline: Duration,
        max_body: usize,
    ) -> Result<Response<Bytes>, FetchError> {
        set_host_and_path(&mut request, &self.uri)?;
        let until = Instant::now() + deadline;
        let exchange = async {
            let answer = self.pool.send(request, self.connector.dial(until), || ()).await;
            let (response, connection) = answer.map_err(|error| match error {
                SendError::Dial(error) => FetchError::Broken(error),
                SendError::Http(error) => broken(&error),
            })?;
            let (mut head, body) = response.into_parts();
            let framing = head::check_answer(head.status, head.version, &mut head.headers);
            // What may be left on it must not be read as the answer to another request.
            if framing.map_err(|fault| FetchError::Broken(fault.to_string()))? {
                connection.keep();
            }
            let body = Limited::new(body, max_body).collect().await.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    FetchError::TooLarge(max_body)
                } else {
                    error.downcast_ref().map_or_else(
                        || FetchError::Broken(Broken::Other.to_string()),
                        |error: &hyper::Error| broken(error),
                    )
                }
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        // On the heap: it is large, and it waits inside every request that is being checked.
        timeout(deadline, Box::pin(exchange)).await.map_err(|_| FetchError::Timeout(deadline))?
    }
}

fn broken(error: &hyper::Error) -> FetchError {
    FetchError::Broken(Broken::of(error, HeadLimit { bytes: MAX_HEAD, setting: None }).to_string())
}

/// Connects, and speaks TLS where the URL says `https`.
#[derive(Debug, Clone)]
struct Connector {
    tcp: TcpConnector,
    tls: Option<tls::Connector>,
    /// Without brackets: what the certificate has to be for.
    host: Arc<str>,
}

impl Connector {
    /// An error is a text for the log.
    async fn dial(&self, deadline: Instant) -> Result<Stream, String> {
        let tcp = self.tcp.connect(deadline).await;
        let stream = Stream::Tcp(tcp.map_err(|error| format!("no connection: {}", describe_io(&error)))?);
        let Some(tls) = &self.tls else { return Ok(stream) };
        match tls.connect(stream, &self.host).await {
            Ok(tls) => Ok(Stream::Tls(tls)),
            Err(error) => Err(format!("no TLS: {error}")),
        }
    }
}

fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// The default port of the scheme.
fn default_port(uri: &Uri) -> u16 {
    if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 }
}

/// Sets `Host`, without a default port, and reduces the target to its path and query (RFC 9112 §3.2.1).
fn set_host_and_path(request: &mut Request<Empty<Bytes>>, to: &Uri) -> Result<(), FetchError> {
    let default = default_port(to);
    let host = to.host().ok_or(FetchError::Url)?;
    let host = match to.port_u16().filter(|port| *port != default) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let host = HeaderValue::try_from(host).map_err(|_| FetchError::Url)?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path: Uri = path.parse().map_err(|_| FetchError::Url)?;
    request.headers_mut().entry(header::HOST).or_insert(host);
    *request.uri_mut() = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;
    use std::sync::Arc;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// Answers each connection's first request with these bytes, and keeps it open.
    async fn answering(answer: &'static [u8], tls: Option<TlsAcceptor>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => talk(tcp, answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                talk(stream, answer).await;
                            }
                        }
                    }
                });
            }
        });
        port
    }

    async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
        let mut request = [0; 4096];
        if matches!(stream.read(&mut request).await, Ok(1..)) {
            let _ = stream.write_all(answer).await;
            let _ = stream.read(&mut request).await;
        }
    }

    fn get(uri: &Uri) -> Request<Empty<Bytes>> {
        Request::get(uri).body(Empty::new()).unwrap()
    }

    async fn ask(answer: &'static [u8], max_body: usize) -> Result<Response<Bytes>, FetchError> {
        let port = answering(answer, None).await;
        let (fetch, uri) = Fetch::new("x", &format!("http://127.0.0.1:{port}/keys?secret=1"), None).unwrap();
        fetch.send(get(&uri), Duration::from_millis(500), max_body).await
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_and_a_redirect_is_one() {
        let answer = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 5).await.unwrap();
        assert_eq!(answer.body(), "hello");
        let moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(ask(moved, 5).await.unwrap().status(), 302);
    }

    #[tokio::test]
    async fn what_is_too_long_or_too_slow_or_no_http_is_an_error_without_the_url() {
        let long = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!", 5).await.unwrap_err();
        assert!(matches!(long, FetchError::TooLarge(5)), "{long:?}");
        let endless = ask(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n", 5).await;
        assert!(matches!(endless, Err(FetchError::TooLarge(5))), "{endless:?}");
        let slow = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 5).await.unwrap_err();
        assert!(matches!(slow, FetchError::Timeout(_)), "{slow:?}");
        let silent = ask(b"", 5).await.unwrap_err();
        assert!(matches!(silent, FetchError::Timeout(_)), "{silent:?}");
        let garbage = ask(b"SSH-2.0-OpenSSH\r\n", 5).await.unwrap_err();
        assert!(matches!(garbage, FetchError::Broken(_)), "{garbage:?}");
        for error in [long, slow, silent, garbage] {
            assert!(!error.to_string().contains("secret") && !format!("{error:?}").contains("secret"));
        }
    }

    #[tokio::test]
    async fn a_certificate_is_checked_against_authority_and_name() {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = cert.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let port = answering(answer, Some(TlsAcceptor::from(Arc::new(server)))).await;

        let uri = |host: &str| format!("https://{host}:{port}/").parse::<Uri>().unwrap();
        let believing = |pem: String, host: &str| {
            let file = File { path: "ca.pem".into(), contents: pem.into_bytes().into() };
            let authorities = Authorities::File { key: "x", file: &file };
            Fetch::with_tls(Some(tls::Connector::new("x", authorities).unwrap()), uri(host))
        };
        let known = believing(ca_cert.pem(), "localhost");
        assert_eq!(known.send(get(&uri("localhost")), SOON, 10).await.unwrap().body(), "hi");
        // The server's own certificate is believed as well.
        let pinned = believing(cert.pem(), "localhost");
        assert_eq!(pinned.send(get(&uri("localhost")), SOON, 10).await.unwrap().body(), "hi");
        let elsewhere = believing(ca_cert.pem(), "127.0.0.1");
        let wrong_name = elsewhere.send(get(&uri("127.0.0.1")), SOON, 10).await.unwrap_err();
        assert!(wrong_name.to_string().contains("is not for 127.0.0.1 but for localhost"), "{wrong_name}");
        let other = CertificateParams::new(Vec::new()).unwrap().self_signed(&KeyPair::generate().unwrap());
        let stranger = believing(other.unwrap().pem(), "localhost");
        let unknown = stranger.send(get(&uri("localhost")), SOON, 10).await.unwrap_err();
        assert!(unknown.to_string().contains("name that authority's certificate in x"), "{unknown}");
    }

    #[tokio::test]
    async fn only_urls_of_the_web_are_taken() {
        for bad in ["", "keys", "/keys", "ftp://a/keys", "unix:///run/a.sock", "http://", "http:///keys"] {
            assert!(matches!(Fetch::new("x", bad, None), Err(FetchError::Url)), "{bad}");
        }
    }
}
