//! `routes`: path patterns, and what they override.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

#[cfg(test)]
use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::error::quoted;
use crate::config::model::{Fallback, KeyPart, Mode, OnStall, PathPattern, Policy, Route, Segment, Upstream};
use crate::config::problems::Problems;
use crate::config::raw::policy::RawPolicy;
use crate::config::raw::upstream::RawUpstream;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::{Scalar, ScalarValue, words};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::Span;
use crate::config::raw::values::url;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map with at least a path")]
#[cfg_attr(test, schemars(extend("required" = ["path"])))]
pub(crate) struct RawRoute {
    name: Option<Scalar<String>>,
    path: Option<Scalar<String>>,
    hosts: List<String>,
    mode: Scalar<Mode>,
    #[cfg_attr(test, schemars(schema_with = "schema::keys_of_upstream"))]
    upstream: Overrides,
    strip_prefix: Option<Scalar<String>>,
    #[cfg_attr(test, schemars(schema_with = "schema::keys_of_policy"))]
    policy: Overrides,
}

impl Default for RawRoute {
    fn default() -> Self {
        Self {
            name: None,
            path: None,
            hosts: List::default(),
            mode: Scalar(Mode::Tunnel),
            upstream: Overrides::default(),
            strip_prefix: None,
            policy: Overrides::default(),
        }
    }
}

words!(Mode { Tunnel = "tunnel", Session = "session", Broadcast = "broadcast" });

/// Keys of `policy` or `upstream` as they were written. They are read after they were merged with the global ones.
#[derive(Debug, Clone, Default, Serialize)]
struct Overrides(Map<String, Value>);

impl<'de> Deserialize<'de> for Overrides {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OverridesVisitor;

        impl<'de> Visitor<'de> for OverridesVisitor {
            type Value = Overrides;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of the settings to override")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Overrides, A::Error> {
                let mut given = Map::new();
                while let Some((key, value)) = map.next_entry()? {
                    given.insert(key, value);
                }
                Ok(Overrides(given))
            }
        }

        deserializer.deserialize_map(OverridesVisitor)
    }
}

/// Each name is a label of metrics: more of them than this make every scrape expensive.
const MAX_ROUTES: usize = 256;

const MAX_NAME_LEN: usize = 64;

const MAX_PATH_LEN: usize = 1024;

/// Checks every route, and adds the fallback as the last one.
pub(crate) fn validate(
    routes: Vec<RawRoute>,
    overrides: Vec<(RawUpstream, RawPolicy)>,
    upstream: Upstream,
    policy: Policy,
    problems: &mut Problems,
) -> Vec<Route> {
    if routes.len() > MAX_ROUTES {
        problems.refuse("routes", format!("{} routes", routes.len()), format!("at most {MAX_ROUTES}"));
        return Vec::new();
    }
    let mut names = HashSet::from([Route::DEFAULT.to_owned()]);
    // The global settings come first, since most routes share them.
    let mut upstreams = vec![Arc::new(upstream)];
    let mut policies = vec![Arc::new(policy)];
    let mut checked = Vec::new();
    for (index, (route, (upstream, policy))) in routes.into_iter().zip(overrides).enumerate() {
        problems.within_item("routes", index, |problems| {
            let upstream = problems.inheriting("upstream", |problems| upstream.validate(problems));
            let policy = problems.inheriting("policy", |problems| policy.validate(problems));
            let upstream = deduplicate(&mut upstreams, upstream);
            let policy = deduplicate(&mut policies, policy);
            checked.extend(route.validate(upstream, policy, &mut names, problems));
        });
    }
    if let (Some(upstream), Some(policy)) = (upstreams.first(), policies.first()) {
        checked.push(Route::fallback(Arc::clone(upstream), Arc::clone(policy)));
    }
    checked
}

/// The one among `known` that equals `value`, or else `value`, which is added to them.
fn deduplicate<T: PartialEq>(known: &mut Vec<Arc<T>>, value: T) -> Arc<T> {
    if let Some(equal) = known.iter().find(|other| ***other == value) {
        return Arc::clone(equal);
    }
    let value = Arc::new(value);
    known.push(Arc::clone(&value));
    value
}

impl RawRoute {
    /// A route without a name is named after its path.
    pub(crate) fn fill_in_name(&mut self) {
        if self.name.is_none() {
            self.name = self.path.clone();
        }
    }

