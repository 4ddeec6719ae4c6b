//! Opens the ports that clients and operators connect to, and says what to do where that fails.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::error::StartError;
use crate::net;

/// Ports below this need a capability (net.ipv4.ip_unprivileged_port_start, by default).
const UNPRIVILEGED: u16 = 1024;

/// The socket that accepts clients.
#[derive(Debug)]
pub(super) enum Listener {
    /// TCP, and its port.
    Tcp(TcpListener, u16),
    /// A Unix socket; its file goes with it.
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] SocketFile),
}

/// The file of a Unix socket, removed when it is no longer listened on.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Identifies the file: one that others have put in its place is not removed.
    file_id: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.file_id.is_some() && self.file_id == file_id(&self.path) {
            // It may be gone already; nothing depends on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of the file itself, not of what a link leads to.
fn file_id(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Listens on a Unix socket. A socket file that no process listens on any more is replaced; one that a process listens on
/// is not, nor is any other kind of file.
///
/// # Errors
/// The kernel refused it, or another file is there.
pub(super) fn listen_unix(path: &Path) -> Result<Listener, StartError> {
    let failed = |source: io::Error| {
        let remedy = unix_remedy(source.kind());
        StartError::Listen { key: "listen.unix", address: path.display().to_string(), source, remedy }
    };
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let file = fs::symlink_metadata(path).map_err(failed)?.file_type();
            if !file.is_socket() {
                return Err(StartError::Occupied { path: path.to_owned(), kind: file_kind(file) });
            }
            match is_abandoned(path) {
                Ok(true) => {}
                Ok(false) => return Err(failed(error)),
                Err(why) => return Err(failed(why)),
            }
            fs::remove_file(path).map_err(failed)?;
            UnixListener::bind(path).map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    Ok(Listener::Unix(listener, SocketFile { path: path.to_owned(), file_id: file_id(path) }))
}

/// Whether no process listens on the socket there. An error: it is a socket of another type, or there is no permission to
/// connect.
fn is_abandoned(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Connecting to one whose backlog is full would block until it accepts.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) => Err(error),
    }
}

/// The kind of a file that is not a socket, in words.
fn file_kind(file: fs::FileType) -> &'static str {
    if file.is_dir() {
        "a directory"
    } else if file.is_symlink() {
        "a symbolic link"
    } else if file.is_file() {
        "a regular file"
    } else {
        "a device or a pipe"
    }
}

/// Listens on `address`, which `key` names.
pub(super) fn listen(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source: io::Error| {
        let remedy = tcp_remedy(key, address, source.kind());
        StartError::Listen { key, address: address.to_string(), source, remedy }
    };
    let listener = net::listen(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn tcp_remedy(key: &'static str, address: SocketAddr, why: io::ErrorKind) -> String {
    let port = address.port();
    let flag = match key {
        "listen.address" => " (or --listen)",
        "admin.address" => " (or --admin)",
        _ => "",
    };
    match why {
        io::ErrorKind::AddrInUse => format!(
            "something else listens on port {port}: stop it (`ss -ltnp` tells what it is), or give {key}{flag} \
             another port"
        ),
        io::ErrorKind::PermissionDenied if port < UNPRIVILEGED => format!(
            "port {port} takes a right that this process does not have: give it CAP_NET_BIND_SERVICE, lower \
             net.ipv4.ip_unprivileged_port_start (sysctl), or give {key}{flag} a port above 1023"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("a security policy of the system forbids it; give {key}{flag} another port")
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "this machine has no such address: give {key}{flag} one that it has; 0.0.0.0 is all of IPv4, and [::] all of \
             IPv6"
        ),
        _ => format!("give {key}{flag} an address that this machine can listen on"),
    }
}

/// As [`tcp_remedy`], for a Unix socket.
fn unix_remedy(why: io::ErrorKind) -> String {
    match why {
        io::ErrorKind::AddrInUse => "somebody listens there: stop it, or name another path",
        io::ErrorKind::NotFound => "its folder is not there: make it, or name another path",
        io::ErrorKind::PermissionDenied => {
            "this process may not write to its folder: give it the right to, or name another path"
        }
        io::ErrorKind::InvalidInput => {
            "the path of a socket has at most 107 bytes, and no NUL: name a shorter one"
        }
        _ => "name a path where this process may make a socket",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// A directory of its own, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("outrigger-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Why it cannot be listened on.
    fn refused(path: &Path) -> String {
        match listen_unix(path) {
            Ok(_) => panic!("{} is listened on", path.display()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn only_a_socket_that_nobody_listens_on_is_taken_over() {
        let scratch = Scratch::new("unix-kinds");
        let path = scratch.path("s");

        fs::write(&path, "precious").unwrap();
        let refusal = refused(&path);
        assert!(refusal.contains("a regular file") && refusal.contains("remove it"), "{refusal}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();

        fs::create_dir(&path).unwrap();
        assert!(refused(&path).contains("a directory"));
        fs::remove_dir(&path).unwrap();

        // What a link leads to is not looked at: the link itself would be removed.
        fs::write(scratch.path("target"), "precious").unwrap();
        symlink(scratch.path("target"), &path).unwrap();
        assert!(refused(&path).contains("a symbolic link"));
        assert_eq!(fs::read_link(&path).unwrap(), scratch.path("target"));
        fs::remove_file(&path).unwrap();

        let other = UnixDatagram::bind(&path).unwrap();
        let refusal = refused(&path);
        assert!(path.exists(), "it is somebody's, who speaks something else: {refusal}");
        drop(other);
        fs::remove_file(&path).unwrap();

        let first = listen_unix(&path).unwrap();
        assert!(refused(&path).contains("in use"));
        drop(first);
        assert!(!path.exists(), "it goes with its listener");

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a process that died left it behind");
        let taken_over = listen_unix(&path).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        drop(taken_over);
    }

    #[tokio::test]
    async fn what_stands_in_the_place_of_a_socket_by_then_is_not_removed_with_it() {
        let scratch = Scratch::new("unix-place");
        let path = scratch.path("s");
        let listener = listen_unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(listener);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

        fs::remove_file(&path).unwrap();
        let old = listen_unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let new = listen_unix(&path).unwrap();
        drop(old);
        assert!(path.exists(), "the socket of a process that came after it stays");
        drop(new);
    }
}
