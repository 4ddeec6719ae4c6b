//! Outrigger: a sidecar reverse proxy that makes existing WebSocket servers resilient without
//! changing a line of them.

pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
pub mod frame;
pub mod net;
pub mod resilience;
pub mod server;
pub mod telemetry;
pub mod tunnel;
pub mod upstream;
