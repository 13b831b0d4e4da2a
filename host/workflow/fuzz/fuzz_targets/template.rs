//! Any text as a template: compiled or refused, and rendered.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| troupe_workflow_fuzz::check_template(text));
