//! TLS on either hop: who accepts, who connects, and the stream between plaintext and records.
//!
//! * [`Acceptor`] ends TLS for clients, [`Connector`] begins it towards a server. Making one is where a
//!   broken file is found ([`TlsError`]); using one fails with a [`HandshakeError`].
//! * [`stream`] is the hop afterwards; [`records`] drives rustls for it.
//! * [`verify`] says which servers are believed, [`mod@describe`] what was wrong.
//! * [`certificate`] reads what rustls does not tell: when a certificate ends, and whose it is.
//!
//! # Not here
//! How long a handshake may take, and what its failure is called ([`crate::server`], [`crate::upstream`]).

mod certificate;
mod client;
mod contents;
mod describe;
mod error;
mod records;
mod scratch;
mod server;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod verify;
mod verify_client;

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub(crate) use client::Authorities;
pub use client::Connector;
pub(crate) use describe::describe;
pub(crate) use error::{HandshakeError, TlsError};
pub use server::{Acceptor, Offer};
pub(crate) use stream::Protocol;
pub use stream::Tls;

/// Named wherever rustls asks: nothing depends on a default of the whole process.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}
