//! The one place where an execution's state changes.

use super::{BlockState, CallRecord, End, Execution, IllegalEvent, Role, StepState, StepStatus};
use crate::definition::{NodeIndex, NodeKind, Then};
use crate::duration::Timestamp;
use crate::event::{CallOutcome, Event, EventKind, StepUsage, Usage};
use crate::failure::{Code, Failure};
use crate::ids::StepPath;
use crate::money::MicroUsd;
use crate::retry::RetryPolicy;

/// Protects the host from a step that kills it each time: after so many interruptions it fails.
const INTERRUPTIONS_MAX: u32 = 10;

impl Execution {
    /// Applies one event.
    ///
    /// # Errors
    /// An event that does not fit; the state is then unchanged in all that `decide` reads, and the execution
    /// must not be driven on.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        let result = self.apply_kind(&event.kind, event.at);
        self.version += 1;
        self.last_event_at = event.at;
        result.map_err(|message| IllegalEvent {
            position: self.version,
            message,
        })
    }

    fn apply_kind(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        let is_created = matches!(kind, EventKind::ExecutionCreated { .. });
        if is_created != (self.version == 0) {
            return Err("the first event, and only it, creates the execution".to_owned());
        }
        if self.end.is_some() && !matches!(kind, EventKind::CallEnded { .. }) {
            return Err("the execution has ended".to_owned());
        }
        match kind {
            EventKind::ExecutionCreated { inputs, digest, .. } => {
                if digest != self.definition.digest() {
                    return Err(format!("it belongs to the workflow document {digest}"));
                }
                self.created_at = at;
                self.inputs = inputs.clone();
                self.enter(NodeIndex(0));
            }
            EventKind::CallStarted {
                path,
                attempt,
                call,
                kind,
                request,
                reserved,
                ..
            } => {
                let record = CallRecord {
                    kind: *kind,
                    request: request.clone(),
                    reserved: *reserved,
                    attempt: *attempt,
                    outcome: None,
                };
                self.call_started(path, *attempt, *call, record)?;
            }
            EventKind::CallEnded {
                path,
                call,
                outcome,
                usage,
                cost,
                ..
            } => {
                self.call_ended(path, *call, outcome, (*usage, *cost))?;
            }
            EventKind::ExecutionCompleted { outputs } => {
                if !self.has_reached_end {
                    return Err("there are steps that have not ended".to_owned());
                }
                self.end = Some(End::Completed(outputs.clone()));
            }
            EventKind::ExecutionFailed { failure, step } => {
                self.end = Some(End::Failed(failure.clone(), step.clone()));
                self.ready.clear();
                self.timers.clear();
            }
            EventKind::ExecutionRecovered => self.idle += at.since(self.last_event_at),
            EventKind::StepStarted { .. }
            | EventKind::StepCompleted { .. }
            | EventKind::StepFailed { .. }
            | EventKind::StepInterrupted { .. }
            | EventKind::StepResumed { .. }
            | EventKind::StepSkipped { .. }
            | EventKind::StepCancelled { .. } => self.apply_step(kind, at)?,
        }
        Ok(())
    }

    fn apply_step(&mut self, kind: &EventKind, at: Timestamp) -> Result<(), String> {
        match kind {
            EventKind::StepStarted { path, attempt, .. } => {
                self.step_started(path, *attempt, at)?;
            }
            EventKind::StepCompleted {
                path,
                attempt,
                output,
                text,
                usage,
            } => {
                let index = match self.find(path)? {
                    index if self.is_set(index) => self.ending_unstarted(path, *attempt)?,
                    _ => self.ending(path, *attempt)?,
                };
                let step = self.step_mut(index);
                step.status = StepStatus::Completed;
                step.output = Some(output.clone());
                step.text.clone_from(text);
                step.failure = None;
                step.ended_at = Some(at);
                step.started_at = step.started_at.or(Some(at));
                add_usage(step, *usage);
                self.leave(index);
            }
            EventKind::StepFailed {
                path,
                attempt,
                failure,
                usage,
            } => {
                let index = match self.find(path)? {
                    index if self.running.contains(&index) => self.ending(path, *attempt)?,
                    _ => self.ending_unstarted(path, *attempt)?,
                };
                add_usage(self.step_mut(index), *usage);
                self.attempt_failed(index, failure, at);
            }
            EventKind::StepInterrupted { path, attempt } => {
                self.step_interrupted(path, *attempt, at)?;
            }
            EventKind::StepResumed { path } => {
                let index = self.find(path)?;
                if !self.in_doubt.remove(&index) {
                    return Err(format!("the step `{path}` does not wait for a person"));
                }
                self.step_mut(index).status = StepStatus::Pending;
                self.ready.insert(index);
            }
            EventKind::StepSkipped { path } => {
                let index = self.find(path)?;
                self.take_ready(index, path)?;
                self.end_step(index, StepStatus::Skipped, at);
                self.leave(index);
            }
            EventKind::StepCancelled { path } => {
                let index = self.find(path)?;
                if !self.running.remove(&index) {
                    return Err(format!("the step `{path}` does not run"));
                }
                self.end_step(index, StepStatus::Cancelled, at);
            }
            EventKind::ExecutionCreated { .. }
            | EventKind::ExecutionRecovered
            | EventKind::CallStarted { .. }
            | EventKind::CallEnded { .. }
            | EventKind::ExecutionCompleted { .. }
            | EventKind::ExecutionFailed { .. } => {}
        }
        Ok(())
    }

    fn find(&self, path: &StepPath) -> Result<NodeIndex, String> {
        self.definition
            .find_path(path)
            .ok_or_else(|| format!("there is no step `{path}`"))
    }

    fn is_set(&self, index: NodeIndex) -> bool {
        matches!(self.definition.node(index).kind, NodeKind::Set(_))
    }

    /// A step that was entered; `find` and `enter` see to it that there is one.
    fn step_mut(&mut self, index: NodeIndex) -> &mut StepState {
        self.steps.entry(index).or_insert_with(StepState::new)
    }

    fn take_ready(&mut self, index: NodeIndex, path: &StepPath) -> Result<(), String> {
        let was_due = match self.steps.get(&index).and_then(|step| step.due) {
            Some(due) => self.timers.remove(&(due, index)),
            None => self.ready.remove(&index),
        };
        if was_due {
            Ok(())
        } else {
            Err(format!("the step `{path}` is not to be started"))
        }
    }

    fn step_started(&mut self, path: &StepPath, attempt: u32, at: Timestamp) -> Result<(), String> {
        let index = self.find(path)?;
        self.take_ready(index, path)?;
        let step = self.step_mut(index);
        if attempt != step.attempts + 1 {
            return Err(format!(
                "attempt {attempt} of `{path}` follows attempt {}",
                step.attempts
            ));
        }
        step.attempts = attempt;
        step.status = StepStatus::Running;
        step.due = None;
        step.started_at = step.started_at.or(Some(at));
        self.running.insert(index);
        Ok(())
    }

    fn call_started(
        &mut self,
        path: &StepPath,
        attempt: u32,
        call: u32,
        record: CallRecord,
    ) -> Result<(), String> {
        let index = self.find(path)?;
        let step = self.step_mut(index);
        if step.status != StepStatus::Running || step.attempts != attempt {
            return Err(format!("attempt {attempt} of `{path}` does not run"));
        }
        let position = usize::try_from(call).map_err(|error| error.to_string())?;
        let reserved = record.reserved;
        match position.cmp(&step.calls.len()) {
            std::cmp::Ordering::Equal => step.calls.push(record),
            // Begun anew after an interruption: the earlier try stays charged at its worst case.
            std::cmp::Ordering::Less
                if step.calls[position].outcome.is_none()
                    && step.calls[position].attempt < attempt =>
            {
                step.calls[position] = record;
            }
            std::cmp::Ordering::Less | std::cmp::Ordering::Greater => {
                return Err(format!("call {call} of `{path}` is out of order"));
            }
        }
        self.reserved += reserved;
        Ok(())
    }

    fn call_ended(
        &mut self,
        path: &StepPath,
        call: u32,
        outcome: &CallOutcome,
        (usage, cost): (Usage, MicroUsd),
    ) -> Result<(), String> {
        let index = self.find(path)?;
        let step = self.step_mut(index);
        let position = usize::try_from(call).map_err(|error| error.to_string())?;
        let record = step
            .calls
            .get_mut(position)
            .filter(|record| record.outcome.is_none())
            .ok_or_else(|| format!("call {call} of `{path}` is not under way"))?;
        record.outcome = Some(outcome.clone());
        let reserved = record.reserved;
        step.tokens = step.tokens.plus(usage);
        step.cost += cost;
        self.reserved = self.reserved.saturating_sub(reserved);
        self.settled += cost;
        self.tokens = self.tokens.plus(usage);
        Ok(())
    }

    /// The step of an attempt that runs, and now ends.
    fn ending(&mut self, path: &StepPath, attempt: u32) -> Result<NodeIndex, String> {
        let index = self.find(path)?;
        match self.steps.get(&index) {
            Some(step) if self.running.contains(&index) && step.attempts == attempt => {
                self.running.remove(&index);
                Ok(index)
            }
            _ => Err(format!("attempt {attempt} of `{path}` does not run")),
        }
    }

    /// The step of an attempt that ends without having had an effect: a `set`, or one whose templates could
    /// not be evaluated.
    fn ending_unstarted(&mut self, path: &StepPath, attempt: u32) -> Result<NodeIndex, String> {
        let index = self.find(path)?;
        self.take_ready(index, path)?;
        let step = self.step_mut(index);
        if attempt != step.attempts + 1 {
            return Err(format!(
                "attempt {attempt} of `{path}` follows attempt {}",
                step.attempts
            ));
        }
        step.attempts = attempt;
        step.due = None;
        Ok(index)
    }

    fn attempt_failed(&mut self, index: NodeIndex, failure: &Failure, at: Timestamp) {
        let definition = std::sync::Arc::clone(&self.definition);
        let NodeKind::Step(node) = &definition.node(index).kind else {
            self.fail(index, failure, at);
            return;
        };
        let (id, path) = (self.id, self.path(index));
        let step = self.step_mut(index);
        // A service's failure says nothing against the answers that others gave before it; a guest that failed
        // may have failed because of them.
        if failure.code.is_services_fault() {
            step.calls
                .retain(|call| matches!(call.outcome, Some(CallOutcome::Answered(_))));
        } else {
            step.calls.clear();
        }
        step.failures += 1;
        step.failure = Some(failure.clone());
        let policy: &RetryPolicy = match (step.role, &node.then) {
            (Role::Fallback, Then::Fallback(fallback)) => &fallback.retry,
            _ => &node.retry,
        };
        if step.failures <= policy.retries && policy.is_retried(failure) {
            let due = at.plus(policy.pause(failure, step.failures, id, &path));
            step.status = StepStatus::Waiting;
            step.due = Some(due);
            self.timers.insert((due, index));
            return;
        }
        match (&node.then, step.role) {
            (Then::Fallback(_), Role::Primary) if failure.code.is_caught() => {
                step.role = Role::Fallback;
                step.calls.clear();
                step.failures = 0;
                step.status = StepStatus::Pending;
                self.ready.insert(index);
            }
            (Then::Continue, _) if failure.code.is_caught() => {
                self.end_step(index, StepStatus::Failed, at);
                self.leave(index);
            }
            _ => self.fail(index, failure, at),
        }
    }

    /// A failure that nothing handles: it ends the execution.
    fn fail(&mut self, index: NodeIndex, failure: &Failure, at: Timestamp) {
        self.step_mut(index).failure = Some(failure.clone());
        self.end_step(index, StepStatus::Failed, at);
        if self.failing.is_none() {
            self.failing = Some((failure.clone(), Some(self.path(index))));
        }
        self.ready.clear();
        for (_, waiting) in std::mem::take(&mut self.timers) {
            self.end_step(waiting, StepStatus::Cancelled, at);
        }
    }

    fn step_interrupted(
        &mut self,
        path: &StepPath,
        attempt: u32,
        at: Timestamp,
    ) -> Result<(), String> {
        let index = self.ending(path, attempt)?;
        let definition = std::sync::Arc::clone(&self.definition);
        let NodeKind::Step(node) = &definition.node(index).kind else {
            return Err(format!("`{path}` is no step that can be interrupted"));
        };
        let step = self.step_mut(index);
        let is_idempotent = definition
            .agent(node.agent_of(step.role).as_str())
            .is_none_or(|agent| agent.idempotent);
        step.interruptions += 1;
        step.status = StepStatus::Pending;
        if step.interruptions >= INTERRUPTIONS_MAX {
            let message = format!(
                "the host stopped {INTERRUPTIONS_MAX} times while this step ran; it may be what stops it"
            );
            self.fail(index, &Failure::new(Code::Internal, message), at);
        } else if is_idempotent {
            self.ready.insert(index);
        } else {
            step.status = StepStatus::Waiting;
            self.in_doubt.insert(index);
        }
        Ok(())
    }

    fn end_step(&mut self, index: NodeIndex, status: StepStatus, at: Timestamp) {
        let step = self.step_mut(index);
        step.status = status;
        step.due = None;
        step.ended_at = Some(at);
    }

    /// Goes on from a node that has ended: to the next in its list, else out of its block.
    fn leave(&mut self, index: NodeIndex) {
        let mut index = index;
        loop {
            let node = self.definition.node(index);
            if let Some(next) = node.next {
                return self.enter(next);
            }
            let Some(parent) = node.parent else {
                self.has_reached_end = true;
                return;
            };
            match self.branch_ended(parent) {
                Some(next_branch) => return self.enter(next_branch),
                None if self.blocks.contains_key(&parent) => return,
                None => index = parent,
            }
        }
    }

    /// One branch of a block has ended. Returns the next to enter; removes the block when it was the last.
    fn branch_ended(&mut self, block: NodeIndex) -> Option<NodeIndex> {
        let NodeKind::Parallel { branches, .. } = &self.definition.node(block).kind else {
            return None;
        };
        let state = self.blocks.get_mut(&block)?;
        state.open = state.open.saturating_sub(1);
        if let Some(next) = branches.get(state.next_branch) {
            state.next_branch += 1;
            return Some(*next);
        }
        if state.open == 0 {
            self.blocks.remove(&block);
        }
        None
    }

    /// Enters a node: a step becomes ready, a block is opened.
    fn enter(&mut self, index: NodeIndex) {
        let definition = std::sync::Arc::clone(&self.definition);
        let mut open = vec![index];
        while let Some(index) = open.pop() {
            match &definition.node(index).kind {
                NodeKind::Step(_) | NodeKind::Set(_) => {
                    self.steps.insert(index, StepState::new());
                    self.ready.insert(index);
                }
                NodeKind::Parallel {
                    branches,
                    max_concurrency,
                } => {
                    let first = (*max_concurrency).min(branches.len());
                    self.blocks.insert(
                        index,
                        BlockState {
                            open: branches.len(),
                            next_branch: first,
                        },
                    );
                    open.extend(branches.iter().take(first).copied());
                }
            }
        }
    }
}

fn add_usage(step: &mut StepState, usage: StepUsage) {
    step.usage.fuel = step.usage.fuel.saturating_add(usage.fuel);
    step.usage.guest_ms = step.usage.guest_ms.saturating_add(usage.guest_ms);
    step.usage.memory_bytes = step.usage.memory_bytes.max(usage.memory_bytes);
}
