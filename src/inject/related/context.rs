//! What every object is compared with.

use super::service_info::ServiceInfo;
use crate::inject::injected::InjectedWorkload;
use crate::inject::options::Options;

/// What every object is compared with.
pub(super) struct Context<'a> {
    pub(super) targets: &'a [InjectedWorkload],
    /// The Services of the manifest as they were, with what each of their ports leads to.
    pub(super) services: Vec<ServiceInfo>,
    pub(super) options: &'a Options,
}
