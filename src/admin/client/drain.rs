//! The requests of `outrigger drain`.
//!
//! # Invariants
//! 1. Waiting begins after the drain was accepted in an answer of its own. From then on a connection
//!    that ends, or one that is refused, means that the process has gone, which is what was waited for.
//!
//! # Why two requests to wait?
//! With one, a connection that ends could as well mean that the request never arrived.

use http::{Method, StatusCode, Uri};
use hyper::body::Bytes;
use serde::Deserialize;

use super::{ANSWER_TIMEOUT, AdminRequest, Client, ClientError};

/// How far the drain had got when [`Client::drain`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// It is under way.
    Accepted {
        /// Clients still connected.
        clients: u64,
    },
    /// It is over: nobody is connected any more, or the process has ended.
    Done,
}

impl Client {
    /// Asks the proxy to drain; with `wait`, returns when it has. How long that can take is the proxy's own
    /// `drain.timeout`; there is no second deadline here. Cancel safe: a drain that was accepted goes on.
    ///
    /// # Errors
    /// When the drain was not accepted, or (only with `wait`) its end could not be learned.
    pub(crate) async fn drain(&self, wait: bool) -> Result<Drain, ClientError> {
        let ask = async |target, answer_timeout| -> Result<Drain, ClientError> {
            #[derive(Deserialize)]
            #[serde(rename_all = "lowercase")]
            enum ResponseBody {
                Draining,
                Drained,
            }
            #[derive(Deserialize)]
            struct Progress {
                state: ResponseBody,
                clients: u64,
            }
            let request = AdminRequest {
                method: Method::POST,
                target: Uri::from_static(target),
                body: Bytes::new(),
                answer_timeout,
            };
            let (Progress { state, clients }, _) = self.send(request).await?.read(StatusCode::ACCEPTED)?;
            Ok(match state {
                ResponseBody::Draining => Drain::Accepted { clients },
                ResponseBody::Drained => Drain::Done,
            })
        };
        let accepted = ask("/api/admin/drain", Some(ANSWER_TIMEOUT)).await?;
        if !wait || accepted == Drain::Done {
            return Ok(accepted);
        }
        match ask("/api/admin/drain?wait=true", None).await {
            Ok(answer) => Ok(answer),
            Err(ClientError::Connect { .. } | ClientError::Ended { .. }) => Ok(Drain::Done),
            Err(other) => Err(other),
        }
    }
}
