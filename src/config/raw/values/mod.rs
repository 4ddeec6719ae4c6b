//! How values of settings are written, whatever section they are in.

pub(crate) mod check;
pub(crate) mod close_code;
pub(crate) mod header;
pub(crate) mod list;
pub(crate) mod matching;
pub(crate) mod rate;
pub(crate) mod scalar;
#[cfg(test)]
pub(crate) mod schema;
mod secret;
pub(crate) mod tls_files;
pub(crate) mod units;
pub(crate) mod unsupported;
pub(crate) mod url;
