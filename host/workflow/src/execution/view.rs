//! An execution as people and programs see it.

mod json;

use std::borrow::Cow;

use serde_json::Value;

use super::frame::{BlockState, FrameId, Instance};
use super::{Approval, End, Execution, ExecutionStatus, StepState, StepStatus};
use crate::definition::{List, NodeIndex, NodeKind};
use crate::duration::Timestamp;
use crate::event::Usage;
use crate::failure::Failure;
use crate::ids::StepPath;
use crate::money::MicroUsd;

/// How many of the steps known so far have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub completed: usize,
    pub total: usize,
}

/// One line of an execution's list of steps.
#[derive(Debug, Clone)]
pub struct StepView<'a> {
    pub path: StepPath,
    /// The step's id, `step_N` where the author gave none.
    pub id: &'a str,
    /// Who does it; none: a loop, a sub-workflow, a timer or a `set`.
    pub agent: Option<&'a str>,
    /// How many blocks are around it.
    pub depth: usize,
    pub status: StepStatus,
    /// None: it was not reached.
    pub state: Option<&'a StepState>,
    execution: &'a Execution,
    at: Instance,
}

impl StepView<'_> {
    /// What it returned; of a loop, the list of its rounds' values.
    pub fn output(&self) -> Option<Cow<'_, Value>> {
        let is_there = self
            .state
            .is_some_and(|state| state.output.is_some() || state.status == StepStatus::Completed);
        is_there.then(|| self.execution.value(self.at))
    }
}

/// A step that people are asked about.
#[derive(Debug, Clone)]
pub struct WaitingApproval<'a> {
    pub path: StepPath,
    pub approval: &'a Approval,
    /// How many different persons must approve.
    pub required: u32,
    /// JSON schema of what an approval's `data` must be.
    pub form: Option<&'a Value>,
}

impl Execution {
    pub fn status(&self) -> ExecutionStatus {
        match &self.end {
            Some(End::Completed(_)) => ExecutionStatus::Completed,
            Some(End::Failed(..)) => ExecutionStatus::Failed,
            Some(End::Cancelled) => ExecutionStatus::Cancelled,
            None if self.version <= 1 => ExecutionStatus::Queued,
            None if !self.is_at_rest() => ExecutionStatus::Running,
            None if self.needs_a_word() => ExecutionStatus::Paused,
            None if !self.approvals.is_empty() => ExecutionStatus::WaitingApproval,
            None => ExecutionStatus::Waiting,
        }
    }

    /// Whether a person must say how it goes on, beyond answers.
    fn needs_a_word(&self) -> bool {
        self.pause.is_some() || !self.in_doubt.is_empty() || !self.unpaid.is_empty()
    }

    /// The outputs of a completed execution.
    pub fn outputs(&self) -> Option<&Value> {
        match &self.end {
            Some(End::Completed(outputs)) => Some(outputs),
            Some(End::Failed(..) | End::Cancelled) | None => None,
        }
    }

    /// Why it failed, and at which step.
    pub fn failure(&self) -> Option<(&Failure, Option<&StepPath>)> {
        match &self.end {
            Some(End::Failed(failure, step)) => Some((failure, step.as_ref())),
            Some(End::Completed(_) | End::Cancelled) | None => None,
        }
    }

    /// The inputs it was started with.
    pub fn inputs(&self) -> &Value {
        match self.frames.first() {
            Some(_) => &self.workflow(FrameId::ROOT).inputs,
            None => &Value::Null,
        }
    }

    pub fn progress(&self) -> Progress {
        if self.frames.is_empty() {
            return Progress {
                completed: 0,
                total: self.definition.weight(),
            };
        }
        let account = &self.workflow(FrameId::ROOT).account;
        Progress {
            completed: account.steps_completed,
            total: account.steps_total,
        }
    }

    /// What it has cost so far; a call whose end is unknown counts at its worst case.
    pub fn cost(&self) -> MicroUsd {
        if self.frames.is_empty() {
            return MicroUsd::ZERO;
        }
        let account = &self.workflow(FrameId::ROOT).account;
        account.settled + account.reserved
    }

