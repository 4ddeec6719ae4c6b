//! What a configuration leaves open although it has the guards for it. Nothing of it is wrong: it was written so.
//! But whoever reads `check`, or the log of a start, is to know.
//!
//! # Not here
//! What is refused ([`super::error`]).

use super::model::{Config, HttpMode, Route};

impl Config {
    /// Each in a sentence that says where, what is open, and what closes it.
    pub fn exposed(&self) -> Vec<String> {
        self.routes.iter().filter_map(past_the_guards).collect()
    }
}

/// Plain HTTP that goes past what WebSockets meet.
fn past_the_guards(route: &Route) -> Option<String> {
    let policy = &route.policy;
    let guards = match (policy.auth.is_some(), policy.origins.is_some()) {
        (true, true) => "policy.auth and policy.origins",
        (true, false) => "policy.auth",
        (false, true) => "policy.origins",
        (false, false) => return None,
    };
    (policy.http.mode == HttpMode::Pass).then(|| {
        format!(
            "route {}: policy.http.mode is pass, so that plain HTTP, long polling too, goes past {guards}; \
             auto or guard has it meet them",
            route.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_that_goes_past_guards_is_told_by_route_and_guard() {
        let origins = "origins: [https://app.example.com]";
        let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/files/api_keys");
        let auth = format!("auth: {{ api_keys: {{ file: '{keys}' }} }}");
        for (yaml, expected) in [
            ("policy: {}".to_owned(), &[][..]),
            (format!("policy: {{ {origins}, {auth} }}"), &[]),
            (format!("policy: {{ {origins}, http: {{ mode: guard }} }}"), &[]),
            (format!("policy: {{ {origins}, http: {{ mode: refuse }} }}"), &[]),
            ("policy: { http: { mode: pass } }".to_owned(), &[]),
            (
                format!("policy: {{ {origins}, http: {{ mode: pass }} }}"),
                &["route default", "past policy.origins;"],
            ),
            (
                format!("policy: {{ {auth}, http: {{ mode: pass }} }}"),
                &["route default", "past policy.auth;"],
            ),
            (
                format!(
                    "policy: {{ {origins}, {auth} }}\nroutes: [{{ name: health, path: /health, policy: {{ http: {{ mode: pass }} }} }}]"
                ),
                &["route health", "past policy.auth and policy.origins;"],
            ),
        ] {
            let config = Config::from_yaml(&yaml).unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
            let exposed = config.exposed();
            assert_eq!(exposed.len(), usize::from(!expected.is_empty()), "{yaml}: {exposed:?}");
            for words in expected {
                assert!(exposed[0].contains(words), "{yaml}: {exposed:?}");
            }
        }
    }
}
