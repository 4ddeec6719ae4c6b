//! How fast does this user connect, from however many addresses? Nobody is limited who has not said who it is,
//! and plain requests are no connections.

use std::sync::Arc;

use super::check::Check;
use super::context::{Kind, RequestContext};
use super::rate::Rates;
use super::refused::Refused;

/// `handshake_rate.per_user`
#[derive(Debug)]
pub(super) struct PerUser(pub(super) Arc<Rates>);

impl Check for PerUser {
    async fn check(&self, guest: &mut RequestContext) -> Result<(), Refused> {
        let user = guest.user.as_ref().filter(|_| guest.kind == Kind::Handshake);
        user.map_or(Ok(()), |user| self.0.pass_user(&user.name))
    }
}
