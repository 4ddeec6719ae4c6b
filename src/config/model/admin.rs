//! The operators' port.

use std::net::SocketAddr;

use crate::config::secret::Secret;

/// The operators' side.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Health, metrics, drain. Loopback, or `token` is set.
    pub address: SocketAddr,
    /// Only `/healthz`, `/readyz`, `/metrics`.
    pub probe_address: Option<SocketAddr>,
    /// Bearer token of operator routes.
    pub token: Option<Secret>,
    /// Further names, in lower case and without a port, by which operator routes may be asked for.
    pub hosts: Vec<String>,
    /// Longest body of a publish request, in bytes.
    pub max_publish: usize,
    /// Whether `/readyz` asks the upstream too.
    pub ready_needs_upstream: bool,
}
