//! Whose request is it?

use std::sync::Arc;

use super::gate::Check;
use super::guest::{Guest, User};
use super::refused::Refused;
use crate::config::TrustedProxies;

/// Finds the client behind proxies that are trusted.
#[derive(Debug)]
pub(super) struct Identity {
    trusted: Arc<TrustedProxies>,
}

impl Identity {
    pub(super) fn new(trusted: Arc<TrustedProxies>) -> Self {
        Self { trusted }
    }
}

impl Check for Identity {
    async fn check(&self, guest: &mut Guest) -> Result<(), Refused> {
        guest.client.is_forwarded = self.trusted.contains(guest.peer.address.map(|address| address.ip()));
        guest.user = guest.peer.subject.clone().map(|name| User { name, expires: None });
        Ok(())
    }
}