    fn validate(
        self,
        upstream: Arc<Upstream>,
        policy: Arc<Policy>,
        names: &mut HashSet<String>,
        problems: &mut Problems,
    ) -> Option<Route> {
        // The overrides were merged and read already: the result is in the arguments `upstream` and `policy`.
        let Self { name, path, hosts, mode, upstream: _, strip_prefix, policy: _ } = self;
        let Some(Scalar(path)) = path else {
            if !problems.has("path") {
                problems.refuse("path", "nothing", "a path pattern, such as /ws/{*rest}");
            }
            return None;
        };
        let named = name.is_some();
        let name = name.map_or_else(|| path.clone(), |Scalar(name)| name);
        check_name(&name, named, names, problems);
        let pattern = match pattern(&path) {
            Ok(pattern) => pattern,
            Err(accepted) => {
                problems.refuse("path", quoted(&path), accepted);
                return None;
            }
        };
        let strip_prefix = strip_prefix.map(|Scalar(prefix)| prefix);
        if let Some(prefix) = &strip_prefix
            && !is_strippable(prefix, &pattern)
        {
            let accepted = "whole segments that the path starts with, such as /api for /api/{*rest}";
            problems.refuse("strip_prefix", quoted(prefix), accepted);
        }
        let hosts = url::hosts("hosts", hosts, problems);
        match mode.0 {
            Mode::Tunnel => check_tunnel(&policy, problems),
            Mode::Session => check_session(&policy, problems),
            Mode::Broadcast => check_broadcast(&pattern, &policy, problems),
        }
        Some(Route { name, path: pattern, hosts, mode: mode.0, strip_prefix, upstream, policy })
    }
}

/// Endpoints of a route, and whether each is on.
fn endpoints(fallback: &Fallback) -> [(&'static str, bool); 3] {
    [("sse", fallback.sse), ("poll", fallback.poll), ("replay", fallback.replay)]
}

/// Nothing of a tunnel is kept that could be had in another way. What is inherited was meant for other routes.
fn check_tunnel(policy: &Policy, problems: &mut Problems) {
    for (name, is_on) in endpoints(&policy.fallback) {
        let key = format!("policy.fallback.{name}");
        if is_on && problems.is_own(&key) {
            let accepted = "mode: broadcast on this route, or no fallback: a tunnel keeps no messages that could be \
                            had without a WebSocket";
            problems.refuse(&key, format!("fallback.{name}, and mode tunnel"), accepted);
        }
    }
}

/// What a route's clients share must be the same for all of them.
fn check_broadcast(pattern: &PathPattern, policy: &Policy, problems: &mut Problems) {
    const KEY: &str = "policy.broadcast.channel_key";
    let key = &policy.broadcast.channel_key;
    let is_literal = pattern.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)));
    if !key.contains(&KeyPart::Path) && !is_literal && !problems.has(KEY) {
        let accepted = "path in channel_key, or a path without {…}: all clients of a channel would share a link \
                        to the path of the first";
        let found = format!("{}, and a channel_key without path", quoted(&pattern.text));
        problems.refuse(own_key_or(KEY, "path", problems), found, accepted);
    }
    if key.contains(&KeyPart::User) && policy.auth.is_none() && !problems.has("policy.auth") {
        let accepted = "auth, which says who a user is: without it all of them are the same one";
        let at = own_key_or(KEY, own_key_or("policy.auth", "mode", problems), problems);
        problems.refuse(at, "user in channel_key, and no auth", accepted);
    }
    if policy.delivery.on_stall == OnStall::Backpressure {
        let accepted = "auto or isolate on a route of mode broadcast: a feed that is shared waits for nobody";
        let at = own_key_or("policy.delivery.on_stall", "mode", problems);
        problems.refuse(at, "on_stall: backpressure", accepted);
    }
}

/// A session is whole or it is over: nothing of what its server says may be left out.
fn check_session(policy: &Policy, problems: &mut Problems) {
    const AGE: &str = "policy.history.age";
    const WINDOW: &str = "policy.session.resume_window";
    for (name, is_on) in endpoints(&policy.fallback) {
        if is_on && policy.session.resume_window.is_none() {
            let key = format!("policy.fallback.{name}");
            let accepted = "a session.resume_window, or no fallback, on a route of mode session: without a WebSocket a \
                            client comes back with each request";
            let found = format!("fallback.{name}, and resume_window: 0s");
            problems.refuse(own_key_or(&key, "mode", problems), found, accepted);
        }
    }
    let delivery = &policy.delivery;
    // Those that have a value in any case count only where the route itself gives them one.
    let own = |key: &str| problems.is_own(&format!("policy.delivery.{key}"));
    let settings = [
        ("cool_down", own("cool_down")),
        ("max_trips", own("max_trips")),
        ("resume_from", own("resume_from")),
        ("throttle", delivery.throttle.is_some()),
        ("channel_breaker", own("channel_breaker") && delivery.channel_breaker.is_some()),
    ];
    for (key, is_given) in settings {
        if is_given {
            let how = if key == "throttle" { " (null, where it is inherited)" } else { "" };
            let accepted = format!(
                "no delivery.{key}{how} on a route of mode session: its client gets each message, or its session ends"
            );
            let found = format!("delivery.{key}, and mode session");
            let key = format!("policy.delivery.{key}");
            problems.refuse(own_key_or(&key, "mode", problems), found, accepted);
        }
    }
    let age = policy.history.age;
    if let Some(window) = policy.session.resume_window.filter(|window| age < *window)
        && !problems.has(AGE)
        && !problems.has(WINDOW)
    {
        let found =
            format!("history.age {}, and session.resume_window {}", Span(age).write(), Span(window).write());
        let accepted = "a history.age that is not below session.resume_window: what a client missed has to be there when it \
                        comes back";
        let at = own_key_or(AGE, own_key_or(WINDOW, "mode", problems), problems);
        problems.refuse(at, found, accepted);
    }
}

