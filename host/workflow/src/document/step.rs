//! The steps of a document: the forms there are. Blocks, which hold steps, are read in `step/block.rs`.

mod block;

use std::time::Duration;

use serde_json::Value;

use super::config::Config;
use super::on_error::{OnError, OnErrorRule};
use super::{Fields, STEPS_MAX, kind};
use crate::duration::Timestamp;
use crate::fault::Faults;
use crate::ids::Name;

pub(crate) use block::{BranchSpec, LoopKind, LoopSpec, ParallelSpec};

/// One step, with its place in the document.
#[derive(Debug, Clone)]
pub(crate) struct StepSpec {
    pub(crate) id: Option<Name>,
    pub(crate) pointer: String,
    /// The step is skipped where it is false.
    pub(crate) guard: Option<String>,
    pub(crate) on_error: Option<OnError>,
    pub(crate) form: StepForm,
}

#[derive(Debug, Clone)]
pub(crate) enum StepForm {
    Agent(Box<AgentStepSpec>),
    Parallel(ParallelSpec),
    Branch(BranchSpec),
    Loop(Box<LoopSpec>),
    Workflow(WorkflowSpec),
    Wait(WaitSpec),
    Set(Value),
    /// It has faults; it keeps its place and its id, so that what names it has none.
    Faulty,
}

#[derive(Debug, Clone)]
pub(crate) struct AgentStepSpec {
    pub(crate) agent: String,
    pub(crate) action: String,
    pub(crate) input: Value,
    pub(crate) timeout: Option<Duration>,
}

/// Another workflow as a step.
#[derive(Debug, Clone)]
pub(crate) struct WorkflowSpec {
    pub(crate) name: String,
    pub(crate) inputs: Value,
}

/// A durable timer.
#[derive(Debug, Clone)]
pub(crate) enum WaitSpec {
    /// A number or a template.
    Seconds(Value),
    /// An RFC 3339 time or a template of one.
    Until(Value),
}

/// Ten years: nobody waits longer.
pub(crate) const WAIT_SECONDS_MAX: f64 = 3600.0 * 24.0 * 366.0 * 10.0;

/// The fields that tell a form, each with how it is named in messages.
const FORMS: [(&str, &str); 7] = [
    ("agent", "`agent`"),
    ("parallel", "`parallel`"),
    ("then", "`condition` with `then`"),
    ("loop", "`loop`"),
    ("workflow", "`workflow`"),
    ("wait", "`wait`"),
    ("set", "`set`"),
];

/// What reading a list of steps needs to know of what is around it.
pub(super) struct Room {
    /// Steps that the document may still have.
    steps_left: usize,
    depth: usize,
}

pub(crate) fn read_steps(value: &Value, pointer: &str, faults: &mut Faults) -> Vec<StepSpec> {
    let mut room = Room {
        steps_left: STEPS_MAX + 1,
        depth: 0,
    };
    let steps = read_list(value, pointer, &mut room, faults);
    if room.steps_left == 0 {
        faults.add(pointer, format!("a workflow has at most {STEPS_MAX} steps"));
    }
    steps
}

fn read_list(value: &Value, pointer: &str, room: &mut Room, faults: &mut Faults) -> Vec<StepSpec> {
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
        .filter_map(|(index, item)| read_step(item, &format!("{pointer}/{index}"), room, faults))
        .collect()
}

fn read_step(
    value: &Value,
    pointer: &str,
    room: &mut Room,
    faults: &mut Faults,
) -> Option<StepSpec> {
    room.steps_left = room.steps_left.checked_sub(1)?;
    let mut fields = Fields::of(value, pointer, faults)?;
    let id = fields.name("id", faults);
    let mut guard = None;
    let mut on_error = None;
    let form = match form_of(&fields) {
        Ok("then") => block::read_branch(&mut fields, room, faults).map(StepForm::Branch),
        Ok(form) => {
            guard = fields.text("condition", faults);
            if matches!(form, "agent" | "loop" | "workflow") {
                on_error = fields
                    .value("on_error")
                    .and_then(|value| OnError::read(value, &fields.at("on_error"), faults));
                if form != "agent" {
                    check_block_rule(on_error.as_ref(), &fields, form, faults);
                }
            }
            read_form(form, &mut fields, room, faults)
        }
        Err(message) => {
            faults.add(pointer, message);
            return Some(StepSpec {
                id,
                pointer: pointer.to_owned(),
                guard: None,
                on_error: None,
                form: StepForm::Faulty,
            });
        }
    };
    fields.finish(faults);
    Some(StepSpec {
        id,
        pointer: pointer.to_owned(),
        guard,
        on_error,
        form: form.unwrap_or(StepForm::Faulty),
    })
}

