//! The shape of steps: one closed object for each form.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::agent::described;
use super::on_error::{BlockOnError, OnError};
use super::{Id, STEP_MS_MAX};

/// The longest timer: ten years.
const WAIT_S_MAX: f64 = 316_224_000.0;

/// One step; the field that names its form says which others it has.
pub(super) struct Step;

impl JsonSchema for Step {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    /// Conditions on the field that makes the form rather than alternatives, as for agents. The properties say
    /// nothing that the forms do not: an editor offers them where a step is still empty, which is also why the
    /// conditions ask for an object (`required` holds for everything else).
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let forms = [
            ("agent", generator.subschema_for::<AgentStep>()),
            ("parallel", generator.subschema_for::<ParallelStep>()),
            ("then", generator.subschema_for::<BranchStep>()),
            ("else", generator.subschema_for::<BranchStep>()),
            ("loop", generator.subschema_for::<LoopStep>()),
            ("workflow", generator.subschema_for::<WorkflowStep>()),
            ("wait", generator.subschema_for::<WaitStep>()),
            ("set", generator.subschema_for::<SetStep>()),
        ];
        let rules: Vec<Value> = forms
            .iter()
            .map(|(field, form)| json!({ "if": { "type": "object", "required": [field] }, "then": form }))
            .collect();
        let one_of_them: Vec<Value> = forms
            .iter()
            .map(|(field, _)| json!({ "required": [field] }))
            .collect();
        json_schema!({
            "description": "One step; the field that names its form says which others it has.",
            "type": "object",
            "properties": {
                "id": described::<Id>(generator, "The step's name in templates. Without it, `step_N`."),
                "agent": { "description": "A step of an agent, by the agent's id." },
                "parallel": { "description": "Steps that run at the same time." },
                "condition": { "description": "When the step is done, or with `then` which branch is taken." },
                "then": { "description": "Steps that are done if `condition` holds." },
                "else": { "description": "Steps that are done if `condition` does not hold." },
                "loop": { "description": "Steps that are repeated: for each item, or until or while something holds." },
                "workflow": { "description": "Another workflow as a step." },
                "wait": { "description": "A timer." },
                "set": { "description": "A value that is only made, by nobody." },
            },
            "anyOf": one_of_them,
            "allOf": rules,
        })
    }
}

/// A step of an agent.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AgentStep {
    /// The step's name in templates. Without it the step is addressed by its agent's id.
    id: Option<Id>,
    /// Who does it: an agent's id.
    agent: Id,
    /// What is to be done. It picks the function of a tool, a component or source code; a model is told it.
    #[schemars(length(min = 1), example = &"generate")]
    action: String,
    /// What the agent is given: a template, or a value with templates in its texts.
    #[schemars(example = "Research topic: {{ topic }}")]
    input: Value,
    /// A guard: if it does not hold, the step is skipped and its value is null.
    #[schemars(length(min = 1), example = "{{ classifier.priority }} == 'high'")]
    condition: Option<String>,
    /// What happens when the step fails.
    on_error: Option<OnError>,
    /// Longest time of one attempt, in milliseconds, waiting included.
    #[schemars(range(min = 1, max = STEP_MS_MAX))]
    timeout_ms: Option<u64>,
}

/// Steps that run at the same time. The block ends when all have ended.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ParallelStep {
    /// The block's name in templates: the list of what its branches give.
    id: Option<Id>,
    /// The branches: each a step, or a list of steps that run one after the other.
    #[schemars(length(min = 1))]
    parallel: Vec<Branch>,
    /// Most branches that run at the same time.
    #[schemars(range(min = 1, max = u32::MAX))]
    max_concurrency: Option<u32>,
    /// A guard: if it does not hold, the whole block is skipped.
    #[schemars(length(min = 1))]
    condition: Option<String>,
}

/// A branch of a parallel block: a step, or a list of steps.
struct Branch;

impl JsonSchema for Branch {
    fn schema_name() -> Cow<'static, str> {
        "Branch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A branch: a step, or a list of steps that run one after the other.",
            "type": ["object", "array"],
            "if": { "type": "array" },
            "then": { "items": generator.subschema_for::<Step>(), "minItems": 1 },
            "else": generator.subschema_for::<Step>(),
        })
    }
}

/// Steps that are done if a condition holds, and others if it does not.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BranchStep {
    /// The block's name in templates: the value of the last step of the branch that was taken.
    id: Option<Id>,
    /// What decides: an expression. `{{ … }}` in it stands for a value.
    #[schemars(length(min = 1), example = "{{ classifier.priority }} == 'high'")]
    condition: String,
    /// Steps that are done if the condition holds.
    #[schemars(length(min = 1))]
    then: Vec<Step>,
    /// Steps that are done if the condition does not hold.
    #[schemars(length(min = 1))]
    r#else: Option<Vec<Step>>,
}

