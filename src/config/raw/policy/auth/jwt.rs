//! `policy.auth.jwt`: which tokens are accepted, and where they are looked for.
//!
//! # Not here
//! What is in files of keys: whoever checks tokens reads them.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::model::{File, Jwt, JwtAlgorithm, JwtKeys, TokenSource};
use crate::config::problems::Problems;
use crate::config::raw::values::header::is_token;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::{Scalar, ScalarValue, words};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::Span;
use crate::config::raw::values::{check, url};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for none")]
pub(crate) struct RawJwt {
    /// File with the secret of HS256, HS384 and HS512
    secret_file: Option<Scalar<PathBuf>>,
    /// File with a public key, PEM
    public_key_file: Option<Scalar<PathBuf>>,
    /// File with a set of public keys (RFC 7517)
    jwks_file: Option<Scalar<PathBuf>>,
    /// Where a set of public keys is fetched
    jwks_url: Option<Scalar<String>>,
    /// File with certificates of authorities, PEM, in place of the system's: who may have signed that of jwks_url
    ca_file: Option<Scalar<PathBuf>>,
    /// How old a fetched set may get
    jwks_refresh: Scalar<Span>,
    /// Least time between two fetches because of a key that is not known
    jwks_min_interval: Scalar<Span>,
    /// Which ones are taken, whatever a token says; without it RS256, and HS256 with secret_file
    algorithms: Option<List<JwtAlgorithm>>,
    /// What iss has to be
    issuer: Option<Scalar<String>>,
    /// What aud has to have one of
    audience: Option<OneOrMore>,
    /// How far clocks may differ
    leeway: Scalar<Span>,
    /// The claim that names the user
    user_claim: Scalar<String>,
    /// Where a token is looked for, in this order
    token_from: List<TokenSource>,
    /// Whether a connection ends when its token does
    close_on_expiry: Scalar<bool>,
}

impl Default for RawJwt {
    fn default() -> Self {
        Self {
            secret_file: None,
            public_key_file: None,
            jwks_file: None,
            jwks_url: None,
            ca_file: None,
            jwks_refresh: Scalar(Span::secs(600)),
            jwks_min_interval: Scalar(Span::secs(30)),
            algorithms: None,
            issuer: None,
            audience: None,
            leeway: Scalar(Span::secs(30)),
            user_claim: Scalar("sub".into()),
            token_from: List::of([TokenSource::Header]),
            close_on_expiry: Scalar(true),
        }
    }
}

words!(JwtAlgorithm {
    Hs256 = "HS256",
    Hs384 = "HS384",
    Hs512 = "HS512",
    Rs256 = "RS256",
    Rs384 = "RS384",
    Rs512 = "RS512",
    Ps256 = "PS256",
    Ps384 = "PS384",
    Ps512 = "PS512",
    Es256 = "ES256",
    Es384 = "ES384",
    EdDsa = "EdDSA",
});

/// Every request is searched for each of them.
const MAX_SOURCES: usize = 8;

const MAX_TEXT_LEN: usize = 1024;

impl RawJwt {
    pub(crate) fn validate(self, problems: &mut Problems) -> Option<Jwt> {
        let Self {
            secret_file,
            public_key_file,
            jwks_file,
            jwks_url,
            ca_file,
            jwks_refresh,
            jwks_min_interval,
            algorithms,
            issuer,
            audience,
            leeway,
            user_claim,
            token_from: List(token_from),
            close_on_expiry,
        } = self;
        for (key, span, default) in
            [("jwks_refresh", jwks_refresh, 600), ("jwks_min_interval", jwks_min_interval, 30)]
        {
            check::positive(key, span, problems);
            if jwks_url.is_none()
                && span.0 != Span::secs(default)
                && problems.is_own(key)
                && !problems.has(key)
            {
                problems.refuse(key, "no jwks_url", "jwks_url too: nothing else is fetched again");
            }
        }
        let ca = match &jwks_url {
            Some(Scalar(url)) => url::ca_file("jwks_url", url, ca_file, problems),
            None => {
                if ca_file.is_some() && problems.is_own("ca_file") && !problems.has("ca_file") {
                    problems.refuse("ca_file", "no jwks_url", "jwks_url too: nothing else is fetched");
                }
                None
            }
        };
        let keys = Sources { secret_file, public_key_file, jwks_file, jwks_url }.validate(
            ca,
            jwks_refresh,
            jwks_min_interval,
            problems,
        );
        let algorithms = check_algorithms(algorithms, keys.as_ref(), problems);
        text("issuer", issuer.as_ref(), problems);
        let audience = audience.map_or_else(Vec::new, |OneOrMore { words, is_list }| {
            if words.is_empty() {
                // A template makes an empty list of a value that is not there: that must not accept any audience.
                problems.refuse(
                    "audience",
                    "an empty list",
                    "a word, a list of one or more, or null for any",
                );
            }
            for (index, word) in words.iter().enumerate() {
                if is_list {
                    problems.within_item("audience", index, |problems| text("", Some(word), problems));
                } else {
                    text("audience", Some(word), problems);
                }
            }
            words
        });
        text("user_claim", Some(&user_claim), problems);
        if (token_from.is_empty() || token_from.len() > MAX_SOURCES) && !problems.has("token_from") {
            let accepted = format!("1 to {MAX_SOURCES} places: {}", TokenSource::accepted());
            problems.refuse("token_from", format!("{} places", token_from.len()), accepted);
        }
        Some(Jwt {
            keys: keys?,
            algorithms,
            issuer: issuer.map(|issuer| issuer.0),
            audience: audience.into_iter().map(|word| word.0).collect(),
            leeway: leeway.0.0,
            user_claim: user_claim.0,
            token_from: token_from.into_iter().map(|source| source.0).collect(),
            close_on_expiry: close_on_expiry.0,
        })
    }
}

