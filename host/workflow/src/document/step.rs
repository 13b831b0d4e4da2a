//! The steps of a document.

use std::time::Duration;

use serde_json::Value;

use super::config::Config;
use super::{Fields, NESTING_MAX, STEPS_MAX, kind};
use crate::fault::Faults;
use crate::ids::Name;

/// What a step does about a failure, as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnErrorRule {
    Retry,
    Stop,
    Continue,
}

impl OnErrorRule {
    pub(crate) const WORDS: [(&'static str, Self); 3] = [
        ("retry", Self::Retry),
        ("stop", Self::Stop),
        ("continue", Self::Continue),
    ];
}

/// What a step does about a failure.
#[derive(Debug, Clone)]
pub(crate) enum OnError {
    Rule(OnErrorRule),
    Detailed {
        retry: Option<u32>,
        delay: Option<Duration>,
        then: Option<FallbackSpec>,
    },
}

/// What takes a failed step's place.
#[derive(Debug, Clone)]
pub(crate) enum FallbackSpec {
    Continue,
    Agent {
        agent: String,
        action: String,
        input: Value,
        pointer: String,
    },
}

/// One step, with its place in the document.
#[derive(Debug, Clone)]
pub(crate) struct StepSpec {
    pub(crate) id: Option<Name>,
    pub(crate) pointer: String,
    pub(crate) form: StepForm,
}

#[derive(Debug, Clone)]
pub(crate) enum StepForm {
    Agent(Box<AgentStepSpec>),
    Parallel(ParallelSpec),
    Set(Value),
}

#[derive(Debug, Clone)]
pub(crate) struct AgentStepSpec {
    pub(crate) agent: String,
    pub(crate) action: String,
    pub(crate) input: Value,
    pub(crate) condition: Option<String>,
    pub(crate) on_error: Option<OnError>,
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(crate) struct ParallelSpec {
    /// Each branch is a list of at least one step.
    pub(crate) branches: Vec<Vec<StepSpec>>,
    pub(crate) max_concurrency: Option<u32>,
}

/// The forms that this version knows by name but cannot run.
const LATER_FORMS: [(&str, &str); 5] = [
    ("then", "`condition` with `then` and `else`"),
    ("else", "`condition` with `then` and `else`"),
    ("loop", "`loop`"),
    ("workflow", "`workflow` (a sub-workflow)"),
    ("wait", "`wait`"),
];

pub(crate) fn read_steps(value: &Value, pointer: &str, faults: &mut Faults) -> Vec<StepSpec> {
    let mut budget = STEPS_MAX + 1;
    let steps = read_list(value, pointer, 0, &mut budget, faults);
    if budget == 0 {
        faults.add(pointer, format!("a workflow has at most {STEPS_MAX} steps"));
    }
    steps
}

fn read_list(
    value: &Value,
    pointer: &str,
    depth: usize,
    budget: &mut usize,
    faults: &mut Faults,
) -> Vec<StepSpec> {
    let Some(items) = value.as_array() else {
        faults.add(
            pointer,
            format!("this is {}, it must be a list of steps", kind(value)),
        );
        return Vec::new();
    };
    if items.is_empty() {
        faults.add(pointer, "this list needs at least one step");
    }
    items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            read_step(item, &format!("{pointer}/{index}"), depth, budget, faults)
        })
        .collect()
}

fn read_step(
    value: &Value,
    pointer: &str,
    depth: usize,
    budget: &mut usize,
    faults: &mut Faults,
) -> Option<StepSpec> {
    *budget = budget.checked_sub(1)?;
    let mut fields = Fields::of(value, pointer, faults)?;
    let id = fields.name("id", faults);
    if let Some((_, what)) = LATER_FORMS.iter().find(|(field, _)| fields.has(field)) {
        faults.add(
            pointer,
            format!("{what} is not available in this version of Troupe"),
        );
        return None;
    }
    let form = if fields.has("parallel") {
        read_parallel(&mut fields, depth, budget, faults).map(StepForm::Parallel)
    } else if fields.has("set") {
        fields.required("set", faults).cloned().map(StepForm::Set)
    } else if fields.has("agent") {
        read_agent_step(&mut fields, faults).map(|step| StepForm::Agent(Box::new(step)))
    } else {
        faults.add(
            pointer,
            "a step needs `agent` (with `action` and `input`), `parallel` or `set`",
        );
        return None;
    };
    fields.finish(faults);
    Some(StepSpec {
        id,
        pointer: pointer.to_owned(),
        form: form?,
    })
}