    pub fn tokens(&self) -> Usage {
        if self.frames.is_empty() {
            return Usage::default();
        }
        self.workflow(FrameId::ROOT).account.tokens
    }

    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When the last event was recorded.
    pub fn last_event_at(&self) -> Timestamp {
        self.last_event_at
    }

    /// The step that runs, or else waits; of several, the one that started first.
    pub fn current_step(&self) -> Option<&str> {
        let waiting = || {
            let timed = self.timers.iter().map(|(_, at)| at);
            let asked = self.approvals.iter().chain(&self.in_doubt);
            asked.chain(&self.unpaid).chain(timed)
        };
        let first = |steps: &mut dyn Iterator<Item = &Instance>| {
            steps
                .min_by_key(|at| (self.step(**at).and_then(|step| step.started_at), **at))
                .copied()
        };
        let at = first(&mut self.running.iter()).or_else(|| first(&mut waiting()))?;
        Some(self.definition_of(at.frame).shown_name(at.node))
    }

    /// The approvals that are awaited, the oldest first.
    pub fn waiting_approvals(&self) -> Vec<WaitingApproval<'_>> {
        let mut open: Vec<(Option<Timestamp>, WaitingApproval<'_>)> = self
            .approvals
            .iter()
            // What people have decided already may be held by a pause.
            .filter(|at| !self.ready.contains(at))
            .filter_map(|at| {
                let step = self.step(*at)?;
                let waiting = WaitingApproval {
                    path: self.path(*at),
                    approval: step.approval.as_deref()?,
                    // Any one person answers a component.
                    required: self.human(*at).map_or(1, |human| human.approvals_required),
                    form: self.form(*at),
                };
                Some((step.started_at, waiting))
            })
            .collect();
        open.sort_by_key(|(since, _)| *since);
        open.into_iter().map(|(_, waiting)| waiting).collect()
    }

