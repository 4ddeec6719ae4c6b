//! What the driver of an HTTP connection, its socket and its requests share.
//!
//! * [`connection`]: the connection itself; [`timeouts`], pure; [`idle_slot`], its idleness; [`upgrade`], what its socket
//!   becomes.
//! * [`client_io`]: the socket under hyper; [`body`]: the body of an answer. Both drive the timeouts.
//!
//! # Not here
//! Who drives a connection ([`super::connection`]), and who answers its requests ([`super::request`]).

pub(super) mod body;
pub(super) mod client_io;
pub(super) mod connection;
pub(super) mod idle_slot;
pub(super) mod timeouts;
pub(super) mod upgrade;
