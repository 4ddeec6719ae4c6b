//! What a configuration may say, unchecked: one struct a section, in the order of
//! `config/outrigger.yaml`.
//!
//! # Invariants
//! 1. Every key has a field, and `Default` is the one place where its default stands.
//! 2. Unknown keys are refused at every level.
//! 3. `validate` takes a struct apart without `..`, so that a new key cannot be forgotten there; it
//!    tells every problem it finds and then hands back a value that is dropped if there was any.
//!
//! # How a setting is added
//! A field in the struct of its section here, its default, its check, and a field in [`super::model`]; then its line
//! in `config/outrigger.yaml`, whose comment says what it is for (the schema has it too; a key of a section that is
//! null there has it in the comment on its field), one in `.env.example`, a row in `docs/configuration.md`, and a
//! line in `CHANGELOG.md`. Tests compare all but the last. A value that is written in a way of its own has a
//! `ScalarValue::schema`, without which editors take any text for valid; a type that reads several forms implements
//! `JsonSchema`. `UPDATE_GOLDEN=1 cargo test --lib schema` and `helm/schema.py` write the schemas anew.
//!
//! # Not here
//! How values are written ([`values`]); what is checked and complete
//! ([`super::model`]).

mod admin;
mod drain;
mod listen;
mod log;
mod memory;
mod metrics;
mod policy;
mod routes;
mod store;
mod telemetry;
mod trusted_proxies;
mod upstream;
pub(super) mod values;

pub(crate) use policy::RawPolicy;
pub(crate) use routes::RawRoute;
pub(crate) use upstream::RawUpstream;

use std::time::Duration;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::admin::RawAdmin;
use self::drain::RawDrain;
use self::listen::RawListen;
use self::log::RawLog;
use self::memory::RawMemory;
use self::metrics::RawMetrics;
use self::store::RawStore;
use self::telemetry::RawTelemetry;
use self::values::list::List;
use self::values::scalar::ScalarValue;
use self::values::units::Span;
use super::model::Config;
use super::problems::Problems;

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawConfig {
    pub(crate) listen: RawListen,
    pub(crate) upstream: RawUpstream,
    pub(crate) admin: RawAdmin,
    pub(crate) trusted_proxies: List<String>,
    pub(crate) log: RawLog,
    pub(crate) metrics: RawMetrics,
    pub(crate) memory: RawMemory,
    pub(crate) drain: RawDrain,
    pub(crate) policy: RawPolicy,
    pub(crate) telemetry: RawTelemetry,
    pub(crate) store: RawStore,
    pub(crate) routes: Vec<RawRoute>,
}

impl RawConfig {
    /// `overrides` has the merged upstream and policy of each route.
    pub(crate) fn validate(
        self,
        overrides: Vec<(RawUpstream, RawPolicy)>,
        problems: &mut Problems,
    ) -> Config {
        let Self {
            listen,
            upstream,
            admin,
            trusted_proxies,
            log,
            metrics,
            memory,
            drain,
            policy,
            telemetry,
            store,
            routes,
        } = self;
        problems.refuse_unless_default("telemetry", &telemetry, &RawTelemetry::default());
        problems.refuse_unless_default("store", &store, &RawStore::default());

        let trusted_proxies = trusted_proxies::validate(trusted_proxies, problems);
        let listen = problems.within("listen", |problems| listen.validate(&trusted_proxies, problems));
        let upstream = problems.within("upstream", |problems| upstream.validate(problems));
        let admin = problems.within("admin", |problems| admin.validate(&listen.address, problems));
        let policy = problems.within("policy", |problems| policy.validate(problems));
        Config {
            log: problems.within("log", |problems| log.validate(problems)),
            metrics_prefix: problems.within("metrics", |problems| metrics.validate(problems)),
            max_buffered: problems.within("memory", |problems| memory.validate(problems)),
            drain: problems.within("drain", |problems| drain.validate(problems)),
            routes: routes::validate(routes, overrides, upstream, policy, problems),
            listen,
            admin,
            trusted_proxies,
        }
    }
}

/// A duration as it is written in a file, for what is written so elsewhere.
pub(crate) fn read_duration(text: &str) -> Option<Duration> {
    Span::read(text).map(|Span(duration)| duration)
}
