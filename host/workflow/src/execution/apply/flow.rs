//! How an execution goes from one step to the next, into blocks and out of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::frame::{BlockState, Frame, FrameId, FramePlace, Instance};
use super::super::{Execution, StepStatus, WaitsFor};
use crate::definition::{LoopNodeKind, NodeIndex, NodeKind};
use crate::duration::Timestamp;
use crate::event::{EventKind, Side};

/// Whether a loop that repeats goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Again,
    Done,
}

impl Execution {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`apply_kind` has thought of every event, and sends only these here"
    )]
    pub(super) fn apply_flow(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::ParallelStarted { path } => {
                let block = self.found(path)?;
                self.take_ready(block)?;
                self.begin(block, at);
                self.open_parallel(block);
            }
            EventKind::BranchTaken { path, taken } => {
                let block = self.found(path)?;
                self.take_ready(block)?;
                self.begin(block, at);
                self.take_branch(block, *taken, at)?;
            }
            EventKind::LoopStarted { path, items } => {
                let block = self.found(path)?;
                self.take_ready(block)?;
                self.begin(block, at);
                self.start_loop(block, items.clone(), at)?;
            }
            EventKind::LoopDecided { path, again } => {
                let block = self.found(path)?;
                self.take_ready(block)?;
                let verdict = if *again {
                    Verdict::Again
                } else {
                    Verdict::Done
                };
                self.loop_decided(block, verdict, at)?;
            }
            EventKind::WorkflowStarted { path, inputs } => {
                let step = self.found(path)?;
                self.take_ready(step)?;
                self.begin(step, at);
                let NodeKind::Workflow(node) = &self.node(step).kind else {
                    return Err(format!("`{path}` is no workflow"));
                };
                let definition = self
                    .definition
                    .workflow(&node.name)
                    .cloned()
                    .ok_or_else(|| format!("there is no workflow `{}`", node.name))?;
                let prefix = format!("{path}.");
                // The frame is known to its step before anything in it happens.
                let frame = FrameId(self.frames.len());
                self.frame_mut(step.frame)
                    .blocks
                    .insert(step.node, BlockState::Workflow { frame });
                self.open_workflow(definition, Some(step), inputs.clone(), prefix);
            }
            EventKind::WaitStarted { path, until } => {
                let step = self.found(path)?;
                self.take_ready(step)?;
                self.begin(step, at);
                let state = self.step_mut(step);
                state.attempts = 1;
                state.status = StepStatus::Waiting;
                state.waits_for = Some(WaitsFor::Timer);
                state.due = Some(*until);
                self.timers.insert((*until, step));
            }
            _ => return Err("this is no event of a block".to_owned()),
        }
        Ok(())
    }

    fn begin(&mut self, block: Instance, at: Timestamp) {
        let state = self.step_mut(block);
        state.status = StepStatus::Running;
        state.started_at = state.started_at.or(Some(at));
    }

    fn open_parallel(&mut self, block: Instance) {
        let NodeKind::Parallel {
            branches,
            max_concurrency,
        } = &self.node(block).kind
        else {
            return;
        };
        let first = (*max_concurrency).min(branches.len());
        let entered: Vec<NodeIndex> = branches.iter().take(first).map(|list| list.first).collect();
        let state = BlockState::Parallel {
            open: branches.len(),
            next_branch: first,
        };
        self.frame_mut(block.frame).blocks.insert(block.node, state);
        for node in entered {
            self.enter(Instance {
                frame: block.frame,
                node,
            });
        }
    }

    fn take_branch(&mut self, block: Instance, side: Side, at: Timestamp) -> Result<(), String> {
        let NodeKind::Branch {
            then, otherwise, ..
        } = &self.node(block).kind
        else {
            return Err(format!("`{}` has no condition", self.path(block)));
        };
        let (taken, left_out) = match side {
            Side::Then => (*then, *otherwise),
            Side::Else => (*otherwise, *then),
        };
        self.frame_mut(block.frame)
            .blocks
            .insert(block.node, BlockState::Branch { taken });
        let mut weight = 0;
        let mut next = left_out.map(|list| list.first);
        while let Some(node) = next {
            let node = self.definition_of(block.frame).node(node);
            weight += node.weight;
            next = node.next;
        }
        self.add_completed(block.frame, weight);
        match taken {
            Some(list) => self.enter(Instance {
                frame: block.frame,
                node: list.first,
            }),
            None => {
                self.complete_block(block, at);
                self.leave(block, at);
            }
        }
        Ok(())
    }

    fn start_loop(
        &mut self,
        block: Instance,
        items: Option<Vec<serde_json::Value>>,
        at: Timestamp,
    ) -> Result<(), String> {
        let NodeKind::Loop(node) = &self.node(block).kind else {
            return Err(format!("`{}` is no loop", self.path(block)));
        };
        let (weight, first) = (node.weight, node.body.first);
        let state = match (&node.kind, items) {
            (LoopNodeKind::Items { concurrency, .. }, Some(items)) => {
                let (count, at_once) = (items.len(), (*concurrency).min(items.len()));
                let state = BlockState::Items {
                    items: Arc::new(items),
                    rounds: Vec::new(),
                    open: count,
                };
                self.frame_mut(block.frame).blocks.insert(block.node, state);
                if count == 0 {
                    self.add_completed(block.frame, weight);
                    self.complete_block(block, at);
                    self.leave(block, at);
                    return Ok(());
                }
                self.add_total(block.frame, weight * (count - 1));
                for _ in 0..at_once {
                    self.enter_round(block, first);
                }
                return Ok(());
            }
            (LoopNodeKind::Until { .. } | LoopNodeKind::While { .. }, None) => {
                BlockState::Repeat { rounds: Vec::new() }
            }
            _ => return Err(format!("`{}` is a loop of another kind", self.path(block))),
        };
        let is_until = matches!(node.kind, LoopNodeKind::Until { .. });
        self.frame_mut(block.frame).blocks.insert(block.node, state);
        if is_until {
            self.enter_round(block, first);
        } else {
            self.open_round(block);
            self.ready.insert(block);
        }
        Ok(())
    }

    fn loop_decided(
        &mut self,
        block: Instance,
        verdict: Verdict,
        at: Timestamp,
    ) -> Result<(), String> {
        let NodeKind::Loop(node) = &self.node(block).kind else {
            return Err(format!("`{}` is no loop", self.path(block)));
        };
        let (weight, first) = (node.weight, node.body.first);
        let is_while = matches!(node.kind, LoopNodeKind::While { .. });
        let rounds = self.block(block).map_or(&[][..], BlockState::rounds);
        let last = rounds.last().copied();
        match (verdict, is_while, last) {
            (Verdict::Again, true, Some(frame)) => {
                if rounds.len() > 1 {
                    self.add_total(block.frame, weight);
                }
                self.enter(Instance { frame, node: first });
            }
            (Verdict::Again, false, _) => {
                self.add_total(block.frame, weight);
                self.enter_round(block, first);
            }
            (Verdict::Done, ..) => {
                self.drop_pending_round(block);
                self.complete_block(block, at);
                self.leave(block, at);
            }
            (Verdict::Again, true, None) => {
                return Err(format!("`{}` has no round to enter", self.path(block)));
            }
        }
        Ok(())
    }

    /// Takes back the round of a `while` whose condition did not hold, and counts the body where it never ran.
    pub(super) fn drop_pending_round(&mut self, block: Instance) {
        let NodeKind::Loop(node) = &self.node(block).kind else {
            return;
        };
        let weight = node.weight;
        let is_while = matches!(node.kind, LoopNodeKind::While { .. });
        let Some(BlockState::Repeat { rounds }) =
            self.frame_mut(block.frame).blocks.get_mut(&block.node)
        else {
            return;
        };
        if is_while {
            rounds.pop();
        }
        if rounds.is_empty() {
            self.add_completed(block.frame, weight);
        }
    }

    /// Opens the frame of a loop's next round.
    fn open_round(&mut self, block: Instance) -> FrameId {
        let id = FrameId(self.frames.len());
        let number = self.block(block).map_or(0, |state| state.rounds().len());
        let frame = Frame {
            place: FramePlace::Round { of: block, number },
            home: self.frame(block.frame).home,
            prefix: format!("{}[{number}].", self.path(block)),
            steps: BTreeMap::new(),
            blocks: BTreeMap::new(),
        };
        self.frames.push(frame);
        if let Some(BlockState::Items { rounds, .. } | BlockState::Repeat { rounds }) =
            self.frame_mut(block.frame).blocks.get_mut(&block.node)
        {
            rounds.push(id);
        }
        id
    }

    fn enter_round(&mut self, block: Instance, first: NodeIndex) {
        let frame = self.open_round(block);
        self.enter(Instance { frame, node: first });
    }

    pub(super) fn complete_block(&mut self, block: Instance, at: Timestamp) {
        let state = self.step_mut(block);
        state.status = StepStatus::Completed;
        state.started_at = state.started_at.or(Some(at));
        state.ended_at = Some(at);
    }

    /// Enters a step: something is to be decided about it. A parallel block without a condition is opened at once.
    pub(super) fn enter(&mut self, at: Instance) {
        let first = Box::new(self.first_state(at));
        let node = self.node(at);
        let is_open = matches!(node.kind, NodeKind::Parallel { .. }) && node.guard.is_none();
        self.frame_mut(at.frame).steps.insert(at.node, first);
        if is_open {
            self.step_mut(at).status = StepStatus::Running;
            self.open_parallel(at);
        } else if self.is_doubtful(at) {
            self.put_back(at, WaitsFor::Doubt);
            self.in_doubt.insert(at);
        } else {
            self.ready.insert(at);
        }
    }

    /// Goes on from a step that has ended: to the next in its list, else out of its block.
    pub(super) fn leave(&mut self, from: Instance, at: Timestamp) {
        let mut ended = from;
        loop {
            let node = self.node(ended);
            if let Some(next) = node.next {
                return self.enter(Instance {
                    frame: ended.frame,
                    node: next,
                });
            }
            let parent = node.parent;
            let around = match (&self.frame(ended.frame).place, parent) {
                // The last step of a round.
                (FramePlace::Round { of, .. }, Some(parent)) if parent == of.node => {
                    let block = *of;
                    if !self.round_ended(block) {
                        return;
                    }
                    block
                }
                (_, Some(parent)) => {
                    let block = Instance {
                        frame: ended.frame,
                        node: parent,
                    };
                    if !self.branch_ended(block) {
                        return;
                    }
                    block
                }
                (FramePlace::Workflow(workflow), None) => {
                    match workflow.opener {
                        // Its outputs are to be made.
                        Some(opener) => {
                            self.ready.insert(opener);
                        }
                        None => self.has_reached_end = true,
                    }
                    return;
                }
                (FramePlace::Round { .. }, None) => return,
            };
            self.complete_block(around, at);
            ended = around;
        }
    }

    /// One branch of a block has ended: enters the next, and says whether it was the last.
    fn branch_ended(&mut self, block: Instance) -> bool {
        let definition = Arc::clone(self.definition_of(block.frame));
        let branches = match &definition.node(block.node).kind {
            NodeKind::Parallel { branches, .. } => branches.as_slice(),
            // Of a condition's branches one is taken.
            NodeKind::Step(_)
            | NodeKind::Branch { .. }
            | NodeKind::Loop(_)
            | NodeKind::Workflow(_)
            | NodeKind::Wait(_)
            | NodeKind::Set(_) => return true,
        };
        let state = self.frame_mut(block.frame).blocks.get_mut(&block.node);
        let Some(BlockState::Parallel { open, next_branch }) = state else {
            return false;
        };
        *open = open.saturating_sub(1);
        let is_last = *open == 0;
        if let Some(next) = branches.get(*next_branch) {
            *next_branch += 1;
            self.enter(Instance {
                frame: block.frame,
                node: next.first,
            });
        }
        is_last
    }

    /// One round of a loop has ended: enters the next or has it decided, and says whether it was the last.
    fn round_ended(&mut self, block: Instance) -> bool {
        let definition = Arc::clone(self.definition_of(block.frame));
        let NodeKind::Loop(node) = &definition.node(block.node).kind else {
            return false;
        };
        let state = self.frame_mut(block.frame).blocks.get_mut(&block.node);
        match state {
            Some(BlockState::Items {
                items,
                rounds,
                open,
            }) => {
                *open = open.saturating_sub(1);
                let (is_last, has_next) = (*open == 0, rounds.len() < items.len());
                if has_next {
                    self.enter_round(block, node.body.first);
                }
                is_last
            }
            Some(BlockState::Repeat { .. }) => {
                if matches!(node.kind, LoopNodeKind::While { .. }) {
                    self.open_round(block);
                }
                self.ready.insert(block);
                false
            }
            _ => false,
        }
    }
}
