//! The workflow document as types: what an author may write, read with all its faults at once.
//!
//! It owns the shape of the document; names and references between its parts are `definition`'s.

mod agent;
mod config;
mod fields;
mod on_error;
mod schema;
mod step;

use std::collections::BTreeSet;

use serde_json::Value;

pub use agent::{
    Agent, AgentKind, CodeAgent, CodeSource, ComponentTool, FileGrant, Grants, HumanAgent,
    HumanGrant, Language, Limits, LlmAgent, OnTimeout, ResponseFormat, SearchAgent, SecretGrant,
    SourceSettings, Tool, ToolAgent,
};
pub use config::{BudgetPolicy, Config};
pub(crate) use fields::{Fields, escape, kind};
pub(crate) use on_error::{FallbackSpec, OnError, OnErrorRule};
pub use schema::document_schema;
pub(crate) use schema::simplify;
pub(crate) use step::{
    AgentStepSpec, BranchSpec, LoopKind, LoopSpec, ParallelSpec, StepForm, StepSpec,
    WAIT_SECONDS_MAX, WaitSpec, WorkflowSpec,
};

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
    /// Documents that steps of the form `workflow` may name, with their pointers.
    pub(crate) workflows: Vec<(String, Document)>,
    pub(crate) pointer: String,
}

/// Which document it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    Root,
    /// One of the root's `workflows`.
    Sub,
}

/// Protects the host from a document of documents.
const WORKFLOWS_MAX: usize = 100;
/// The place of everything in a workflow begins with its name in `workflows`: protects the host from keeping a long
/// one thousands of times. The path of a file fits.
const WORKFLOW_NAME_BYTES_MAX: usize = 1_024;

impl Document {
    /// Reads a document; what is wrong with it is added to `faults`. None where nothing could be made of it.
    pub(crate) fn read(
        value: &Value,
        pointer: &str,
        rank: Rank,
        faults: &mut Faults,
    ) -> Option<Self> {
        let mut fields = Fields::of(value, pointer, faults)?;
        let name = fields.required_text("name", faults).unwrap_or_default();
        if fields.has("name") && name.trim().is_empty() {
            faults.add(fields.at("name"), "a workflow needs a name");
        } else if name.contains('\0') {
            faults.add(fields.at("name"), "a name has no U+0000 in it");
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
        let workflows = read_workflows(&mut fields, rank, faults);
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
            workflows,
            pointer: pointer.to_owned(),
        })
    }
}

fn read_workflows(
    fields: &mut Fields<'_>,
    rank: Rank,
    faults: &mut Faults,
) -> Vec<(String, Document)> {
    let Some(value) = fields.value("workflows") else {
        return Vec::new();
    };
    let place = fields.at("workflows");
    if rank == Rank::Sub {
        let message =
            "a workflow inside `workflows` has none itself; put them all into the outer one";
        faults.add(place, message);
        return Vec::new();
    }
    let Some(map) = value.as_object() else {
        fields.expected("workflows", value, "an object of workflows by name", faults);
        return Vec::new();
    };
    if map.len() > WORKFLOWS_MAX {
        faults.add(
            place,
            format!("a document holds at most {WORKFLOWS_MAX} workflows"),
        );
        return Vec::new();
    }
    map.iter()
        .filter_map(|(name, value)| {
            if name.len() > WORKFLOW_NAME_BYTES_MAX {
                let message = format!("the name of a workflow in `workflows` has at most {WORKFLOW_NAME_BYTES_MAX} bytes");
                faults.add(&place, message);
                return None;
            }
            let place = format!("{place}/{}", escape(name));
            Some((
                name.clone(),
                Document::read(value, &place, Rank::Sub, faults)?,
            ))
        })
        .collect()
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
