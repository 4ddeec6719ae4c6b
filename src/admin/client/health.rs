//! What `outrigger health` asks: whether the process answers, or whether clients can come.
//!
//! For supervisors that run a command in the container instead of asking over HTTP themselves (Docker's and Compose's
//! health checks): the image has no shell and no curl. Kubernetes asks `/healthz` and `/readyz` without it.

use http::{Method, StatusCode};
use serde::Deserialize;

use super::{ANSWER_TIMEOUT, AdminAddress, DrainError, printable};

/// Which of the two routes is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// `/healthz`: the process answers, whatever it is doing.
    Health,
    /// `/readyz`: clients should be sent here.
    Readiness,
}

/// Asks the proxy whose admin port, or probe port, is at `admin_url`. Neither route wants a token.
///
/// # Errors
/// When nobody answers, when it is not this proxy that does, or when it says no.
pub async fn health(admin_url: &str, probe: Probe) -> Result<(), HealthError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let (target, yes) = match probe {
        Probe::Health => ("/healthz", b"ok\n".as_slice()),
        Probe::Readiness => ("/readyz", b"ready\n".as_slice()),
    };
    let admin = AdminAddress::parse(admin_url)?;
    let answer = admin.ask(Method::GET, target, None, Some(ANSWER_TIMEOUT)).await?;
    if answer.status == StatusCode::OK && answer.body == yes {
        return Ok(());
    }
    Err(match serde_json::from_slice::<Refusal>(&answer.body) {
        Ok(Refusal { error }) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
            HealthError::NotReady { admin: answer.admin, reason: printable(&error) }
        }
        _ => DrainError::NotOutrigger { admin: answer.admin, status: answer.status }.into(),
    })
}

/// Why the proxy is not taken to be well.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// No answer, or somebody else's.
    #[error(transparent)]
    Ask(#[from] DrainError),
    /// `/readyz` says no.
    #[error("{admin} is not ready: {reason}")]
    NotReady {
        /// Host and port.
        admin: String,
        /// Its own words.
        reason: String,
    },
}
