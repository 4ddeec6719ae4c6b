//! `admin`: the port of operators.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::config::error::{Problem, quoted};
use crate::config::model::{Admin, ListenAddress};
use crate::config::problems::Problems;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::{Scalar, ScalarValue};
use crate::config::raw::values::units::Bytes;
use crate::config::raw::values::{check, url};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawAdmin {
    address: Scalar<SocketAddr>,
    probe_address: Option<Scalar<SocketAddr>>,
    token: Option<Scalar<Secret>>,
    token_file: Option<Scalar<PathBuf>>,
    hosts: List<String>,
    max_publish: Scalar<Bytes>,
    ready_needs_upstream: Scalar<bool>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            address: Scalar(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090)),
            probe_address: None,
            token: None,
            token_file: None,
            hosts: List::default(),
            max_publish: Scalar(Bytes(1 << 20)),
            ready_needs_upstream: Scalar(false),
        }
    }
}

impl RawAdmin {
    pub(crate) fn validate(self, listen: &ListenAddress, problems: &mut Problems) -> Admin {
        let Self { address, probe_address, token, token_file, hosts, max_publish, ready_needs_upstream } =
            self;
        check::not_empty("max_publish", max_publish, problems);
        let (address, probe_address) = (address.0, probe_address.map(|address| address.0));

        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        if let ListenAddress::Tcp(listen) = listen {
            taken.push(("listen.address", *listen));
        }
        for (key, address) in [("address", Some(address)), ("probe_address", probe_address)] {
            let Some(address) = address else { continue };
            if let Some((other, _)) = taken.iter().find(|(_, other)| clash(address, *other)) {
                problems.refuse(
                    key,
                    quoted(&address.to_string()),
                    format!("a port of its own; {other} has this one"),
                );
            }
            taken.push((if key == "address" { "admin.address" } else { key }, address));
        }

        let has_token =
            token.is_some() || token_file.is_some() || problems.has("token") || problems.has("token_file");
        if !address.ip().to_canonical().is_loopback() && !has_token && !problems.has("address") {
            let accepted = "a loopback address, or another one with token or token_file set: \
                            whoever reaches this port can end every connection";
            problems.refuse("address", format!("{} and no token", quoted(&address.to_string())), accepted);
        }
        let token = match (token, token_file) {
            (Some(_), Some(_)) => {
                problems.refuse("token_file", "token_file, and token too", "one of the two");
                None
            }
            (Some(token), None) => Some(token.0),
            (None, Some(path)) => match token_in(&path.0, problems) {
                Ok(token) => Some(token),
                Err(problem) => {
                    problems.add("token_file", problem);
                    None
                }
            },
            (None, None) => None,
        };
        Admin {
            address,
            probe_address,
            token,
            hosts: url::hosts("hosts", hosts, problems),
            ready_needs_upstream: ready_needs_upstream.0,
            max_publish: max_publish.0.0 as usize,
        }
    }
}

/// Whether two listeners could not both be opened.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}

fn token_in(path: &std::path::Path, problems: &mut Problems) -> Result<Secret, Problem> {
    let file = problems.read_file(path).map_err(Problem::File)?;
    let text = std::str::from_utf8(&file.contents).ok();
    text.and_then(|text| Secret::read(text.trim_end_matches(['\n', '\r']))).ok_or_else(|| Problem::Value {
        found: format!("something else in {}", path.display()),
        accepted: format!("a file that holds the token and nothing more: {}", Secret::accepted()),
    })
}
