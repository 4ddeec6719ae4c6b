//! What operators can see: metrics, one line in the log for each event, the connections that live now,
//! and where the process is in its life.

mod declare;
mod feeds;
mod handle;
mod injections;
mod labels;
pub mod lifecycle;
pub mod logging;
mod metrics;
pub mod panics;
pub mod redact;
mod registry;
mod sparingly;

pub use feeds::{BreakerMetrics, FeedMetrics};
pub use handle::{About, Command, Ended, Handle, Mail, Receipts};
pub use labels::{
    AuthFailure, BreakerScope, BreakerStage, By, CertificateKind, Conflation, ConnectionRefusal, DrainCut,
    HandshakeOutcome, IdleBound, Injection, JwksOutcome, Label, ProxyFault, Reason, RefusalReason,
    ReloadOutcome, RequestError, StatusClass, TaskKind, TlsFailure, Trim, UplinkLoss, UplinkOutcome,
    UpstreamErrorKind,
};
pub use metrics::{Metrics, MetricsError, RouteMetrics};
pub use registry::{Live, Registry, shown};
pub use sparingly::{Sparingly, some};
