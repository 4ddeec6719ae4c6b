//! What a configuration sets and nothing acts on: settings that none of their routes reads, and routes that no
//! request takes. Each is valid by itself, so `check`, the start and a reload only warn of it.
//!
//! # Invariants
//! 1. What is written and is the default anyway is no cause for a warning, nor is what was inherited: a setting at the
//!    top is told only if no route reads it from there.
//! 2. Which setting depends on which is in [`RULES`], and nowhere else.
//!
//! # Not here
//! What is refused ([`super::raw`]); what is left open on purpose ([`super::exposure`]).

use std::fmt;

use serde_json::Value;

use super::model::{Auth, Config, HttpMode, ListenAddress, Mode, OnRefuse, ProxyProtocol, Route, UplinkMode};
use super::problems::Problems;
use super::raw::{RawConfig, RawPolicy, RawUpstream};
use super::tree::{Location, Path};

mod hidden;

/// A setting or route without effect: where it is written, why it has none, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    location: Option<Location>,
    key: String,
    why: String,
    instead: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        write!(f, "{} does nothing: {}; {}", self.key, self.why, self.instead)
    }
}

/// Settings of a policy that are read only where something else is set.
struct Rule {
    /// Settings, or sections around them.
    keys: &'static [&'static str],
    is_read: fn(&Route) -> bool,
    why: &'static str,
    instead: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        keys: &[
            "broadcast",
            "delivery.channel_breaker",
            "delivery.cool_down",
            "delivery.max_trips",
            "delivery.resume_from",
            "delivery.throttle",
            "history.critical",
            "history.on_join",
            "history.store",
        ],
        is_read: |route| route.mode == Mode::Broadcast,
        why: "only routes of mode broadcast read it",
        instead: "set mode: broadcast on a route, or leave it out",
    },
    Rule {
        keys: &["compression", "delivery.max_lag.messages", "notices", "redial"],
        is_read: |route| route.mode != Mode::Tunnel,
        why: "routes of mode tunnel do not read it",
        instead: "set mode: session or broadcast on a route, or leave it out",
    },
    Rule {
        keys: &["history.messages", "history.bytes", "history.age"],
        is_read: |route| route.mode == Mode::Broadcast || has_tickets(route),
        why: "only routes of mode broadcast, and of mode session with a resume_window, read it",
        instead: "set mode: session or broadcast on a route, or leave it out",
    },
    Rule {
        keys: &["fallback.sse", "fallback.poll", "fallback.replay"],
        is_read: |route| route.mode != Mode::Tunnel,
        why: "routes of mode tunnel keep no messages",
        instead: "set mode: broadcast on a route, or leave it out",
    },
    Rule {
        keys: &["fallback.prefix"],
        is_read: |route| route.mode != Mode::Tunnel && route.policy.fallback.is_on(),
        why: "there is no endpoint behind it",
        instead: "set fallback.sse, poll or replay on a route that is no tunnel, or leave it out",
    },
    Rule {
        keys: &["session"],
        is_read: |route| route.mode == Mode::Session,
        why: "only routes of mode session read it",
        instead: "set mode: session on a route, or leave it out",
    },
    Rule {
        keys: &["session.max_detached", "session.token_key_file"],
        is_read: has_tickets,
        why: "session.resume_window is 0s, so that no tickets are given",
        instead: "set resume_window, or leave it out",
    },
    Rule {
        keys: &["broadcast.anonymous"],
        is_read: |route| route.policy.broadcast.uplink == UplinkMode::Forward,
        why: "broadcast.uplink is not forward",
        instead: "set uplink: forward, or leave it out",
    },
    Rule {
        keys: &["heartbeat.interval", "heartbeat.timeout", "heartbeat.max_missed"],
        is_read: |route| route.policy.heartbeat.is_some(),
        why: "heartbeat.mode is off",
        instead: "set another mode, or leave it out",
    },
    Rule {
        keys: &["idle_activity", "close_codes.idle"],
        is_read: |route| route.policy.idle_timeout.is_some(),
        why: "idle_timeout is off",
        instead: "set idle_timeout, or leave it out",
    },
    Rule {
        keys: &["handshake_rate.max_queued"],
        is_read: |route| !route.policy.handshake_rate.queue.is_zero(),
        why: "handshake_rate.queue is 0s, so that nobody waits",
        instead: "set queue, or leave it out",
    },
    Rule {
        keys: &["handshake_rate.max_keys"],
        is_read: |route| {
            let rate = &route.policy.handshake_rate;
            rate.per_ip.is_some() || rate.per_user.is_some()
        },
        why: "handshake_rate has neither per_ip nor per_user, so that nobody is told apart",
        instead: "set one of them, or leave it out",
    },
    Rule {
        keys: &["http.rate.max_keys"],
        is_read: |route| route.policy.http.rate.per_ip.is_some(),
        why: "http.rate has no per_ip, so that nobody is told apart",
        instead: "set per_ip, or leave it out",
    },
    Rule {
        keys: &["http.max_body", "http.rate", "http.response_timeout"],
        is_read: |route| route.policy.http.mode != HttpMode::Refuse,
        why: "http.mode is refuse",
        instead: "set another mode, or leave it out",
    },
    Rule {
        keys: &["close_codes.capacity", "close_codes.rate"],
        is_read: |route| route.policy.on_refuse == OnRefuse::Close,
        why: "on_refuse is http, so that whoever is refused gets a status",
        instead: "set on_refuse: close, or leave it out",
    },
    Rule {
        keys: &["close_codes.unauthorized"],
        // Who is connected gets this code too, when the server refuses a redial.
        is_read: |route| route.policy.on_refuse == OnRefuse::Close || route.mode != Mode::Tunnel,
        why: "on_refuse is http, so that whoever is refused gets a status",
        instead: "set on_refuse: close, or leave it out",
    },
    Rule {
        keys: &["close_codes.expired"],
        is_read: |route| matches!(&route.policy.auth, Some(Auth::Jwt(jwt)) if jwt.close_on_expiry),
        why: "there is no auth.jwt that closes on expiry, and nothing else runs out",
        instead: "set auth.jwt, or leave it out",
    },
];

