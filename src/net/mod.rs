//! Sockets: one stream type for every kind of hop, and what is set on it; the timer beside one ([`Alarm`]); what a head of HTTP over one means
//! ([`head`]), the words of HTTP that several rooms share ([`mod@http`]), and the subprotocols that are this proxy's own
//! ([`own_protocols`]).
//!
//! # Not here
//! Who is accepted and what is said ([`crate::server`], [`crate::upstream`]).

mod alarm;
mod broken;
mod client_body;
mod connect;
mod fetch;
pub(crate) mod head;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod own_protocols;
mod peer;
pub(crate) mod pool;
pub(crate) mod position;
pub(crate) mod proxy_protocol;
mod random;
pub(crate) mod scratch;
mod socket;
mod stream;
pub(crate) mod tls;
mod workers;
mod write_buffer;

pub(crate) use alarm::Alarm;
pub(crate) use broken::{Broken, HeadLimit, describe_io};
pub(crate) use client_body::ClientBody;
pub(crate) use connect::TcpConnector;
pub(crate) use fetch::{Fetch, FetchError};
pub(crate) use http2::Http2;
pub(crate) use peer::Peer;
pub(crate) use random::random_bytes;
pub use socket::raise_descriptor_limit;
pub(crate) use socket::{connect_tcp, connect_unix, listen};
pub use stream::Stream;
pub(crate) use stream::Transport;
pub use workers::Workers;
pub(crate) use write_buffer::WriteBuffer;
