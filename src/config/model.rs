//! The checked configuration: what the rest of the program reads.
//!
//! # Invariants
//! 1. Values of these types come from [`super::load`] or from [`Config::default`]; whoever holds one
//!    need not check it again (lengths are in range, addresses parse, routes have unique names).
//! 2. "Off" is `None` (or an empty list), never a magic zero: whoever reads a setting has to say what
//!    happens without it.
//! 3. A key that only a later feature reads has no field here: until then `load` accepts nothing but
//!    its default.
//!
//! # Not here
//! YAML, environment and flags ([`super::layers`]); what a file may say ([`super::raw`]).

mod admin;
mod drain;
mod file;
mod listen;
mod log;
mod policy;
mod route;
mod trusted_proxies;
mod upstream;

pub use admin::*;
pub use drain::*;
pub use file::*;
pub use listen::*;
pub use log::*;
pub use policy::*;
pub use route::*;
pub use trusted_proxies::*;
pub use upstream::*;

/// Everything an operator can say, checked and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The port clients are pointed at.
    pub listen: Listen,
    /// The port of operators and probes.
    pub admin: Admin,
    /// Whose word about the client's address is believed.
    pub trusted_proxies: TrustedProxies,
    /// What is written to standard output.
    pub log: Log,
    /// First part of every metric's name.
    pub metrics_prefix: String,
    /// `memory.max_buffered`, in bytes: all overflow and logs together. `auto` is resolved by then.
    pub max_buffered: usize,
    /// How a stop lets clients go.
    pub drain: Drain,
    /// In file order; the first match wins. The last entry is always [`Route::fallback`]: it matches
    /// everything, so that a look-up cannot fail.
    pub routes: Vec<Route>,
}
