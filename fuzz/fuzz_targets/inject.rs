//! Any text as a manifest: it is refused with words, or what is injected into it once is not injected again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger::inject::{Options, inject};

fuzz_target!(|text: &str| {
    let options = Options { services: true, ..Options::default() };
    match inject("manifest.yaml", text, &options) {
        Ok(injected) => {
            let again = inject("manifest.yaml", &injected.text, &options).expect("what was written is read");
            assert_eq!(again.text, injected.text, "injecting twice is injecting once");
        }
        Err(refusals) => assert!(!refusals.to_string().trim().is_empty()),
    }
});
