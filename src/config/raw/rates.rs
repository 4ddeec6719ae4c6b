//! How fast: `limits.message_rate` and `control_rate`, `handshake_rate` and `http.rate` of a policy.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::scalar::Scalar;
use super::schema;
use super::units::{PerTime, Span, Unit};
use crate::config::model::{ControlRate, HandshakeRate, HttpRate, Rate};
use crate::config::problems::Problems;

/// `policy.limits.control_rate`
#[derive(Debug, Clone)]
pub(super) enum RawControlRate {
    Auto,
    Off,
    At(ControlBucket),
}

impl RawControlRate {
    pub(super) fn validate(self, problems: &mut Problems) -> ControlRate {
        match self {
            Self::Auto => ControlRate::Auto,
            Self::Off => ControlRate::Off,
            Self::At(rate) => ControlRate::At(rate.validate(problems)),
        }
    }
}

impl Serialize for RawControlRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_none(),
            Self::At(rate) => rate.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawControlRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RawControlRate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, a map with rate and burst, or null for off")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawControlRate, E> {
                match text {
                    "auto" => Ok(RawControlRate::Auto),
                    // Helm and YAML 1.1 write `off` as `false`.
                    "off" | "false" => Ok(RawControlRate::Off),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_unit<E>(self) -> Result<RawControlRate, E> {
                Ok(RawControlRate::Off)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawControlRate, A::Error> {
                ControlBucket::deserialize(MapAccessDeserializer::new(map)).map(RawControlRate::At)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for RawControlRate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ControlRate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let bucket = generator.subschema_for::<ControlBucket>();
        schema::any_of(&[schema::words(&["auto", "off"]), bucket, json_schema!({ "type": "null" })])
    }
}

/// A token bucket. What it holds by default counts once it is there.
macro_rules! bucket {
    ($($(#[$doc:meta])* $name:ident: $per_second:literal a second, burst $burst:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields, expecting = "a map with rate and burst, or null for off")]
        pub(super) struct $name {
            /// How many, in the long run
            rate: Scalar<PerTime>,
            /// As many at once after a quiet time
            burst: Scalar<u32>,
        }

        impl Default for $name {
            fn default() -> Self {
                let rate = PerTime { count: $per_second, unit: Unit::Second };
                Self { rate: Scalar(rate), burst: Scalar($burst) }
            }
        }

        impl $name {
            pub(super) fn validate(self, problems: &mut Problems) -> Rate {
                let Self { rate, burst } = self;
                super::at_least_one("burst", burst, problems);
                Rate { per_second: rate.0.per_second(), burst: burst.0 }
            }
        }
    )+};
}

bucket! {
    /// `policy.limits.message_rate`
    MessageRate: 100 a second, burst 200;
    /// `policy.limits.control_rate`
    ControlBucket: 100 a second, burst 1000;
    /// `policy.handshake_rate.global`
    GlobalRate: 500 a second, burst 1000;
    /// `policy.handshake_rate.per_ip` and `per_user`
    KeyedRate: 20 a second, burst 40;
    /// `policy.http.rate.global`
    RequestRate: 500 a second, burst 1000;
    /// `policy.http.rate.per_ip`
    KeyedRequestRate: 50 a second, burst 100;
}

/// `policy.handshake_rate`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for no rates")]
pub(super) struct RawHandshakeRate {
    global: Option<GlobalRate>,
    per_ip: Option<KeyedRate>,
    per_user: Option<KeyedRate>,
    queue: Scalar<Span>,
    max_queued: Scalar<u32>,
    max_keys: Scalar<u32>,
}

impl Default for RawHandshakeRate {
    fn default() -> Self {
        Self {
            global: Some(GlobalRate::default()),
            per_ip: None,
            per_user: None,
            queue: Scalar(Span::secs(0)),
            max_queued: Scalar(1000),
            max_keys: Scalar(100_000),
        }
    }
}

impl RawHandshakeRate {
    /// What null comes to: none of them holds.
    pub(super) fn off() -> Self {
        Self { global: None, per_ip: None, per_user: None, ..Self::default() }
    }

    pub(super) fn validate(self, problems: &mut Problems) -> HandshakeRate {
        let Self { global, per_ip, per_user, queue, max_queued, max_keys } = self;
        super::at_least_one("max_queued", max_queued, problems);
        super::at_least_one("max_keys", max_keys, problems);
        if !queue.0.0.is_zero() && global.is_none() && problems.is_own("queue") && !problems.has("global") {
            problems.refuse(
                "queue",
                super::shown(queue),
                "0s, or a global rate: it is what there is to wait for",
            );
        }
        HandshakeRate {
            global: global.map(|rate| problems.within("global", |problems| rate.validate(problems))),
            per_ip: per_ip.map(|rate| problems.within("per_ip", |problems| rate.validate(problems))),
            per_user: per_user.map(|rate| problems.within("per_user", |problems| rate.validate(problems))),
            queue: queue.0.0,
            max_queued: max_queued.0 as usize,
            max_keys: max_keys.0 as usize,
        }
    }
}

/// `policy.http.rate`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for no rates")]
pub(super) struct RawHttpRate {
    global: Option<RequestRate>,
    per_ip: Option<KeyedRequestRate>,
    max_keys: Scalar<u32>,
}

impl Default for RawHttpRate {
    fn default() -> Self {
        Self { global: None, per_ip: None, max_keys: Scalar(100_000) }
    }
}

impl RawHttpRate {
    /// What null comes to: none of them holds.
    pub(super) fn off() -> Self {
        Self { global: None, per_ip: None, ..Self::default() }
    }

    pub(super) fn validate(self, problems: &mut Problems) -> HttpRate {
        let Self { global, per_ip, max_keys } = self;
        super::at_least_one("max_keys", max_keys, problems);
        HttpRate {
            global: global.map(|rate| problems.within("global", |problems| rate.validate(problems))),
            per_ip: per_ip.map(|rate| problems.within("per_ip", |problems| rate.validate(problems))),
            max_keys: max_keys.0 as usize,
        }
    }
}
