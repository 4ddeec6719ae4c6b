//! What every object is held against.

use super::front::Front;
use crate::inject::injected::Target;
use crate::inject::options::Options;

/// What every object is held against.
pub(super) struct Scene<'a> {
    pub(super) targets: &'a [Target],
    /// The Services of the stream as they were, with what each of their ports leads to.
    pub(super) fronts: Vec<Front>,
    pub(super) options: &'a Options,
}
