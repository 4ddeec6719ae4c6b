//! Opening ports, and what to do where that fails.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;
use crate::net;

/// Ports below take a right of their own (net.ipv4.ip_unprivileged_port_start, unless somebody has changed it).
const UNPRIVILEGED: u16 = 1024;

/// Listens on `address`, which `key` names.
pub(super) fn listen(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source: io::Error| {
        let remedy = for_tcp(key, address, source.kind());
        StartError::Listen { key, address: address.to_string(), source, remedy }
    };
    let listener = net::listen(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn for_tcp(key: &'static str, address: SocketAddr, why: io::ErrorKind) -> String {
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

/// The same for a socket in the file system.
pub(super) fn for_unix(why: io::ErrorKind) -> String {
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
