//! How fast are all together? What the server behind can bear does not depend on who asks.

use super::check::Check;
use super::context::RequestContext;
use super::rate::RatesByKind;
use super::refused::Refused;

/// `handshake_rate.global`, `http.rate.global`
#[derive(Debug)]
pub(super) struct Global(pub(super) RatesByKind);

impl Check for Global {
    async fn check(&self, guest: &mut RequestContext) -> Result<(), Refused> {
        self.0.of(guest.kind).pass().await
    }
}