/// Whether clients of the route may come back to their session.
fn has_tickets(route: &Route) -> bool {
    route.mode == Mode::Session && route.policy.session.resume_window.is_some()
}

/// Settings as they were read, before they were checked, as JSON.
pub(super) struct RawSettings {
    listen: Value,
    policy: Value,
    /// The merged policy of each route.
    routes: Vec<Value>,
    defaults: Value,
}

impl RawSettings {
    /// `overrides` has the merged upstream and policy of each route.
    pub(super) fn new(raw: &RawConfig, overrides: &[(RawUpstream, RawPolicy)]) -> Self {
        // Settings are texts, lists and maps, which are always JSON.
        let policy = |policy: &RawPolicy| serde_json::to_value(policy).unwrap_or_default();
        Self {
            listen: serde_json::to_value(&raw.listen).unwrap_or_default(),
            policy: policy(&raw.policy),
            routes: overrides.iter().map(|(_, own)| policy(own)).collect(),
            defaults: serde_json::to_value(RawConfig::default()).unwrap_or_default(),
        }
    }
}

/// Everything that has no effect, in the order of `config`. `problems` finds where it was written.
pub(super) fn find(given: &RawSettings, config: &Config, problems: &Problems) -> Vec<Warning> {
    let hidden: Vec<Option<usize>> =
        (0..config.routes.len()).map(|index| hidden::by(&config.routes, index)).collect();
    let mut found = Vec::new();
    let mut warn = |path: &Path, why: String, instead: &'static str| {
        if let Some(location) = problems.location_of(path) {
            found.push(Warning { location: Some(location), key: path.to_string(), why, instead });
        }
    };
    listen_warnings(given, config, &mut warn);

    let top = Path::default().key("policy");
    for key in changed_settings(&given.policy, &given.defaults["policy"]) {
        let inherits = |index: usize| {
            let own = route(index).key("policy").key(&key);
            hidden[index].is_none() && problems.location_of(&own).is_none()
        };
        let inherits: Vec<&Route> =
            config.routes.iter().enumerate().filter(|(index, _)| inherits(*index)).map(|(_, r)| r).collect();
        let idle = RULES.iter().find(|rule| rule.covers(&key) && !inherits.iter().any(|r| (rule.is_read)(r)));
        if let Some(Rule { why, instead, .. }) = idle {
            warn(&top.key(&key), (*why).to_owned(), instead);
        }
    }
    for (index, own) in given.routes.iter().enumerate() {
        let Some(checked) = config.routes.get(index) else { continue };
        if let Some(by) = hidden[index] {
            let before = &config.routes[by];
            let why =
                format!("routes[{by}] ({}) stands before it and takes all of its requests", before.name);
            warn(&route(index).key("path"), why, "put it before that one, or leave it out");
            continue;
        }
        for key in changed_settings(own, &given.defaults["policy"]) {
            let idle = RULES.iter().find(|rule| rule.covers(&key) && !(rule.is_read)(checked));
            if let Some(Rule { why, instead, .. }) = idle {
                warn(&route(index).key("policy").key(&key), (*why).to_owned(), instead);
            }
        }
    }
    found
}

