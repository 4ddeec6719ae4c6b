//! URLs and hosts in settings.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::config::error::{Problem, quoted};
use crate::config::model::File;
use crate::config::problems::Problems;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::Scalar;

/// The parts of `http://host[:port]…` or `https://…`.
pub(crate) struct HttpUrl {
    pub(crate) is_tls: bool,
    /// In lower case, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether nothing but a slash follows the authority.
    pub(crate) is_bare: bool,
}

/// Reads an `http://` or `https://` URL without user and fragment.
pub(crate) fn parse(url: &str) -> Option<HttpUrl> {
    let is_tls = url.starts_with("https://");
    if !is_tls && !url.starts_with("http://") {
        return None;
    }
    let uri: http::Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    if authority.as_str().contains('@') || url.contains('#') {
        return None;
    }
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host)? {
        "" if is_tls => 443,
        "" => 80,
        // `port_u16` is `None` for what is not a port.
        _ => authority.port_u16().filter(|port| *port != 0)?,
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
        None if !host.is_empty() && host.bytes().all(is_host_byte) => host,
        Some(_) | None => return None,
    };
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    Some(HttpUrl { is_tls, host: host.to_ascii_lowercase(), port, is_bare })
}

/// Checks a URL that requests are sent to, with any path and query.
pub(crate) fn check_endpoint(key: &str, url: &str, problems: &mut Problems) {
    if parse(url).is_none() {
        problems
            .add(key, refused(url, "http://host[:port]/path or https://host[:port]/path, without a user"));
    }
}

/// Reads the `ca_file` beside the setting `key`, which holds `url`: the authorities for its server's certificate.
pub(crate) fn ca_file(
    key: &str,
    url: &str,
    ca_file: Option<Scalar<PathBuf>>,
    problems: &mut Problems,
) -> Option<File> {
    let Scalar(path) = ca_file?;
    let file = problems.file("ca_file", &path);
    let is_plain = parse(url).is_some_and(|url| !url.is_tls);
    if is_plain && !problems.has(key) && !problems.has("ca_file") {
        let accepted = format!("null, or https:// in {key}: without TLS there is no certificate");
        problems.refuse("ca_file", format!("http:// in {key}"), accepted);
    }
    Some(file)
}

/// Refuses a URL. There may be a password before an `@` and a token in a query: neither is shown.
pub(crate) fn refused(url: &str, accepted: &str) -> Problem {
    let found = if url.contains('@') {
        "a URL with a user, not shown".into()
    } else {
        match url.find(['?', '#']) {
            Some(at) => quoted(&format!("{}…", &url[..=at])),
            None => quoted(url),
        }
    };
    Problem::Value { found, accepted: accepted.into() }
}

/// Checks names or addresses without a port, and makes them lower case.
pub(crate) fn hosts(key: &str, List(given): List<String>, problems: &mut Problems) -> Vec<String> {
    let checked = given.into_iter().enumerate().map(|(index, Scalar(host))| {
        let host = host.to_ascii_lowercase();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let fit = match address {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                let is_name = !host.is_empty() && host.len() <= 253 && host.bytes().all(is_host_byte);
                is_name || host.parse::<Ipv6Addr>().is_ok()
            }
        };
        if !fit {
            let accepted = "a host name or address without a port, such as ws.example.com or ::1";
            problems.within_item(key, index, |problems| problems.refuse("", quoted(&host), accepted));
        }
        host
    });
    checked.collect()
}

/// Whether a host name may have this byte. Underscores are not allowed in host names, but containers have them.
pub(crate) fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}
