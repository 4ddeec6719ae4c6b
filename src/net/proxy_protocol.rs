//! The PROXY protocol, versions 1 and 2: before everything else a load balancer sends the addresses of the connection that it
//! forwards. [`parse`] is pure; [`read`] reads the header from a socket.
//!
//! # Invariants
//! 1. No byte behind the header is read: the header is peeked at in the kernel's buffer, and read when its end is known.
//!    Without a header nothing is read.
//! 2. While a header is incomplete the task sleeps: the next byte wakes it, and the end of the stream ends the wait.
//! 3. A header is at most [`MAX_HEADER`] bytes.
//!
//! # Not here
//! Whose header is believed, and how long it may take ([`crate::server`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use tokio::io::{AsyncReadExt, Interest};

use super::Stream;

/// A line of version 1, with its line break.
const MAX_V1_LINE: usize = 107;
/// What version 2 may carry besides its first 16 bytes. Load balancers send a few hundred bytes at most
/// (identifiers, the name of a certificate).
const MAX_REST: usize = 4096;
/// Longest header.
const MAX_HEADER: usize = V2_HEAD_LEN + MAX_REST;

/// First bytes of version 1.
const V1_PREFIX: &[u8] = b"PROXY ";
/// First bytes of version 2: no HTTP request, no TLS record begins so.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length of the rest.
const V2_HEAD_LEN: usize = 16;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of a header, perhaps; more bytes are needed.
    NeedMore,
    /// A header of `len` bytes.
    Header {
        /// In bytes, all of which are there.
        len: usize,
        /// The addresses in it. `None` for a connection of the balancer itself (a health check), and where it does not know
        /// them or gives Unix sockets: then the socket's own addresses count.
        addresses: Option<Addresses>,
    },
    /// Something else.
    NotProxy,
    /// It begins like a header, but is not valid.
    Malformed(&'static str),
}

/// The addresses of the connection that the balancer forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// The address that it connected to.
    pub destination: SocketAddr,
}

/// The result of [`read`].
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// There was a header, which was read.
    Header(Option<Addresses>),
    /// No header; nothing was read.
    None,
    /// The connection ended before its first byte, as those of port scans and TCP health checks do.
    Closed,
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Not as the specification has it.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    /// The socket failed.
    #[error("the PROXY header could not be read: {0}")]
    Io(#[from] io::Error),
}

/// Looks at the first bytes of a connection.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    if shares_prefix(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else if shares_prefix(bytes, V1_PREFIX) {
        parse_v1(bytes)
    } else {
        Parsed::NotProxy
    }
}

/// Reads the header that `stream` begins with, if it does.
///
/// # Errors
/// It is malformed or cut short, or the socket failed.
pub(crate) async fn read(stream: &mut Stream) -> Result<ReadOutcome, ReadError> {
    let mut peeked = vec![0; MAX_HEADER];
    match peek_header(stream, &mut peeked).await? {
        // The stream has ended behind it: it stays incomplete.
        Parsed::NeedMore => Err(ReadError::Malformed("it ends in the middle")),
        Parsed::NotProxy if peeked.is_empty() => Ok(ReadOutcome::Closed),
        Parsed::NotProxy => Ok(ReadOutcome::None),
        Parsed::Malformed(what) => Err(ReadError::Malformed(what)),
        Parsed::Header { len, addresses } => {
            peeked.resize(len, 0);
            stream.read_exact(&mut peeked).await?;
            Ok(ReadOutcome::Header(addresses))
        }
    }
}

