//! `policy.auth`: who clients are, by tokens, by keys, or by the answer of another server.

mod api_keys;
mod forward;
mod jwt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::Auth;
use crate::config::problems::Problems;
use crate::config::raw::policy::auth::api_keys::RawApiKeys;
use crate::config::raw::policy::auth::forward::RawForward;
use crate::config::raw::policy::auth::jwt::RawJwt;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map with jwt, api_keys or forward, or null for off")]
pub(crate) struct RawAuth {
    /// Signed tokens
    jwt: Option<RawJwt>,
    /// Keys of applications
    api_keys: Option<RawApiKeys>,
    /// Another server decides: an answer 2xx lets a client in, 401 and 403 are passed on
    forward: Option<RawForward>,
}

impl RawAuth {
    pub(crate) fn validate(self, problems: &mut Problems) -> Option<Auth> {
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
        // All of them are validated, so that everything that is wrong is reported.
        let jwt = jwt.and_then(|jwt| problems.within("jwt", |problems| jwt.validate(problems)));
        let api_keys =
            api_keys.and_then(|keys| problems.within("api_keys", |problems| keys.validate(problems)));
        let forward =
            forward.and_then(|forward| problems.within("forward", |problems| forward.validate(problems)));
        jwt.map(Auth::Jwt).or(api_keys.map(Auth::ApiKeys)).or(forward.map(Auth::Forward))
    }
}
