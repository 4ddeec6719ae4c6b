//! Any text as a configuration: it is read or refused, and a refusal says something.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger::config::Config;

fuzz_target!(|text: &str| {
    match Config::from_yaml(text) {
        Ok(config) => assert!(!config.routes.is_empty(), "the fallback is always there"),
        Err(errors) => assert!(!errors.to_string().trim().is_empty()),
    }
});
