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
//! said, [`telemetry`] what an operator sees, and [`admin`] shows it. [`demo`] is a server to try it on.

pub mod admin;
pub mod admission;
pub mod broadcast;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod frame;
pub mod log;
pub mod net;
pub mod resilience;
pub mod server;
pub mod telemetry;
pub mod tunnel;
pub mod upstream;
