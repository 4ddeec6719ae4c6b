//! Outrigger: a sidecar reverse proxy that makes existing WebSocket servers resilient without
//! changing a line of them.
//!
//! A handshake walks down through these modules: [`cli`] starts the [`server`], which takes a client in,
//! reads its request and picks a route; [`admission`] decides whether it may come in; [`upstream`] asks the
//! server behind and verifies its answer; then both sockets go to the [`tunnel`], which relays frames until
//! both have ended.
//!
//! Where many clients share one server connection, [`broadcast`] knows who shares which, and writes what the
//! server says into a [`log`]; [`delivery`] brings it from there to each client at its own pace.
//!
//! [`frame`] and [`resilience`] decide without doing any I/O; [`net`] holds sockets, [`config`] what an operator
//! said, [`connections`] who is connected and what may be asked of them, [`telemetry`] what an operator sees, and
//! [`admin`] shows it; [`memory`] counts what many hold. [`demo`] is a server to try it on, and [`inject`] puts the
//! program into Kubernetes manifests; [`yaml`] reads and writes both what operators write and manifests.

mod admin;
mod admission;
mod broadcast;
pub mod cli;
pub mod config;
mod connections;
mod delivery;
mod demo;
mod frame;
pub mod inject;
mod log;
mod memory;
mod net;
mod resilience;
pub mod server;
mod session;
#[cfg(test)]
mod stage;
mod telemetry;
mod tunnel;
mod upstream;
mod yaml;

/// What benches, fuzz targets and tests of whole processes reach beside the program itself. Everything else is
/// closed, so that the compiler finds what nobody uses.
pub mod internals {
    pub use crate::connections::SessionId;
    pub use crate::connections::lifecycle::Lifecycle;
    pub use crate::delivery::control::{ControlError, FromClient, MAX_CONTROL_TEXT, Prefix};
    pub use crate::frame::{
        Assembled, Assembler, Extensions, Kind, MAX_CONTROL_PAYLOAD, MAX_HELD, Opcode, Outcome,
        ProtocolError, Role, Rules, Scanned, Scanner, Verdict, accept_for, encode,
    };
    pub use crate::log::{Log, Logs, Message, NewEntry};
    pub use crate::memory::Budget;
    pub use crate::net::head::{RequestLine, check_answer, check_request};
    pub use crate::net::own_protocols::{MAX_SAFE_INTEGER, OwnProtocols, Resume, TicketText};
    pub use crate::net::tls::{Acceptor, Connector, Offer as TlsOffer, Tls};
    pub use crate::net::{Stream, raise_descriptor_limit};
    pub use crate::session::{Claims, InvalidTicket, ProcessId, TicketKeys};
    pub use crate::telemetry::logging::JsonLines;
    pub use crate::telemetry::{Label, Metrics, Reason};
    pub use crate::upstream::verify::Offer;
}
