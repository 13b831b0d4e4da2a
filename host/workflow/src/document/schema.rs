//! The JSON schema of the workflow document, with which editors complete and check documents.
//!
//! Its types only say the shape and describe it: nothing is ever read into them. The readers beside this file
//! decide what is accepted; they also find what no schema can say, such as names that mean nothing.

#![expect(
    dead_code,
    reason = "the types are only derived from: none is ever made"
)]

mod agent;
mod on_error;
mod sandbox;
mod step;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use self::agent::Agent;
use self::on_error::OnErrorWord;
use self::step::Step;
use crate::ids::Name;

/// The longest time of a step or between two tries: a day.
const STEP_MS_MAX: u64 = 86_400_000;
/// The longest running time of an execution: a year.
const EXECUTION_MS_MAX: u64 = 31_536_000_000;
const RETRIES_MAX: u32 = 100;
const USD_MAX: f64 = 1e9;

/// The JSON schema (draft 2020-12) of a workflow document as it stands on disk.
///
/// It also allows what the command line replaces before a document is stored: `file` of a code agent and paths
/// of components and sub-workflows.
pub fn document_schema() -> Value {
    SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(simplify))
        .into_generator()
        .into_root_schema_for::<Workflow>()
        .to_value()
}

/// Takes out what an `Option`, an integer's width and a wrapped comment leave in a derived schema: no field may
/// be null, editors warn of formats that they do not know, and they show line breaks as they are.
pub(crate) fn simplify(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [single] = types.as_slice() {
            let single = single.clone();
            schema.insert("type".to_owned(), single);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| *choice != json!({ "type": "null" }));
        if let [Value::Object(single)] = choices.as_slice() {
            let single = single.clone();
            schema.remove("anyOf");
            for (key, value) in single {
                schema.ensure_object().entry(key).or_insert(value);
            }
        }
    }
    schema.remove("format");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs: Vec<String> = text
            .split("\n\n")
            .map(|part| part.replace('\n', " "))
            .collect();
        *text = paragraphs.join("\n\n");
    }
}

/// A workflow: agents, and the steps in which they work.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Troupe workflow")]
struct Workflow {
    #[schemars(flatten)]
    body: Body,
    /// Workflows that steps may name in `workflow`, by name. All of them see this one list.
    workflows: Option<BTreeMap<String, SubWorkflow>>,
}

/// A workflow that is a step of others. It has names, inputs and a configuration of its own.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SubWorkflow {
    #[schemars(flatten)]
    body: Body,
}

#[derive(JsonSchema)]
struct Body {
    /// What people call the workflow.
    #[schemars(regex(pattern = r"\S"), example = "Research Assistant")]
    name: String,
    /// What the workflow is for, in a sentence or two.
    description: Option<String>,
    /// JSON schema of the inputs. Without it every name in a template that nothing else defines is an input.
    inputs: Option<SchemaValue>,
    /// Who does the steps.
    #[schemars(length(max = 1000))]
    agents: Vec<Agent>,
    /// What is done, in this order.
    #[schemars(length(min = 1))]
    steps: Vec<Step>,
    /// Templates of the outputs, by name. Without it every finished step outside loops is an output, under its id.
    #[schemars(example = json!({ "report": "{{ format }}" }))]
    outputs: Option<BTreeMap<String, Value>>,
    /// What holds for all steps: retries, budgets, time.
    config: Option<Config>,
}

/// What holds for all steps of a workflow.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Config {
    /// Tries after the first, for errors that may pass.
    #[schemars(range(max = RETRIES_MAX), extend("default" = 3))]
    max_retries: Option<u32>,
    /// Pause before the first retry, in milliseconds; doubled each time, up to a minute.
    #[schemars(range(max = STEP_MS_MAX), extend("default" = 1000))]
    retry_delay_ms: Option<u64>,
    /// What happens when a step fails that says nothing about it.
    #[schemars(extend("default" = "retry"))]
    on_error: Option<OnErrorWord>,
    /// Most that an execution may spend, in US dollars.
    #[schemars(range(min = 0.0, max = USD_MAX), example = 0.5)]
    budget_usd: Option<f64>,
    /// What happens when a budget has nothing left for a call.
    #[schemars(extend("default" = "stop"))]
    on_budget_exceeded: Option<OnBudgetExceeded>,
    /// Most tokens of all model calls, input and output together.
    budget_tokens: Option<u64>,
    /// Most fuel of all components and source code together, about one for each WebAssembly instruction.
    budget_fuel: Option<u64>,
    /// Longest running time of an execution, in milliseconds. Waiting for people, timers and pauses does not count.
    #[schemars(range(min = 1, max = EXECUTION_MS_MAX), extend("default" = 300_000))]
    timeout_ms: Option<u64>,
}

/// What happens when a budget has nothing left for a call.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum OnBudgetExceeded {
    /// The execution fails.
    Stop,
    /// The execution waits until somebody raises the budget.
    Pause,
    /// The call is made, and the execution's record has a warning.
    Continue,
}

/// An id: letters, digits and `_`, and no reserved word.
struct Id;

impl JsonSchema for Id {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut reserved = Name::RESERVED.to_vec();
        reserved.extend(["True", "False", "None"]);
        json_schema!({
            "description": "An id: letters, digits and `_`, not beginning with a digit, and no reserved word.",
            "type": "string",
            "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
            "maxLength": Name::LENGTH_MAX,
            "not": { "enum": reserved },
        })
    }
}

/// A JSON schema as a value. Of any draft, hence no reference to the schema of schemas.
struct SchemaValue;

impl JsonSchema for SchemaValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SchemaValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["object", "boolean"] })
    }
}

#[cfg(test)]
mod tests;