/// The settings that say where the keys are.
struct Sources {
    secret_file: Option<Scalar<PathBuf>>,
    public_key_file: Option<Scalar<PathBuf>>,
    jwks_file: Option<Scalar<PathBuf>>,
    jwks_url: Option<Scalar<String>>,
}

impl Sources {
    fn validate(
        self,
        ca: Option<File>,
        refresh: Scalar<Span>,
        min_interval: Scalar<Span>,
        problems: &mut Problems,
    ) -> Option<JwtKeys> {
        const NAMES: [&str; 4] = ["secret_file", "public_key_file", "jwks_file", "jwks_url"];
        let Self { secret_file, public_key_file, jwks_file, jwks_url } = self;
        let is_set =
            [secret_file.is_some(), public_key_file.is_some(), jwks_file.is_some(), jwks_url.is_some()];
        let set: Vec<&str> =
            NAMES.into_iter().zip(is_set).filter_map(|(key, set)| set.then_some(key)).collect();
        match set.as_slice() {
            [_] => {}
            [] if NAMES.iter().any(|key| problems.has(key)) => return None,
            [] => {
                problems.refuse("", "no keys", format!("one of {}", NAMES.join(", ")));
                return None;
            }
            [.., last] => {
                let accepted = "one source of keys: set what is inherited and not wanted to null";
                let key = set.iter().find(|key| problems.is_own(key)).unwrap_or(last);
                problems.refuse(key, set.join(" and "), accepted);
            }
        }
        if let Some(Scalar(path)) = secret_file {
            return Some(JwtKeys::Secret(problems.file("secret_file", &path)));
        }
        if let Some(Scalar(path)) = public_key_file {
            return Some(JwtKeys::PublicKey(problems.file("public_key_file", &path)));
        }
        if let Some(Scalar(path)) = jwks_file {
            return Some(JwtKeys::JwksFile(problems.file("jwks_file", &path)));
        }
        let Scalar(url) = jwks_url?;
        url::check_endpoint("jwks_url", &url, problems);
        Some(JwtKeys::JwksUrl { url, ca, refresh: refresh.0.0, min_interval: min_interval.0.0 })
    }
}

/// A public key is no secret: if it were used as the secret of HS256, anybody could sign tokens.
fn check_algorithms(
    given: Option<List<JwtAlgorithm>>,
    keys: Option<&JwtKeys>,
    problems: &mut Problems,
) -> Vec<JwtAlgorithm> {
    use JwtAlgorithm::{Hs256, Hs384, Hs512, Rs256};

    let is_secret = matches!(keys, Some(JwtKeys::Secret(_)));
    let Some(List(given)) = given else {
        return vec![if is_secret { Hs256 } else { Rs256 }];
    };
    if given.is_empty() {
        problems.refuse("algorithms", "an empty list", JwtAlgorithm::accepted());
    }
    for (index, Scalar(algorithm)) in given.iter().enumerate() {
        let is_symmetric = matches!(algorithm, Hs256 | Hs384 | Hs512);
        if keys.is_some() && is_symmetric != is_secret {
            let accepted = if is_secret {
                "HS256, HS384 or HS512: secret_file holds a secret and no public key"
            } else {
                "any of RS, PS, ES and EdDSA: HS… is for secret_file, and a public key is no secret"
            };
            let found = quoted(&algorithm.write());
            problems.within_item("algorithms", index, |problems| problems.refuse("", found, accepted));
        }
    }
    given.into_iter().map(|algorithm| algorithm.0).collect()
}

impl ScalarValue for TokenSource {
    fn accepted() -> String {
        "header | subprotocol | cookie:NAME | query:NAME".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "header" => Some(Self::Header),
            None if text == "subprotocol" => Some(Self::Subprotocol),
            Some(("cookie", name)) => is_token(name).then(|| Self::Cookie(name.into())),
            // A value that would be written in two ways is refused.
            Some(("query", name)) => {
                let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte);
                (!name.is_empty() && name.bytes().all(fit)).then(|| Self::Query(name.into()))
            }
            None | Some(_) => None,
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Header => "header".into(),
            Self::Subprotocol => "subprotocol".into(),
            Self::Cookie(name) => format!("cookie:{name}"),
            Self::Query(name) => format!("query:{name}"),
        }
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::pattern("^(header|subprotocol|cookie:.+|query:[A-Za-z0-9_.~-]+)$")
    }
}

/// A word, or a list of words.
#[derive(Debug, Clone)]
struct OneOrMore {
    words: Vec<Scalar<String>>,
    is_list: bool,
}

impl Serialize for OneOrMore {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.words.as_slice() {
            [word] if !self.is_list => word.serialize(serializer),
            words => words.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMoreVisitor;

        impl<'de> Visitor<'de> for OneOrMoreVisitor {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list of words, or null for any")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore { words: vec![Scalar(text.to_owned())], is_list: false })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(OneOrMore { words, is_list: true })
            }
        }

        deserializer.deserialize_any(OneOrMoreVisitor)
    }
}

#[cfg(test)]
impl JsonSchema for OneOrMore {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OneOrMore".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::any_of(&[schema::text(), schema::list_of(&schema::text())])
    }
}

fn text(key: &str, given: Option<&Scalar<String>>, problems: &mut Problems) {
    if let Some(Scalar(given)) = given
        && (given.is_empty() || given.len() > MAX_TEXT_LEN)
    {
        problems.refuse(key, quoted(given), format!("text of up to {MAX_TEXT_LEN} bytes, not empty"));
    }
}