/// The field that says what form a step has.
fn form_of(fields: &Fields<'_>) -> Result<&'static str, String> {
    let found: Vec<&(&str, &str)> = FORMS.iter().filter(|(name, _)| fields.has(name)).collect();
    match found.as_slice() {
        [(name, _)] => Ok(name),
        [] if fields.has("else") || fields.has("condition") => {
            Err("a `condition` needs `then`: the steps that are taken where it is true".to_owned())
        }
        [] => {
            let misspelt = fields.names().find_map(|name| {
                let known = FORMS.iter().map(|(known, _)| *known);
                crate::fault::nearest(name, known).map(|near| (name, near))
            });
            let hint = misspelt.map_or_else(String::new, |(name, near)| {
                format!("; `{name}` is not known here, did you mean `{near}`?")
            });
            Err(format!(
                "a step needs one of `agent` (with `action` and `input`), `parallel`, `condition` with `then`, `loop`, `workflow`, `wait` or `set`{hint}"
            ))
        }
        [(_, first), (_, second), ..] => Err(format!(
            "a step is one thing: give either {first} or {second}, not both"
        )),
    }
}

fn read_form(
    form: &str,
    fields: &mut Fields<'_>,
    room: &mut Room,
    faults: &mut Faults,
) -> Option<StepForm> {
    match form {
        "agent" => read_agent_step(fields, faults).map(|step| StepForm::Agent(Box::new(step))),
        "parallel" => block::read_parallel(fields, room, faults).map(StepForm::Parallel),
        "loop" => block::read_loop(fields, room, faults).map(|spec| StepForm::Loop(Box::new(spec))),
        "workflow" => read_workflow(fields, faults).map(StepForm::Workflow),
        "wait" => read_wait(fields, faults).map(StepForm::Wait),
        _ => fields.required("set", faults).cloned().map(StepForm::Set),
    }
}

/// A block is not tried again as a whole.
fn check_block_rule(rule: Option<&OnError>, fields: &Fields<'_>, form: &str, faults: &mut Faults) {
    let place = fields.at("on_error");
    let message = format!(
        "a `{form}` is not tried again as a whole: give `retry` to the steps inside; here it is \"stop\", \"continue\" or a `fallback`"
    );
    match rule {
        Some(OnError::Rule(OnErrorRule::Retry)) => faults.add(place, message),
        Some(OnError::Detailed { retry, delay, .. }) => {
            if retry.is_some() {
                faults.add(format!("{place}/retry"), message.as_str());
            }
            if delay.is_some() {
                faults.add(format!("{place}/delay_ms"), message);
            }
        }
        Some(OnError::Rule(OnErrorRule::Stop | OnErrorRule::Continue)) | None => {}
    }
}

fn read_agent_step(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<AgentStepSpec> {
    let agent = fields.required_text("agent", faults);
    let action = fields.required_text("action", faults);
    if action
        .as_ref()
        .is_some_and(|action| action.trim().is_empty())
    {
        faults.add(fields.at("action"), "an action needs a name");
    }
    let input = fields.required("input", faults).cloned();
    let timeout = fields.millis("timeout_ms", Config::DELAY_MS_MAX, faults);
    Some(AgentStepSpec {
        agent: agent?,
        // What is missing is a fault already; the step is kept for those that name it.
        action: action.unwrap_or_default(),
        input: input.unwrap_or_default(),
        timeout,
    })
}

fn read_workflow(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<WorkflowSpec> {
    let name = fields.required_text("workflow", faults);
    let inputs = fields.value("inputs");
    if let Some(value) = inputs.filter(|value| !value.is_object() && !value.is_string()) {
        fields.expected("inputs", value, "an object of templates", faults);
    }
    Some(WorkflowSpec {
        name: name?,
        inputs: inputs
            .cloned()
            .unwrap_or_else(|| Value::Object(serde_json::Map::new())),
    })
}

fn is_template(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("{{"))
}

fn read_wait(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<WaitSpec> {
    let value = fields.required("wait", faults)?;
    let mut wait = Fields::of(value, &fields.at("wait"), faults)?;
    let seconds = wait.value("seconds");
    let until = wait.value("until");
    let spec = match (seconds, until) {
        (Some(seconds), None) => {
            let is_right = match seconds {
                Value::Number(number) => number
                    .as_f64()
                    .is_some_and(|count| (0.0..=WAIT_SECONDS_MAX).contains(&count)),
                other => is_template(other),
            };
            if !is_right {
                let expected = format!(
                    "a number of seconds from 0 to {WAIT_SECONDS_MAX}, or a template of one"
                );
                wait.expected("seconds", seconds, &expected, faults);
            }
            Some(WaitSpec::Seconds(seconds.clone()))
        }
        (None, Some(until)) => {
            let is_time = until
                .as_str()
                .is_some_and(|text| Timestamp::parse(text).is_some());
            if !is_time && !is_template(until) {
                wait.expected(
                    "until",
                    until,
                    "a time such as 2026-11-22T14:00:00Z (RFC 3339), or a template of one",
                    faults,
                );
            }
            Some(WaitSpec::Until(until.clone()))
        }
        _ => {
            faults.add(
                fields.at("wait"),
                "a `wait` needs either `seconds` or `until`",
            );
            None
        }
    };
    wait.finish(faults);
    spec
}
