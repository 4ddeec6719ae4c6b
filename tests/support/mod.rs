//! What integration tests stand on: a raw client, a scriptable upstream, and waiting without sleeping.
//!
//! Written apart from the crate's own code on purpose: the WebSocket and HTTP pieces here share
//! nothing with it, so that a bug there cannot hide itself, and they can say what is wrong on purpose.
//!
//! # Habits
//! 1. Everything listens on a loopback port of the system's choice and is gone when it is dropped.
//! 2. Every wait has a deadline ([`DEADLINE`]) and a message that tells what had come until then.
//! 3. Nothing is answered behind a test's back, except where a method says so.

#![allow(unreachable_pub, reason = "a module of test programs: nothing is outside of them")]

pub mod binary;
pub mod client;
pub mod feed;
pub mod files;
pub mod http;
pub mod http2;
pub mod link;
pub mod logged;
pub mod metrics;
pub mod pair;
pub mod peer;
pub mod proxy;
pub mod session;
pub mod socket;
pub mod ticket_client;
pub mod ticketed;
pub mod tls;
pub mod token;
pub mod upstream;
pub mod wait;
pub mod wanted;
pub mod wire;
pub mod workers;
pub mod yaml;

use std::time::Duration;

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Long enough for what must not happen to happen.
pub const A_MOMENT: Duration = Duration::from_millis(100);
