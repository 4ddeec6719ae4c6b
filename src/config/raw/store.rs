//! `store`: where messages are kept beyond the process. Nothing of it is built.

use crate::config::raw::values::unsupported::{Disk, Redis, Unsupported, unsupported_sections};

unsupported_sections! {
    /// `store`
    RawStore {
        disk: Unsupported<Disk> = Unsupported::default(),
        redis: Unsupported<Redis> = Unsupported::default(),
    }
}