/// Settings of `listen` and `trusted_proxies` that are not read.
fn listen_warnings(given: &RawSettings, config: &Config, warn: &mut impl FnMut(&Path, String, &'static str)) {
    let listen = Path::default().key("listen");
    let is_changed = |key: &str| given.listen[key] != given.defaults["listen"][key];
    if is_changed("http2_max_streams") && config.listen.http2.is_none() {
        let why = "listen.http2 is false".to_owned();
        warn(&listen.key("http2_max_streams"), why, "set http2: true, or leave it out");
    }
    if is_changed("max_refusals")
        && !config.routes.iter().any(|route| route.policy.on_refuse == OnRefuse::Close)
    {
        let why = "on_refuse is http, so that whoever is refused gets a status".to_owned();
        warn(&listen.key("max_refusals"), why, "set on_refuse: close, or leave it out");
    }
    let has_addresses = matches!(config.listen.address, ListenAddress::Tcp(_))
        || config.listen.proxy_protocol != ProxyProtocol::Off;
    if is_changed("max_idle_http_per_ip") && !has_addresses {
        let why = "whoever connects to a Unix socket has no address".to_owned();
        warn(
            &listen.key("max_idle_http_per_ip"),
            why,
            "set listen.address or proxy_protocol, or leave it out",
        );
    }
    let trusted = &config.trusted_proxies;
    if !has_addresses && !trusted.nets.is_empty() && !trusted.unix {
        let why = "whoever connects to a Unix socket has no address that could be one of these".to_owned();
        warn(
            &Path::default().key("trusted_proxies"),
            why,
            "add loopback, which means the socket, or leave it out",
        );
    }
}

impl Rule {
    fn covers(&self, key: &str) -> bool {
        let is_in = |section: &&str| {
            key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.keys.iter().any(is_in)
    }
}

fn route(index: usize) -> Path {
    Path::default().key("routes").index(index)
}

/// The path of every setting of `given` that differs from `defaults`, such as `delivery.max_lag.bytes`.
fn changed_settings(given: &Value, defaults: &Value) -> Vec<String> {
    fn walk(prefix: &str, given: &Value, defaults: &Value, into: &mut Vec<String>) {
        match (given, defaults) {
            (Value::Object(given), Value::Object(defaults)) => {
                for (key, given) in given {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&path, given, defaults.get(key).unwrap_or(&Value::Null), into);
                }
            }
            (given, defaults) if given == defaults => {}
            _ => into.push(prefix.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk("", given, defaults, &mut found);
    found
}

#[cfg(test)]
mod tests;
