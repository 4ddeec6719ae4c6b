//! Plain HTTP.

use std::time::Duration;

use crate::config::model::policy::rate::Rate;

/// `policy.http`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Http {
    /// Which of them may pass.
    pub mode: HttpMode,
    /// From the last request byte to the response's head.
    pub response_timeout: Option<Duration>,
    /// Longest request body in bytes.
    pub max_body: Option<u64>,
    /// How fast they may come.
    pub rate: HttpRate,
}

/// `policy.http.mode`; `auto` is resolved by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMode {
    /// Address and rate are asked for.
    Pass,
    /// Origin and authentication too.
    Guard,
    /// 404.
    Refuse,
}

/// `policy.http.rate`. Routes whose settings are equal share the buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HttpRate {
    /// All together.
    pub global: Option<Rate>,
    /// One address (IPv6: one /64).
    pub per_ip: Option<Rate>,
    /// Addresses that are told apart; more are let pass by the rate of one, and counted.
    pub max_keys: usize,
}
