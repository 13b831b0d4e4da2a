//! Whether a state that was read fits its definition: every index leads to something, and frames are within each other
//! as they can be. The scheduler indexes by them and goes from frame to frame without looking again.

use std::sync::Arc;
use std::time::Duration;

use super::super::frame::{Account, BlockState, FrameId, FramePlace, Instance};
use super::super::{Execution, StepState};
use crate::definition::{Definition, Node, NodeIndex, NodeKind};

/// Protects sums from overflow: no execution counts so far.
const COUNT_MAX: u32 = 1 << 31;
/// Protects sums of durations from overflow: some ten thousand years.
const IDLE_MAX: Duration = Duration::from_secs(1 << 38);

impl Execution {
    /// Gives every frame its definition, in the order in which they were opened: what a frame is inside of was opened
    /// before it.
    pub(super) fn link(&mut self) -> Result<(), String> {
        for index in 0..self.frames.len() {
            let id = FrameId(index);
            let (home, depth, definition) = self.linked(id)?;
            let frame = self.frame_mut(id);
            let is_home = frame.home == home;
            match &mut frame.place {
                FramePlace::Workflow(workflow) if workflow.depth == depth => {
                    workflow.definition = definition;
                }
                FramePlace::Workflow(_) => return Err(format!("frame {index} is not so deep")),
                FramePlace::Round { .. } => {}
            }
            if !is_home {
                return Err(format!("frame {index} belongs elsewhere"));
            }
        }
        Ok(())
    }

    /// To which workflow a frame belongs, how deep that is, and what it is made of.
    fn linked(&self, id: FrameId) -> Result<(FrameId, usize, Arc<Definition>), String> {
        let wrong = |what: &str| Err(format!("frame {} {what}", id.0));
        match &self.frame(id).place {
            FramePlace::Workflow(workflow) => {
                let Some(opener) = workflow.opener else {
                    return if id == FrameId::ROOT {
                        Ok((id, 0, Arc::clone(&self.definition)))
                    } else {
                        wrong("was opened by nobody")
                    };
                };
                let NodeKind::Workflow(node) = &self.node_before(opener, id)?.kind else {
                    return wrong("was opened by no workflow step");
                };
                let Some(definition) = self.definition.workflow(&node.name) else {
                    return wrong("is of a workflow that is not there");
                };
                if self.block(opener) != Some(&BlockState::Workflow { frame: id }) {
                    return wrong("is not known to the step that opened it");
                }
                let depth = self.workflow(opener.frame).depth + 1;
                Ok((id, depth, Arc::clone(definition)))
            }
            FramePlace::Round { of, number } => {
                let NodeKind::Loop(_) = &self.node_before(*of, id)?.kind else {
                    return wrong("is a round of no loop");
                };
                let rounds = self.block(*of).map(BlockState::rounds);
                let is_known = rounds.and_then(|rounds| rounds.get(*number)) == Some(&id);
                // The last round of a `while` that did not go on was taken back: nothing leads to it.
                let frame = self.frame(id);
                let is_left = frame.steps.is_empty() && frame.blocks.is_empty();
                if !is_known && !is_left {
                    return wrong("is not known to its loop");
                }
                let home = self.frame(of.frame).home;
                Ok((home, 0, Arc::clone(self.definition_of(home))))
            }
        }
    }

    /// A node of a frame that was opened, and linked, before another.
    fn node_before(&self, at: Instance, id: FrameId) -> Result<&Node, String> {
        if at.frame >= id {
            return Err(format!("frame {} is inside a later one", id.0));
        }
        self.known(at)
    }

    /// A node of a frame that is there; it must be one that the frame has a state for.
    fn known(&self, at: Instance) -> Result<&Node, String> {
        let missing = || format!("there is no node {} in frame {}", at.node.0, at.frame.0);
        let frame = self.frames.get(at.frame.0).ok_or_else(missing)?;
        let owner = match &frame.place {
            FramePlace::Workflow(_) => None,
            FramePlace::Round { of, .. } => Some(of.node),
        };
        self.definition_of(at.frame)
            .get(at.node)
            .filter(|node| node.owner == owner)
            .ok_or_else(missing)
    }

