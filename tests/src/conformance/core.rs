//! Runs a case on the pure core, by hand: no task, no clock, no journal but a list.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use troupe_workflow::{
    BudgetVerdict, CallKind, CallOutcome, Code, Command, Definition, Event, EventKind, Execution,
    ExecutionId, Failure, MicroUsd, StartStep, StepPath, StepUsage, Timestamp, Usage,
};

use super::case::{Act, ActKind, Case};
use super::script::{Plan, Script, told};
use super::{BEGIN_MS, Observed};

/// Things that may happen before a case must have ended.
const STEPS_MAX: usize = 200_000;

/// Runs a case to its end, or to where nothing happens any more.
pub fn run(case: &Case, definition: &Arc<Definition>) -> Observed {
    let mut world = World::new(case, definition);
    world.run(case);
    Observed {
        execution: world.execution,
        events: world.events,
        complaints: world.complaints,
    }
}

/// Something of an attempt that happens at a time.
#[derive(Debug, Clone)]
enum Next {
    BeginCall(usize),
    EndCall(usize, u32),
    Finish,
}

struct Attempt {
    plan: Plan,
    number: u32,
}

struct World {
    execution: Execution,
    events: Vec<Event>,
    now: Timestamp,
    script: Script,
    attempts: BTreeMap<StepPath, Attempt>,
    /// What happens when, in the order of time and then of planning.
    queue: BTreeMap<(Timestamp, usize), (StepPath, u32, Next)>,
    planned: usize,
    parked: Vec<(StepPath, u32, usize)>,
    complaints: Vec<String>,
}

impl World {
    fn new(case: &Case, definition: &Arc<Definition>) -> Self {
        let id = ExecutionId::from_parts(1, 7);
        let mut world = Self {
            execution: Execution::replay(id, Arc::clone(definition), &[])
                .expect("no events fit everything"),
            events: Vec::new(),
            now: Timestamp::from_millis(BEGIN_MS),
            script: Script::of(case),
            attempts: BTreeMap::new(),
            queue: BTreeMap::new(),
            planned: 0,
            parked: Vec::new(),
            complaints: Vec::new(),
        };
        world.record(created(definition, case.inputs()));
        world
    }

    fn record(&mut self, kind: EventKind) {
        let event = Event { at: self.now, kind };
        self.execution
            .apply(&event)
            .unwrap_or_else(|error| panic!("{error}: {event:?}"));
        self.events.push(event);
    }

