//! The requests of `outrigger health`: whether the process answers, or whether it is ready.
//!
//! For supervisors that run a command in the container instead of asking over HTTP themselves (Docker's and Compose's
//! health checks): the image has no shell and no curl. Kubernetes asks `/healthz` and `/readyz` without it.

use http::{StatusCode, Uri};
use serde::Deserialize;

use super::{AdminRequest, Client, ClientError, printable};

/// Which of the two routes is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// `/healthz`: the process answers, whatever it is doing.
    Health,
    /// `/readyz`: clients should be sent here.
    Readiness,
}

impl Client {
    /// Whether the proxy says yes. The admin port and the probe port both answer this, without a token.
    ///
    /// # Errors
    /// When nobody answers, when it is not this proxy that does, or when it says no.
    pub(crate) async fn health(&self, probe: Probe) -> Result<(), HealthError> {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let (target, yes) = match probe {
            Probe::Health => ("/healthz", b"ok\n".as_slice()),
            Probe::Readiness => ("/readyz", b"ready\n".as_slice()),
        };
        let answer = self.send(AdminRequest::get(Uri::from_static(target))).await?;
        if answer.status == StatusCode::OK && answer.body == yes {
            return Ok(());
        }
        let (admin, status) = (answer.admin, answer.status);
        Err(match serde_json::from_slice::<Refusal>(&answer.body) {
            Ok(Refusal { error }) if status == StatusCode::SERVICE_UNAVAILABLE => {
                HealthError::NotReady { admin, reason: printable(&error) }
            }
            _ => ClientError::NotOutrigger { admin, status }.into(),
        })
    }
}

/// Why the proxy is not taken to be well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HealthError {
    /// No answer, or somebody else's.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `/readyz` says no.
    #[error("{admin} is not ready: {reason}")]
    NotReady {
        /// Host and port.
        admin: String,
        /// Its own words.
        reason: String,
    },
}
