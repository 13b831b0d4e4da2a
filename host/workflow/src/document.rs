//! The workflow document as types: what an author may write, read with all its faults at once.
//!
//! It owns the shape of the document; names and references between its parts are `definition`'s.

mod agent;
mod config;
mod fields;
mod step;

use std::collections::BTreeSet;

use serde_json::Value;

pub use agent::{
    Agent, AgentKind, CodeAgent, CodeSource, Grants, HumanAgent, Language, Limits, LlmAgent,
    OnTimeout, SearchAgent, ToolAgent,
};
pub use config::{BudgetPolicy, Config};
pub(crate) use fields::{Fields, escape, kind};
pub(crate) use step::{AgentStepSpec, FallbackSpec, OnError, OnErrorRule, StepForm, StepSpec};

use crate::fault::Faults;

/// Protects the host from a document that takes longer to check than to run.
pub(crate) const STEPS_MAX: usize = 10_000;
/// Protects the stack from blocks within blocks.
pub(crate) const NESTING_MAX: usize = 64;

/// A workflow as its author wrote it, well-formed part by part.
#[derive(Debug, Clone)]
pub struct Document {
    pub name: String,
    pub description: Option<String>,
    /// JSON schema of the inputs; none: they are inferred.
    pub inputs: Option<Value>,
    pub agents: Vec<Agent>,
    /// The ids of all agents, also of those that have faults: a step that names one has no fault of its own.
    pub(crate) agent_ids: BTreeSet<String>,
    pub(crate) steps: Vec<StepSpec>,
    /// Templates by output name, in the author's order.
    pub(crate) outputs: Option<Vec<(String, Value)>>,
    pub config: Config,
}

impl Document {
    /// Reads a document; what is wrong with it is added to `faults`. None where nothing could be made of it.
    pub(crate) fn read(value: &Value, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::of(value, "", faults)?;
        let name = fields.required_text("name", faults).unwrap_or_default();
        if fields.has("name") && name.trim().is_empty() {
            faults.add(fields.at("name"), "a workflow needs a name");
        }
        let description = fields.text("description", faults);
        let inputs = fields.value("inputs").cloned();
        if let Some(schema) = &inputs {
            check_schema(schema, &fields.at("inputs"), faults);
        }
        let agents = match fields.required("agents", faults) {
            Some(value) => agent::read_agents(value, &fields.at("agents"), faults),
            None => Vec::new(),
        };
        let steps = match fields.required("steps", faults) {
            Some(value) => step::read_steps(value, &fields.at("steps"), faults),
            None => Vec::new(),
        };
        let agent_ids = agent::declared_ids(value.get("agents"))
            .map(str::to_owned)
            .collect();
        let outputs = fields.value("outputs").and_then(|value| {
            let map = value.as_object();
            if map.is_none() {
                fields.expected("outputs", value, "an object of templates", faults);
            }
            Some(
                map?.iter()
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            )
        });
        let config = match fields.value("config") {
            Some(value) => Config::read(value, &fields.at("config"), faults),
            None => Config::default(),
        };
        fields.finish(faults);
        Some(Self {
            name,
            description,
            inputs,
            agents,
            agent_ids,
            steps,
            outputs,
            config,
        })
    }
}

/// Notes a JSON schema that is none.
pub(crate) fn check_schema(schema: &Value, pointer: &str, faults: &mut Faults) {
    if !schema.is_object() && !schema.is_boolean() {
        faults.add(
            pointer,
            format!("this is {}, it must be a JSON schema", kind(schema)),
        );
        return;
    }
    if let Err(error) = jsonschema::validator_for(schema) {
        let place = format!("{pointer}{}", error.instance_path());
        faults.add(place, format!("this is no valid JSON schema: {error}"));
    }
}
