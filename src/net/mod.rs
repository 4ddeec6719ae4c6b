//! Sockets: one stream type for every kind of hop, and what is set on it; and what a head of HTTP over one means
//! ([`head`]).
//!
//! # Not here
//! Who is accepted and what is said ([`crate::server`], [`crate::upstream`]).

mod broken;
mod connect;
mod egress;
mod fetch;
pub mod head;
pub mod http2;
mod peer;
pub mod pool;
pub mod proxy_protocol;
pub mod scratch;
mod socket;
mod stream;
pub mod tls;

pub use broken::{Broken, HeadLimit, io_words};
pub use connect::TcpConnector;
pub(crate) use egress::Egress;
pub use fetch::{Fetch, FetchError};
pub use http2::Http2;
pub use peer::Peer;
pub use socket::{listen, raise_descriptor_limit, upstream_socket};
pub use stream::{Hop, Stream};
