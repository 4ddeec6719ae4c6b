//! Raw TCP forwarding with tokio: the cost of a proxy that looks at nothing, as a point of reference.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

/// Buffer for each direction of each connection: tokio's own choice.
const BUFFER: usize = 8192;

/// Forwards until `max_secs` have passed: a forwarder that was forgotten ends by itself.
pub fn run(listener: std::net::TcpListener, to: SocketAddrV4, max_secs: u64) -> io::Result<()> {
    let accept = async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            tokio::spawn(forward_one(client, to));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let limit = Duration::from_secs(max_secs);
        tokio::time::timeout(limit, accept).await.unwrap_or(Ok(()))
    })
}

async fn forward_one(mut client: TcpStream, to: SocketAddrV4) -> io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
    Ok(())
}
