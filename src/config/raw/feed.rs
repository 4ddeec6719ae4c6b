//! `breaker`, `session` and `history` of a policy: how a server that fails is treated, and what is kept of
//! what it says.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::later::{Greeting, Identity, Later};
use super::list::List;
use super::rule::RawMatch;
use super::scalar::{Readable, Scalar, digits, words};
use super::schema;
use super::unbuilt::RawQueue;
use super::units::{Bytes, Ratio, Span};
use crate::config::model::{Breaker, History, OnJoin};
use crate::config::problems::Problems;

/// `policy.breaker`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(super) struct RawBreaker {
    window: Scalar<Span>,
    min_calls: Scalar<u32>,
    failure_ratio: Scalar<Ratio>,
    statuses: List<ServerError>,
    open_for: Scalar<Span>,
    probes: Scalar<u32>,
    max_waiting: Scalar<u32>,
    slow_after: Scalar<Span>,
}

impl Default for RawBreaker {
    fn default() -> Self {
        Self {
            window: Scalar(Span::secs(10)),
            min_calls: Scalar(10),
            failure_ratio: Scalar(Ratio(0.5)),
            statuses: List::of([502, 503, 504].map(ServerError)),
            open_for: Scalar(Span::secs(5)),
            probes: Scalar(1),
            max_waiting: Scalar(1000),
            slow_after: Scalar(Span::secs(2)),
        }
    }
}

/// A status that says that the server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ServerError(u16);

impl Readable for ServerError {
    fn accepted() -> String {
        "a status from 500 to 599: what is below is an answer, and no failure".into()
    }

    fn read(text: &str) -> Option<Self> {
        let status = digits(text)?.parse().ok()?;
        matches!(status, 500..=599).then_some(Self(status))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }

    fn schema() -> Schema {
        schema::whole(500..=599, "^0*5[0-9]{2}$")
    }
}

impl RawBreaker {
    pub(super) fn validate(self, problems: &mut Problems) -> Breaker {
        let Self { window, min_calls, failure_ratio, statuses, open_for, probes, max_waiting, slow_after } =
            self;
        super::positive("window", window, problems);
        super::at_least_one("min_calls", min_calls, problems);
        super::positive("open_for", open_for, problems);
        super::at_least_one("probes", probes, problems);
        super::positive("slow_after", slow_after, problems);
        let mut statuses: Vec<u16> = statuses.0.into_iter().map(|status| status.0.0).collect();
        // In one form, so that equal settings are equal.
        statuses.sort_unstable();
        statuses.dedup();
        Breaker {
            window: window.0.0,
            min_calls: min_calls.0,
            failure_ratio: failure_ratio.0.0,
            statuses,
            open_for: open_for.0.0,
            probes: probes.0,
            max_waiting: max_waiting.0 as usize,
            slow_after: slow_after.0.0,
        }
    }
}

/// `policy.session`: of all that outlives a link. Nothing of it is built.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawSession {
    resume_window: Later,
    identity: Later<Identity>,
    greeting: Later<Greeting>,
    queue: RawQueue,
    token_key_file: Later,
}

impl Default for RawSession {
    fn default() -> Self {
        Self {
            resume_window: Later::word("30s"),
            identity: Later::default(),
            greeting: Later::default(),
            queue: RawQueue::default(),
            token_key_file: Later::default(),
        }
    }
}

impl RawSession {
    pub(super) fn validate(self, problems: &mut Problems) {
        let defaults = Self::default();
        let Self { resume_window, identity, greeting, queue, token_key_file } = self;
        problems.only_default("resume_window", &resume_window, &defaults.resume_window);
        problems.only_default("identity", &identity, &defaults.identity);
        problems.only_default("greeting", &greeting, &defaults.greeting);
        problems.only_default("queue", &queue, &defaults.queue);
        problems.only_default("token_key_file", &token_key_file, &defaults.token_key_file);
    }
}

/// `policy.history`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawHistory {
    messages: Scalar<u32>,
    bytes: Scalar<Bytes>,
    age: Scalar<Span>,
    critical: Option<RawMatch>,
    on_join: RawOnJoin,
    store: Later,
}

impl Default for RawHistory {
    fn default() -> Self {
        Self {
            messages: Scalar(1000),
            bytes: Scalar(Bytes(1 << 20)),
            age: Scalar(Span::secs(3600)),
            critical: None,
            on_join: RawOnJoin::Word(Scalar(JoinWord::None)),
            store: Later::word("memory"),
        }
    }
}

impl RawHistory {
    pub(super) fn validate(self, problems: &mut Problems) -> History {
        let defaults = Self::default();
        let Self { messages, bytes, age, critical, on_join, store } = self;
        problems.only_default("store", &store, &defaults.store);
        super::at_least_one("messages", messages, problems);
        super::not_empty("bytes", bytes, problems);
        super::positive("age", age, problems);
        History {
            messages: messages.0 as usize,
            bytes: bytes.0.0 as usize,
            age: age.0.0,
            critical: critical
                .and_then(|rule| problems.within("critical", |problems| rule.validate(problems))),
            on_join: problems.within("on_join", |problems| on_join.validate(problems)),
        }
    }
}

/// `policy.history.on_join`: a word, or `{ last: N }`.
#[derive(Debug, Clone)]
enum RawOnJoin {
    Word(Scalar<JoinWord>),
    Last(RawLast),
}

#[derive(Debug, Clone, Copy)]
enum JoinWord {
    None,
    Critical,
    All,
}

words!(JoinWord { None = "none", Critical = "critical", All = "all" });

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with last")]
struct RawLast {
    /// So many of the newest messages, and critical ones
    last: Option<Scalar<u32>>,
}

impl Serialize for RawOnJoin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Word(word) => word.serialize(serializer),
            Self::Last(last) => last.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawOnJoin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RawOnJoin;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a map with last, such as {{ last: 100 }}", JoinWord::accepted())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawOnJoin, E> {
                let word = JoinWord::read(text).map(|word| RawOnJoin::Word(Scalar(word)));
                word.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawOnJoin, A::Error> {
                RawLast::deserialize(MapAccessDeserializer::new(map)).map(RawOnJoin::Last)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for RawOnJoin {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OnJoin".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::any_of(&[JoinWord::schema(), generator.subschema_for::<RawLast>()])
    }
}

impl RawOnJoin {
    fn validate(self, problems: &mut Problems) -> OnJoin {
        match self {
            Self::Word(Scalar(JoinWord::None)) => OnJoin::None,
            Self::Word(Scalar(JoinWord::Critical)) => OnJoin::Critical,
            Self::Word(Scalar(JoinWord::All)) => OnJoin::All,
            Self::Last(RawLast { last: Some(last) }) => {
                super::at_least_one("last", last, problems);
                OnJoin::Last(u64::from(last.0))
            }
            Self::Last(RawLast { last: None }) => {
                if !problems.has("last") {
                    problems.refuse("last", "nothing", "how many of the newest, a whole number from 1");
                }
                OnJoin::None
            }
        }
    }
}
