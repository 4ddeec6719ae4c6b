//! Peers that speak TLS over rustls' own buffers, for tests that drive one end of a hop by hand.

use std::cell::RefCell;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use socket2::SockRef;

use super::{Acceptor, Connector, Offer, Tls, provider};
use crate::config::{File, ListenTls, Target, TlsVersion, UpstreamTls};
use crate::net::Stream;

/// The other end's TLS.
#[derive(Debug)]
pub(crate) struct Peer(Connection);

impl Peer {
    /// Says as much as `socket` takes: nothing is accepted while records of before are still here.
    pub(crate) fn try_say(&mut self, socket: &mut UnixStream, bytes: &[u8]) -> usize {
        let mut at = 0;
        while self.flush(socket) && at < bytes.len() {
            let piece = &bytes[at..bytes.len().min(at + 16 * 1024)];
            at += self.0.writer().write(piece).unwrap();
        }
        at
    }

    /// Says all of `bytes`, each in a record of its own, and as many at once as the kernel takes.
    pub(crate) fn say_each(&mut self, socket: &mut UnixStream, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let n = self.0.writer().write(&bytes[at..=at]).unwrap();
            at += n;
            assert!(n > 0 || self.flush(socket), "there is room");
        }
        assert!(self.flush(socket), "there is room");
    }

    /// Changes its keys so often, with what it says next.
    pub(crate) fn change_keys(&mut self, times: usize) {
        for _ in 0..times {
            self.0.refresh_traffic_keys().unwrap();
        }
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

    /// Everything that has come, and whether it was the end; sends what is left over from before.
    pub(crate) fn hear_all(&mut self, socket: &mut UnixStream) -> (Vec<u8>, bool) {
        self.flush(socket);
        let mut has_read = Vec::new();
        loop {
            let came = self.0.read_tls(socket);
            let state = self.0.process_new_packets().expect("records of the relay are well-formed");
            let mut more = vec![0; state.plaintext_bytes_to_read()];
            self.0.reader().read_exact(&mut more).unwrap();
            has_read.extend(more);
            match came {
                Ok(0) => return (has_read, true),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (has_read, true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return (has_read, state.peer_has_closed());
                }
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
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
    vec![CertificateDer::from_pem_slice(files().cert.as_bytes()).unwrap()]
}

/// Our end is a server, `end` its client.
pub(crate) async fn accept(socket: Stream, end: &mut UnixStream) -> (Stream, Box<Peer>) {
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
pub(crate) async fn connect(socket: Stream, end: &mut UnixStream) -> (Stream, Box<Peer>) {
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
async fn meet(
    ours: impl Future<Output = Box<Tls>>,
    peer: Connection,
    end: &mut UnixStream,
) -> (Stream, Box<Peer>) {
    let mut peer = Box::new(Peer(peer));
    let mut ours = std::pin::pin!(ours);
    let tls = loop {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(tls) = ours.as_mut().poll(&mut cx) {
            break tls;
        }
        tokio::task::yield_now().await;
        assert_eq!(peer.hear_all(end), (Vec::new(), false), "nothing is said yet");
        peer.flush(end);
    };
    (Stream::Tls(tls), peer)
}

/// The far side of a hop whose socket is soon full.
pub(crate) struct Far {
    /// The near socket once more, for its options.
    near: UnixStream,
    pub(crate) socket: UnixStream,
    pub(crate) peer: Box<Peer>,
}

/// A hop over TLS whose socket takes a few KiB until [`Far::make_room`].
pub(crate) async fn narrow() -> (Stream, Far) {
    let (near, mut socket) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    SockRef::from(&near).set_send_buffer_size(4 * 1024).unwrap();
    let ours = tokio::net::UnixStream::from_std(near.try_clone().unwrap()).unwrap();
    let (stream, peer) = accept(Stream::Unix(ours), &mut socket).await;
    (stream, Far { near, socket, peer })
}

impl Far {
    /// Reads all that has come, and lets the near socket take as much as anybody has for it. When this is
    /// over the near end has been told so, and has not been asked to write.
    pub(crate) async fn make_room(&mut self) {
        SockRef::from(&self.near).set_send_buffer_size(1 << 20).unwrap();
        self.peer.hear_all(&mut self.socket);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }

    /// Says all of `bytes`.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        assert_eq!(self.peer.try_say(&mut self.socket, bytes), bytes.len());
        assert!(self.peer.flush(&mut self.socket), "there is room");
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
}
