//! The counts of admission (rates and quotas), which a reload hands on to the next configuration.

use std::collections::HashMap;
use std::sync::Arc;

use super::quota::ConnectionQuota;
use super::rate::{RateSettings, Rates, RatesByKind};
use crate::config::{Mode, Policy, Route};
use crate::telemetry::Metrics;

/// The rates and quotas of all routes.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// One for each different setting.
    rates: Vec<Arc<Rates>>,
    /// By route. Those of routes that are gone stay until their last connection has gone too.
    quotas: HashMap<String, Arc<ConnectionQuota>>,
}

impl Counts {
    /// The counts of `routes`: those that `previous` has are taken over.
    pub(crate) fn of(routes: &[Route], previous: Option<&Self>, metrics: &Arc<Metrics>) -> Self {
        let mut counts = Self::default();
        for Route { name, policy, .. } in routes {
            for settings in settings(policy) {
                if counts.find(&settings).is_none() {
                    let rates = previous
                        .and_then(|previous| previous.find(&settings))
                        .unwrap_or_else(|| Arc::new(Rates::new(settings, metrics)));
                    counts.rates.push(rates);
                }
            }
            let quota = previous.and_then(|previous| previous.quotas.get(name)).map(Arc::clone);
            counts.quotas.insert(name.clone(), quota.unwrap_or_else(|| ConnectionQuota::new(name)));
        }
        for (name, quota) in previous.iter().flat_map(|previous| &previous.quotas) {
            if !counts.quotas.contains_key(name) && quota.count() > 0 {
                counts.quotas.insert(name.clone(), Arc::clone(quota));
            }
        }
        counts
    }

    /// Sets the limits of `routes` in the metrics, and removes those of routes that only `previous` had.
    pub(crate) fn report_limits<'a>(
        &self,
        routes: impl Iterator<Item = &'a Route>,
        previous: Option<&Self>,
        metrics: &Metrics,
    ) {
        for name in previous.iter().flat_map(|previous| previous.quotas.keys()) {
            set_limits(metrics, name, None, None);
        }
        for Route { name, policy, mode, .. } in routes {
            set_limits(metrics, name, Some(policy), Some(*mode));
        }
    }

    /// The buckets of a route's policy.
    pub(crate) fn rates(&self, policy: &Policy) -> RatesByKind {
        let [handshakes, requests] = settings(policy).map(|settings| {
            let Some(rates) = self.find(&settings) else { unreachable!("there are buckets for every route") };
            rates
        });
        RatesByKind { handshakes, requests }
    }

    /// The quota of this route.
    pub(crate) fn quota(&self, route: &str) -> Arc<ConnectionQuota> {
        Arc::clone(&self.quotas[route])
    }

    /// Removes addresses and users whose buckets are full again. To be called about once a second.
    pub(crate) fn sweep(&self, metrics: &Metrics) {
        let kept: usize = self.rates.iter().map(|rates| rates.sweep()).sum();
        metrics.admission.rate_keys.set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    fn find(&self, settings: &RateSettings) -> Option<Arc<Rates>> {
        self.rates.iter().find(|rates| rates.settings() == settings).map(Arc::clone)
    }
}

/// What the buckets of a policy are made for.
fn settings(policy: &Policy) -> [RateSettings; 2] {
    [RateSettings::Handshakes(policy.handshake_rate), RateSettings::Requests(policy.http.rate)]
}

