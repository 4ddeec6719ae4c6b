//! How fast is this address? Asked before anything else: one attacker can then neither drain the bucket of
//! all nor drive authentication.

use super::check::Check;
use super::context::RequestContext;
use super::rate::RatesByKind;
use super::refused::Refused;

/// `handshake_rate.per_ip`, `http.rate.per_ip`
#[derive(Debug)]
pub(super) struct PerAddress(pub(super) RatesByKind);

impl Check for PerAddress {
    async fn check(&self, guest: &mut RequestContext) -> Result<(), Refused> {
        self.0.of(guest.kind).pass_address(guest.client.key())
    }
}
