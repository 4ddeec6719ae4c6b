//! The whole way: sources in, checked configuration or errors out.

use std::time::Duration;

use super::*;

#[test]
fn the_defaults_are_in_range_and_end_in_the_fallback() {
    let config = Config::default();
    assert_eq!(config.routes.len(), 1);
    assert_eq!(
        (config.routes[0].name.as_str(), config.routes[0].path.text.as_str()),
        ("default", "/{*rest}")
    );
    assert_eq!(config.routes[0].policy.idle_timeout, Some(Duration::from_secs(600)));
}
