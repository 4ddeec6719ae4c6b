//! How fast are all together? What the server behind can bear does not depend on who asks.

use std::sync::Arc;

use super::gate::Check;
use super::guest::Guest;
use super::rate::Rates;
use super::refused::Refused;

/// `handshake_rate.global`
#[derive(Debug)]
pub(super) struct Global(pub(super) Arc<Rates>);

impl Check for Global {
    async fn check(&self, _: &mut Guest) -> Result<(), Refused> {
        self.0.pass().await
    }
}
