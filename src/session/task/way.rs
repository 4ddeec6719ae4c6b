//! The way back to a server that is lost.

use std::pin::Pin;

use crate::upstream::redial::{DialFailure, Relinked};
use crate::upstream::revival::{Turn, Waiting};

/// How far the way back to a server has come.
#[derive(Default)]
pub(super) enum Way {
    /// It is not gone.
    #[default]
    None,
    /// It is not this session's turn yet.
    Waiting(Waiting),
    Dialling {
        turn: Turn,
        dial: Dial,
    },
}

/// One dial.
pub(super) type Dial = Pin<Box<dyn Future<Output = Result<Relinked, DialFailure>> + Send>>;
