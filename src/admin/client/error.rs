//! What can go wrong between a command and the operators' port. Each text says what to do.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use http::StatusCode;

/// The URL of the admin port by default.
pub(crate) const DEFAULT_ADMIN_URL: &str = "http://127.0.0.1:9090";

/// Ten thousand entries, each with the longest name that a channel can have.
pub(super) const ANSWER_BYTES: usize = 64 << 20;

/// Why the admin port did not do what it was asked for; each says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The address cannot be used.
    #[error("the admin address \"{url}\" {problem}; give it as http://HOST:PORT, as in {DEFAULT_ADMIN_URL}")]
    Address {
        /// As given; without what may be a password in it.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The token cannot stand in a header.
    #[error("the token has characters that no HTTP header can carry; is this the right --token-file?")]
    Token,
    /// No URI holds so much.
    #[error("the name is too long: no route or channel has more than some thousand characters")]
    NameTooLong,
    /// Nothing listens there.
    #[error(
        "nothing answers at {admin} ({source}): is the proxy running? If its admin.address is another one, \
         give it with --admin"
    )]
    Connect {
        /// Host and port.
        admin: String,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever listens there hung up, or speaks something else.
    #[error(
        "{admin} ended the connection without an answer ({source}): is this Outrigger's admin port? \
         Give the right one with --admin"
    )]
    Ended {
        /// Host and port.
        admin: String,
        /// What went wrong.
        source: ExchangeError,
    },
    /// Whoever listens there says nothing.
    #[error(
        "{admin} did not answer within {} s: is this Outrigger's admin port? \
         Give the right one with --admin",
        .answer_timeout.as_secs()
    )]
    Silent {
        /// Host and port.
        admin: String,
        /// For so long.
        answer_timeout: Duration,
    },
    /// 401.
    #[error("{admin} wants its admin.token, and {given}: give the file that holds it with --token-file")]
    Unauthorized {
        /// Host and port.
        admin: String,
        /// What was sent.
        given: &'static str,
    },
    /// The admin port refuses, and says why.
    #[error("{admin} refused ({status}): {reason}")]
    Refused {
        /// Host and port.
        admin: String,
        /// Its status.
        status: StatusCode,
        /// Its own words.
        reason: String,
    },
    /// Something else listens there.
    #[error(
        "{admin} answered ({status}), but not as Outrigger's admin port does: give the right one with --admin"
    )]
    NotOutrigger {
        /// Host and port.
        admin: String,
        /// Its status.
        status: StatusCode,
    },
}

/// Why an exchange failed once there was a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// It ended before the answer did.
    #[error("it hung up")]
    HungUp,
    /// The answer is not HTTP/1.1.
    #[error("it does not speak HTTP/1.1")]
    NotHttp,
    /// More than [`ANSWER_BYTES`].
    #[error("its answer is longer than {} MiB", ANSWER_BYTES >> 20)]
    TooLong,
    /// The connection broke.
    #[error("{0}")]
    Broken(io::Error),
}

impl From<hyper::Error> for ExchangeError {
    fn from(error: hyper::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        match cause {
            Some(cause) => Self::Broken(io::Error::new(cause.kind(), cause.to_string())),
            None if error.is_parse() => Self::NotHttp,
            None => Self::HungUp,
        }
    }
}
