//! The PROXY protocol, versions 1 and 2: a load balancer says, in front of everything else, whose
//! connection it passes on. [`parse`] is pure; [`read`] takes the header off a socket.
//!
//! # Invariants
//! 1. No byte behind the header is taken: it is looked at in the kernel's buffer and read only when its end
//!    is known. What is no header stays where it is.
//! 2. While a header is not whole nothing runs: the next byte wakes the task, and an end of the stream ends
//!    the wait.
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
const MAX_LINE: usize = 107;
/// What version 2 may carry besides its first 16 bytes. Load balancers send a few hundred bytes at most
/// (identifiers, the name of a certificate).
const MAX_REST: usize = 4096;
/// Longest header.
const MAX_HEADER: usize = HEAD + MAX_REST;

/// First bytes of version 1.
const LINE: &[u8] = b"PROXY ";
/// First bytes of version 2: no HTTP request, no TLS record begins so.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length of the rest.
const HEAD: usize = 16;

/// What stands at the beginning of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A header may begin so; more bytes will tell.
    NeedMore,
    /// A header of `len` bytes.
    Header {
        /// In bytes, all of which have come.
        len: usize,
        /// Whom it names; none where the balancer speaks for itself (its health checks), does not know, or
        /// names Unix sockets: then the socket's own addresses count.
        named: Option<Named>,
    },
    /// Something else.
    NotProxy,
    /// It begins like a header and is none.
    Malformed(&'static str),
}

/// The two ends of the connection that the balancer took in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// What was read off a socket.
#[derive(Debug)]
pub(crate) enum Preface {
    /// A header, which is read now.
    Header(Option<Named>),
    /// No header; nothing was read.
    None,
    /// The connection ended before its first byte, as those of port scans and TCP health checks do.
    Silent,
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrefaceError {
    /// Not as the specification has it.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    /// The socket failed.
    #[error("the PROXY header could not be read: {0}")]
    Io(#[from] io::Error),
}

/// Looks at the first bytes of a connection.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    if begins(bytes, SIGNATURE) {
        binary(bytes)
    } else if begins(bytes, LINE) {
        line(bytes)
    } else {
        Parsed::NotProxy
    }
}

/// Reads the header that `stream` begins with, if it does.
///
/// # Errors
/// It is malformed or cut short, or the socket failed.
pub(crate) async fn read(stream: &mut Stream) -> Result<Preface, PrefaceError> {
    let mut seen = vec![0; MAX_HEADER];
    match look(stream, &mut seen).await? {
        // The stream has ended behind it: it stays incomplete.
        Parsed::NeedMore => Err(PrefaceError::Malformed("it ends in the middle")),
        Parsed::NotProxy if seen.is_empty() => Ok(Preface::Silent),
        Parsed::NotProxy => Ok(Preface::None),
        Parsed::Malformed(what) => Err(PrefaceError::Malformed(what)),
        Parsed::Header { len, named } => {
            seen.resize(len, 0);
            stream.read_exact(&mut seen).await?;
            Ok(Preface::Header(named))
        }
    }
}

/// Waits until the first bytes can be told what they are, or until no more can come. Leaves in `seen` what
/// there was.
async fn look(stream: &mut Stream, seen: &mut Vec<u8>) -> io::Result<Parsed> {
    // A second name for the socket, whatever its family: the standard library can look without reading,
    // and the runtime's sockets have no such call that can be told "not enough".
    let socket = match stream {
        Stream::Tcp(tcp) => tcp.as_fd().try_clone_to_owned()?,
        Stream::Unix(unix) => unix.as_fd().try_clone_to_owned()?,
        // The header stands before whatever else is spoken.
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = std::net::TcpStream::from(socket);
    let mut peek = || match socket.peek(seen)? {
        0 => Ok((0, Parsed::NotProxy)),
        // For the runtime this is as if nothing had come: it waits for the next byte, and does not spin.
        count => match seen.get(..count).map_or(Parsed::NotProxy, parse) {
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
    seen.truncate(count);
    Ok(parsed)
}

/// Whether `bytes` are the beginning of `mark`, or the other way round.
fn begins(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.iter().zip(mark).all(|(byte, mark)| byte == mark)
}

/// Version 1: `PROXY TCP4 SOURCE DESTINATION PORT PORT\r\n`.
fn line(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_LINE {
            Parsed::NeedMore
        } else {
            Parsed::Malformed("the line is too long")
        };
    };
    let text = bytes.get(LINE.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let Some(text) = text.and_then(|line| std::str::from_utf8(line).ok()) else {
        return Parsed::Malformed("the line is no text, or does not end in CR LF");
    };
    let header = |named| Parsed::Header { len: end + 1, named };
    let mut words = text.split(' ');
    let addresses = match words.next() {
        // What follows it is to be ignored.
        Some("UNKNOWN") => return header(None),
        Some("TCP4") => named::<Ipv4Addr>(words),
        Some("TCP6") => named::<Ipv6Addr>(words),
        _ => return Parsed::Malformed("it names neither TCP4, TCP6 nor UNKNOWN"),
    };
    match addresses {
        Some(named) => header(Some(named)),
        None => Parsed::Malformed("its addresses or ports are none"),
    }
}

/// Two addresses and two ports, and nothing else.
fn named<'a, Ip: std::str::FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Option<Named> {
    let mut ip = || words.next()?.parse::<Ip>().ok().map(Into::into);
    let (source, destination) = (ip()?, ip()?);
    let mut port = || {
        let digits = words.next().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse().ok().filter(|_| digits == "0" || !digits.starts_with('0'))
    };
    let (from, to) = (port()?, port()?);
    words.next().is_none().then(|| Named {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// Version 2.
fn binary(bytes: &[u8]) -> Parsed {
    let Some((&[command, family, high, low], rest)) =
        bytes.get(SIGNATURE.len()..).and_then(|bytes| bytes.split_first_chunk::<4>())
    else {
        return Parsed::NeedMore;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Before the rest has come: there is no need to wait for a header of that length.
    let named: fn(&[u8]) -> Option<Option<Named>> = match (command, family) {
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
    match named(rest) {
        Some(named) => Parsed::Header { len: HEAD + length, named },
        None => Parsed::Malformed("it is too short for its addresses"),
    }
}

fn v4(rest: &[u8]) -> Option<Named> {
    let (source, rest) = rest.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    ports(rest, Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into())
}

fn v6(rest: &[u8]) -> Option<Named> {
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    ports(rest, Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into())
}

fn ports(rest: &[u8], source: IpAddr, destination: IpAddr) -> Option<Named> {
    let &[a, b, c, d] = rest.first_chunk::<4>()?;
    let port = |high, low| u16::from_be_bytes([high, low]);
    Some(Named {
        source: SocketAddr::new(source, port(a, b)),
        destination: SocketAddr::new(destination, port(c, d)),
    })
}

#[cfg(test)]
mod tests;
