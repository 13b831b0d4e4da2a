//! The memory of scratch folders, which is of that of all guests.

use futures::future::join_all;
use serde_json::{Value, json};
use troupe_sandbox::{Report, Sandbox};

use super::{ENOMEM, results_of, scratch, with, write};
use crate::support::{self, invocation, returned, target};

/// What the guest `files` does so many times at once where all guests have 64 MiB together, each with a scratch folder that
/// may hold a gibibyte.
async fn at_once(count: usize, steps: &Value) -> Vec<Report> {
    let mut config = support::config(target().join("compiled"));
    config.guest_memory_bytes_max = 64 << 20;
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let path = target().join("guests/wasm32-wasip2/guest/examples/files.wasm");
    let wasm = std::fs::read(path).expect("a guest that the set-up built");
    let component = sandbox.load(wasm.into()).await.expect("a component");
    let calls = (0..count).map(|_| {
        let mut call = with(Vec::new(), scratch(1 << 30, 10));
        call.limits.disk_bytes_max = 1 << 30;
        sandbox.call_agent(&component, invocation("do", &steps.to_string()), call)
    });
    let reports = join_all(calls).await.into_iter();
    reports
        .map(|report| report.expect("the host is well"))
        .collect()
}

#[tokio::test]
async fn a_scratch_folder_that_nothing_is_written_to_takes_no_memory() {
    let steps = json!([{"do": "list", "path": "/tmp"}, {"do": "read", "path": "/tmp/none"}]);
    for report in at_once(20, &steps).await {
        let results = results_of(&returned(report));
        assert_eq!(results.first(), Some(&Ok(json!([]))));
    }
}

#[tokio::test]
async fn a_scratch_folder_has_a_part_of_all_memory_and_others_wait_for_theirs() {
    // A quarter of 64 MiB.
    let steps = json!([
        {"do": "append", "path": "/tmp/large", "text": "x".repeat(1 << 10), "times": 15 << 10},
        {"do": "append", "path": "/tmp/large", "text": "x".repeat(1 << 10), "times": 2 << 10},
    ]);
    for report in at_once(8, &steps).await {
        assert!((15 << 20..=16 << 20).contains(&report.usage.scratch_bytes_peak));
        let results = results_of(&returned(report));
        assert_eq!(results.first(), Some(&Ok(Value::Null)));
        assert!(matches!(results.get(1), Some(Err(_))), "{results:?}");
    }
}

#[tokio::test]
async fn who_has_nearly_all_memory_is_refused_a_scratch_folder_and_goes_on() {
    let steps = json!([
        // Its memory grows, and no file is made.
        {"do": "fill", "path": "/nowhere", "bytes": 50 << 20},
        write("/tmp/file", "text"),
    ]);
    for report in at_once(1, &steps).await {
        let results = results_of(&returned(report));
        assert_eq!(results.get(1), Some(&Err(ENOMEM)));
    }
}
