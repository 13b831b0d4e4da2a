//! A document compiled: every name resolved, every template parsed, every step in its place.

mod build;
mod inputs;
mod required;
mod scope;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::document::{Agent, Config, Document};
use crate::expression::Expression;
use crate::fault::Faults;
use crate::ids::{Name, StepPath, WorkflowDigest};
use crate::retry::RetryPolicy;
use crate::template::Template;

pub(crate) use build::{ACCESSORS, is_accessor};
pub(crate) use inputs::Inputs;
pub use required::{FieldKind, RequiredFields};

/// The place of a step or block in the document's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeIndex(pub(crate) usize);

/// A workflow that can be run.
#[derive(Debug)]
pub struct Definition {
    name: String,
    digest: WorkflowDigest,
    document: Value,
    config: Config,
    agents: BTreeMap<Name, Agent>,
    nodes: Vec<Node>,
    by_id: BTreeMap<Name, NodeIndex>,
    inputs: Inputs,
    outputs: Option<Vec<(String, Compiled)>>,
}

/// A step or a block, with what comes after it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: Name,
    /// Whether the author gave the id.
    pub(crate) id_origin: IdOrigin,
    /// The next one in the same list.
    pub(crate) next: Option<NodeIndex>,
    /// The block around it.
    pub(crate) parent: Option<NodeIndex>,
    pub(crate) kind: NodeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdOrigin {
    Author,
    Numbered,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Step(Box<StepNode>),
    Parallel {
        /// The first node of each branch.
        branches: Vec<NodeIndex>,
        max_concurrency: usize,
    },
    Set(Compiled),
}

/// A step of an agent.
#[derive(Debug)]
pub(crate) struct StepNode {
    pub(crate) agent: Name,
    pub(crate) action: String,
    pub(crate) input: Compiled,
    pub(crate) condition: Option<CompiledCondition>,
    pub(crate) system_prompt: Option<Compiled>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: RetryPolicy,
    pub(crate) then: Then,
    /// The fields of an LLM's output that later steps read.
    pub(crate) required: RequiredFields,
}

/// What happens when a step's tries are used up.
#[derive(Debug)]
pub(crate) enum Then {
    Fail,
    Continue,
    Fallback(Box<Fallback>),
}

#[derive(Debug)]
pub(crate) struct Fallback {
    pub(crate) agent: Name,
    pub(crate) action: String,
    pub(crate) input: Compiled,
    pub(crate) system_prompt: Option<Compiled>,
    pub(crate) retry: RetryPolicy,
}

/// A template with the meaning of its names.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) template: Template,
    pub(crate) names: BTreeMap<String, Reference>,
}

/// A condition with the meaning of its names.
#[derive(Debug)]
pub(crate) struct CompiledCondition {
    pub(crate) expression: Expression,
    pub(crate) names: BTreeMap<String, Reference>,
}

/// What a name in a template means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    Step(NodeIndex),
    /// The last of these steps, in document order, that finished.
    Agent(Vec<NodeIndex>),
    Input(String),
    /// `inputs`
    Inputs,
    /// `steps`
    Steps,
    /// `execution`
    Execution,
    /// `error`, in a fallback's input.
    Error,
}

impl Definition {
    /// Reads and checks a whole document.
    ///
    /// # Errors
    /// All its faults at once, each with its JSON pointer.
    pub fn compile(document: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let Some(read) = Document::read(document, &mut faults) else {
            return Err(faults);
        };
        let compiled = build::build(read, document, &mut faults);
        if faults.is_empty() {
            Ok(compiled)
        } else {
            Err(faults)
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

    /// The inputs that templates read and no schema declares, with those that must be given first.
    pub fn inferred_inputs(&self) -> Vec<&str> {
        self.inputs.inferred().map(|(name, _)| name).collect()
    }

    /// Checks the inputs of a run.
    ///
    /// # Errors
    /// All faults, with pointers into the inputs.
    pub fn check_inputs(&self, inputs: &Value) -> Result<(), Faults> {
        self.inputs.check(inputs)
    }

    /// How many steps there are; blocks count by their steps.
    pub fn steps_total(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| !matches!(node.kind, NodeKind::Parallel { .. }))
            .count()
    }

    /// The steps and blocks in the document's order, with how deep they lie: for showing a tree.
    pub fn outline(&self) -> Vec<Outline<'_>> {
        self.nodes
            .iter()
            .map(|node| Outline {
                id: node.id.as_str(),
                agent: match &node.kind {
                    NodeKind::Step(step) => Some(step.agent.as_str()),
                    NodeKind::Parallel { .. } | NodeKind::Set(_) => None,
                },
                depth: self.depth(node),
                is_block: matches!(node.kind, NodeKind::Parallel { .. }),
            })
            .collect()
    }

    fn depth(&self, node: &Node) -> usize {
        let mut depth = 0;
        let mut parent = node.parent;
        while let Some(index) = parent {
            depth += 1;
            parent = self.nodes[index.0].parent;
        }
        depth
    }

    pub(crate) fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0]
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (NodeIndex(index), node))
    }

    pub(crate) fn find(&self, id: &str) -> Option<NodeIndex> {
        self.by_id.get(id).copied()
    }

    /// The node of a path that an event names.
    pub(crate) fn find_path(&self, path: &StepPath) -> Option<NodeIndex> {
        self.find(path.as_str())
    }

    pub(crate) fn outputs(&self) -> Option<&[(String, Compiled)]> {
        self.outputs.as_deref()
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

/// One line of a workflow's outline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline<'a> {
    pub id: &'a str,
    /// None for blocks and `set` steps.
    pub agent: Option<&'a str>,
    pub depth: usize,
    pub is_block: bool,
}

#[cfg(test)]
mod tests;
