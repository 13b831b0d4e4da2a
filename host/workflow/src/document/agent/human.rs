//! Agents that are people.

use std::time::Duration;

use serde_json::Value;

use super::super::fields::kind;
use super::super::{Fields, check_schema};
use crate::fault::Faults;

/// People who are asked.
#[derive(Debug, Clone)]
pub struct HumanAgent {
    pub assignees: Vec<String>,
    /// How long each level of people has to answer; none: for ever.
    pub timeout: Option<Duration>,
    /// JSON schema of an approval's `data`.
    pub form: Option<Value>,
    pub on_timeout: OnTimeout,
    /// Who is asked too when a deadline passes, one level after the other.
    pub escalate_to: Vec<Vec<String>>,
    /// How many different persons must approve.
    pub approvals_required: u32,
}

/// What happens when a person does not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    Fail,
    Approve,
    Reject,
    Escalate,
}

impl OnTimeout {
    const WORDS: [(&'static str, Self); 4] = [
        ("fail", Self::Fail),
        ("approve", Self::Approve),
        ("reject", Self::Reject),
        ("escalate", Self::Escalate),
    ];
}

/// Ten years: nobody waits longer.
const HOURS_MAX: f64 = 24.0 * 366.0 * 10.0;
/// Persons of one step: protects the journal.
const APPROVALS_MAX: u32 = 1_000;

pub(super) fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<HumanAgent> {
    let assignees = fields.required_texts("assignees", faults);
    if assignees.as_ref().is_some_and(Vec::is_empty) {
        faults.add(
            fields.at("assignees"),
            "a human agent needs at least one assignee",
        );
    }
    if fields.has("timeout_ms") {
        faults.add(
            fields.at("timeout_ms"),
            "people have `timeout_hours`, not `timeout_ms`",
        );
    }
    let timeout = read_timeout(fields, faults);
    let form = fields.value("form").cloned();
    if let Some(schema) = &form {
        check_schema(schema, &fields.at("form"), faults);
    }
    let on_timeout = fields
        .choice("on_timeout", &OnTimeout::WORDS, faults)
        .unwrap_or(OnTimeout::Fail);
    let escalate_to = read_levels(fields, faults);
    check_timeout(fields, on_timeout, &escalate_to, faults);
    let approvals_required = fields
        .count_from_one("approvals_required", APPROVALS_MAX, faults)
        .unwrap_or(1);
    Some(HumanAgent {
        assignees: assignees?,
        timeout,
        form,
        on_timeout,
        escalate_to,
        approvals_required,
    })
}

fn read_timeout(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Duration> {
    let hours = fields.number("timeout_hours", faults)?;
    if hours > 0.0 && hours <= HOURS_MAX {
        return Some(Duration::from_secs_f64(hours * 3600.0));
    }
    let message = format!("{hours} is not right: write more than 0 and at most {HOURS_MAX} hours");
    faults.add(fields.at("timeout_hours"), message);
    None
}

/// What happens at a deadline needs a deadline, and an escalation somebody to go to.
fn check_timeout(
    fields: &Fields<'_>,
    on_timeout: OnTimeout,
    levels: &[Vec<String>],
    faults: &mut Faults,
) {
    if on_timeout != OnTimeout::Fail && !fields.has("timeout_hours") {
        faults.add(
            fields.at("on_timeout"),
            "without `timeout_hours` there is no deadline: add it, or leave `on_timeout` out",
        );
    }
    if on_timeout == OnTimeout::Escalate && levels.is_empty() && !fields.has("escalate_to") {
        faults.add(
            fields.at("on_timeout"),
            "`escalate` needs `escalate_to`: who is asked next",
        );
    }
    if on_timeout != OnTimeout::Escalate && fields.has("escalate_to") {
        faults.add(
            fields.at("escalate_to"),
            "this is only looked at with `on_timeout`: \"escalate\"",
        );
    }
}

/// A list whose items are persons or lists of persons: the levels of an escalation.
fn read_levels(fields: &mut Fields<'_>, faults: &mut Faults) -> Vec<Vec<String>> {
    let Some(value) = fields.value("escalate_to") else {
        return Vec::new();
    };
    let place = fields.at("escalate_to");
    let Some(items) = value.as_array().filter(|items| !items.is_empty()) else {
        fields.expected(
            "escalate_to",
            value,
            "a list of at least one person or list of persons",
            faults,
        );
        return Vec::new();
    };
    let mut levels = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let persons = match item {
            Value::String(person) => Some(vec![person.clone()]),
            Value::Array(persons) if !persons.is_empty() => persons
                .iter()
                .map(|person| person.as_str().map(str::to_owned))
                .collect(),
            _ => None,
        };
        match persons {
            Some(persons) => levels.push(persons),
            None => faults.add(
                format!("{place}/{index}"),
                format!(
                    "this is {}, it must be a person or a list of persons",
                    kind(item)
                ),
            ),
        }
    }
    levels
}
