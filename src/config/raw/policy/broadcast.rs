//! `policy.broadcast`: which clients share a connection to the server, and what it carries of them.

pub(super) mod greeting;

#[cfg(test)]
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::model::{Auth, Broadcast, Credentials, Jwt, KeyPart, OnRedial, TokenSource, UplinkMode};
use crate::config::problems::Problems;
use crate::config::raw::policy::broadcast::greeting::RawGreeting;
use crate::config::raw::values::check;
use crate::config::raw::values::close_code::CloseCodes;
use crate::config::raw::values::header::is_token;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::{Scalar, ScalarValue, words};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::Span;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawBroadcast {
    channel_key: List<KeyPart>,
    credentials: Scalar<Credentials>,
    uplink: Scalar<UplinkMode>,
    anonymous: Scalar<bool>,
    linger: Scalar<Span>,
    greeting: Vec<RawGreeting>,
    on_redial: Scalar<OnRedial>,
    final_codes: List<CloseCodes>,
    max_channels: Scalar<u32>,
}

impl Default for RawBroadcast {
    fn default() -> Self {
        Self {
            channel_key: List::of([KeyPart::Path, KeyPart::Query]),
            credentials: Scalar(Credentials::Strip),
            uplink: Scalar(UplinkMode::Drop),
            anonymous: Scalar(false),
            linger: Scalar(Span::secs(30)),
            greeting: Vec::new(),
            on_redial: Scalar(OnRedial::Keep),
            final_codes: List::of([CloseCodes(1008..=1008), CloseCodes(3000..=4999)]),
            max_channels: Scalar(1000),
        }
    }
}

words!(Credentials { Strip = "strip", First = "first" });

words!(UplinkMode { Drop = "drop", Refuse = "refuse", Forward = "forward" });

words!(OnRedial { Keep = "keep", Close = "close" });

/// Each of them is looked up for each client that joins.
const MAX_PARTS: usize = 16;

/// Headers that carry credentials, or a secret that stands for them: whoever has the name of a channel (a log
/// line, an operator) would have these. Those of the handshake differ from client to client.
const CREDENTIALS: [&str; 16] = [
    "api-key",
    "authentication",
    "authorization",
    "cf-access-jwt-assertion",
    "cookie",
    "cookie2",
    "proxy-authorization",
    "set-cookie",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-forwarded-access-token",
    "x-goog-iap-jwt-assertion",
    "x-xsrf-token",
];

impl ScalarValue for KeyPart {
    fn accepted() -> String {
        "path | query | user | query:NAME | header:NAME".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None => match text {
                "path" => Some(Self::Path),
                "query" => Some(Self::Query),
                "user" => Some(Self::User),
                _ => None,
            },
            // A value that would be written in two ways is refused.
            Some(("query", name)) => {
                let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte);
                (!name.is_empty() && name.bytes().all(fit)).then(|| Self::QueryParameter(name.into()))
            }
            Some(("header", name)) => is_token(name).then(|| Self::Header(name.to_ascii_lowercase())),
            Some(_) => None,
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Path => "path".into(),
            Self::Query => "query".into(),
            Self::User => "user".into(),
            Self::QueryParameter(name) => format!("query:{name}"),
            Self::Header(name) => format!("header:{name}"),
        }
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::pattern("^(path|query|user|query:[A-Za-z0-9_.~-]+|header:.+)$")
    }
}

