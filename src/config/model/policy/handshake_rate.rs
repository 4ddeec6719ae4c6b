//! How fast clients may connect.

use std::time::Duration;

use crate::config::model::policy::rate::Rate;

/// `policy.handshake_rate`. Routes whose settings are equal share the buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HandshakeRate {
    /// All together.
    pub global: Option<Rate>,
    /// One address (IPv6: one /64).
    pub per_ip: Option<Rate>,
    /// One user.
    pub per_user: Option<Rate>,
    /// How long a handshake may wait for a token of `global`; zero: it is refused at once.
    pub queue: Duration,
    /// How many may wait.
    pub max_queued: usize,
    /// Addresses and users that are told apart, each; more are let pass by the rate of one, and counted.
    pub max_keys: usize,
}