/// The key that the route sets, or the other one if it inherits that.
fn own_key_or<'a>(key: &'a str, other: &'a str, problems: &Problems) -> &'a str {
    if problems.is_own(key) { key } else { other }
}

fn check_name(name: &str, named: bool, names: &mut HashSet<String>, problems: &mut Problems) {
    let key = if named { "name" } else { "path" };
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:{}*-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_LEN || !name.bytes().all(fit) {
        let hint = if named { "" } else { "; without a name the path is the name: give one" };
        let accepted = format!("a name of up to {MAX_NAME_LEN} letters, digits and _./:{{}}*-{hint}");
        problems.refuse(key, quoted(name), accepted);
    } else if !names.insert(name.to_owned()) {
        let accepted = if name == Route::DEFAULT {
            "another name: default is what no route matches"
        } else {
            "a name that no other route has (without a name the path is the name)"
        };
        problems.refuse(key, quoted(name), accepted);
    }
}

/// Reads a path pattern, or says what is accepted.
fn pattern(text: &str) -> Result<PathPattern, Cow<'static, str>> {
    let path = text.strip_prefix('/').ok_or("a path that starts with /")?;
    if text.len() > MAX_PATH_LEN {
        return Err("a path of up to 1024 bytes".into());
    }
    let mut segments = Vec::new();
    let mut names = HashSet::new();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let segment = match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => match name.strip_prefix('*') {
                Some(_) if !last => return Err("{*name} as the last segment only".into()),
                Some(name) => Segment::Rest(name.to_owned()),
                None => Segment::One(name.to_owned()),
            },
            None if part.contains(['{', '}']) => return Err("{name} or {*name} as a whole segment".into()),
            None if part.is_empty() && !last => return Err("a path without empty segments (//)".into()),
            None if is_dots(part) => {
                return Err(
                    "a path without the segments . and .. (no path has them when it is matched)".into()
                );
            }
            None if !part.bytes().all(is_path_byte) => {
                return Err("a path of visible ASCII characters without ? and #; write others as %XX".into());
            }
            // Patterns of other routers: here these characters would be literal, and match nothing.
            None if part.contains('*') => {
                return Err("{*rest} as the last segment for whatever follows, or {name} for one segment; a star that \
                            stands for itself is %2A"
                    .into());
            }
            None if part.starts_with(':') => {
                let name = part.strip_prefix(':').filter(|name| is_name(name)).unwrap_or("name");
                return Err(format!("{{{name}}} for one segment; a colon that it begins with is %3A").into());
            }
            None => Segment::Literal(part.to_owned()),
        };
        if let Segment::One(name) | Segment::Rest(name) = &segment {
            if !is_name(name) {
                return Err("letters, digits and underscores between { and }, no digit first".into());
            }
            if !names.insert(name.clone()) {
                return Err("each name between { and } once".into());
            }
        }
        segments.push(segment);
    }
    Ok(PathPattern { segments, text: text.to_owned() })
}

/// Whether `text` may stand between `{` and `}`.
fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a segment is `.` or `..`, escaped or not.
fn is_dots(part: &str) -> bool {
    matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'|')
}

/// Whether `prefix` is the first segments of `pattern`, each of them literal.
fn is_strippable(prefix: &str, pattern: &PathPattern) -> bool {
    let Some(prefix) = prefix.strip_prefix('/').filter(|prefix| !prefix.is_empty()) else { return false };
    let mut segments = pattern.segments.iter();
    prefix.split('/').all(|part| {
        !part.is_empty() && matches!(segments.next(), Some(Segment::Literal(literal)) if literal == part)
    })
}