    /// All steps in the document's order, those that were not reached too; of loops every round that was entered.
    pub fn steps(&self) -> Vec<StepView<'_>> {
        let mut views = Vec::new();
        if !self.frames.is_empty() {
            self.list_workflow(FrameId::ROOT, 0, &mut views);
        }
        views
    }

    /// One step of the list; none: it was not reached, or is a block that is not listed.
    pub fn step_at(&self, path: &StepPath) -> Option<StepView<'_>> {
        let at = self.find(path)?;
        if self.node(at).is_transparent() {
            return None;
        }
        let depth = path.as_str().matches('.').count();
        Some(self.view(at, depth, StepStatus::Pending))
    }

    /// The value of a step or block; none: it was not reached, or there is no such one.
    pub fn value_at(&self, path: &StepPath) -> Option<Cow<'_, Value>> {
        let at = self.find(path)?;
        self.step(at)?;
        Some(self.value(at))
    }

    fn list_workflow<'a>(&'a self, home: FrameId, depth: usize, views: &mut Vec<StepView<'a>>) {
        let first = Some(NodeIndex(0));
        self.list(home, first, (depth, StepStatus::Pending), views);
    }

    /// Lists a list of steps; `absent` is what those are that were not reached.
    fn list<'a>(
        &'a self,
        frame: FrameId,
        first: Option<NodeIndex>,
        (depth, absent): (usize, StepStatus),
        views: &mut Vec<StepView<'a>>,
    ) {
        let mut next = first;
        while let Some(node) = next {
            let at = Instance { frame, node };
            self.list_one(at, (depth, absent), views);
            next = self.node(at).next;
        }
    }

    fn list_one<'a>(
        &'a self,
        at: Instance,
        (depth, absent): (usize, StepStatus),
        views: &mut Vec<StepView<'a>>,
    ) {
        let node = self.node(at);
        let status = self.status_of(at, absent);
        if !node.is_transparent() {
            views.push(self.view(at, depth, absent));
        }
        // What is inside a block that is over, and was not reached, will not be.
        let inside = if status.has_ended() {
            StepStatus::Skipped
        } else {
            absent
        };
        let list = |this: &'a Self, list: Option<List>, absent, views: &mut Vec<StepView<'a>>| {
            this.list(
                at.frame,
                list.map(|list| list.first),
                (depth + 1, absent),
                views,
            );
        };
        match (&node.kind, self.block(at)) {
            (NodeKind::Parallel { branches, .. }, _) => {
                for branch in branches {
                    list(self, Some(*branch), inside, views);
                }
            }
            (
                NodeKind::Branch {
                    then, otherwise, ..
                },
                block,
            ) => {
                for side in [then, otherwise] {
                    let is_left_out =
                        matches!(block, Some(BlockState::Branch { taken }) if taken != side);
                    let absent = if is_left_out {
                        StepStatus::Skipped
                    } else {
                        inside
                    };
                    list(self, *side, absent, views);
                }
            }
            (NodeKind::Loop(node), Some(block)) => {
                for round in block.rounds() {
                    let body = Some(node.body.first);
                    self.list(*round, body, (depth + 1, inside), views);
                }
            }
            (NodeKind::Workflow(_), Some(BlockState::Workflow { frame })) => {
                let first = Some(NodeIndex(0));
                self.list(*frame, first, (depth + 1, inside), views);
            }
            _ => {}
        }
    }

    fn view(&self, at: Instance, depth: usize, absent: StepStatus) -> StepView<'_> {
        let node = self.node(at);
        let state = self.step(at);
        let role = state.map_or(super::Role::Primary, |state| state.role);
        StepView {
            path: self.path(at),
            id: node.id.as_str(),
            agent: node.agent_in(role).map(crate::ids::Name::as_str),
            depth,
            status: self.status_of(at, absent),
            state,
            execution: self,
            at,
        }
    }

    /// How far a step is, as it is shown: what an ended execution left open was cancelled.
    fn status_of(&self, at: Instance, absent: StepStatus) -> StepStatus {
        match self.step(at).map(|step| step.status) {
            None => absent,
            Some(StepStatus::Running | StepStatus::Waiting) if self.end.is_some() => {
                StepStatus::Cancelled
            }
            Some(status) => status,
        }
    }

    /// The names under which a component that does a step may ask for an earlier output, in the document's order.
    pub fn output_names(&self, path: &StepPath) -> Vec<String> {
        let Some(at) = self.find(path) else {
            return Vec::new();
        };
        let frame = self.frame(self.frame(at.frame).home);
        let definition = self.definition_of(at.frame);
        frame
            .steps
            .iter()
            .filter(|(node, step)| {
                self.is_earlier(step, at) && !definition.node(**node).is_transparent()
            })
            .map(|(node, _)| definition.shown_name(*node).to_owned())
            .collect()
    }

    /// The output of an earlier step, by its id or its agent's, for a component that does the step at `path`: of
    /// its round, else of the workflow around. None: no such step has ended. A step without an output is null.
    pub fn output_of(&self, path: &StepPath, name: &str) -> Option<Value> {
        let from = self.find(path)?;
        let definition = self.definition_of(from.frame);
        let is_meant = |node: NodeIndex| {
            let known = definition.node(node);
            let is_agent =
                matches!(&known.kind, NodeKind::Step(step) if step.agent.as_str() == name);
            known.id.as_str() == name || is_agent
        };
        let mut around = Some(from.frame);
        while let Some(frame) = around {
            let steps = self.frame(frame).steps.iter().rev();
            let found = steps
                .filter(|(_, step)| self.is_earlier(step, from))
                .find(|(node, _)| is_meant(**node));
            if let Some((node, _)) = found {
                let at = Instance { frame, node: *node };
                return Some(self.value(at).into_owned());
            }
            around = match &self.frame(frame).place {
                super::frame::FramePlace::Round { of, .. } => Some(of.frame),
                super::frame::FramePlace::Workflow(_) => None,
            };
        }
        None
    }

    /// Whether a step had ended when the run of another began: only then its output is there, however long that run
    /// takes and how often it is repeated.
    fn is_earlier(&self, step: &StepState, than: Instance) -> bool {
        let began = self.step(than).and_then(|than| than.series);
        let is_late = |began: super::Series| step.ended_at.is_some_and(|at| at > began.began_at);
        step.status.has_ended() && !began.is_some_and(is_late)
    }

    /// The inputs of the workflow that the step at `path` belongs to.
    pub fn inputs_of(&self, path: &StepPath) -> &Value {
        match self.find(path) {
            Some(at) => &self.workflow(at.frame).inputs,
            None => self.inputs(),
        }
    }
}
