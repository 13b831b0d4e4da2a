//! Any text as YAML: read or refused, and written so that it is read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| troupe_workflow_fuzz::check_yaml(text));
