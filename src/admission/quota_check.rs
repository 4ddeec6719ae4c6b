//! The layer that takes a permit of the quota for whoever asks for a place among the clients.

use std::sync::Arc;

use super::check::Check;
use super::context::RequestContext;
use super::quota::ConnectionQuota;
use super::refused::Refused;
use crate::config::Limits;

/// `policy.limits`
#[derive(Debug)]
pub(super) struct QuotaCheck {
    quota: Arc<ConnectionQuota>,
    limits: Limits,
}

impl QuotaCheck {
    pub(super) fn new(quota: Arc<ConnectionQuota>, limits: Limits) -> Self {
        Self { quota, limits }
    }
}

impl Check for QuotaCheck {
    async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
        // A session has its place for as long as it lives: its client does not need another one to come back.
        if context.kind.takes_place() && !context.is_resumed() {
            let user = context.user.as_ref().map(|user| Arc::clone(&user.name));
            let permit = self.quota.take(&self.limits, context.client.key(), user);
            context.quota_permit = Some(Box::new(permit.map_err(Refused::Capacity)?));
        }
        Ok(())
    }
}
