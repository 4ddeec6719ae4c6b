//! What admission counts for the process as a whole: credentials, and what waits for a rate.
//!
//! # Not here
//! Refusals, which are counted for each route ([`super::routes`]).

use prometheus::{IntCounter, IntGauge};

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::labels;

labels! {
    /// Why credentials were not taken (`outrigger_auth_failures_total{reason}`).
    pub enum AuthFailure {
        /// There are none.
        Missing = "missing",
        /// Two that differ, in one place.
        Ambiguous = "ambiguous",
        /// Too long, or not what a token or key looks like.
        Malformed = "malformed",
        /// An algorithm that is not among `algorithms`, or that its key is not for.
        Algorithm = "algorithm",
        /// A key id that the key set does not have, or that does not single out one key.
        UnknownKey = "unknown_key",
        /// Not signed with the key.
        Signature = "signature",
        /// Its time is over.
        Expired = "expired",
        /// Its time has not come.
        NotYetValid = "not_yet_valid",
        /// `iss`
        Issuer = "issuer",
        /// `aud`
        Audience = "audience",
        /// A claim that has to be there is not, or is not of the kind it has to be.
        Claims = "claims",
        /// The claim that names the user cannot travel in a header.
        User = "user",
        /// An API key that is not in the list.
        ApiKey = "api_key",
        /// The authentication service said no.
        Forward = "forward",
        /// They could not be checked.
        Unavailable = "unavailable",
    }

    /// How a fetch of a key set went (`outrigger_jwks_fetches_total{outcome}`).
    pub(crate) enum JwksOutcome {
        /// The set is in use.
        Ok = "ok",
        /// No answer, or not one with a status of 200.
        Unreachable = "unreachable",
        /// An answer that is no key set, or one without a key for the configured algorithms.
        Invalid = "invalid",
    }
}

#[derive(Debug)]
pub(crate) struct AdmissionMetrics {
    pub(crate) auth_failures: CounterBy<AuthFailure>,
    pub(crate) auth_waiting: IntGauge,
    pub(crate) jwks_fetches: CounterBy<JwksOutcome>,
    pub(crate) handshakes_queued: IntGauge,
    pub(crate) rate_keys: IntGauge,
    pub(crate) rate_untracked: IntCounter,
}

impl AdmissionMetrics {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            auth_failures: d.counter_by(
                "auth_failures_total",
                "Requests whose credentials were not taken, by why",
                "reason",
            )?,
            auth_waiting: d.gauge(
                "auth_waiting",
                "Requests whose credentials wait for a key set or for the authentication service",
            )?,
            jwks_fetches: d.counter_by(
                "jwks_fetches_total",
                "Fetches of key sets by URL, by outcome",
                "outcome",
            )?,
            handshakes_queued: d
                .gauge("handshakes_queued", "Handshakes that wait for a token of handshake_rate.global")?,
            rate_keys: d.gauge("rate_keys", "Addresses and users whose handshake rates are counted")?,
            rate_untracked: d.counter(
                "rate_untracked_total",
                "Requests of addresses or users beyond handshake_rate.max_keys, which are not limited one by one",
            )?,
        })
    }
}
