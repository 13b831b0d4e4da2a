//! The parts of a compiled document: steps and blocks, and what names in templates mean.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::required::RequiredFields;
use crate::expression::Expression;
use crate::ids::Name;
use crate::retry::RetryPolicy;
use crate::template::Template;

/// The place of a step or block in the document's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NodeIndex(pub(crate) usize);

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
    /// The innermost loop around it: each of its rounds has a state of its own for the node.
    pub(crate) owner: Option<NodeIndex>,
    /// Where it is false, the node is skipped.
    pub(crate) guard: Option<CompiledCondition>,
    pub(crate) retry: RetryPolicy,
    pub(crate) then: Then,
    /// How many steps it counts for; a block counts its steps.
    pub(crate) weight: usize,
    pub(crate) kind: NodeKind,
}

impl Node {
    /// Whether it only holds other steps, which are listed and counted in its place.
    pub(crate) fn is_transparent(&self) -> bool {
        matches!(
            self.kind,
            NodeKind::Parallel { .. } | NodeKind::Branch { .. }
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdOrigin {
    Author,
    Numbered,
}

/// Steps one after the other: the first and the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct List {
    pub(crate) first: NodeIndex,
    pub(crate) last: NodeIndex,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Step(Box<StepNode>),
    Parallel {
        branches: Vec<List>,
        max_concurrency: usize,
    },
    Branch {
        condition: CompiledCondition,
        then: Option<List>,
        otherwise: Option<List>,
    },
    Loop(Box<LoopNode>),
    Workflow(Box<WorkflowNode>),
    Wait(WaitNode),
    Set(Compiled),
}

/// A step of an agent.
#[derive(Debug)]
pub(crate) struct StepNode {
    pub(crate) agent: Name,
    pub(crate) action: String,
    pub(crate) input: Compiled,
    pub(crate) system_prompt: Option<Compiled>,
    pub(crate) timeout: Option<Duration>,
    /// The fields of an LLM's output that later steps read.
    pub(crate) required: RequiredFields,
}

#[derive(Debug)]
pub(crate) struct LoopNode {
    pub(crate) body: List,
    /// What one round counts for.
    pub(crate) weight: usize,
    pub(crate) kind: LoopNodeKind,
}

#[derive(Debug)]
pub(crate) enum LoopNodeKind {
    Items {
        items: Compiled,
        concurrency: usize,
    },
    /// Asked after a round.
    Until {
        condition: CompiledCondition,
        rounds_max: usize,
    },
    /// Asked before a round.
    While {
        condition: CompiledCondition,
        rounds_max: usize,
    },
}

/// Another workflow as a step.
#[derive(Debug)]
pub(crate) struct WorkflowNode {
    pub(crate) name: String,
    pub(crate) inputs: Compiled,
    /// JSON pointer to the step.
    pub(crate) pointer: String,
    /// The inputs' names, where the author wrote an object.
    pub(crate) given: Option<Vec<String>>,
}

/// A durable timer.
#[derive(Debug)]
pub(crate) enum WaitNode {
    Seconds(Compiled),
    Until(Compiled),
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
    /// A step of a repeated body, as it ended in the round before; null in the first.
    Previous(NodeIndex),
    /// The item of this loop's present round.
    Variable(NodeIndex),
    /// `loop`: the innermost loop around, and the last one before.
    Loop {
        around: Option<NodeIndex>,
        before: Option<NodeIndex>,
    },
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
