//! A document compiled: every name resolved, every template parsed, every step in its place.

mod build;
mod inputs;
mod node;
mod required;
mod scope;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::document::{Agent, AgentKind, Config, Document, Rank};
use crate::fault::Faults;
use crate::ids::{Name, WorkflowDigest};

pub(crate) use inputs::Inputs;
pub(crate) use node::{
    Compiled, CompiledCondition, Fallback, IdOrigin, List, LoopNode, LoopNodeKind, Node, NodeIndex,
    NodeKind, Reference, StepNode, Then, WaitNode, WorkflowNode,
};
pub use required::{FieldKind, RequiredFields};

/// A workflow that can be run.
#[derive(Debug)]
pub struct Definition {
    name: String,
    digest: WorkflowDigest,
    document: Value,
    config: Config,
    agents: BTreeMap<Name, Agent>,
    nodes: Vec<Node>,
    /// Only looked up, never gone through: its order would differ from run to run.
    by_id: HashMap<Name, NodeIndex>,
    inputs: Inputs,
    outputs: Option<Vec<(String, Compiled)>>,
    /// The workflows that its steps, and theirs, may name.
    workflows: BTreeMap<String, Arc<Definition>>,
}

/// Accessors that every step and block has; they win over a field of that name unless a schema declares it.
pub(crate) const ACCESSORS: [&str; 3] = ["output", "status", "error"];

impl Definition {
    /// Reads and checks a whole document.
    ///
    /// # Errors
    /// All its faults at once, in the document's order, each with its JSON pointer.
    pub fn compile(document: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let compiled = Document::read(document, "", Rank::Root, &mut faults)
            .map(|read| build::build_all(read, document, &mut faults));
        match compiled {
            Some(definition) if faults.is_empty() => Ok(definition),
            _ => {
                faults.sort_along(document);
                Err(faults)
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Identifies the document's content.
    pub fn digest(&self) -> &WorkflowDigest {
        &self.digest
    }

    /// The document as it is stored.
    pub fn document(&self) -> &Value {
        &self.document
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The agents by id.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    pub fn agent(&self, id: &str) -> Option<&Agent> {
        self.agents.get(id)
    }

    /// What is no fault and may surprise, each with its place; of its sub-workflows too.
    pub fn warnings(&self) -> Faults {
        let mut warnings = Faults::default();
        let subs = self.workflows.values().map(Arc::as_ref);
        for agent in subs.chain([self]).flat_map(Self::agents) {
            if let AgentKind::Human(human) = &agent.kind
                && human.timeout.is_none()
            {
                let message = format!(
                    "`{}` has no `timeout_hours`: where nobody answers it waits for ever",
                    agent.id
                );
                warnings.add(agent.pointer(), message);
            }
        }
        warnings.sort_along(&self.document);
        warnings
    }

    /// The inputs that templates read and no schema declares, with those that must be given first.
    pub fn inferred_inputs(&self) -> Vec<&str> {
        self.inputs.inferred().map(|(name, _)| name).collect()
    }

    /// The inputs that a run must be given.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Checks the inputs of a run.
    ///
    /// # Errors
    /// All faults, with pointers into the inputs.
    pub fn check_inputs(&self, inputs: &Value) -> Result<(), Faults> {
        self.inputs.check(inputs)
    }

    /// The workflow that a step of the form `workflow` names.
    pub(crate) fn workflow(&self, name: &str) -> Option<&Arc<Definition>> {
        self.workflows.get(name)
    }

    /// The workflows that its steps, and theirs, may name.
    pub fn workflows(&self) -> impl Iterator<Item = (&str, &Arc<Definition>)> {
        self.workflows
            .iter()
            .map(|(name, workflow)| (name.as_str(), workflow))
    }

    /// How many steps are known before anything runs; blocks count by their steps, loops by one round.
    pub fn weight(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| node.parent.is_none())
            .map(|node| node.weight)
            .sum()
    }

    pub(crate) fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0]
    }

    /// A node that bytes from outside name; none: there is no such one.
    pub(crate) fn get(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(index.0)
    }

    pub(crate) fn find(&self, id: &str) -> Option<NodeIndex> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn outputs(&self) -> Option<&[(String, Compiled)]> {
        self.outputs.as_deref()
    }

    /// Whether `X.field` is an accessor, for a node X, and no field of its value.
    pub(crate) fn is_accessor(&self, index: NodeIndex, field: &str) -> bool {
        match &self.node(index).kind {
            NodeKind::Step(step) => self
                .agents
                .get(&step.agent)
                .is_some_and(|agent| is_accessor(agent, field)),
            NodeKind::Loop(_) => field == "results" || ACCESSORS.contains(&field),
            NodeKind::Parallel { .. }
            | NodeKind::Branch { .. }
            | NodeKind::Workflow(_)
            | NodeKind::Wait(_)
            | NodeKind::Set(_) => ACCESSORS.contains(&field),
        }
    }

    /// The name under which people know a step: its id, or its agent's where it was given none.
    pub(crate) fn shown_name(&self, index: NodeIndex) -> &str {
        let node = self.node(index);
        match (&node.kind, node.id_origin) {
            (NodeKind::Step(step), IdOrigin::Numbered) => step.agent.as_str(),
            _ => node.id.as_str(),
        }
    }
}

/// Whether `X.field` is an accessor of this agent's steps, and no field that its schema declares.
pub(crate) fn is_accessor(agent: &Agent, field: &str) -> bool {
    let declared = agent
        .output_schema
        .as_ref()
        .and_then(|schema| schema.get("properties"))
        .is_some_and(|properties| properties.get(field).is_some());
    ACCESSORS.contains(&field) && !declared
}

#[cfg(test)]
mod tests;