/// Steps that are repeated.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LoopStep {
    /// The loop's name in templates: the list of what its rounds give.
    id: Option<Id>,
    /// What is repeated, and how often.
    r#loop: Loop,
    /// A guard: if it does not hold, the whole loop is skipped.
    #[schemars(length(min = 1))]
    condition: Option<String>,
    /// What happens when the loop itself fails; its steps have rules of their own.
    on_error: Option<BlockOnError>,
}

/// A loop: over items, or until or while something holds.
struct Loop;

impl JsonSchema for Loop {
    fn schema_name() -> Cow<'static, str> {
        "Loop".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A loop: over `items`, or `until` or `while` something holds.",
            "type": "object",
            "properties": {
                "items": { "description": "A template of the list whose items are taken one by one." },
                "until": { "description": "The loop ends when this holds after a round." },
                "while": { "description": "The loop goes on as long as this holds before a round." },
                "steps": { "description": "The steps of a round." },
            },
            "if": { "required": ["items"] },
            "then": generator.subschema_for::<ItemsLoop>(),
            "else": generator.subschema_for::<RepeatLoop>(),
        })
    }
}

/// A loop over the items of a list.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ItemsLoop {
    /// A template of the list, or the list itself. At most 100,000 items.
    #[schemars(example = "{{ splitter.chunks }}")]
    items: Items,
    /// The item's name in the templates of the round.
    #[schemars(example = &"chunk")]
    r#as: Id,
    /// The steps of a round.
    #[schemars(length(min = 1))]
    steps: Vec<Step>,
    /// Rounds that run at the same time.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    concurrency: Option<u32>,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum Items {
    /// A template of the list.
    Template(#[schemars(length(min = 1))] String),
    /// The list itself, with templates in its texts.
    List(#[schemars(length(max = 100_000))] Vec<Value>),
}

/// A loop that ends when something holds, or no longer holds.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = either("until", "while")))]
struct RepeatLoop {
    /// The loop ends when this holds after a round.
    #[schemars(length(min = 1), example = "{{ review.approved }}")]
    until: Option<String>,
    /// The loop goes on as long as this holds before a round.
    #[schemars(length(min = 1))]
    r#while: Option<String>,
    /// The steps of a round.
    #[schemars(length(min = 1))]
    steps: Vec<Step>,
    /// Most rounds; a loop that has not ended by then fails.
    #[schemars(range(min = 1, max = 100_000), example = 5)]
    max_iterations: u32,
}

/// Exactly one of two fields.
fn either(one: &str, other: &str) -> Value {
    json!([{ "required": [one] }, { "required": [other] }])
}

/// Another workflow as a step.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct WorkflowStep {
    /// The step's name in templates: the object of the workflow's outputs.
    id: Option<Id>,
    /// Which workflow: a name in `workflows`, an id, or for the command line a path beside this document.
    #[schemars(length(min = 1), example = &"summarise", example = "./summarise.json")]
    workflow: String,
    /// The workflow's inputs: templates by name.
    inputs: Option<BTreeMap<String, Value>>,
    /// A guard: if it does not hold, the step is skipped.
    #[schemars(length(min = 1))]
    condition: Option<String>,
    /// What happens when the workflow fails.
    on_error: Option<BlockOnError>,
}

/// A timer, which a restart does not stop.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct WaitStep {
    /// The step's name in templates; its value is null.
    id: Option<Id>,
    /// How long, or until when.
    wait: Wait,
    /// A guard: if it does not hold, the step is skipped.
    #[schemars(length(min = 1))]
    condition: Option<String>,
}

/// How long, or until when.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = either("seconds", "until")))]
struct Wait {
    /// How many seconds, up to ten years: a number or a template.
    #[schemars(example = 60)]
    seconds: Option<Seconds>,
    /// A time such as `2026-12-24T18:00:00Z`, or a template of one. A time in the past ends at once.
    #[schemars(length(min = 1), example = "2026-12-24T18:00:00Z")]
    until: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum Seconds {
    /// A number of seconds.
    Number(#[schemars(range(min = 0.0, max = WAIT_S_MAX))] f64),
    /// A template of a number.
    Template(#[schemars(length(min = 1))] String),
}

/// A value that is only made, by nobody.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SetStep {
    /// The value's name in templates.
    id: Option<Id>,
    /// The value: a template, or a value with templates in its texts.
    #[schemars(example = json!({ "total": "{{ a.count + b.count }}" }))]
    set: Value,
    /// A guard: if it does not hold, the step is skipped and its value is null.
    #[schemars(length(min = 1))]
    condition: Option<String>,
}
