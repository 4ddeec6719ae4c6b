//! RFC 6455 frames, pure: bytes in, decisions out.
//!
//! A tunnel reads frame *headers* and nothing else; [`Scanner`] walks them in place, in the buffer the
//! bytes were read into, and says how many of these bytes may be forwarded. A connection that ends here
//! reads whole messages, which [`Assembler`] assembles. Both hold each header against the same rules (`rules`).
//!
//! [`Endpoint`] says what an end of a connection may still send and read, and which pong or Close it owes.
//! [`encode`] and [`deflate`] make frames of messages; [`ControlFrame`] is a control frame.
//!
//! # Why a parser of our own?
//! Libraries unmask, assemble and check whole messages. A relay must do none of this: it would cost a buffer for each
//! connection and a copy of each message, and would break extensions that it does not know. Headers are all that it
//! needs.
//!
//! # Not here
//! Sockets, clocks, buffers that outlive a call ([`crate::tunnel`]); the HTTP handshake
//! ([`crate::upstream`]).

mod accept;
mod assembler;
mod close;
mod control;
pub(crate) mod deflate;
pub mod encode;
mod endpoint;
mod header;
mod masking;
mod message;
mod role;
mod rules;
mod scanner;

pub use accept::accept_for;
pub use assembler::{Assembled, Assembler};
pub(crate) use close::{CloseCode, code_label};
pub(crate) use control::ControlFrame;
pub use control::MAX_CONTROL_PAYLOAD;
pub(crate) use endpoint::{ConnectionState, Endpoint};
pub(crate) use header::Header;
pub use header::{Opcode, ProtocolError};
pub use message::Kind;
pub use role::Role;
pub use rules::{Extensions, Rules};
pub(crate) use scanner::Edge;
pub use scanner::{MAX_HELD, Outcome, Scanned, Scanner, Verdict};
