//! One life of the server. It ends as that of a process does which crashes, and the next one knows nothing of it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a server keeps as long as it runs, and its end.
#[derive(Debug)]
pub(super) struct Process {
    /// The how manieth it is, from 1.
    pub(super) generation: u64,
    started: Instant,
    is_killed: AtomicBool,
    kill: Notify,
}

impl Process {
    pub(super) fn start(generation: u64) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Self { generation, started, is_killed: AtomicBool::new(false), kill: Notify::new() })
    }

    /// From now on whatever socket of it is dropped is reset.
    pub(super) fn kill(&self) {
        self.is_killed.store(true, Ordering::Release);
        self.kill.notify_one();
    }

    /// Completes when it is killed.
    pub(super) async fn killed(&self) {
        self.kill.notified().await;
    }

    /// How many ticks there were. All connections hear the same ones, so that one who was away can tell how many it missed.
    pub(super) fn ticks(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    pub(super) fn tick_at(&self, n: u64) -> Instant {
        self.started + Duration::from_secs(n)
    }
}

/// A connection of a process.
#[derive(Debug)]
pub(super) struct ProcessSocket {
    stream: TcpStream,
    process: Arc<Process>,
}

impl ProcessSocket {
    pub(super) fn new(stream: TcpStream, process: Arc<Process>) -> Self {
        // A small message is sent at once; if this fails, it costs milliseconds only.
        let _ = stream.set_nodelay(true);
        Self { stream, process }
    }
}

impl Drop for ProcessSocket {
    fn drop(&mut self) {
        if self.process.is_killed.load(Ordering::Acquire) {
            // If this fails the peer sees an end in order, and what follows is the same.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for ProcessSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ProcessSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Listens there after `away`. Until then whoever connects is refused, and nobody else can have the port.
pub(super) async fn listen_again(address: SocketAddr, away: Duration) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What is left of old connections does not stand in the way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    tokio::time::sleep(away).await;
    socket.listen(BACKLOG)
}

/// As many as tokio's own listeners have.
const BACKLOG: u32 = 1024;