fn read_agent_step(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<AgentStepSpec> {
    let agent = fields.required_text("agent", faults);
    let action = fields.required_text("action", faults);
    let input = fields.required("input", faults).cloned();
    let condition = fields.text("condition", faults);
    let on_error = fields
        .value("on_error")
        .and_then(|value| OnError::read(value, &fields.at("on_error"), faults));
    let timeout = fields
        .count("timeout_ms", Config::DELAY_MS_MAX, faults)
        .map(Duration::from_millis);
    Some(AgentStepSpec {
        agent: agent?,
        action: action?,
        input: input?,
        condition,
        on_error,
        timeout,
    })
}

fn read_parallel(
    fields: &mut Fields<'_>,
    depth: usize,
    budget: &mut usize,
    faults: &mut Faults,
) -> Option<ParallelSpec> {
    let pointer = fields.at("parallel");
    let value = fields.required("parallel", faults)?;
    let max_concurrency = match fields.count("max_concurrency", u64::from(u32::MAX), faults) {
        Some(0) => {
            faults.add(
                fields.at("max_concurrency"),
                "at least 1 branch must be able to run",
            );
            None
        }
        other => other.and_then(|count| u32::try_from(count).ok()),
    };
    if depth >= NESTING_MAX {
        faults.add(
            pointer,
            format!("blocks are nested at most {NESTING_MAX} deep"),
        );
        return None;
    }
    let Some(items) = value.as_array() else {
        fields.expected("parallel", value, "a list of steps", faults);
        return None;
    };
    if items.is_empty() {
        faults.add(pointer.as_str(), "this list needs at least one step");
    }
    let branches = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let place = format!("{pointer}/{index}");
            if item.is_array() {
                read_list(item, &place, depth + 1, budget, faults)
            } else {
                read_step(item, &place, depth + 1, budget, faults)
                    .into_iter()
                    .collect()
            }
        })
        .filter(|branch| !branch.is_empty())
        .collect();
    Some(ParallelSpec {
        branches,
        max_concurrency,
    })
}

impl OnError {
    pub(crate) fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        if let Some(word) = value.as_str() {
            let rule = OnErrorRule::WORDS.iter().find(|(known, _)| *known == word);
            if rule.is_none() {
                let known = OnErrorRule::WORDS.map(|(word, _)| word);
                let hint = crate::fault::suggestion(word, known);
                faults.add(pointer, format!("`{word}` is not known here{hint}"));
            }
            return rule.map(|(_, rule)| Self::Rule(*rule));
        }
        let mut fields = Fields::of(value, pointer, faults)?;
        let retry = fields
            .count("retry", Config::RETRIES_MAX, faults)
            .and_then(|count| u32::try_from(count).ok());
        let delay = fields
            .count("delay_ms", Config::DELAY_MS_MAX, faults)
            .map(Duration::from_millis);
        let then = match fields.value("fallback") {
            None => None,
            Some(fallback) if fallback == "continue" => Some(FallbackSpec::Continue),
            Some(fallback) => FallbackSpec::read(fallback, &fields.at("fallback"), faults),
        };
        fields.finish(faults);
        Some(Self::Detailed { retry, delay, then })
    }
}

impl FallbackSpec {
    fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        if value.is_string() {
            faults.add(
                pointer,
                "this must be \"continue\" or an object with `agent`, `action` and `input`",
            );
            return None;
        }
        let mut fields = Fields::of(value, pointer, faults)?;
        let agent = fields.required_text("agent", faults);
        let action = fields.required_text("action", faults);
        let input = fields.required("input", faults).cloned();
        let pointer = fields.pointer().to_owned();
        fields.finish(faults);
        Some(Self::Agent {
            agent: agent?,
            action: action?,
            input: input?,
            pointer,
        })
    }
}
