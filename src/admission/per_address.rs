//! How fast is this address? Asked before anything else: one attacker can then neither drain the bucket of
//! all nor drive authentication.

use std::sync::Arc;

use super::gate::Check;
use super::guest::Guest;
use super::rate::Rates;
use super::refused::Refused;

/// `handshake_rate.per_ip`
#[derive(Debug)]
pub(super) struct PerAddress(pub(super) Arc<Rates>);

impl Check for PerAddress {
    async fn check(&self, guest: &mut Guest) -> Result<(), Refused> {
        self.0.pass_address(guest.client.key())
    }
}
