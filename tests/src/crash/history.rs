//! What an execution's record says before and after a crash.

use serde_json::Value;

use super::Effects;

/// Requests to services whose answers are recorded.
pub(super) fn answered(events: &[Value]) -> Effects {
    let mut effects = Effects::default();
    for call in of_kind(events, "call_started") {
        if !is_ended(events, call) {
            continue;
        }
        match call["kind"].as_str() {
            Some("model") => effects.models += 1,
            // A search asks all its sources; the documents are no service.
            Some("search") => {
                let sources = call["target"].as_str().unwrap_or_default().split(", ");
                effects.searches += sources.filter(|source| *source != "document").count();
            }
            _ => {}
        }
    }
    effects
}

/// Model calls that had begun, and whose end is not recorded.
pub(super) fn under_way(events: &[Value]) -> usize {
    of_kind(events, "call_started")
        .filter(|call| call["kind"] == "model" && !is_ended(events, call))
        .count()
}

fn is_ended(events: &[Value], call: &Value) -> bool {
    of_kind(events, "call_ended")
        .any(|end| ["path", "call"].iter().all(|key| end[key] == call[key]))
}

fn of_kind<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["type"] == kind)
}

fn paths(events: &[Value], kind: &str) -> Vec<Value> {
    of_kind(events, kind)
        .map(|event| event["path"].clone())
        .collect()
}

/// What was recorded stays, no step that had finished is begun again or finished twice, and nobody is asked or answers
/// twice.
pub(super) fn check_history(before: &[Value], after: &[Value], point: &str) {
    assert!(after.starts_with(before), "{point}: the past was changed");
    let new = &after[before.len()..];
    for path in paths(before, "step_completed") {
        assert!(
            !paths(new, "step_started").contains(&path),
            "{point}: {path} was begun again"
        );
    }
    for kind in [
        "step_completed",
        "approval_requested",
        "approval_given",
        "loop_started",
        "workflow_started",
        "branch_taken",
    ] {
        let all = paths(after, kind);
        for path in &all {
            let times = all.iter().filter(|other| *other == path).count();
            assert_eq!(times, 1, "{point}: {kind} of {path}");
        }
    }
    let count = |kind| of_kind(after, kind).count();
    assert_eq!(
        (count("execution_created"), count("execution_completed")),
        (1, 1),
        "{point}"
    );
    // Each step that was under way is said to have been interrupted, once.
    let mut open = paths(before, "step_started");
    for ended in ["step_completed", "step_failed"] {
        for path in paths(before, ended) {
            if let Some(index) = open.iter().position(|other| *other == path) {
                open.remove(index);
            }
        }
    }
    let mut interrupted = paths(after, "step_interrupted");
    open.sort_by_key(Value::to_string);
    interrupted.sort_by_key(Value::to_string);
    assert_eq!(interrupted, open, "{point}");
}
