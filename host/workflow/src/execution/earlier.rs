//! What is known of steps from before: completed ones that are not done again, and others with the attempts that were made.

use serde::{Deserialize, Serialize};

use super::frame::Instance;
use super::{Execution, StepState, StepStatus};
use crate::definition::{Node, NodeKind, Then};
use crate::event::{ForkedFrom, Kept};
use crate::ids::StepPath;

/// A step as it was before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Earlier {
    /// Who did it last; none: nobody did, it is a timer.
    pub(crate) agent: Option<String>,
    /// Completed: the step is kept as it is.
    pub(crate) state: StepState,
}

impl Earlier {
    /// A step of another execution: what it cost was paid there.
    pub(crate) fn of_fork(kept: &Kept) -> Self {
        let state = StepState {
            status: StepStatus::Completed,
            attempts: kept.attempts,
            output: Some(kept.output.clone()),
            text: kept.text.clone(),
            started_at: kept.started_at,
            ended_at: kept.ended_at,
            ..StepState::new()
        };
        Self {
            agent: kept.agent.clone(),
            state,
        }
    }

    /// Whether it may stand for a node: a changed document may have another kind of step under the same id.
    fn fits(&self, node: &Node) -> bool {
        match (&node.kind, &node.then) {
            (NodeKind::Step(_), _) => self.agent.is_some(),
            (NodeKind::Wait(_), _) => self.agent.is_none(),
            // A block is kept as a whole where a fallback made its value.
            (NodeKind::Loop(_) | NodeKind::Workflow(_), Then::Fallback(fallback)) => {
                self.agent.as_deref() == Some(fallback.agent.as_str())
            }
            (
                NodeKind::Loop(_)
                | NodeKind::Workflow(_)
                | NodeKind::Set(_)
                | NodeKind::Parallel { .. }
                | NodeKind::Branch { .. },
                _,
            ) => false,
        }
    }
}

impl Execution {
    /// Which execution this one was forked from, and where.
    pub fn forked_from(&self) -> Option<&ForkedFrom> {
        self.forked_from.as_ref()
    }

    /// The path of a step that was completed before and is not done again; none: it is to be done.
    pub(super) fn kept_path(&self, at: Instance) -> Option<StepPath> {
        if self.earlier.is_empty() {
            return None;
        }
        let path = self.path(at);
        let earlier = self.earlier.get(&path)?;
        let is_kept = earlier.state.status == StepStatus::Completed && earlier.fits(self.node(at));
        is_kept.then_some(path)
    }
}
