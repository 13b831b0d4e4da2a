//! Compares what came of a case with what it says.

use serde_json::Value;
use troupe_workflow::{EventKind, StepPath, Timestamp};

use super::case::Expectation;
use super::core::micro_usd;
use super::{BEGIN_MS, Observed};

/// What differs, one line each; none: the case holds.
pub fn check(expected: &Expectation, observed: &Observed) -> Vec<String> {
    let mut complaints = observed.complaints.clone();
    let mut compare = |what: &str, expected: String, actual: String| {
        if expected != actual {
            complaints.push(format!("{what}: expected {expected}, got {actual}"));
        }
    };
    let execution = &observed.execution;
    if let Some(status) = &expected.status {
        let actual = execution.status().as_str().to_owned();
        compare("status", status.clone(), actual);
    }
    if let Some(starts) = &expected.starts {
        let actual: Vec<String> = starts_of(observed)
            .map(|(path, ..)| path.to_string())
            .collect();
        compare("starts", format!("{starts:?}"), format!("{actual:?}"));
    }
    check_kept(expected, observed, &mut compare);
    for (path, millis) in &expected.at_ms {
        let first = starts_of(observed).find(|(known, ..)| known.as_str() == path);
        let actual = first.map(|(_, at, _)| since_begin(at));
        compare(
            &format!("first start of {path}"),
            format!("{:?}", Some(*millis)),
            format!("{actual:?}"),
        );
    }
    for (path, input) in &expected.inputs_of {
        let last = starts_of(observed)
            .filter(|(known, ..)| known.as_str() == path)
            .last();
        let actual = last.map_or(Value::Null, |(.., input)| input.clone());
        let what = format!("input of {path}");
        compare(
            &what,
            super::case::written_out(input).to_string(),
            actual.to_string(),
        );
    }
    if let Some(outputs) = &expected.outputs {
        let actual = execution.outputs().cloned().unwrap_or_default();
        compare("outputs", outputs.to_string(), actual.to_string());
    }
    check_steps(expected, observed, &mut compare);
    if let Some([completed, total]) = expected.progress {
        let actual = execution.progress();
        compare(
            "progress",
            format!("{completed}/{total}"),
            format!("{}/{}", actual.completed, actual.total),
        );
    }
    if let Some(dollars) = expected.cost_usd {
        let actual = execution.cost();
        compare("cost", micro_usd(dollars).to_string(), actual.to_string());
    }
    if let Some(millis) = expected.ended_ms {
        let actual = since_begin(execution.last_event_at());
        compare("end", millis.to_string(), actual.to_string());
    }
    check_error(expected, observed, &mut compare);
    check_waiting(expected, observed, &mut compare);
    complaints
}

type Compare<'a> = dyn FnMut(&str, String, String) + 'a;

/// The attempts that were started and the persons that were asked, with their inputs.
fn starts_of(observed: &Observed) -> impl Iterator<Item = (&StepPath, Timestamp, &Value)> {
    observed
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::StepStarted { path, input, .. }
            | EventKind::ApprovalRequested { path, input, .. } => Some((path, event.at, input)),
            _ => None,
        })
}

/// The steps that were completed before, in the order in which they took their place.
fn check_kept(expected: &Expectation, observed: &Observed, compare: &mut Compare<'_>) {
    let Some(kept) = &expected.kept else {
        return;
    };
    let events = observed.events.iter();
    let actual: Vec<&str> = events
        .filter_map(|event| match &event.kind {
            EventKind::StepKept { path } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    compare("kept", format!("{kept:?}"), format!("{actual:?}"));
}

fn since_begin(at: Timestamp) -> i64 {
    at.as_millis() - BEGIN_MS
}

fn check_steps(expected: &Expectation, observed: &Observed, compare: &mut Compare<'_>) {
    let steps = observed.execution.steps();
    let find = |path: &str| steps.iter().find(|step| step.path.as_str() == path);
    for (path, status) in &expected.steps {
        let actual = find(path).map(|step| step.status.as_str());
        let what = format!("status of {path}");
        compare(
            &what,
            status.clone(),
            actual.unwrap_or("not listed").to_owned(),
        );
    }
    for (path, value) in &expected.values {
        let path_there = StepPath::new(path.clone());
        let actual = observed.execution.value_at(&path_there);
        let actual = actual.map_or(Value::Null, std::borrow::Cow::into_owned);
        compare(
            &format!("value of {path}"),
            super::case::written_out(value).to_string(),
            actual.to_string(),
        );
    }
}

fn check_error(expected: &Expectation, observed: &Observed, compare: &mut Compare<'_>) {
    let Some(error) = &expected.error else {
        return;
    };
    let Some((failure, step)) = observed.execution.failure() else {
        compare("error", format!("{error:?}"), "none".to_owned());
        return;
    };
    compare("error's code", error.code.clone(), failure.code.to_string());
    if let Some(expected) = &error.step {
        let actual = step.map_or("none".to_owned(), ToString::to_string);
        compare("error's step", expected.clone(), actual);
    }
    if let Some(says) = error
        .says
        .as_ref()
        .filter(|says| !failure.message.contains(says.as_str()))
    {
        compare("error's message", says.clone(), failure.message.clone());
    }
}

fn check_waiting(expected: &Expectation, observed: &Observed, compare: &mut Compare<'_>) {
    let Some(waiting) = &expected.waiting else {
        return;
    };
    let actual = observed.execution.waiting_approvals();
    let names: Vec<&str> = actual.iter().map(|waiting| waiting.path.as_str()).collect();
    let expected_names: Vec<&str> = waiting
        .iter()
        .map(|waiting| waiting.step.as_str())
        .collect();
    compare(
        "waiting",
        format!("{expected_names:?}"),
        format!("{names:?}"),
    );
    for (expected, actual) in waiting.iter().zip(&actual) {
        if let Some(assignees) = &expected.assignees {
            let actual = &actual.approval.assignees;
            compare("assignees", format!("{assignees:?}"), format!("{actual:?}"));
        }
        if let Some(millis) = expected.deadline_ms {
            let actual = actual.approval.deadline.map(since_begin);
            compare(
                "deadline",
                format!("{:?}", Some(millis)),
                format!("{actual:?}"),
            );
        }
    }
}
