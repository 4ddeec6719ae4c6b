//! What operators can see: metrics, and one line in the log for each event.

mod declare;
mod feeds;
mod fields;
mod labels;
pub(crate) mod logging;
mod metrics;
pub(crate) mod panics;
pub(crate) mod redact;
mod warn_throttle;

pub(crate) use feeds::{BreakerMetrics, FeedMetrics};
pub(crate) use fields::{shown, some};
pub(crate) use labels::{
    AuthFailure, BreakerScope, BreakerStage, By, CertificateKind, Conflation, ConnectionRefusal, DrainCut,
    HandshakeOutcome, IdleBound, Injection, JwksOutcome, ProxyFault, RefusalReason, ReloadOutcome,
    RequestError, StatusClass, TaskKind, TlsFailure, Trim, UplinkLoss, UplinkOutcome, UpstreamErrorKind,
};
pub use labels::{Label, Reason};
pub use metrics::Metrics;
pub(crate) use metrics::{MetricsError, RouteMetrics};
pub(crate) use warn_throttle::WarnThrottle;
