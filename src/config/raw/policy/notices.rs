//! `policy.notices`: whether clients are told what happened to their feed.

#[cfg(test)]
use schemars::Schema;

use crate::config::model::{Broadcast, OnRedial, UplinkMode};
use crate::config::raw::values::scalar::ScalarValue;
#[cfg(test)]
use crate::config::raw::values::schema;

/// `policy.notices`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notices {
    Auto,
    On,
    Off,
}

impl ScalarValue for Notices {
    fn accepted() -> String {
        "auto | true | false".into()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::words(&["auto", "true", "false", "off"])
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "true" => Some(Self::On),
            "false" | "off" => Some(Self::Off),
            _ => None,
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::On => "true",
            Self::Off => "false",
        }
        .into()
    }
}

impl Notices {
    /// `auto` sends notices where the server knows something of clients that is lost with the connection, and no
    /// Close tells them.
    pub(crate) fn are_sent(self, broadcast: &Broadcast) -> bool {
        match self {
            Self::Auto => broadcast.uplink == UplinkMode::Forward && broadcast.on_redial == OnRedial::Keep,
            Self::On => true,
            Self::Off => false,
        }
    }
}