    fn run(&mut self, case: &Case) {
        let until = case.until_ms.map(after_begin);
        let mut acts = case.acts.iter().peekable();
        for _ in 0..STEPS_MAX {
            let wake = self.decide();
            let next = [
                wake,
                self.queue.keys().next().map(|(at, _)| *at),
                acts.peek().map(|act| after_begin(act.at_ms)),
            ];
            let Some(next) = next.into_iter().flatten().min() else {
                return;
            };
            if self.execution.status().is_terminal() && acts.peek().is_none() {
                return;
            }
            if until.is_some_and(|until| next > until) {
                return;
            }
            self.now = self.now.max(next);
            if let Some(act) = acts.next_if(|act| after_begin(act.at_ms) <= self.now) {
                self.act(act);
            } else if let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let (path, number, next) = entry.remove();
                self.happen(&path, number, &next);
            }
        }
        panic!(
            "it does not end; the last event is {:?}",
            self.events.last()
        );
    }

    /// Does what is to be done now; returns when something falls due by itself.
    fn decide(&mut self) -> Option<Timestamp> {
        loop {
            let mut wake = None;
            let mut has_acted = false;
            for command in self.execution.decide(self.now) {
                match command {
                    Command::Record(kind) => {
                        let is_failure = matches!(kind, EventKind::StepFailed { .. });
                        self.record(kind);
                        has_acted = true;
                        if is_failure {
                            break;
                        }
                    }
                    Command::Start(start) => {
                        self.record(start.event());
                        self.start(&start);
                        has_acted = true;
                    }
                    Command::Cancel { path } => {
                        self.attempts.remove(&path);
                        self.record(EventKind::StepCancelled { path });
                        has_acted = true;
                    }
                    Command::WakeAt(time) => wake = Some(time),
                }
            }
            if !has_acted {
                return wake;
            }
        }
    }

    fn start(&mut self, start: &StartStep) {
        let plan = self.script.plan(start);
        let first = if plan.calls.is_empty() {
            (self.now.plus(plan.slice), Next::Finish)
        } else {
            (self.now, Next::BeginCall(0))
        };
        let attempt = Attempt {
            plan,
            number: start.attempt,
        };
        self.attempts.insert(start.path.clone(), attempt);
        self.plan(first.0, (start.path.clone(), start.attempt, first.1));
    }

    fn plan(&mut self, at: Timestamp, next: (StepPath, u32, Next)) {
        self.planned += 1;
        self.queue.insert((at, self.planned), next);
    }

    fn happen(&mut self, path: &StepPath, number: u32, next: &Next) {
        let is_there = self.attempts.get(path).map(|attempt| attempt.number) == Some(number);
        if !is_there {
            return;
        }
        match next {
            Next::BeginCall(index) => self.begin_call(path, number, *index),
            Next::EndCall(index, call) => self.end_call(path, number, (*index, *call)),
            Next::Finish => {
                let Some(attempt) = self.attempts.remove(path) else {
                    return;
                };
                self.finish(path, number, (attempt.plan.result, attempt.plan.usage));
                self.unpark();
            }
        }
    }

    fn finish(
        &mut self,
        path: &StepPath,
        attempt: u32,
        (result, usage): (Result<(Value, Option<String>), Failure>, StepUsage),
    ) {
        let path = path.clone();
        self.record(match result {
            Ok((output, text)) => EventKind::StepCompleted {
                path,
                attempt,
                output,
                text,
                usage,
            },
            Err(failure) => self
                .execution
                .failed_attempt((path, attempt), failure, usage),
        });
    }

    fn begin_call(&mut self, path: &StepPath, attempt: u32, index: usize) {
        let plan = &self.attempts[path].plan;
        let (request, call) = plan.calls[index].clone();
        let slice = plan.slice;
        let reserved = micro_usd(call.worst_usd);
        match self
            .execution
            .check_reserve(path, reserved, call.worst_tokens)
        {
            BudgetVerdict::Allowed => {
                let number = self.execution.next_call(path, &request, None);
                self.record(EventKind::CallStarted {
                    path: path.clone(),
                    attempt,
                    call: number,
                    kind: CallKind::Model,
                    target: "m".to_owned(),
                    request,
                    reserved,
                    reserved_tokens: call.worst_tokens,
                    position: None,
                });
                let next = (path.clone(), attempt, Next::EndCall(index, number));
                self.plan(self.now.plus(slice), next);
            }
            BudgetVerdict::Refused(failure) | BudgetVerdict::Paused(failure)
                if self.execution.may_be_given_back(path, &failure) =>
            {
                self.parked.push((path.clone(), attempt, index));
            }
            BudgetVerdict::Refused(failure) => {
                if let Some(known) = self.attempts.get_mut(path) {
                    let failure = told(path, failure);
                    if failure.code == Code::BudgetExceeded {
                        known.plan.usage = StepUsage::default();
                    }
                    known.plan.result = Err(failure);
                }
                self.plan(self.now, (path.clone(), attempt, Next::Finish));
            }
            BudgetVerdict::Paused(reason) => {
                self.attempts.remove(path);
                self.record(EventKind::StepPaused {
                    path: path.clone(),
                    attempt,
                    reason,
                    usage: None,
                    raises: self.execution.budget_raises(),
                });
            }
        }
    }

    fn end_call(&mut self, path: &StepPath, attempt: u32, (index, number): (usize, u32)) {
        let plan = &self.attempts[path].plan;
        let (_, call) = plan.calls[index].clone();
        let is_last = index + 1 == plan.calls.len();
        self.record(EventKind::CallEnded {
            path: path.clone(),
            attempt,
            call: number,
            outcome: CallOutcome::Answered(json!(index)),
            usage: Usage {
                input_tokens: call.input_tokens,
                cached_input_tokens: 0,
                output_tokens: call.output_tokens,
            },
            cost: micro_usd(call.cost_usd),
        });
        let next = if is_last {
            Next::Finish
        } else {
            Next::BeginCall(index + 1)
        };
        self.plan(self.now, (path.clone(), attempt, next));
        self.unpark();
    }

    fn unpark(&mut self) {
        for (path, attempt, index) in std::mem::take(&mut self.parked) {
            self.happen(&path, attempt, &Next::BeginCall(index));
        }
    }

    /// Goes on with a fork of the execution, as if there had been no other.
    fn fork(&mut self, created: EventKind, definition: Arc<Definition>) {
        self.attempts.clear();
        self.queue.clear();
        self.parked.clear();
        self.events.clear();
        let id = ExecutionId::from_parts(2, 7);
        self.execution = Execution::replay(id, definition, &[]).expect("no events fit everything");
        self.record(created);
    }

    fn act(&mut self, act: &Act) {
        if let ActKind::Fork { step, workflow } = &act.kind {
            match forked(&self.execution, step, workflow.as_ref()) {
                Ok((created, definition)) => self.fork(created, definition),
                Err(message) => note_refusal(act, &message, &mut self.complaints),
            }
            return;
        }
        match events_of(&self.execution, &act.kind, self.now) {
            Ok(kinds) => {
                for kind in kinds {
                    self.record(kind);
                }
                if let Some(says) = &act.refused {
                    let complaint = format!("an act was not refused with {says:?}: {act:?}");
                    self.complaints.push(complaint);
                }
            }
            Err(message) => note_refusal(act, &message, &mut self.complaints),
        }
    }
}

