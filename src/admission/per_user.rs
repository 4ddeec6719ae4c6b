//! How fast is this user, from however many addresses? Nobody is limited who has not said who it is.

use std::sync::Arc;

use super::gate::Check;
use super::guest::Guest;
use super::rate::Rates;
use super::refused::Refused;

/// `handshake_rate.per_user`
#[derive(Debug)]
pub(super) struct PerUser(pub(super) Arc<Rates>);

impl Check for PerUser {
    async fn check(&self, guest: &mut Guest) -> Result<(), Refused> {
        guest.user.as_ref().map_or(Ok(()), |user| self.0.pass_user(&user.name))
    }
}
