//! What a fork keeps: the steps that are completed and do not come after the one from which it is done again.

use super::frame::{FrameId, FramePlace, Instance};
use super::{Execution, Role, StepStatus};
use crate::definition::{LoopNodeKind, NodeIndex, NodeKind};
use crate::event::Kept;
use crate::fault::suggestion;
use crate::ids::StepPath;

/// A step from which no fork can begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    #[error("there is no step `{step}` that was reached{hint}")]
    Unknown { step: StepPath, hint: String },
}

impl Execution {
    /// What a fork keeps that does everything again from a step or block on.
    ///
    /// Kept is every completed step that is not `from`, not inside it and does not come after it: where the two part,
    /// in a list of steps what stands before; in a parallel block the other branches; in a loop the rounds before,
    /// and where rounds run at the same time all others. Values of `set`, conditions, loops and sub-workflows are
    /// made again, from what is kept.
    ///
    /// # Errors
    /// There is no such step, or its round or sub-workflow was not reached.
    pub fn fork(&self, from: &StepPath) -> Result<Vec<Kept>, ForkError> {
        let at = self.find(from).ok_or_else(|| self.unknown(from))?;
        let line = self.line(at);
        let mut kept = Vec::new();
        for (index, frame) in self.frames.iter().enumerate() {
            for node in frame.steps.keys() {
                let step = Instance {
                    frame: FrameId(index),
                    node: *node,
                };
                if self.is_keepable(step) && self.comes_before(&self.line(step), &line) {
                    kept.extend(self.kept(step));
                }
            }
        }
        Ok(kept)
    }

    fn unknown(&self, step: &StepPath) -> ForkError {
        let steps = self.steps();
        let paths = steps.iter().map(|step| step.path.as_str());
        ForkError::Unknown {
            step: step.clone(),
            hint: suggestion(step.as_str(), paths),
        }
    }

    /// Whether a step has an effect that need not be repeated: it is completed, and an agent's or a timer. Of a block
    /// only the value that a fallback made is.
    pub(super) fn is_keepable(&self, at: Instance) -> bool {
        let Some(step) = self.step(at) else {
            return false;
        };
        let is_effect = match self.node(at).kind {
            NodeKind::Step(_) | NodeKind::Wait(_) => true,
            NodeKind::Loop(_) | NodeKind::Workflow(_) => step.role == Role::Fallback,
            NodeKind::Set(_) | NodeKind::Parallel { .. } | NodeKind::Branch { .. } => false,
        };
        is_effect && step.status == StepStatus::Completed
    }

    fn kept(&self, at: Instance) -> Option<Kept> {
        let step = self.step(at)?;
        let agent = self.node(at).agent_in(step.role);
        Some(Kept {
            path: self.path(at),
            agent: agent.map(|agent| agent.as_str().to_owned()),
            output: step.output.clone()?,
            text: step.text.clone(),
            attempts: step.attempts,
            started_at: step.started_at,
            ended_at: step.ended_at,
        })
    }

    /// A step with all blocks and workflow steps around it, the outermost first.
    fn line(&self, at: Instance) -> Vec<Instance> {
        let mut line: Vec<Instance> =
            std::iter::successors(Some(at), |inside| self.around(*inside)).collect();
        line.reverse();
        line
    }

    fn around(&self, at: Instance) -> Option<Instance> {
        match (&self.frame(at.frame).place, self.node(at).parent) {
            (FramePlace::Round { of, .. }, Some(parent)) if parent == of.node => Some(*of),
            (_, Some(node)) => Some(Instance { node, ..at }),
            (FramePlace::Workflow(workflow), None) => workflow.opener,
            (FramePlace::Round { .. }, None) => None,
        }
    }

    /// Whether a step is done before, or beside, another.
    fn comes_before(&self, step: &[Instance], from: &[Instance]) -> bool {
        let shared = step.iter().zip(from).take_while(|(a, b)| a == b).count();
        match (step.get(shared), from.get(shared)) {
            (Some(step), Some(from)) => self.precedes(*step, *from),
            // It is the one itself, inside it, or around it.
            _ => false,
        }
    }

    /// The same of two that are directly in one block, or in one list.
    fn precedes(&self, step: Instance, from: Instance) -> bool {
        let places = (&self.frame(step.frame).place, &self.frame(from.frame).place);
        if step.frame != from.frame {
            return match places {
                (
                    FramePlace::Round { of, number },
                    FramePlace::Round {
                        number: of_from, ..
                    },
                ) => number < of_from || self.runs_rounds_at_once(*of),
                (FramePlace::Workflow(_), _) | (_, FramePlace::Workflow(_)) => false,
            };
        }
        let beside = self.node(step).parent.is_some_and(|parent| {
            let part = |node| {
                self.part_of(
                    Instance {
                        node: parent,
                        ..step
                    },
                    node,
                )
            };
            part(step.node) != part(from.node)
        });
        beside || step.node < from.node
    }

    fn runs_rounds_at_once(&self, of: Instance) -> bool {
        match &self.node(of).kind {
            NodeKind::Loop(node) => {
                matches!(node.kind, LoopNodeKind::Items { concurrency, .. } if concurrency > 1)
            }
            NodeKind::Step(_)
            | NodeKind::Parallel { .. }
            | NodeKind::Branch { .. }
            | NodeKind::Workflow(_)
            | NodeKind::Wait(_)
            | NodeKind::Set(_) => false,
        }
    }

    /// In which of a block's lists a node stands that is directly in it: they stand one after the other in the document.
    fn part_of(&self, block: Instance, node: NodeIndex) -> usize {
        let begun = |first: NodeIndex| usize::from(first <= node);
        match &self.node(block).kind {
            NodeKind::Parallel { branches, .. } => {
                branches.iter().map(|branch| begun(branch.first)).sum()
            }
            NodeKind::Branch { otherwise, .. } => otherwise.map_or(0, |list| begun(list.first)),
            NodeKind::Step(_)
            | NodeKind::Loop(_)
            | NodeKind::Workflow(_)
            | NodeKind::Wait(_)
            | NodeKind::Set(_) => 0,
        }
    }
}
