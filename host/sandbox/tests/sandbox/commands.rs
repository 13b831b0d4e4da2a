//! Command-line programs as agents.

use serde_json::{Value, json};
use troupe_sandbox::{Call, ComponentKind, Limit, Outcome, Report};

use crate::support::{call, guest, invocation, limited, returned, sandbox};

async fn run_with(action: &str, input: &Value, call: Call) -> Report {
    let component = guest("command").await;
    assert_eq!(component.kind(), ComponentKind::Command);
    sandbox()
        .run_command(&component, invocation(action, &input.to_string()), call)
        .await
        .expect("the host is well")
}

async fn run(action: &str, input: Value) -> Report {
    run_with(action, &input, call()).await
}

#[tokio::test]
async fn a_program_is_told_what_to_do_and_answers() {
    let report = run("told", json!({ "n": 1 })).await;
    assert_eq!(report.stdout.text, "", "the result is no output");
    assert_eq!(
        returned(report),
        json!({
            "input": { "n": 1 },
            "arguments": ["tester", "told"],
            "environment": {
                "TROUPE_ACTION": "told",
                "TROUPE_EXECUTION": "exec_test",
                "TROUPE_WORKFLOW": "Test",
                "TROUPE_STEP": "step",
                "TROUPE_ATTEMPT": "1",
                "TROUPE_IDEMPOTENCY_KEY": "exec_test/step",
            },
        })
    );
    assert_eq!(returned(run("nothing", json!(1)).await), json!(null));
    assert_eq!(returned(run("leave", json!(1)).await), json!(7));
}

#[tokio::test]
async fn what_is_no_json_is_no_result() {
    let report = run("text", json!(1)).await;
    assert!(
        matches!(&report.outcome, Outcome::InvalidResult(reason) if reason.starts_with("the result is not a JSON document")),
        "{report:?}"
    );
    let report = run("much", json!(1)).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Output));
}

#[tokio::test]
async fn another_exit_code_is_a_failure_with_what_was_printed() {
    let report = run("dance", json!(1)).await;
    // WASI 0.2 tells success from failure, not which failure.
    assert_eq!(report.outcome, Outcome::Exited(1));
    assert_eq!(report.stdout.text, "\"half\"\n");
    assert!(report.stderr.text.ends_with("cannot dance\n"));
}

#[tokio::test]
async fn limits_hold_for_programs() {
    let small = limited(|limits| limits.fuel = 10_000);
    let report = run_with("told", &json!(1), small).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
}
