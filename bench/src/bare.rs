//! The bare loop: what one feed says is written to each client in turn, and nothing else is done.
//!
//! The yardstick of the fan-out: a proxy that adds queues, cursors and metrics costs more than this.
//! What one read(2) brought of the feed leaves in one write for each client.

use std::io;
use std::net::{SocketAddrV4, TcpListener};

use crate::client::{self, Client, State};
use crate::server::Conns;
use crate::sys::{Epoll, IN, SEC, now_ns};
use crate::ws;

/// Places among the tokens.
const LISTENER: usize = 0;
const FEED: usize = 1;

/// Spreads the feed until `max_secs` have passed. The feed is dialled with the first client, so that
/// the two may be started in any order.
pub fn run(listener: &TcpListener, feed: SocketAddrV4, max_secs: u64) -> io::Result<()> {
    let mut ep = Epoll::new()?;
    ep.add(listener, LISTENER, IN)?;
    let to = client::target(&format!("ws://{feed}/feed"), &[]).map_err(io::Error::other)?;
    let mut conns = Conns::new(FEED + 1);
    let mut link: Option<Client> = None;
    let (mut scratch, mut reply, mut due) = (vec![0; ws::SCRATCH], Vec::new(), Vec::new());
    let end = now_ns() + max_secs * SEC;
    while now_ns() < end {
        for i in 0..ep.wait(SEC) {
            match ep.event(i) {
                (LISTENER, _) => {
                    conns.accept(&ep, listener)?;
                    if link.is_none() && conns.open() > 0 {
                        link = Some(Client::start(&ep, &to, FEED, 0)?);
                    }
                }
                (FEED, flags) => {
                    let Some(feed) = link.as_mut() else { continue };
                    if feed.state == State::Open {
                        due.clear();
                        feed.pump(&ep, FEED, flags, &mut scratch, |head, payload| {
                            ws::put_head(&mut due, head.first, payload.len(), None);
                            due.extend_from_slice(payload);
                        });
                        conns.send_to_all(&ep, &due);
                    } else {
                        feed.handshake(&ep, &to, FEED, &mut scratch);
                    }
                    if feed.state == State::Dead {
                        return Err(io::Error::other("the feed is gone"));
                    }
                }
                (token, flags) => conns.serve_one(&ep, token, flags, &mut scratch, &mut reply, false),
            }
        }
    }
    Ok(())
}
