//! Kernel memory of single sockets, as `ss -tmn` tells it.
//!
//! Of a socket's `skmem` these fields are memory that data holds:
//! * `r`: received and not yet read by the process;
//! * `w`: written by the process and not yet acknowledged by the peer, sent or not;
//! * `t`: on its way through the network layer. Packets of `t` are clones that share their data with
//!   packets of `w`, and on loopback `t` is 0 nearly always: while the peer does not read, everything
//!   waits in `w`. So a socket counts as `r` + the larger of `t` and `w`.
//!
//! Each packet counts with its overhead (its "true size"), which is what the machine pays.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::process::Command;

/// One line of `ss`.
#[derive(Debug, Clone, PartialEq)]
pub struct Socket {
    pub local: SocketAddrV4,
    pub peer: SocketAddrV4,
    /// `r`, `t` and `w` of skmem, in bytes.
    pub received: u64,
    pub in_transit: u64,
    pub queued: u64,
}

impl Socket {
    pub fn bytes(&self) -> u64 {
        self.received + self.in_transit.max(self.queued)
    }
}

/// The machine's TCP sockets that have `proxy` at this end or `upstream` at the other one.
pub fn list(proxy: SocketAddrV4, upstream: SocketAddrV4) -> io::Result<Vec<Socket>> {
    let filter = format!("( sport = :{} or dport = :{} )", proxy.port(), upstream.port());
    let output = Command::new("ss").args(["-tmnHO", &filter]).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("ss failed: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// One socket a line (`-O`): state, two queues, local and peer address, then `skmem:(r…,…)`.
fn parse(text: &str) -> Vec<Socket> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let memory = words.iter().find_map(|w| w.strip_prefix("skmem:(")?.strip_suffix(')'))?;
    // A name is followed by digits: `t0` is not `tb87040`.
    let number = |name: &str| memory.split(',').find_map(|f| f.strip_prefix(name)?.parse::<u64>().ok());
    Some(Socket {
        local: address(words.get(3)?)?,
        peer: address(words.get(4)?)?,
        received: number("r")?,
        in_transit: number("t")?,
        queued: number("w")?,
    })
}

/// A proxy with a dual-stack listener shows `[::ffff:127.0.0.1]:80`.
fn address(text: &str) -> Option<SocketAddrV4> {
    let addr: SocketAddr = text.parse().ok()?;
    match addr.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, addr.port())),
        std::net::IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ss_gives_both_ends_and_what_the_data_holds() {
        let text = "ESTAB 0 2610176 127.0.0.1:19020 127.0.0.2:34567 \
                    skmem:(r512,rb131072,t11,tb4194304,f1984,w2647104,o0,bl0,d3) \n\
                    ESTAB 0 0 [::ffff:127.0.0.1]:40000 127.0.0.1:19001 skmem:(r0,rb131072,t7,tb87040,f0,w5,o0,bl0,d0)\n\
                    ESTAB 0 0 [::1]:40000 [::1]:19001 skmem:(r0,rb131072,t0,tb87040,f0,w0,o0,bl0,d0)\n\
                    nonsense\n";
        let sockets = parse(text);
        assert_eq!(sockets.len(), 2, "IPv6 and nonsense are left out");
        assert_eq!(sockets[0].local, "127.0.0.1:19020".parse().unwrap());
        assert_eq!(sockets[0].peer, "127.0.0.2:34567".parse().unwrap());
        assert_eq!(sockets[0].bytes(), 512 + 2_647_104);
        assert_eq!(sockets[1].local, "127.0.0.1:40000".parse().unwrap());
        assert_eq!(sockets[1].bytes(), 7);
    }
}
