//! A peer's side of TLS, cut anywhere, with anything in between: no panic, bounded memory, and what a well-behaved
//! peer has sealed comes out whole, and nothing else ever does.
//!
//! The first byte of the input chooses which end we are and which version the peer speaks; the rest is a script of
//! what the peer, the wire and our own reader do. With a stranger at the other end the rest is what that says.

#![no_main]

use std::cell::RefCell;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use outrigger::config::{File, ListenTls, Target, TlsVersion, UpstreamTls};
use outrigger::internals::Stream;
use outrigger::internals::{Acceptor, Connector, Tls, TlsOffer};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than a stream holds of any peer: the beginning of a handshake message (96 KiB), a record that its reader did
/// not take, and answers that nobody takes (256 KiB, and one more).
const MOST_HELD: usize = 512 * 1024;

/// Most bytes of a script: a longer one is no other case.
const MOST_SCRIPT: usize = 4096;

/// Most new keys that the peer takes: one that does nothing else is not well-behaved.
const MOST_UPDATES: usize = 24;

/// What goes over the wire in either direction, at any offset.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

/// Our end of the hop.
enum Ours {
    Shaking(Pin<Box<dyn Future<Output = Option<Box<Tls>>>>>),
    Open(Box<Tls>),
    /// It has failed, or the peer has ended.
    Over,
}

/// Both ends, and what is on its way.
struct Hop {
    ours: Ours,
    /// None: a stranger.
    peer: Option<Connection>,
    far: UnixStream,
    /// The peer's bytes that were not delivered yet.
    wire: Vec<u8>,
    /// Whether the wire carries anything that no well-behaved peer has sent.
    is_tampered: bool,
    /// Whether the peer has said goodbye.
    is_closed: bool,
    /// How often the peer has taken new keys.
    updates: usize,
    /// How many bytes the peer has said, and how many of them were heard; and the other way round.
    said: usize,
    heard: usize,
    written: usize,
    taken: usize,
}

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime"),
    );
}

fuzz_target!(|input: &[u8]| {
    let [choice, script @ ..] = input else { return };
    let script = &script[..script.len().min(MOST_SCRIPT)];
    RUNTIME.with_borrow(|runtime| runtime.block_on(play(*choice, script)));
});

async fn play(choice: u8, script: &[u8]) {
    let mut hop = Hop::new(choice);
    if hop.peer.is_none() {
        hop.wire.extend_from_slice(script);
        hop.is_tampered = true;
    }
    let mut script = if hop.peer.is_none() { [].iter() } else { script.iter() };
    let mut turns = 0;
    while let Some(step) = script.next() {
        let n = usize::from(script.next().copied().unwrap_or(0));
        match step % 8 {
            0 => hop.deliver(n + 1),
            1 => hop.say(n * 97 + 1),
            2 => hop.read(n * n + 1),
            3 => hop.write(n * 257 + 1),
            4 => {
                let more: Vec<u8> = script.by_ref().take(n % 32).copied().collect();
                hop.is_tampered |= !more.is_empty();
                let at = hop.wire.len() / 2;
                hop.wire.splice(at..at, more);
            }
            5 => {
                let len = hop.wire.len().max(1);
                if let Some(byte) = hop.wire.get_mut(n * n % len) {
                    *byte ^= 1 << (n % 8);
                    hop.is_tampered = true;
                }
            }
            6 => {
                if let Some(peer) = hop.peer.as_mut().filter(|_| hop.updates < MOST_UPDATES) {
                    hop.updates += 1;
                    // Not in TLS 1.2, and not before the handshake is over.
                    let _ = peer.refresh_traffic_keys();
                }
            }
            _ if n % 4 == 0 => {
                if let Some(peer) = hop.peer.as_mut().filter(|peer| !peer.is_handshaking()) {
                    peer.send_close_notify();
                    hop.is_closed = true;
                }
            }
            _ => hop.deliver(n * 64),
        }
        hop.turn().await;
        turns += 1;
        assert!(turns <= MOST_SCRIPT);
    }
    // Everything that is on its way arrives.
    let mut quiet = 0;
    while quiet < 3 {
        let before = hop.progress();
        hop.deliver(usize::MAX);
        hop.turn().await;
        for size in [1, 100, 70_000] {
            hop.read(size);
        }
        hop.flush();
        quiet = if hop.progress() == before { quiet + 1 } else { 0 };
    }
    if !hop.is_tampered {
        assert!(!matches!(hop.ours, Ours::Shaking(_)), "the handshake came to nothing");
        assert_eq!(hop.heard, hop.said, "what the peer has sealed comes out whole");
        assert_eq!(hop.taken, hop.written, "and it gets what was said to it");
    }
}

