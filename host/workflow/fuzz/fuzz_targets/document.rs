//! Any bytes as a document: compiled or refused, and run.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| troupe_workflow_fuzz::check_document(bytes));
