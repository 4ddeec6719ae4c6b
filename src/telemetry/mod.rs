//! What operators can see: metrics, one line in the log for each event, the connections that live now,
//! and where the process is in its life.

mod declare;
mod feeds;
pub(crate) mod handle;
mod injections;
mod labels;
pub(crate) mod lifecycle;
pub(crate) mod logging;
mod metrics;
pub(crate) mod panics;
pub(crate) mod redact;
mod registry;
mod warn_throttle;

pub(crate) use feeds::{BreakerMetrics, FeedMetrics};
pub(crate) use handle::{Command, ConnectionInfo, EndReport, Handle};
pub(crate) use labels::{
    AuthFailure, BreakerScope, BreakerStage, By, CertificateKind, Conflation, ConnectionRefusal, DrainCut,
    HandshakeOutcome, IdleBound, Injection, JwksOutcome, ProxyFault, RefusalReason, ReloadOutcome,
    RequestError, StatusClass, TaskKind, TlsFailure, Trim, UplinkLoss, UplinkOutcome, UpstreamErrorKind,
};
pub use labels::{Label, Reason};
pub use metrics::Metrics;
pub(crate) use metrics::{MetricsError, RouteMetrics};
pub(crate) use registry::{ConnectionGuard, Registry, shown};
pub(crate) use warn_throttle::{WarnThrottle, some};