impl Hop {
    fn new(choice: u8) -> Self {
        let (near, far) = UnixStream::pair().expect("two sockets");
        for socket in [&near, &far] {
            socket.set_nonblocking(true).expect("a socket");
        }
        let near = Stream::Unix(tokio::net::UnixStream::from_std(near).expect("a runtime"));
        let is_server = choice & 1 == 0;
        let ours: Pin<Box<dyn Future<Output = Option<Box<Tls>>>>> = if is_server {
            Box::pin(async move { parts().acceptor.accept(near).await.ok() })
        } else {
            Box::pin(async move { parts().connector.connect(near, "peer").await.ok() })
        };
        let is_old = choice & 2 != 0;
        let peer = match (choice & 12 == 12, is_server) {
            (true, _) => None,
            (false, true) => {
                let name = ServerName::try_from("peer").expect("a name");
                let config = Arc::clone(&parts().clients[usize::from(is_old)]);
                Some(Connection::Client(ClientConnection::new(config, name).expect("a client")))
            }
            (false, false) => {
                let config = Arc::clone(&parts().servers[usize::from(is_old)]);
                Some(Connection::Server(ServerConnection::new(config).expect("a server")))
            }
        };
        Self {
            ours: Ours::Shaking(ours),
            peer,
            far,
            wire: Vec::new(),
            is_tampered: false,
            is_closed: false,
            updates: 0,
            said: 0,
            heard: 0,
            written: 0,
            taken: 0,
        }
    }

    /// What changes as long as anything is on its way.
    fn progress(&self) -> (usize, usize, usize, usize, bool) {
        (self.wire.len(), self.heard, self.taken, self.held(), matches!(self.ours, Ours::Shaking(_)))
    }

    fn held(&self) -> usize {
        match &self.ours {
            Ours::Open(tls) => tls.held(),
            Ours::Shaking(_) | Ours::Over => 0,
        }
    }

    /// Brings `n` bytes of the wire to our socket.
    fn deliver(&mut self, n: usize) {
        let n = n.min(self.wire.len());
        // It may be full, or closed.
        let n = self.far.write(&self.wire[..n]).unwrap_or(0);
        self.wire.drain(..n);
    }

    /// The peer says `n` bytes.
    fn say(&mut self, n: usize) {
        let Some(peer) = self.peer.as_mut().filter(|peer| !peer.is_handshaking()) else { return };
        if self.is_closed || self.wire.len() > MOST_HELD {
            return;
        }
        let bytes: Vec<u8> = (self.said..self.said + n).map(pattern).collect();
        match peer.writer().write(&bytes) {
            Ok(n) => self.said += n,
            // It was told that what it has sent is not right.
            Err(error) => assert!(self.is_tampered, "{error}"),
        }
    }

