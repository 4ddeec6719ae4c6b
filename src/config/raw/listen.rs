//! `listen`: where clients connect.

mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

#[cfg(test)]
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::model::{AmbiguousPaths, Http2, Listen, ListenAddress, ProxyProtocol, TrustedProxies};
use crate::config::problems::Problems;
use crate::config::raw::listen::tls::RawListenTls;
use crate::config::raw::values::check;
use crate::config::raw::values::list::is_switch;
use crate::config::raw::values::scalar::{Scalar, ScalarValue, words};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::{Bytes, CountOrOff, HEADER_BYTES, Span};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawListen {
    address: Option<Scalar<SocketAddr>>,
    unix: Option<Scalar<PathBuf>>,
    tls: Option<RawListenTls>,
    proxy_protocol: Scalar<ProxyProtocol>,
    max_handshakes: Scalar<u32>,
    max_refusals: Scalar<u32>,
    handshake_timeout: Scalar<Span>,
    keep_alive: Scalar<Span>,
    max_idle_http: Scalar<MaxIdle>,
    max_idle_http_per_ip: Scalar<CountOrOff>,
    ambiguous_paths: Scalar<AmbiguousPaths>,
    max_header_bytes: Scalar<Bytes>,
    http2: Scalar<bool>,
    http2_max_streams: Scalar<u32>,
    workers: Scalar<Workers>,
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            address: Some(Scalar(DEFAULT_ADDRESS)),
            unix: None,
            tls: None,
            proxy_protocol: Scalar(ProxyProtocol::Off),
            max_handshakes: Scalar(8192),
            max_refusals: Scalar(256),
            handshake_timeout: Scalar(Span::secs(10)),
            keep_alive: Scalar(Span::secs(75)),
            max_idle_http: Scalar(MaxIdle::Auto),
            max_idle_http_per_ip: Scalar(CountOrOff(None)),
            ambiguous_paths: Scalar(AmbiguousPaths::Refuse),
            max_header_bytes: Scalar(Bytes(32 * 1024)),
            http2: Scalar(true),
            http2_max_streams: Scalar(128),
            workers: Scalar(Workers::Auto),
        }
    }
}

impl RawListen {
    pub(crate) fn validate(self, trusted: &TrustedProxies, problems: &mut Problems) -> Listen {
        let Self {
            address,
            unix,
            tls,
            proxy_protocol,
            max_handshakes,
            max_refusals,
            handshake_timeout,
            keep_alive,
            max_idle_http,
            max_idle_http_per_ip,
            ambiguous_paths,
            max_header_bytes,
            http2,
            http2_max_streams,
            workers,
        } = self;
        check::at_least_one("max_handshakes", max_handshakes, problems);
        check::at_least_one("http2_max_streams", http2_max_streams, problems);
        if proxy_protocol.0 == ProxyProtocol::Optional && *trusted == TrustedProxies::default() {
            let accepted = "off, required, or trusted_proxies that say from whom it is believed";
            problems.refuse("proxy_protocol", "\"optional\", and no trusted_proxies", accepted);
        }
        check::positive("handshake_timeout", handshake_timeout, problems);
        check::positive("keep_alive", keep_alive, problems);
        if !HEADER_BYTES.contains(&max_header_bytes.0.0) {
            let found = check::shown(max_header_bytes);
            problems.refuse("max_header_bytes", found, "a size from 8KiB to 1MiB");
        }
        // It would become a file of that name in the working directory.
        if let Some(path) =
            unix.as_ref().and_then(|Scalar(path)| path.to_str()).filter(|path| is_switch(path))
        {
            problems.refuse(
                "unix",
                quoted(path),
                format!("a path, such as /run/outrigger.sock or ./{path}; null is none"),
            );
        }
        let address = match (address, unix) {
            (Some(Scalar(address)), None) => ListenAddress::Tcp(address),
            (None, Some(Scalar(path))) => ListenAddress::Unix(path),
            (Some(address), Some(Scalar(path))) => {
                let found = format!("unix, and address {} too", check::shown(address));
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
            // This respects the affinity mask and the cgroup's quota.
            Workers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Workers::Count(count) => count as usize,
        };
        Listen {
            address,
            tls: tls.and_then(|tls| problems.within("tls", |problems| tls.validate(problems))),
            proxy_protocol: proxy_protocol.0,
            http2: http2.0.then_some(Http2 { max_streams: http2_max_streams.0 }),
            max_handshakes: max_handshakes.0 as usize,
            max_refusals: max_refusals.0 as usize,
            handshake_timeout: handshake_timeout.0.0,
            keep_alive: keep_alive.0.0,
            max_idle_http: match max_idle_http.0 {
                MaxIdle::Auto => max_handshakes.0 as usize,
                MaxIdle::Count(count) => count as usize,
            },
            max_idle_http_per_ip: max_idle_http_per_ip.0.0.map(|count| count as usize),
            ambiguous_paths: ambiguous_paths.0,
            max_header_bytes: max_header_bytes.0.0 as usize,
            workers,
        }
    }
}

words!(AmbiguousPaths { Refuse = "refuse", Pass = "pass" });

const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);

words!(ProxyProtocol { Off = "off", Optional = "optional", Required = "required" });

/// Worker threads: a number, or as many as there are cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    Auto,
    Count(u32),
}

impl ScalarValue for Workers {
    fn accepted() -> String {
        "auto, or a number from 1 to 1024".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            _ => u32::read(text).filter(|count| (1..=1024).contains(count)).map(Self::Count),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto".into(),
            Self::Count(count) => count.to_string(),
        }
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::whole(1..=1024, "^(auto|[0-9]+)$")
    }
}

/// `listen.max_idle_http`: a number from 1, or one that is derived from another setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaxIdle {
    Auto,
    Count(u32),
}

impl ScalarValue for MaxIdle {
    fn accepted() -> String {
        "auto, or a whole number from 1".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            _ => u32::read(text).filter(|count| *count > 0).map(Self::Count),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto".into(),
            Self::Count(count) => count.to_string(),
        }
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::whole(1..=u64::from(u32::MAX), "^(auto|[0-9]+)$")
    }
}
