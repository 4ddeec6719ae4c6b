//! `policy.auth`: who clients are, by tokens, keys, or somebody else's word.
//!
//! # Not here
//! Tokens ([`super::jwt`]).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jwt::RawJwt;
use super::list::List;
use super::scalar::Scalar;
use super::units::Span;
use super::url;
use crate::config::error::quoted;
use crate::config::model::{ApiKeys, Auth, File, ForwardAuth};
use crate::config::problems::Problems;

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map with jwt, api_keys or forward, or null for off")]
pub(super) struct RawAuth {
    /// Signed tokens
    jwt: Option<RawJwt>,
    /// Keys of applications
    api_keys: Option<RawApiKeys>,
    /// Another server decides: an answer 2xx lets a client in, 401 and 403 are passed on
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

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for none")]
struct RawApiKeys {
    /// File with a line user:sha256hex for each key
    file: Option<Scalar<PathBuf>>,
    /// Where the key is sent
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

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for none")]
struct RawForward {
    /// What is asked, http:// or https://
    url: Option<Scalar<String>>,
    /// File with certificates of authorities, PEM, in place of the system's: who may have signed the server's
    ca_file: Option<Scalar<PathBuf>>,
    /// How long an answer may take
    timeout: Scalar<Span>,
    /// The header of its answer that names the user; what a client sends under this name is taken out
    user_header: Scalar<String>,
    /// Headers of its answer that the server behind gets as well; what a client sends under these names is taken out
    headers: List<String>,
}

impl Default for RawForward {
    fn default() -> Self {
        Self {
            url: None,
            ca_file: None,
            timeout: Scalar(Span::secs(1)),
            user_header: Scalar("x-user-id".into()),
            headers: List::default(),
        }
    }
}

impl RawForward {
    fn validate(self, problems: &mut Problems) -> Option<ForwardAuth> {
        let Self { url, ca_file, timeout, user_header, headers } = self;
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
        let headers = passed_on(headers, problems);
        let Scalar(url) = url?;
        let ca = url::authorities("url", &url, ca_file, problems);
        Some(ForwardAuth { url, ca, timeout: timeout.0.0, user_header, headers })
    }
}

/// Each of them is looked for in every request.
const MOST_HEADERS: usize = 32;

/// `forward.headers`, in lower case: names that the service alone may say from now on.
fn passed_on(List(given): List<String>, problems: &mut Problems) -> Vec<String> {
    if given.len() > MOST_HEADERS {
        let found = format!("{} headers", given.len());
        problems.refuse("headers", found, format!("at most {MOST_HEADERS}"));
    }
    let mut names: Vec<String> = Vec::with_capacity(given.len());
    for (index, Scalar(name)) in given.into_iter().enumerate() {
        let name = name.to_ascii_lowercase();
        let wrong = if !is_token(&name) {
            Some("the name of a header, such as x-tenant")
        } else if is_of_the_hop(&name) {
            Some("a header of the service's own, such as x-tenant: HTTP and the handshake need this one")
        } else if is_ours(&name) {
            Some("a header of the service's own, such as x-tenant: this one the proxy says by itself")
        } else if names.contains(&name) {
            Some("each header once")
        } else {
            None
        };
        if let Some(accepted) = wrong {
            problems.within_item("headers", index, |problems| problems.refuse("", quoted(&name), accepted));
        }
        names.push(name);
    }
    names
}

/// Whether a header says how one message is sent, or what becomes of it: nobody but the sender knows that.
fn is_of_the_hop(name: &str) -> bool {
    let name = plain_name(name);
    TAKEN.contains(&name.as_str())
        || matches!(name.as_str(), "expect" | "trailer" | "content-encoding" | "content-type" | "origin")
        || ["proxy-", "sec-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the proxy tells the upstream this by itself.
fn is_ours(name: &str) -> bool {
    let name = plain_name(name);
    matches!(name.as_str(), "forwarded" | "x-real-ip" | "x-request-id")
        || ["x-forwarded-", "x-outrigger-"].iter().any(|prefix| name.starts_with(prefix))
}

/// In the one spelling of all that servers that make variables of headers take for the same.
fn plain_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
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

/// A token of RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fit)
}