    /// Our reader asks for up to `n` bytes.
    fn read(&mut self, n: usize) {
        let Ours::Open(tls) = &mut self.ours else { return };
        let mut room = vec![0; n];
        let mut buf = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut **tls).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        for byte in buf.filled() {
            assert_eq!(*byte, pattern(self.heard), "at {}", self.heard);
            self.heard += 1;
        }
        assert!(self.heard <= self.said, "nobody has said that");
        assert!(tls.held() <= MOST_HELD, "{} bytes held", tls.held());
        match polled {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => assert!(self.is_closed || self.is_tampered),
            Poll::Ready(Err(error)) => {
                assert!(self.is_tampered, "{error}");
                self.ours = Ours::Over;
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
    }

    /// We say `n` bytes, as far as they are accepted.
    fn write(&mut self, n: usize) {
        let Ours::Open(tls) = &mut self.ours else { return };
        let bytes: Vec<u8> = (self.written..self.written + n).map(pattern).collect();
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut **tls).poll_write(&mut cx, &bytes) {
            Poll::Ready(Ok(n)) => self.written += n,
            Poll::Ready(Err(error)) => assert!(self.is_tampered, "{error}"),
            Poll::Pending => {}
        }
    }

    fn flush(&mut self) {
        let Ours::Open(tls) = &mut self.ours else { return };
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(error)) = Pin::new(&mut **tls).poll_flush(&mut cx) {
            assert!(self.is_tampered, "{error}");
        }
    }

    /// Lets the runtime tell what has come, goes on with our handshake, and lets the peer read and answer.
    async fn turn(&mut self) {
        tokio::task::yield_now().await;
        if let Ours::Shaking(shaking) = &mut self.ours
            && let Poll::Ready(done) = shaking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            assert!(done.is_some() || self.is_tampered, "a well-behaved peer was turned away");
            self.ours = done.map_or(Ours::Over, Ours::Open);
        }
        let mut came = [0; 16 * 1024];
        loop {
            let mut came = match self.far.read(&mut came) {
                Ok(0) => break,
                Ok(n) => &came[..n],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // We have gone.
                Err(_) => break,
            };
            let Some(peer) = &mut self.peer else { continue };
            while !came.is_empty() {
                // It may be full of what it is told below, or have failed.
                if peer.read_tls(&mut came).is_err() {
                    break;
                }
                let Ok(state) = peer.process_new_packets() else {
                    assert!(self.is_tampered, "what we say is well-formed");
                    break;
                };
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                peer.reader().read_exact(&mut plain).expect("it has that much");
                for byte in plain {
                    assert_eq!(byte, pattern(self.taken));
                    self.taken += 1;
                }
            }
        }
        if let Some(peer) = &mut self.peer {
            while peer.wants_write() {
                peer.write_tls(&mut self.wire).expect("it is memory");
            }
        }
    }
}

/// What is made once: certificates, and settings of both ends.
struct Parts {
    acceptor: Acceptor,
    connector: Connector,
    /// Of TLS 1.3, and of 1.2.
    clients: [Arc<ClientConfig>; 2],
    servers: [Arc<ServerConfig>; 2],
}

fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["peer".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let key = key.serialize_pem();
        let file = |text: &str| File { path: "file".into(), contents: text.as_bytes().into() };
        let listen = ListenTls {
            cert: file(&certificate),
            key: file(&key),
            clients: None,
            min_version: TlsVersion::V1_2,
        };
        let settings = UpstreamTls { ca: Some(file(&certificate)), ..UpstreamTls::default() };
        let target = Target::Tcp { host: "peer".into(), port: 443 };
        let chain = || vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("ours")];
        let mut roots = RootCertStore::empty();
        roots.add(chain().remove(0)).expect("ours");
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = |version| {
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .expect("a version that there is")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            // Each input begins from nothing.
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        let server = |version| {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("ours");
            let config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .expect("a version that there is")
                .with_no_client_auth()
                .with_single_cert(chain(), key)
                .expect("they belong together");
            Arc::new(config)
        };
        Parts {
            acceptor: Acceptor::new(&listen, TlsOffer::Http1, None).expect("its files are right"),
            connector: Connector::to_upstream(&settings, &target).expect("its files are right"),
            clients: [client(&TLS13), client(&TLS12)],
            servers: [server(&TLS13), server(&TLS12)],
        }
    })
}
