//! Where steps run: a frame is the workflow itself, one round of a loop, or a sub-workflow. Each has a state of
//! its own for the steps in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StepState;
use crate::definition::{Definition, List, NodeIndex};
use crate::event::Usage;
use crate::money::MicroUsd;

/// A frame of this execution, in the order in which they were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct FrameId(pub(crate) usize);

impl FrameId {
    /// The workflow itself.
    pub(crate) const ROOT: Self = Self(0);
}

/// A step or block where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) frame: FrameId,
    pub(crate) node: NodeIndex,
}

impl Instance {
    /// The one before all others in their order.
    pub(crate) const FIRST: Self = Self {
        frame: FrameId::ROOT,
        node: NodeIndex(0),
    };
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Frame {
    pub(crate) place: FramePlace,
    /// The frame of the workflow that it belongs to; its own, where it is one.
    pub(crate) home: FrameId,
    /// What stands before a step's id in its path: `each[17].`.
    pub(crate) prefix: String,
    /// Boxed: a map of large values moves them whenever it grows.
    pub(crate) steps: BTreeMap<NodeIndex, Box<StepState>>,
    pub(crate) blocks: BTreeMap<NodeIndex, BlockState>,
}

/// What a frame is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum FramePlace {
    Workflow(Box<WorkflowFrame>),
    Round {
        /// The loop.
        of: Instance,
        number: usize,
    },
}

impl PartialEq for FramePlace {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Workflow(one), Self::Workflow(two)) => {
                one.opener == two.opener
                    && one.inputs == two.inputs
                    && one.account == two.account
                    && one.depth == two.depth
            }
            (
                Self::Round { of, number },
                Self::Round {
                    of: of_two,
                    number: two,
                },
            ) => of == of_two && number == two,
            (Self::Workflow(_), Self::Round { .. }) | (Self::Round { .. }, Self::Workflow(_)) => {
                false
            }
        }
    }
}

/// A workflow that runs: the execution's own, or one as a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkflowFrame {
    /// Not stored: it follows from the definition of the execution and from the step that it is.
    #[serde(skip, default = "super::snapshot::unlinked")]
    pub(crate) definition: Arc<Definition>,
    /// The step that it is; none: it is the execution's own.
    pub(crate) opener: Option<Instance>,
    pub(crate) inputs: Value,
    pub(crate) account: Account,
    /// How many workflows it is inside.
    pub(crate) depth: usize,
}

/// What a workflow has used, and how far it has come; what its sub-workflows use counts here too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    /// What calls that have ended cost.
    pub(crate) settled: MicroUsd,
    /// What calls that have not ended, or whose end is unknown, may cost.
    pub(crate) reserved: MicroUsd,
    pub(crate) tokens: Usage,
    pub(crate) tokens_reserved: u64,
    pub(crate) fuel: u64,
    pub(crate) fuel_reserved: u64,
    pub(crate) steps_total: usize,
    pub(crate) steps_completed: usize,
}

impl Account {
    pub(crate) fn tokens_used(&self) -> u64 {
        self.tokens
            .input_tokens
            .saturating_add(self.tokens.output_tokens)
    }
}

/// A block that is entered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum BlockState {
    Parallel {
        /// Branches that have not ended.
        open: usize,
        /// The next branch to enter.
        next_branch: usize,
    },
    Branch {
        taken: Option<List>,
    },
    Items {
        #[serde(with = "super::snapshot::shared")]
        items: Arc<Vec<Value>>,
        rounds: Vec<FrameId>,
        /// Rounds that have not ended.
        open: usize,
    },
    /// A loop with `until` or `while`; of the latter the last round is entered only if its condition holds.
    Repeat {
        rounds: Vec<FrameId>,
    },
    Workflow {
        frame: FrameId,
    },
}

impl BlockState {
    /// The rounds of a loop.
    pub(crate) fn rounds(&self) -> &[FrameId] {
        match self {
            Self::Items { rounds, .. } | Self::Repeat { rounds } => rounds,
            Self::Parallel { .. } | Self::Branch { .. } | Self::Workflow { .. } => &[],
        }
    }
}
