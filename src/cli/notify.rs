//! Tells a supervisor that clients can come: systemd's notification protocol (sd_notify(3), `Type=notify`).
//!
//! One datagram is sent once, without waiting for a reader. Without `NOTIFY_SOCKET` nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that the ports are open.
///
/// # Errors
/// When the socket that the environment names is not one that can be written to at once.
pub(super) fn ready() -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(()) };
    send(&address(&name)?)
}

fn send(to: &SocketAddr) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // If nothing reads from the socket its queue fills up, and waiting for it would keep the proxy from serving.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(b"READY=1\n", to).map(drop)
}

/// A path, or a name that is on no disk, which `@` marks (unix(7), abstract).
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor an abstract name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_does_not_read_is_not_waited_for() {
        let name = format!("outrigger-notify-{}", std::process::id());
        let to = SocketAddr::from_abstract_name(name).unwrap();
        let supervisor = UnixDatagram::bind_addr(&to).unwrap();
        send(&to).unwrap();
        let mut said = [0; 16];
        let length = supervisor.recv(&mut said).unwrap();
        assert_eq!(&said[..length], b"READY=1\n");
        // As long as its queue may be, and longer.
        let full = (0..100_000).find_map(|_| send(&to).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name_and_nothing_else() {
        let path = address(OsStr::new("/run/systemd/notify")).unwrap();
        assert_eq!(path.as_pathname(), Some("/run/systemd/notify".as_ref()));
        let name = address(OsStr::new("@notify/1")).unwrap();
        assert_eq!(name.as_abstract_name(), Some(b"notify/1".as_slice()));
        for wrong in ["notify", "vsock:2:1234", "tcp"] {
            assert_eq!(
                address(OsStr::new(wrong)).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{wrong}"
            );
        }
    }
}
