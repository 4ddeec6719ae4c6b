//! What lies between a client and the proxy: it can break.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Gone with its connections when it is dropped.
pub(super) struct Network {
    address: SocketAddr,
    cuts: watch::Sender<()>,
    _relaying: JoinSet<()>,
}

impl Network {
    pub(super) async fn before(proxy: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = watch::Sender::new(());
        let cut = cuts.subscribe();
        let mut relaying = JoinSet::new();
        relaying.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(proxy).await.unwrap();
                connections.spawn(relay(client, server, cut.clone()));
            }
        });
        Self { address, cuts, _relaying: relaying }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection ends: an event stream in the middle of its next event.
    pub(super) fn cut(&self) {
        self.cuts.send_replace(());
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, mut cuts: watch::Receiver<()>) {
    cuts.mark_unchanged();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut back = [0; 16 * 1024];
    let mut forth = [0; 16 * 1024];
    let mut is_stream = false;
    let mut is_cut = false;
    loop {
        tokio::select! {
            _ = cuts.changed() => {
                if !is_stream {
                    return;
                }
                is_cut = true;
            }
            read = from_client.read(&mut forth) => match read {
                Ok(read) if read > 0 && to_server.write_all(&forth[..read]).await.is_ok() => {}
                _ => return,
            },
            read = from_server.read(&mut back) => {
                let Ok(read) = read else { return };
                is_stream |= back[..read].windows(17).any(|bytes| bytes == b"text/event-stream");
                // The end of an event is what a client waits for before it takes any of it.
                let passed = if is_cut { read.saturating_sub(9) } else { read };
                if to_client.write_all(&back[..passed]).await.is_err() || is_cut || read == 0 {
                    return;
                }
            }
        }
    }
}
