//! From paths to places and back, and what a place holds.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::frame::{BlockState, Frame, FrameId, FramePlace, Instance, WorkflowFrame};
use super::{Execution, StepState, StepStatus};
use crate::definition::{Definition, Node, NodeIndex, NodeKind};
use crate::ids::StepPath;

impl Execution {
    pub(super) fn frame(&self, id: FrameId) -> &Frame {
        &self.frames[id.0]
    }

    pub(super) fn frame_mut(&mut self, id: FrameId) -> &mut Frame {
        &mut self.frames[id.0]
    }

    /// The workflow that a frame belongs to.
    pub(super) fn workflow(&self, id: FrameId) -> &WorkflowFrame {
        let home = self.frame(self.frame(id).home);
        match &home.place {
            FramePlace::Workflow(workflow) => workflow,
            FramePlace::Round { .. } => unreachable!("a frame's home is a workflow's own frame"),
        }
    }

    /// The workflows around a frame, the innermost first.
    pub(super) fn homes(&self, id: FrameId) -> impl Iterator<Item = FrameId> {
        std::iter::successors(Some(self.frame(id).home), |home| {
            let opener = self.workflow(*home).opener?;
            Some(self.frame(opener.frame).home)
        })
    }

    pub(super) fn workflow_mut(&mut self, home: FrameId) -> &mut WorkflowFrame {
        match &mut self.frames[home.0].place {
            FramePlace::Workflow(workflow) => workflow,
            FramePlace::Round { .. } => unreachable!("a frame's home is a workflow's own frame"),
        }
    }

    pub(super) fn definition_of(&self, id: FrameId) -> &Arc<Definition> {
        &self.workflow(id).definition
    }

    pub(super) fn node(&self, at: Instance) -> &Node {
        self.definition_of(at.frame).node(at.node)
    }

    pub(super) fn step(&self, at: Instance) -> Option<&StepState> {
        self.frame(at.frame).steps.get(&at.node).map(Box::as_ref)
    }

    /// A step that was entered.
    pub(super) fn step_mut(&mut self, at: Instance) -> &mut StepState {
        self.frames[at.frame.0]
            .steps
            .entry(at.node)
            .or_insert_with(|| Box::new(StepState::new()))
    }

    pub(super) fn block(&self, at: Instance) -> Option<&BlockState> {
        self.frame(at.frame).blocks.get(&at.node)
    }

    pub(super) fn path(&self, at: Instance) -> StepPath {
        let prefix = &self.frame(at.frame).prefix;
        StepPath::new(format!("{prefix}{}", self.node(at).id))
    }

    /// The place of a path that an event or a person names; none: there is no such step, or it was not reached.
    pub(super) fn find(&self, path: &StepPath) -> Option<Instance> {
        let mut frame = FrameId::ROOT;
        let mut parts = path.as_str().split('.').peekable();
        while let Some(part) = parts.next() {
            let (id, round) = match part.split_once('[') {
                Some((id, rest)) => (id, Some(rest.strip_suffix(']')?.parse::<usize>().ok()?)),
                None => (part, None),
            };
            if self.frames.is_empty() {
                return None;
            }
            let node = self.definition_of(frame).find(id)?;
            let at = Instance { frame, node };
            if parts.peek().is_none() {
                return round.is_none().then_some(at);
            }
            frame = match (self.block(at)?, round) {
                (BlockState::Workflow { frame }, None) => *frame,
                (block, Some(round)) => *block.rounds().get(round)?,
                (_, None) => return None,
            };
        }
        None
    }

    /// The frame around (or at) `frame` in which the steps of a loop, or of the workflow itself, have their state.
    pub(super) fn frame_of(&self, frame: FrameId, owner: Option<NodeIndex>) -> FrameId {
        let mut at = frame;
        loop {
            match &self.frame(at).place {
                FramePlace::Round { of, .. } if owner != Some(of.node) => at = of.frame,
                FramePlace::Round { .. } | FramePlace::Workflow(_) => return at,
            }
        }
    }

    /// The value of a step or block: null where it has none.
    pub(super) fn value(&self, at: Instance) -> Cow<'_, Value> {
        let Some(step) = self.step(at) else {
            return Cow::Owned(Value::Null);
        };
        if let Some(output) = &step.output {
            return Cow::Borrowed(output);
        }
        if step.status != StepStatus::Completed {
            return Cow::Owned(Value::Null);
        }
        let last = |frame, node| self.value(Instance { frame, node });
        match (&self.node(at).kind, self.block(at)) {
            (NodeKind::Parallel { branches, .. }, _) => Cow::Owned(Value::Array(
                branches
                    .iter()
                    .map(|branch| last(at.frame, branch.last).into_owned())
                    .collect(),
            )),
            (NodeKind::Branch { .. }, Some(BlockState::Branch { taken: Some(list) })) => {
                last(at.frame, list.last)
            }
            (NodeKind::Loop(node), Some(block)) => Cow::Owned(Value::Array(
                block
                    .rounds()
                    .iter()
                    .map(|round| last(*round, node.body.last).into_owned())
                    .collect(),
            )),
            _ => Cow::Owned(Value::Null),
        }
    }
}
