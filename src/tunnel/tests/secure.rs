//! Ends of the stage that speak TLS, over rustls' own buffers.

use std::cell::RefCell;
use std::sync::OnceLock;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use super::*;
use crate::config::{File, ListenTls, Target, TlsVersion, UpstreamTls};
use crate::net::tls::{Acceptor, Connector, Offer, Tls};

/// The other end's TLS.
pub(super) struct Peer(Connection);

impl Peer {
    /// As [`End::try_say`]: nothing is accepted while records of before are still here.
    pub(super) fn try_say(&mut self, socket: &mut UnixStream, bytes: &[u8]) -> usize {
        let mut at = 0;
        while self.flush(socket) && at < bytes.len() {
            let piece = &bytes[at..bytes.len().min(at + 16 * 1024)];
            at += self.0.writer().write(piece).unwrap();
        }
        at
    }

    /// Whether the kernel took all of it.
    fn flush(&mut self, socket: &mut UnixStream) -> bool {
        while self.0.wants_write() {
            if self.0.write_tls(socket).is_err() {
                return false;
            }
        }
        true
    }

    /// As [`End::hear_all`]; sends what is left over from before.
    pub(super) fn hear_all(&mut self, socket: &mut UnixStream) -> (Vec<u8>, bool) {
        self.flush(socket);
        let mut heard = Vec::new();
        loop {
            let came = self.0.read_tls(socket);
            let state = self.0.process_new_packets().expect("records of the relay are well-formed");
            let mut more = vec![0; state.plaintext_bytes_to_read()];
            self.0.reader().read_exact(&mut more).unwrap();
            heard.extend(more);
            match came {
                Ok(0) => return (heard, true),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (heard, true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return (heard, state.peer_has_closed());
                }
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// What it takes is ciphertext of a write that was accepted long before: it counts all the same.
#[tokio::test(start_paused = true)]
async fn a_client_over_tls_that_reads_a_little_is_not_given_up_and_one_that_reads_nothing_is() {
    let mut stage = Stage::with(Props {
        settings: "policy: { heartbeat: null, idle_timeout: 0s, delivery: { stall_timeout: 60s } }",
        buffers: Some(SMALL),
        tls: [true, false],
        ..Props::default()
    })
    .await;
    SockRef::from(stage.upstream.socket.as_ref().unwrap()).set_send_buffer_size(FLOOD).unwrap();
    let message = frame(0x82, &[7; 60_000], false);
    assert_eq!(stage.pour(Which::Upstream, &message).await, message.len());
    assert!(stage.relay().client.egress.is_empty(), "all of it was accepted");
    assert!(!stage.relay().client.is_flushed());
    for _ in 0..2 {
        stage.pass(secs(59)).await;
        // Less than a record may have come.
        stage.client.hear();
        stage.turn().await;
        assert!(!stage.relay().client.is_flushed());
    }
    stage.pass(secs(50)).await;
    assert!(stage.relay().ending.is_none());
    stage.pass(secs(11)).await;
    stage.upstream.leave();
    assert!(stage.lasts(secs(60)).await <= secs(5));
    assert_eq!(stage.reason(), "slow_consumer");
}

struct Files {
    cert: String,
    key: String,
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["stage".to_owned()]).unwrap();
        Files { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    })
}

fn file(contents: &str) -> File {
    File { path: "file".into(), contents: contents.as_bytes().into() }
}

fn chain() -> Vec<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    vec![CertificateDer::from_pem_slice(files().cert.as_bytes()).unwrap()]
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Our end is a server, `end` its client.
pub(super) async fn accept(socket: Stream, end: &mut End) -> Stream {
    let settings = ListenTls {
        cert: file(&files().cert),
        key: file(&files().key),
        clients: None,
        min_version: TlsVersion::V1_2,
    };
    thread_local! {
        static ACCEPTOR: RefCell<Option<Acceptor>> = const { RefCell::new(None) };
    }
    let acceptor = ACCEPTOR.take();
    let acceptor = Acceptor::new(&settings, Offer::Http1, acceptor.as_ref()).unwrap();
    ACCEPTOR.set(Some(acceptor.clone()));
    let mut roots = RootCertStore::empty();
    roots.add(chain().remove(0)).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("stage").unwrap();
    let peer = ClientConnection::new(Arc::new(config), name).unwrap();
    let ours = async { acceptor.accept(socket).await.map_err(|(error, _)| error).unwrap() };
    meet(ours, Connection::Client(peer), end).await
}

/// Our end is a client, `end` its server.
pub(super) async fn connect(socket: Stream, end: &mut End) -> Stream {
    use rustls::pki_types::pem::PemObject;
    let settings = UpstreamTls { ca: Some(file(&files().cert)), ..UpstreamTls::default() };
    let target = Target::Tcp { host: "stage".into(), port: 443 };
    let connector = Connector::to_upstream(&settings, &target).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain(), PrivateKeyDer::from_pem_slice(files().key.as_bytes()).unwrap())
        .unwrap();
    let peer = ServerConnection::new(Arc::new(config)).unwrap();
    let ours = async { connector.connect(socket, "stage").await.unwrap() };
    meet(ours, Connection::Server(peer), end).await
}

/// Both ends shake hands.
async fn meet(ours: impl Future<Output = Box<Tls>>, peer: Connection, end: &mut End) -> Stream {
    let mut peer = Box::new(Peer(peer));
    let mut ours = std::pin::pin!(ours);
    let tls = loop {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(tls) = ours.as_mut().poll(&mut cx) {
            break tls;
        }
        tokio::task::yield_now().await;
        let socket = end.socket.as_mut().unwrap();
        assert_eq!(peer.hear_all(socket), (Vec::new(), false), "nothing is said yet");
        peer.flush(socket);
    };
    end.tls = Some(peer);
    Stream::Tls(tls)
}