/// Waits until the first bytes can be classified, or until the stream ends. Leaves them in `peeked`.
async fn peek_header(stream: &mut Stream, peeked: &mut Vec<u8>) -> io::Result<Parsed> {
    // A duplicate of the socket, of whatever family: std's sockets can peek, and tokio's have no peek that can be told that
    // there is not enough yet.
    let socket = match stream {
        Stream::Tcp(tcp) => tcp.as_fd().try_clone_to_owned()?,
        Stream::Unix(unix) => unix.as_fd().try_clone_to_owned()?,
        // The header stands before whatever else is spoken.
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = std::net::TcpStream::from(socket);
    let mut peek = || match socket.peek(peeked)? {
        0 => Ok((0, Parsed::NotProxy)),
        // For the runtime this is as if nothing had come: it waits for the next byte, and does not spin.
        count => match peeked.get(..count).map_or(Parsed::NotProxy, parse) {
            Parsed::NeedMore => Err(io::ErrorKind::WouldBlock.into()),
            parsed => Ok((count, parsed)),
        },
    };
    let (count, parsed) = loop {
        let (ready, result) = match stream {
            Stream::Tcp(tcp) => {
                let ready = tcp.ready(Interest::READABLE).await?;
                (ready, tcp.try_io(Interest::READABLE, &mut peek))
            }
            Stream::Unix(unix) => {
                let ready = unix.ready(Interest::READABLE).await?;
                (ready, unix.try_io(Interest::READABLE, &mut peek))
            }
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        match result {
            // The end was there before the look: what was seen is all.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && ready.is_read_closed() => {
                break (1, Parsed::NeedMore);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => break result?,
        }
    };
    peeked.truncate(count);
    Ok(parsed)
}

/// Whether `bytes` are the beginning of `signature`, or the other way round.
fn shares_prefix(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

/// Version 1: `PROXY TCP4 SOURCE DESTINATION PORT PORT\r\n`.
fn parse_v1(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.iter().take(MAX_V1_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_V1_LINE {
            Parsed::NeedMore
        } else {
            Parsed::Malformed("the line is too long")
        };
    };
    let text = bytes.get(V1_PREFIX.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let Some(text) = text.and_then(|line| std::str::from_utf8(line).ok()) else {
        return Parsed::Malformed("the line is no text, or does not end in CR LF");
    };
    let header = |addresses| Parsed::Header { len: end + 1, addresses };
    let mut words = text.split(' ');
    let addresses = match words.next() {
        // What follows it is to be ignored.
        Some("UNKNOWN") => return header(None),
        Some("TCP4") => parse_addresses::<Ipv4Addr>(words),
        Some("TCP6") => parse_addresses::<Ipv6Addr>(words),
        _ => return Parsed::Malformed("it names neither TCP4, TCP6 nor UNKNOWN"),
    };
    match addresses {
        Some(addresses) => header(Some(addresses)),
        None => Parsed::Malformed("its addresses or ports are none"),
    }
}

/// Two addresses and two ports, and nothing else.
fn parse_addresses<'a, Ip: std::str::FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Option<Addresses> {
    let mut ip = || words.next()?.parse::<Ip>().ok().map(Into::into);
    let (source, destination) = (ip()?, ip()?);
    let mut port = || {
        let digits = words.next().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse().ok().filter(|_| digits == "0" || !digits.starts_with('0'))
    };
    let (from, to) = (port()?, port()?);
    words.next().is_none().then(|| Addresses {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// Version 2.
fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some((&[command, family, high, low], rest)) =
        bytes.get(V2_SIGNATURE.len()..).and_then(|bytes| bytes.split_first_chunk::<4>())
    else {
        return Parsed::NeedMore;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Before the rest has come: there is no need to wait for a header of that length.
    let addresses: fn(&[u8]) -> Option<Option<Addresses>> = match (command, family) {
        // LOCAL: the balancer speaks for itself.
        (0x20, _) => |_| Some(None),
        (0x21, 0x00) => |_| Some(None),
        (0x21, 0x11) => |rest| v4(rest).map(Some),
        (0x21, 0x21) => |rest| v6(rest).map(Some),
        // Two names of 108 bytes: no address of a client.
        (0x21, 0x31) => |rest| (rest.len() >= 216).then_some(None),
        (0x21, _) => return Parsed::Malformed("it is not about a stream over IPv4, IPv6 or a Unix socket"),
        (command, _) if command >> 4 != 2 => return Parsed::Malformed("its version is not 2"),
        _ => return Parsed::Malformed("its command is neither LOCAL nor PROXY"),
    };
    if length > MAX_REST {
        return Parsed::Malformed("it is too long");
    }
    let Some(rest) = rest.get(..length) else { return Parsed::NeedMore };
    // What follows the addresses (TLVs) is skipped.
    match addresses(rest) {
        Some(addresses) => Parsed::Header { len: V2_HEAD_LEN + length, addresses },
        None => Parsed::Malformed("it is too short for its addresses"),
    }
}

fn v4(rest: &[u8]) -> Option<Addresses> {
    let (source, rest) = rest.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    ports(rest, Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into())
}

fn v6(rest: &[u8]) -> Option<Addresses> {
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    ports(rest, Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into())
}

fn ports(rest: &[u8], source: IpAddr, destination: IpAddr) -> Option<Addresses> {
    let &[a, b, c, d] = rest.first_chunk::<4>()?;
    let port = |high, low| u16::from_be_bytes([high, low]);
    Some(Addresses {
        source: SocketAddr::new(source, port(a, b)),
        destination: SocketAddr::new(destination, port(c, d)),
    })
}

#[cfg(test)]
mod tests;