/// Compares why an act was refused with what the case says.
pub(super) fn note_refusal(act: &Act, message: &str, complaints: &mut Vec<String>) {
    match &act.refused {
        Some(says) if message.contains(says.as_str()) => {}
        _ => complaints.push(format!("{act:?} was refused: {message}")),
    }
}

/// The first event of an execution.
pub(super) fn created(definition: &Definition, inputs: Value) -> EventKind {
    EventKind::ExecutionCreated {
        workflow: definition.name().to_owned(),
        digest: definition.digest().clone(),
        inputs,
        forked_from: None,
        kept: Vec::new(),
    }
}

/// The first event of a fork, and its document.
pub(super) fn forked(
    execution: &Execution,
    step: &str,
    workflow: Option<&Value>,
) -> Result<(EventKind, Arc<Definition>), String> {
    let step = StepPath::new(step);
    let kept = execution.fork(&step).map_err(|error| error.to_string())?;
    let definition = match workflow {
        Some(document) => {
            let definition = Definition::compile(document);
            Arc::new(definition.unwrap_or_else(|faults| panic!("{faults}")))
        }
        None => Arc::clone(execution.definition()),
    };
    let created = EventKind::ExecutionCreated {
        workflow: definition.name().to_owned(),
        digest: definition.digest().clone(),
        inputs: execution.inputs().clone(),
        forked_from: Some(troupe_workflow::ForkedFrom {
            execution: execution.id(),
            step,
        }),
        kept,
    };
    Ok((created, definition))
}

/// What a person's act makes happen.
pub(super) fn events_of(
    execution: &Execution,
    act: &ActKind,
    now: Timestamp,
) -> Result<Vec<EventKind>, String> {
    match act {
        ActKind::Approve {
            step,
            by,
            approved,
            notes,
            data,
        } => {
            let answer = troupe_workflow::Answer {
                by: by.clone(),
                approved: *approved,
                notes: notes.clone(),
                data: data.as_ref().map(super::case::written_out),
            };
            let event = execution.answer(step.as_deref(), answer, now);
            event
                .map(|event| vec![event])
                .map_err(|error| error.to_string())
        }
        ActKind::Resume {
            budget_usd,
            budget_tokens,
            budget_fuel,
        } => execution.resume(&troupe_workflow::RaisedBudgets {
            usd: budget_usd.map(micro_usd),
            tokens: *budget_tokens,
            fuel: *budget_fuel,
        }),
        ActKind::Pause { by, reason } => execution
            .pause(by.as_deref(), reason.as_deref())
            .map(|event| vec![event])
            .map_err(|error| error.to_string()),
        ActKind::Retry { by } => execution
            .retry(by.as_deref())
            .map(|event| vec![event])
            .map_err(|error| error.to_string()),
        ActKind::Fork { .. } => Err("a fork is another execution".to_owned()),
        ActKind::Cancel(_) if execution.status().is_terminal() => {
            Err(format!("it is {} already", execution.status().as_str()))
        }
        ActKind::Cancel(_) => Ok(vec![EventKind::CancelRequested]),
    }
}

pub(super) fn after_begin(millis: u64) -> Timestamp {
    let millis = i64::try_from(millis).expect("a case ends some day");
    Timestamp::from_millis(BEGIN_MS + millis)
}

pub(super) fn micro_usd(dollars: f64) -> MicroUsd {
    MicroUsd::from_dollars(dollars).expect("a case's amounts are amounts")
}
