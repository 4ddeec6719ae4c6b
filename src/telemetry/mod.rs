//! What operators can see: metrics, and one line in the log for each event.

mod fields;
pub(crate) mod logging;
mod metrics;
pub(crate) mod panics;
pub(crate) mod redact;
mod warn_throttle;

pub(crate) use fields::{client_address, nonzero};
pub(crate) use metrics::{
    AuthFailure, BreakerMetrics, BreakerScope, By, CertificateKind, Conflation, ConnectionRefusal, DrainCut,
    FeedMetrics, HandshakeOutcome, IdleBound, Injection, JwksOutcome, MetricsError, ProxyFault,
    RefusalReason, ReloadOutcome, RequestError, RouteMetrics, StatusClass, TaskKind, TlsFailure, Trim,
    UplinkLoss, UplinkOutcome, UpstreamErrorKind,
};
pub use metrics::{Label, Metrics, Reason};
#[allow(unused_imports, reason = "mode session is not wired yet")]
pub(crate) use metrics::{
    MessageLoss, RecoverySide, RedialOutcome, ResumeOutcome, SessionEnd, SessionMetrics,
};
pub(crate) use warn_throttle::WarnThrottle;
