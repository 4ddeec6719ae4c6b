//! `policy.limits`: how many clients may be connected, and how much each may send.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::model::{ControlRate, Limits, OnUserLimit, Rate};
use crate::config::problems::Problems;
use crate::config::raw::values::rate::{ControlBucket, MessageRate};
use crate::config::raw::values::scalar::{Scalar, words};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::CountOrOff;

/// `policy.limits`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for no limits")]
pub(crate) struct RawLimits {
    connections: Scalar<CountOrOff>,
    per_ip: Scalar<CountOrOff>,
    per_user: Scalar<CountOrOff>,
    on_user_limit: Scalar<OnUserLimit>,
    message_rate: Option<MessageRate>,
    control_rate: RawControlRate,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            connections: Scalar(CountOrOff(Some(10_000))),
            per_ip: Scalar(CountOrOff(None)),
            per_user: Scalar(CountOrOff(None)),
            on_user_limit: Scalar(OnUserLimit::Refuse),
            message_rate: None,
            control_rate: RawControlRate::Auto,
        }
    }
}

impl RawLimits {
    /// The value of null: no limit holds.
    pub(crate) fn off() -> Self {
        Self {
            connections: Scalar(CountOrOff(None)),
            per_ip: Scalar(CountOrOff(None)),
            per_user: Scalar(CountOrOff(None)),
            on_user_limit: Scalar(OnUserLimit::Refuse),
            message_rate: None,
            control_rate: RawControlRate::Off,
        }
    }

    /// The limits of connections, of the messages of each, and of its control frames.
    pub(crate) fn validate(self, problems: &mut Problems) -> (Limits, Option<Rate>, ControlRate) {
        let Self { connections, per_ip, per_user, on_user_limit, message_rate, control_rate } = self;
        let is_replacing = on_user_limit.0 == OnUserLimit::ReplaceOldest;
        if is_replacing
            && per_user.0.0.is_none()
            && problems.is_own("on_user_limit")
            && !problems.has("per_user")
        {
            problems.refuse(
                "on_user_limit",
                "\"replace_oldest\", and no per_user",
                "refuse, or a per_user from 1: without it no user has a limit",
            );
        }
        let limits = Limits {
            connections: connections.0.0,
            per_ip: per_ip.0.0,
            per_user: per_user.0.0,
            on_user_limit: on_user_limit.0,
        };
        let rate =
            message_rate.map(|rate| problems.within("message_rate", |problems| rate.validate(problems)));
        let control_rate = problems.within("control_rate", |problems| control_rate.validate(problems));
        (limits, rate, control_rate)
    }
}

words!(OnUserLimit { Refuse = "refuse", ReplaceOldest = "replace_oldest" });

/// `policy.limits.control_rate`
#[derive(Debug, Clone)]
pub(crate) enum RawControlRate {
    Auto,
    Off,
    At(ControlBucket),
}

impl RawControlRate {
    pub(crate) fn validate(self, problems: &mut Problems) -> ControlRate {
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
        struct ControlRateVisitor;

        impl<'de> Visitor<'de> for ControlRateVisitor {
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

        deserializer.deserialize_any(ControlRateVisitor)
    }
}

#[cfg(test)]
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
