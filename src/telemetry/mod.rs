//! What operators can see: metrics, and one line in the log for each event.

mod fields;
pub(crate) mod logging;
mod metrics;
pub(crate) mod panics;
pub(crate) mod redact;
pub(crate) mod text;
mod warn_throttle;

pub(crate) use fields::{client_address, nonzero};
pub(crate) use metrics::{
    AuthFailure, BreakerMetrics, BreakerScope, By, CertificateKind, Conflation, ConnectionRefusal, DrainCut,
    FeedMetrics, HandshakeOutcome, IdleBound, Injection, JwksOutcome, MessageLoss, MetricsError, ProxyFault,
    RecoverySide, RedialOutcome, RefusalReason, ReloadOutcome, RequestError, ResumeOutcome, RouteMetrics,
    SessionEnd, SessionMetrics, StatusClass, TaskKind, TlsFailure, Trim, UplinkLoss, UplinkOutcome,
    UpstreamErrorKind,
};
pub use metrics::{Label, Metrics, Reason};
pub(crate) use warn_throttle::WarnThrottle;
