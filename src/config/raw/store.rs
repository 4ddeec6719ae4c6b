//! `store`: where messages are kept beyond the process. Nothing of it is built.

use crate::config::raw::values::unsupported::{Disk, Later, Redis, unsupported_sections};

unsupported_sections! {
    /// `store`
    RawStore {
        disk: Later<Disk> = Later::default(),
        redis: Later<Redis> = Later::default(),
    }
}
