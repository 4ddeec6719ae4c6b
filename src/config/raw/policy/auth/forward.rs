//! `policy.auth.forward`: another server decides.

use std::path::PathBuf;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::model::ForwardAuth;
use crate::config::problems::Problems;
use crate::config::raw::values::header::{RESERVED, canonical_name, header_name, is_token};
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::Scalar;
use crate::config::raw::values::units::Span;
use crate::config::raw::values::{check, url};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for none")]
pub(crate) struct RawForward {
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
    pub(crate) fn validate(self, problems: &mut Problems) -> Option<ForwardAuth> {
        let Self { url, ca_file, timeout, user_header, headers } = self;
        check::positive("timeout", timeout, problems);
        let user_header = header_name("user_header", &user_header.0, problems);
        match &url {
            Some(Scalar(url)) => url::check_endpoint("url", url, problems),
            None if problems.has("url") => {}
            None => problems.refuse(
                "url",
                "nothing",
                "the URL that is asked, such as http://127.0.0.1:4181/verify",
            ),
        }
        let headers = check_headers(headers, problems);
        let Scalar(url) = url?;
        let ca = url::ca_file("url", &url, ca_file, problems);
        Some(ForwardAuth { url, ca, timeout: timeout.0.0, user_header, headers })
    }
}

/// Every request is searched for each of them.
const MAX_HEADERS: usize = 32;

/// Checks `forward.headers`, and makes them lower case. Only the service may set these headers.
fn check_headers(List(given): List<String>, problems: &mut Problems) -> Vec<String> {
    if given.len() > MAX_HEADERS {
        let found = format!("{} headers", given.len());
        problems.refuse("headers", found, format!("at most {MAX_HEADERS}"));
    }
    let mut names: Vec<String> = Vec::with_capacity(given.len());
    for (index, Scalar(name)) in given.into_iter().enumerate() {
        let name = name.to_ascii_lowercase();
        let wrong = if !is_token(&name) {
            Some("the name of a header, such as x-tenant")
        } else if is_hop_by_hop(&name) {
            Some("a header of the service's own, such as x-tenant: HTTP and the handshake need this one")
        } else if is_set_by_proxy(&name) {
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

/// Whether a header belongs to one message or one hop, so that nobody but its sender may set it.
fn is_hop_by_hop(name: &str) -> bool {
    let name = canonical_name(name);
    RESERVED.contains(&name.as_str())
        || matches!(name.as_str(), "expect" | "trailer" | "content-encoding" | "content-type" | "origin")
        || ["proxy-", "sec-"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the proxy sets this header towards the upstream.
fn is_set_by_proxy(name: &str) -> bool {
    let name = canonical_name(name);
    matches!(name.as_str(), "forwarded" | "x-real-ip" | "x-request-id")
        || ["x-forwarded-", "x-outrigger-"].iter().any(|prefix| name.starts_with(prefix))
}
