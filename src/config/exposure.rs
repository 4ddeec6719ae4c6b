//! What a configuration leaves open although it has checks that could close it, and what clients lose by a mode. None
//! of it is an error, but `check` and the log of a start warn of it.
//!
//! # Not here
//! What is refused ([`super::error`]).

use super::model::{Config, HttpMode, Mode, Route};

impl Config {
    /// Each warning is a sentence that says where, what is open or lost, and what to do about it.
    pub(crate) fn exposure_warnings(&self) -> Vec<String> {
        let passed = self.routes.iter().filter_map(unguarded_http);
        passed
            .chain(self.limits_without_users())
            .chain(self.routes.iter().filter_map(lost_compression))
            .collect()
    }

    /// Limits for each user, where no client is ever identified.
    fn limits_without_users(&self) -> Option<String> {
        let has_names = self.listen.tls.as_ref().is_some_and(|tls| tls.clients.is_some())
            || self.routes.iter().any(|route| route.policy.auth.is_some());
        let limits = |route: &Route| {
            let policy = &route.policy;
            policy.limits.per_user.is_some() || policy.handshake_rate.per_user.is_some()
        };
        let route = self.routes.iter().find(|route| limits(route)).filter(|_| !has_names)?;
        Some(format!(
            "route {}: per_user limits nobody, since nothing says who a client is; policy.auth or \
             listen.tls.client_ca_file does",
            route.name
        ))
    }
}

/// Plain HTTP that does not pass the checks that WebSockets pass.
fn unguarded_http(route: &Route) -> Option<String> {
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

/// In a tunnel the two ends agree on compression by themselves.
fn lost_compression(route: &Route) -> Option<String> {
    (route.mode == Mode::Session && !route.policy.compression).then(|| {
        format!(
            "route {}: in mode session nothing is compressed end to end, since both connections end at the proxy; \
             policy.compression: deflate compresses what clients are sent",
            route.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_past_guards_and_limits_that_hold_for_nobody_are_told_by_route() {
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
            ("policy: { limits: { per_user: 3 } }".to_owned(), &["route default", "per_user limits nobody"]),
            (
                "policy: { handshake_rate: { per_user: {} } }".to_owned(),
                &["route default", "per_user limits nobody"],
            ),
            (format!("policy: {{ {auth}, limits: {{ per_user: 3 }} }}"), &[]),
            (
                "routes: [{ path: /a }, { path: /b, mode: session }]".to_owned(),
                &["route /b", "nothing is compressed"],
            ),
            ("routes: [{ path: /b, mode: session, policy: { compression: deflate } }]".to_owned(), &[]),
            (
                format!(
                    "policy: {{ limits: {{ per_user: 3 }} }}\nroutes: [{{ path: /ws, policy: {{ {auth} }} }}]"
                ),
                &[],
            ),
        ] {
            let config = Config::from_yaml(&yaml).unwrap_or_else(|errors| panic!("{yaml}: {errors}"));
            let exposure_warnings = config.exposure_warnings();
            assert_eq!(
                exposure_warnings.len(),
                usize::from(!expected.is_empty()),
                "{yaml}: {exposure_warnings:?}"
            );
            for words in expected {
                assert!(exposure_warnings[0].contains(words), "{yaml}: {exposure_warnings:?}");
            }
        }
    }
}
