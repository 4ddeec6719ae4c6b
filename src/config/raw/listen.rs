//! `listen`: where clients come in.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::later::{Later, ListenTls};
use super::scalar::{Scalar, Workers};
use super::units::{Bytes, Span};
use crate::config::model::{Http2, Listen, ListenAddress, ProxyProtocol};
use crate::config::problems::Problems;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawListen {
    address: Option<Scalar<SocketAddr>>,
    unix: Option<Scalar<PathBuf>>,
    tls: Later<ListenTls>,
    proxy_protocol: Later,
    handshake_timeout: Scalar<Span>,
    keep_alive: Scalar<Span>,
    max_header_bytes: Scalar<Bytes>,
    http2: Scalar<bool>,
    workers: Scalar<Workers>,
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            address: Some(Scalar(DEFAULT_ADDRESS)),
            unix: None,
            tls: Later::default(),
            proxy_protocol: Later::word("off"),
            handshake_timeout: Scalar(Span::secs(10)),
            keep_alive: Scalar(Span::secs(75)),
            max_header_bytes: Scalar(Bytes(32 * 1024)),
            http2: Scalar(true),
            workers: Scalar(Workers::Auto),
        }
    }
}

const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// Below it hyper has no buffer to read a head into; above it a head is an attack.
const HEADER_BYTES: std::ops::RangeInclusive<u64> = 8 * 1024..=1024 * 1024;

impl RawListen {
    pub(super) fn validate(self, problems: &mut Problems) -> Listen {
        let defaults = Self::default();
        let Self {
            address,
            unix,
            tls,
            proxy_protocol,
            handshake_timeout,
            keep_alive,
            max_header_bytes,
            http2,
            workers,
        } = self;
        problems.only_default("tls", &tls, &defaults.tls);
        problems.only_default("proxy_protocol", &proxy_protocol, &defaults.proxy_protocol);
        super::positive("handshake_timeout", handshake_timeout, problems);
        super::positive("keep_alive", keep_alive, problems);
        if !HEADER_BYTES.contains(&max_header_bytes.0.0) {
            let found = super::shown(max_header_bytes);
            problems.refuse("max_header_bytes", found, "a size from 8KiB to 1MiB");
        }
        let address = match (address, unix) {
            (Some(Scalar(address)), None) => ListenAddress::Tcp(address),
            (None, Some(Scalar(path))) => ListenAddress::Unix(path),
            (Some(address), Some(Scalar(path))) => {
                let found = format!("unix, and address {} too", super::shown(address));
                problems.refuse("unix", found, "one of the two: set the other to null");
                ListenAddress::Unix(path)
            }
            (None, None) => {
                if !problems.has("unix") && !problems.has("address") {
                    problems.refuse(
                        "address",
                        "null, and no unix",
                        "an address to listen on, or a path in unix",
                    );
                }
                ListenAddress::Tcp(DEFAULT_ADDRESS)
            }
        };
        let workers = match workers.0 {
            // Asks for the affinity mask and the cgroup's quota too.
            Workers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Workers::Count(count) => count as usize,
        };
        Listen {
            address,
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
            http2: http2.0.then_some(Http2 { max_streams: 128 }),
            max_handshakes: 8192,
            max_refusals: 256,
            handshake_timeout: handshake_timeout.0.0,
            keep_alive: keep_alive.0.0,
            max_header_bytes: max_header_bytes.0.0 as usize,
            workers,
        }
    }
}