impl RawBroadcast {
    pub(crate) fn validate(self, problems: &mut Problems) -> Broadcast {
        let Self {
            channel_key: List(channel_key),
            credentials,
            uplink,
            anonymous,
            linger,
            greeting,
            on_redial,
            final_codes: List(final_codes),
            max_channels,
        } = self;
        check::at_least_one("max_channels", max_channels, problems);
        if (channel_key.is_empty() || channel_key.len() > MAX_PARTS) && !problems.has("channel_key") {
            let accepted = format!("1 to {MAX_PARTS} of {}", KeyPart::accepted());
            problems.refuse("channel_key", format!("{} parts", channel_key.len()), accepted);
        }
        for (index, part) in channel_key.iter().enumerate() {
            let wrong = match &part.0 {
                part if channel_key[..index].iter().any(|other| other.0 == *part) => "each part once",
                KeyPart::Header(name) if is_credential(name) => {
                    "a header without credentials: they never enter the key (user tells users apart)"
                }
                KeyPart::Path
                | KeyPart::Query
                | KeyPart::User
                | KeyPart::QueryParameter(_)
                | KeyPart::Header(_) => continue,
            };
            let found = quoted(&part.0.write());
            problems.within_item("channel_key", index, |problems| problems.refuse("", found, wrong));
        }
        let has_user = channel_key.iter().any(|part| part.0 == KeyPart::User) || problems.has("channel_key");
        if credentials.0 == Credentials::First && !has_user {
            let accepted = "strip, or user in channel_key: the others of a channel would get what the server \
                            says to the first";
            refuse_without_user("credentials", "first", accepted, problems);
        }
        if uplink.0 == UplinkMode::Forward && !has_user && !anonymous.0 {
            let accepted = "drop, refuse, user in channel_key, or anonymous: true (the server cannot tell who \
                            of a channel said what)";
            refuse_without_user("uplink", "forward", accepted, problems);
        }
        Broadcast {
            channel_key: channel_key.into_iter().map(|part| part.0).collect(),
            credentials: credentials.0,
            uplink: uplink.0,
            linger: linger.0.0,
            greeting: greeting
                .into_iter()
                .enumerate()
                .map(|(index, message)| {
                    problems.within_item("greeting", index, |problems| message.validate(problems))
                })
                .collect(),
            on_redial: on_redial.0,
            final_codes: final_codes.into_iter().map(|codes| codes.0.0).collect(),
            max_channels: max_channels.0 as usize,
        }
    }
}

fn is_credential(header: &str) -> bool {
    CREDENTIALS.contains(&header) || header.starts_with("sec-websocket-")
}

/// `key` has a value that needs `user` in the key.
fn refuse_without_user(key: &str, value: &str, accepted: &str, problems: &mut Problems) {
    let found = format!("{}, and no user in channel_key", quoted(value));
    // On a route the problem is that of the key which the route sets.
    let is_key = problems.is_own("channel_key") && !problems.is_own(key);
    let (at, found) =
        if is_key { ("channel_key", format!("no user, and {key}: {value}")) } else { (key, found) };
    problems.refuse(at, found, accepted);
}

/// The part of a request with the client's credentials must not be part of the channel key.
pub(crate) fn check_tokens(auth: Option<&Auth>, broadcast: &Broadcast, problems: &mut Problems) {
    let is_token = |part: &KeyPart| match (auth, part) {
        (Some(Auth::ApiKeys(keys)), KeyPart::Header(name)) => keys.header == *name,
        (Some(Auth::Jwt(Jwt { token_from, .. })), KeyPart::QueryParameter(name)) => {
            token_from.iter().any(|source| matches!(source, TokenSource::Query(token) if token == name))
        }
        _ => false,
    };
    for (index, part) in broadcast.channel_key.iter().enumerate().filter(|(_, part)| is_token(part)) {
        let accepted = "parts without credentials: authentication tokens never enter the key (user tells \
                        users apart)";
        let found = format!("{}, which auth reads", quoted(&part.write()));
        let problem = |problems: &mut Problems| {
            // It was refused already, as a header with credentials.
            if !problems.has("") {
                problems.refuse("", &found, accepted);
            }
        };
        // On a route the problem is that of the key which the route sets.
        if problems.is_own("auth") && !problems.is_own("broadcast.channel_key") {
            problems.within("auth", problem);
        } else {
            problems.within_item("broadcast.channel_key", index, problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_key_are_read_and_written_back() {
        for (text, part) in [
            ("path", KeyPart::Path),
            ("query", KeyPart::Query),
            ("user", KeyPart::User),
            ("query:room", KeyPart::QueryParameter("room".into())),
            ("header:x-tenant", KeyPart::Header("x-tenant".into())),
        ] {
            assert_eq!(KeyPart::read(text).as_ref(), Some(&part), "{text}");
            assert_eq!(part.write(), text);
        }
        assert_eq!(KeyPart::read("header:X-Tenant"), Some(KeyPart::Header("x-tenant".into())));
        for text in
            ["", "paths", "query:", "query:a b", "query:%41", "header:", "header:a b", "cookie:a", "path:"]
        {
            assert_eq!(KeyPart::read(text), None, "{text}");
        }
    }
}
