//! `policy.auth`: who clients are, by tokens, keys, or somebody else's word.
//!
//! # Not here
//! What is in files of keys, but for that of API keys: whoever checks tokens reads those.

use std::fmt;
use std::path::PathBuf;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::scalar::{Readable, Scalar, words};
use super::units::Span;
use super::url;
use crate::config::error::quoted;
use crate::config::model::{ApiKeys, Auth, File, ForwardAuth, Jwt, JwtAlgorithm, JwtKeys, TokenSource};
use crate::config::problems::Problems;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map with jwt, api_keys or forward, or null for off")]
pub(super) struct RawAuth {
    jwt: Option<RawJwt>,
    api_keys: Option<RawApiKeys>,
    forward: Option<RawForward>,
}

impl RawAuth {
    pub(super) fn validate(self, problems: &mut Problems) -> Option<Auth> {
        let Self { jwt, api_keys, forward } = self;
        let set: Vec<&str> =
            [("jwt", jwt.is_some()), ("api_keys", api_keys.is_some()), ("forward", forward.is_some())]
                .into_iter()
                .filter_map(|(key, is_set)| is_set.then_some(key))
                .collect();
        match set.as_slice() {
            [_] => {}
            [] if ["jwt", "api_keys", "forward"].iter().any(|key| problems.has(key)) => {}
            [] => problems.refuse("", "nothing", "one of jwt, api_keys and forward; null is off"),
            more => {
                let accepted =
                    "one of jwt, api_keys and forward: set what is inherited and not wanted to null";
                problems.refuse("", more.join(" and "), accepted);
            }
        }
        // All of them, so that all that is wrong is told.
        let jwt = jwt.and_then(|jwt| problems.within("jwt", |problems| jwt.validate(problems)));
        let api_keys =
            api_keys.and_then(|keys| problems.within("api_keys", |problems| keys.validate(problems)));
        let forward =
            forward.and_then(|forward| problems.within("forward", |problems| forward.validate(problems)));
        jwt.map(Auth::Jwt).or(api_keys.map(Auth::ApiKeys)).or(forward.map(Auth::Forward))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for none")]
struct RawJwt {
    secret_file: Option<Scalar<PathBuf>>,
    public_key_file: Option<Scalar<PathBuf>>,
    jwks_file: Option<Scalar<PathBuf>>,
    jwks_url: Option<Scalar<String>>,
    jwks_refresh: Scalar<Span>,
    jwks_min_interval: Scalar<Span>,
    algorithms: Option<Vec<Scalar<JwtAlgorithm>>>,
    issuer: Option<Scalar<String>>,
    audience: Option<OneOrMore>,
    leeway: Scalar<Span>,
    user_claim: Scalar<String>,
    token_from: Vec<Scalar<TokenSource>>,
    close_on_expiry: Scalar<bool>,
}

impl Default for RawJwt {
    fn default() -> Self {
        Self {
            secret_file: None,
            public_key_file: None,
            jwks_file: None,
            jwks_url: None,
            jwks_refresh: Scalar(Span::secs(600)),
            jwks_min_interval: Scalar(Span::secs(30)),
            algorithms: None,
            issuer: None,
            audience: None,
            leeway: Scalar(Span::secs(30)),
            user_claim: Scalar("sub".into()),
            token_from: vec![Scalar(TokenSource::Header)],
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

/// Each place of a request is looked at.
const MOST_SOURCES: usize = 8;
const LONGEST_TEXT: usize = 1024;

impl RawJwt {
    fn validate(self, problems: &mut Problems) -> Option<Jwt> {
        let Self {
            secret_file,
            public_key_file,
            jwks_file,
            jwks_url,
            jwks_refresh,
            jwks_min_interval,
            algorithms,
            issuer,
            audience,
            leeway,
            user_claim,
            token_from,
            close_on_expiry,
        } = self;
        for (key, span, default) in
            [("jwks_refresh", jwks_refresh, 600), ("jwks_min_interval", jwks_min_interval, 30)]
        {
            super::positive(key, span, problems);
            if jwks_url.is_none()
                && span.0 != Span::secs(default)
                && problems.is_own(key)
                && !problems.has(key)
            {
                problems.refuse(key, "no jwks_url", "jwks_url too: nothing else is fetched again");
            }
        }
        let keys = Sources { secret_file, public_key_file, jwks_file, jwks_url }.validate(
            jwks_refresh,
            jwks_min_interval,
            problems,
        );
        let algorithms = check_algorithms(algorithms, keys.as_ref(), problems);
        text("issuer", issuer.as_ref(), problems);
        let audience = audience.map_or_else(Vec::new, |OneOrMore { words, is_list }| {
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
        if (token_from.is_empty() || token_from.len() > MOST_SOURCES) && !problems.has("token_from") {
            let accepted = format!("1 to {MOST_SOURCES} places: {}", TokenSource::accepted());
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

/// The keys that say where the keys are.
struct Sources {
    secret_file: Option<Scalar<PathBuf>>,
    public_key_file: Option<Scalar<PathBuf>>,
    jwks_file: Option<Scalar<PathBuf>>,
    jwks_url: Option<Scalar<String>>,
}

impl Sources {
    fn validate(
        self,
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
        url::endpoint("jwks_url", &url, problems);
        Some(JwtKeys::JwksUrl { url, refresh: refresh.0.0, min_interval: min_interval.0.0 })
    }
}

/// A public key is no secret: whoever took one for the secret of an HS256 token could sign whatever he likes.
fn check_algorithms(
    given: Option<Vec<Scalar<JwtAlgorithm>>>,
    keys: Option<&JwtKeys>,
    problems: &mut Problems,
) -> Vec<JwtAlgorithm> {
    use JwtAlgorithm::{Hs256, Hs384, Hs512, Rs256};

    let is_secret = matches!(keys, Some(JwtKeys::Secret(_)));
    let Some(given) = given else {
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

impl Readable for TokenSource {
    fn accepted() -> String {
        "header | subprotocol | cookie:NAME | query:NAME".into()
    }

    fn read(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "header" => Some(Self::Header),
            None if text == "subprotocol" => Some(Self::Subprotocol),
            Some(("cookie", name)) => is_token(name).then(|| Self::Cookie(name.into())),
            // Nothing that would be written in two ways.
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
}

/// A token of RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fit)
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
        struct Either;

        impl<'de> Visitor<'de> for Either {
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

        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for none")]
struct RawApiKeys {
    file: Option<Scalar<PathBuf>>,
    header: Scalar<String>,
}

impl Default for RawApiKeys {
    fn default() -> Self {
        Self { file: None, header: Scalar("x-api-key".into()) }
    }
}

impl RawApiKeys {
    fn validate(self, problems: &mut Problems) -> Option<ApiKeys> {
        let Self { file, header } = self;
        let header = header_name("header", &header.0, problems);
        let Some(Scalar(path)) = file else {
            if !problems.has("file") {
                problems.refuse(
                    "file",
                    "nothing",
                    "the path of a file with a line user:sha256hex for each key",
                );
            }
            return None;
        };
        let keys = ApiKeys { file: problems.file("file", &path), header };
        check_api_keys(&keys.file, problems);
        Some(keys)
    }
}

/// Tells which line is wrong, and never what is in it.
fn check_api_keys(file: &File, problems: &mut Problems) {
    if problems.has("file") {
        return;
    }
    let mut keys = 0;
    for (line, entry) in ApiKeys::lines(&file.contents) {
        match entry {
            Ok(_) => keys += 1,
            Err(wrong) => {
                let accepted = "lines user:sha256hex: a user in visible ASCII, and 64 hexadecimal digits; # for comments";
                problems.refuse("file", format!("line {line} of {}: {wrong}", file.path.display()), accepted);
                return;
            }
        }
    }
    if keys == 0 {
        problems.refuse(
            "file",
            format!("no key in {}", file.path.display()),
            "a line user:sha256hex for each key",
        );
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for none")]
struct RawForward {
    url: Option<Scalar<String>>,
    timeout: Scalar<Span>,
    user_header: Scalar<String>,
}

impl Default for RawForward {
    fn default() -> Self {
        Self { url: None, timeout: Scalar(Span::secs(1)), user_header: Scalar("x-user-id".into()) }
    }
}

impl RawForward {
    fn validate(self, problems: &mut Problems) -> Option<ForwardAuth> {
        let Self { url, timeout, user_header } = self;
        super::positive("timeout", timeout, problems);
        let user_header = header_name("user_header", &user_header.0, problems);
        match &url {
            Some(Scalar(url)) => url::endpoint("url", url, problems),
            None if problems.has("url") => {}
            None => problems.refuse(
                "url",
                "nothing",
                "the URL that is asked, such as http://127.0.0.1:4181/verify",
            ),
        }
        Some(ForwardAuth { url: url?.0, timeout: timeout.0.0, user_header })
    }
}

/// Headers that HTTP and the handshake itself need.
const TAKEN: [&str; 7] =
    ["connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade"];

fn header_name(key: &str, name: &str, problems: &mut Problems) -> String {
    let name = name.to_ascii_lowercase();
    if !is_token(&name) || TAKEN.contains(&name.as_str()) || name.starts_with("sec-websocket-") {
        problems.refuse(key, quoted(&name), "a header of its own, such as x-api-key");
    }
    name
}

fn text(key: &str, given: Option<&Scalar<String>>, problems: &mut Problems) {
    if let Some(Scalar(given)) = given
        && (given.is_empty() || given.len() > LONGEST_TEXT)
    {
        problems.refuse(key, quoted(given), format!("text of up to {LONGEST_TEXT} bytes, not empty"));
    }
}
