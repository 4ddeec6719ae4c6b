//! What a user can see of the proxy, tested from outside: a real proxy between a raw client and a scriptable server,
//! or the program itself. One module for each kind of symptom.
//!
//! These tests run beside each other, so none may change what belongs to the whole process (environment, current
//! directory, limits, its one log), or count it. Those that do are in `tests/load`.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test, as it should")]

/// That the raw client and the scriptable server do what they say.
mod selftest;
#[path = "../support/mod.rs"]
mod support;
/// Several workers: who is served by which, and what one does to another.
mod workers;

/// Who comes in, how fast and how many; who goes for whom; the breaker around a server.
mod admission {
    mod breaker;
    mod forward;
    mod identity;
    mod jwks;
    mod limits;
    mod tokens;
    mod user_limit;
}

/// Mode broadcast: channels, what the server sees, redials, who says what, TLS.
mod broadcast {
    mod channels;
    mod join;
    mod redial;
    mod resume;
    mod tls;
}

/// Clients without a WebSocket: polls, event streams and replays, who is let in to them, and what others are answered.
mod fallback {
    mod attacks;
    mod door;
    mod event_source;
    mod feeds;
    mod http2;
    mod http_client;
    mod network;
    mod pages;
    mod recipes;
    mod script;
    mod sessions;
    mod switching;
}

/// The binary: what it prints, signals and exit codes, files that change under it, commands that ask it.
mod program {
    mod cli;
    mod drain;
    mod drain_deadline;
    mod errors;
    mod operators;
    mod reload;
    mod standstill;
    mod tools;
}

/// Mode tunnel: frames, endings, violations, heartbeats, back-pressure, drain, publishing.
mod relay {
    mod backpressure;
    mod client_gone;
    mod drain;
    mod endings;
    mod forwarding;
    mod heartbeat;
    mod publish;
    mod violations;
}

/// Requests and answers before there is a WebSocket, over HTTP/1.1, HTTP/2 and TLS, and whose fault a failure was.
mod requests {
    mod handshake;
    mod handshake_failures;
    mod heads;
    mod http2;
    mod idle;
    mod own_protocols;
    mod plain_http;
    mod plain_http_faults;
    mod request_errors;
    mod tls;
}

/// Mode session: what passes through, servers that are lost and come back, queues, greetings, endings, drain.
mod sessions {
    mod client_ends;
    mod drain;
    mod final_words;
    mod greeting;
    mod limits;
    mod losses;
    mod passing;
    mod publish;
    mod queue;
    mod redials;
    mod replay;
    mod servers;
    mod slow;
    mod transports;

    /// Clients that lose their network and come back.
    mod tickets {
        mod access;
        mod bad_tickets;
        mod closes;
        mod control;
        mod drain;
        mod hello;
        mod losses;
        mod resume;
        mod secrets;
        mod servers;
        mod takeover;
        mod transports;
        mod untold;
    }
}

/// What is given to users beside the program: manifests, recipes, packages, the image; peers of other languages.
mod shipped {
    mod image;
    mod inject;
    mod install;
    mod interop;
    pub(crate) mod recipes;
}

/// What is exposed, and what single lines of the log say.
mod telemetry {
    mod log_lines;
    mod metrics;
}

/// Attacks, each in a test that is named after it.
mod threats {
    mod credentials;
    mod exhaustion;
    mod feeds;
    mod handshake;
    mod heads;
    mod http2;
    mod paths;
}
