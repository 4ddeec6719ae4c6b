//! What a configuration may say, unchecked: one struct a section, in the order of
//! `config/outrigger.yaml`.
//!
//! # Invariants
//! 1. Every key has a field, and `Default` is the one place where its default stands.
//! 2. Unknown keys are refused at every level.
//! 3. `validate` takes a struct apart without `..`, so that a new key cannot be forgotten there; it
//!    tells every problem it finds and then hands back a value that is dropped if there was any.
//!
//! # Not here
//! How values are written ([`scalar`], [`units`]); what is checked and complete
//! ([`super::model`]).

mod access;
mod admin;
mod auth;
mod broadcast;
mod delivery;
mod feed;
mod greeting;
mod jwt;
mod later;
mod list;
mod listen;
mod origins;
mod policy;
mod rates;
mod redial;
mod route;
mod rule;
mod scalar;
pub(super) mod schema;
mod tls;
mod trust;
mod tunnel;
mod unbuilt;
mod units;
mod upstream;
mod url;

pub(crate) use policy::RawPolicy;
pub(crate) use route::RawRoute;
pub(crate) use upstream::RawUpstream;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::admin::{RawAdmin, RawDrain, RawLog, RawMemory, RawMetrics};
use self::list::List;
use self::listen::RawListen;
use self::scalar::{Readable, Scalar};
use self::unbuilt::{RawStore, RawTelemetry};
use self::units::{Bytes, Span};
use super::error::quoted;
use super::model::Config;
use super::problems::Problems;

/// The whole of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
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
    /// `overrides`: upstream and policy of each route, complete.
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
        problems.only_default("telemetry", &telemetry, &RawTelemetry::default());
        problems.only_default("store", &store, &RawStore::default());

        let trusted_proxies = trust::validate(trusted_proxies, problems);
        let listen = problems.within("listen", |problems| listen.validate(&trusted_proxies, problems));
        let upstream = problems.within("upstream", |problems| upstream.validate(problems));
        let admin = problems.within("admin", |problems| admin.validate(&listen.address, problems));
        let policy = problems.within("policy", |problems| policy.validate(problems));
        Config {
            log: problems.within("log", |problems| log.validate(problems)),
            metrics_prefix: problems.within("metrics", |problems| metrics.validate(problems)),
            max_buffered: problems.within("memory", |problems| memory.validate(problems)),
            drain: problems.within("drain", |problems| drain.validate(problems)),
            routes: route::validate(routes, overrides, upstream, policy, problems),
            listen,
            admin,
            trusted_proxies,
        }
    }
}

/// A clock that ends something must not have run out at the start.
fn positive(key: &str, span: Scalar<Span>, problems: &mut Problems) {
    if span.0.0.is_zero() {
        problems.refuse(key, shown(span), "a duration above 0");
    }
}

fn at_least_one(key: &str, count: Scalar<u32>, problems: &mut Problems) {
    if count.0 == 0 {
        problems.refuse(key, shown(count), "a whole number from 1");
    }
}

/// A checked value, as it would be written.
fn shown<T: Readable + Copy>(value: Scalar<T>) -> String {
    quoted(&value.0.write())
}

fn not_empty(key: &str, size: Scalar<Bytes>, problems: &mut Problems) {
    if size.0.0 == 0 {
        problems.refuse(key, shown(size), "a size above 0");
    }
}