    /// Checks all that the scheduler relies on, once the frames are linked.
    pub(super) fn check_state(&self) -> Result<(), String> {
        if self.frames.is_empty() != (self.version == 0) {
            return Err("an execution that was created has frames, and no other".to_owned());
        }
        if self.version > u64::MAX / 2 || self.idle > IDLE_MAX {
            return Err("its counts cannot be".to_owned());
        }
        for (index, frame) in self.frames.iter().enumerate() {
            let at = |node: &NodeIndex| Instance {
                frame: FrameId(index),
                node: *node,
            };
            for (node, state) in &frame.steps {
                self.known(at(node))?;
                check_counts(state)?;
            }
            for (node, block) in &frame.blocks {
                self.check_block(at(node), block)?;
            }
            if let FramePlace::Workflow(workflow) = &frame.place {
                check_progress(&workflow.account)?;
            }
        }
        self.accounts.values().try_for_each(check_progress)?;
        for earlier in self.earlier.values() {
            check_counts(&earlier.state)?;
        }
        self.check_sets()
    }

    fn check_sets(&self) -> Result<(), String> {
        let plain = [
            &self.ready,
            &self.running,
            &self.approvals,
            &self.in_doubt,
            &self.unpaid,
        ];
        let timed = [&self.retries, &self.timers, &self.deadlines];
        let plain = plain.into_iter().flatten().copied();
        let timed = timed.into_iter().flatten().map(|(_, at)| *at);
        for at in plain.chain(timed) {
            self.known(at)?;
            if self.step(at).is_none() {
                return Err(format!("`{}` was not reached", self.path(at)));
            }
        }
        for home in self.failing.keys() {
            let is_workflow = self
                .frames
                .get(home.0)
                .is_some_and(|frame| frame.home == *home);
            if !is_workflow {
                return Err(format!("frame {} is no workflow", home.0));
            }
        }
        Ok(())
    }

    /// A block is of its node's kind, and the frames in it know that they are.
    fn check_block(&self, at: Instance, block: &BlockState) -> Result<(), String> {
        let node = self.known(at)?;
        let wrong = || Err(format!("the block `{}` cannot be so", self.path(at)));
        let is_inside = match (&node.kind, block) {
            (NodeKind::Parallel { .. }, BlockState::Parallel { .. }) => true,
            (
                NodeKind::Branch {
                    then, otherwise, ..
                },
                BlockState::Branch { taken },
            ) => taken.is_none() || taken == then || taken == otherwise,
            (NodeKind::Loop(_), BlockState::Items { rounds, items, .. }) => {
                rounds.len() <= items.len() && self.are_rounds(at, rounds)
            }
            (NodeKind::Loop(_), BlockState::Repeat { rounds }) => self.are_rounds(at, rounds),
            (NodeKind::Workflow(_), BlockState::Workflow { frame }) => {
                self.frames.get(frame.0).is_some_and(|inside| {
                    matches!(&inside.place, FramePlace::Workflow(workflow) if workflow.opener == Some(at))
                })
            }
            _ => false,
        };
        if is_inside { Ok(()) } else { wrong() }
    }

    fn are_rounds(&self, at: Instance, rounds: &[FrameId]) -> bool {
        rounds.iter().enumerate().all(|(position, round)| {
            self.frames.get(round.0).is_some_and(|inside| {
                matches!(&inside.place, FramePlace::Round { of, number } if *of == at && *number == position)
            })
        })
    }
}

fn check_progress(account: &Account) -> Result<(), String> {
    let steps = [account.steps_total, account.steps_completed];
    if steps.into_iter().any(|count| count > usize::MAX / 4) {
        return Err("its progress cannot be".to_owned());
    }
    Ok(())
}

fn check_counts(state: &StepState) -> Result<(), String> {
    let escalations = state
        .approval
        .as_ref()
        .map_or(0, |approval| approval.escalations);
    let counts = [state.attempts, state.failures, state.interruptions];
    if counts.into_iter().any(|count| count > COUNT_MAX) || escalations > COUNT_MAX as usize {
        return Err("the counts of a step cannot be".to_owned());
    }
    Ok(())
}