/// Sets the limits of a route in the metrics, or removes them if there is no policy.
fn set_limits(metrics: &Metrics, route: &str, policy: Option<&Arc<Policy>>, mode: Option<Mode>) {
    let limits = policy.map(|policy| policy.limits);
    let rates = policy.map(|policy| policy.handshake_rate);
    let http = policy.map(|policy| policy.http.rate);
    let count = |bound: Option<u32>| bound.map(f64::from);
    let values = [
        ("connections", count(limits.and_then(|limits| limits.connections))),
        ("connections_per_ip", count(limits.and_then(|limits| limits.per_ip))),
        ("connections_per_user", count(limits.and_then(|limits| limits.per_user))),
        ("handshake_rate", rates.and_then(|rates| Some(rates.global?.per_second))),
        ("handshake_rate_per_ip", rates.and_then(|rates| Some(rates.per_ip?.per_second))),
        ("handshake_rate_per_user", rates.and_then(|rates| Some(rates.per_user?.per_second))),
        (
            "handshakes_queued",
            rates.filter(|rates| !rates.queue.is_zero()).map(|rates| rates.max_queued as f64),
        ),
        (
            "breaker_waiting",
            policy.and_then(|policy| policy.breaker.as_ref()).map(|breaker| breaker.max_waiting as f64),
        ),
        (
            "channels",
            policy
                .filter(|_| mode == Some(Mode::Broadcast))
                .map(|policy| policy.broadcast.max_channels as f64),
        ),
        (
            "sessions_away",
            policy
                .map(|policy| &policy.session)
                .filter(|session| mode == Some(Mode::Session) && session.resume_window.is_some())
                .map(|session| session.max_detached as f64),
        ),
        ("rate_keys", rates.map(|rates| rates.max_keys as f64)),
        ("http_rate", http.and_then(|rates| Some(rates.global?.per_second))),
        ("http_rate_per_ip", http.and_then(|rates| Some(rates.per_ip?.per_second))),
        ("http_rate_keys", http.filter(|rates| rates.per_ip.is_some()).map(|rates| rates.max_keys as f64)),
    ];
    for (kind, value) in values {
        metrics.process.set_route_limit(kind, route, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Limits, OnUserLimit, Rate};

    fn routes(names: &[&str]) -> Vec<Route> {
        let mut config = Config::default();
        let Some(fallback) = config.routes.pop() else { unreachable!() };
        names.iter().map(|name| Route { name: (*name).to_owned(), ..fallback.clone() }).collect()
    }

    fn set(route: &mut Route, change: impl FnOnce(&mut Policy)) {
        change(Arc::make_mut(&mut route.policy));
    }

    fn limit(metrics: &Metrics, kind: &str, route: &str) -> Option<f64> {
        let families = metrics.gather();
        let family = families.iter().find(|family| family.name() == "outrigger_limit")?;
        let samples = family.get_metric().iter();
        let mut values = samples.filter(|sample| {
            let label =
                |name| sample.get_label().iter().find(|label| label.name() == name).map(|l| l.value());
            (label("kind"), label("route")) == (Some(kind), Some(route))
        });
        values.next().map(|sample| sample.get_gauge().get_value())
    }

    #[test]
    fn equal_settings_share_their_buckets_and_a_reload_carries_them_over() {
        let metrics = Metrics::new("outrigger").unwrap();
        let mut before = routes(&["a", "b", "c"]);
        set(&mut before[2], |policy| policy.handshake_rate.per_ip = Some(Rate { per_second: 1.0, burst: 1 }));
        let first = Counts::of(&before, None, &metrics);
        let rates = |counts: &Counts, route: &Route| counts.rates(&route.policy).handshakes;
        assert!(Arc::ptr_eq(&rates(&first, &before[0]), &rates(&first, &before[1])));
        assert!(!Arc::ptr_eq(&rates(&first, &before[0]), &rates(&first, &before[2])));

        let mut after = before.clone();
        set(&mut after[2], |policy| policy.handshake_rate.max_keys = 5);
        let second = Counts::of(&after, Some(&first), &metrics);
        assert!(Arc::ptr_eq(&rates(&first, &before[0]), &rates(&second, &after[0])));
        assert!(!Arc::ptr_eq(&rates(&first, &before[2]), &rates(&second, &after[2])), "they differ");
        assert!(Arc::ptr_eq(&first.quota("c"), &second.quota("c")));
        assert!(!Arc::ptr_eq(&second.quota("a"), &second.quota("b")), "each route has a quota of its own");
    }

    #[test]
    fn limits_are_shown_as_they_stand_now() {
        let metrics = Metrics::new("outrigger").unwrap();
        let mut before = routes(&["a", "b"]);
        let on_user_limit = OnUserLimit::Refuse;
        let limits = Limits { connections: Some(100), per_ip: Some(3), per_user: None, on_user_limit };
        set(&mut before[0], |policy| policy.limits = limits);
        set(&mut before[0], |policy| {
            policy.handshake_rate.global = Some(Rate { per_second: 0.5, burst: 1 });
        });
        let first = Counts::of(&before, None, &metrics);
        assert_eq!(limit(&metrics, "connections", "a"), None, "they are not in force yet");
        first.report_limits(before.iter(), None, &metrics);
        assert_eq!(limit(&metrics, "connections", "a"), Some(100.0));
        assert_eq!(limit(&metrics, "connections_per_ip", "a"), Some(3.0));
        assert_eq!(limit(&metrics, "connections_per_user", "a"), None, "what is not limited has no value");
        assert_eq!(limit(&metrics, "handshake_rate", "a"), Some(0.5));
        assert_eq!(limit(&metrics, "connections", "b"), Some(10_000.0));
        let mut after = routes(&["a"]);
        set(&mut after[0], |policy| {
            policy.limits = Limits { connections: Some(5), per_ip: None, per_user: None, on_user_limit }
        });
        Counts::of(&after, Some(&first), &metrics).report_limits(after.iter(), Some(&first), &metrics);
        assert_eq!(limit(&metrics, "connections", "a"), Some(5.0));
        assert_eq!(limit(&metrics, "connections_per_ip", "a"), None);
        assert_eq!(limit(&metrics, "connections", "b"), None, "the route is gone");
    }

    #[test]
    fn absent_clients_have_a_limit_where_they_are_waited_for() {
        let metrics = Metrics::new("outrigger").unwrap();
        let mut all = routes(&["tunnel", "session", "plain"]);
        for route in &mut all[1..] {
            route.mode = Mode::Session;
        }
        set(&mut all[2], |policy| policy.session.resume_window = None);
        Counts::of(&all, None, &metrics).report_limits(all.iter(), None, &metrics);
        let limit = |route| limit(&metrics, "sessions_away", route);
        assert_eq!((limit("tunnel"), limit("session"), limit("plain")), (None, Some(1000.0), None));
    }
}
