//! One run of a workflow: the state that its events lead to, and what is to be done next.
//!
//! State changes only in [`Execution::apply`]; [`Execution::decide`] only reads. Starting, recovering and
//! testing all go through these two.

mod apply;
mod decide;
mod scope;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::definition::{Definition, NodeIndex, RequiredFields};
use crate::document::BudgetPolicy;
use crate::duration::Timestamp;
use crate::event::{CallKind, CallOutcome, Event, StepUsage, Usage};
use crate::failure::Failure;
use crate::ids::{ExecutionId, Name, StepPath};
use crate::money::MicroUsd;

pub use view::{Progress, StepView};

/// An event that does not fit the state: our bug, or a journal that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {position} does not fit: {message}")]
pub struct IllegalEvent {
    /// The event's position in the execution's journal, from 1.
    pub position: u64,
    pub message: String,
}

/// How far an execution has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionStatus {
    Running,
    /// A step that may not be repeated was interrupted; a person must say how it goes on.
    Paused,
    Completed,
    Failed,
}

impl ExecutionStatus {
    /// The word in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    Pending,
    Running,
    /// It failed and is tried again later.
    Waiting,
    Completed,
    Failed,
    Skipped,
    Cancelled,
}

impl StepStatus {
    /// The word in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn has_ended(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled
        )
    }
}

/// Who does the step now: its own agent, or the fallback's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    Fallback,
}

/// A step of this execution.
#[derive(Debug, Clone)]
pub struct StepState {
    pub status: StepStatus,
    /// Attempts that were started, of the step's own agent and of its fallback.
    pub attempts: u32,
    /// How many of the present agent's attempts failed.
    pub(crate) failures: u32,
    /// Attempts that a crash ended; they do not count as failures.
    pub(crate) interruptions: u32,
    pub(crate) role: Role,
    /// When the next try is due, where it waits.
    pub(crate) due: Option<Timestamp>,
    pub output: Option<Value>,
    pub(crate) text: Option<String>,
    pub failure: Option<Failure>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub usage: StepUsage,
    pub tokens: Usage,
    pub cost: MicroUsd,
    /// The calls of the attempt that runs, or that a crash interrupted.
    pub(crate) calls: Vec<CallRecord>,
}

impl StepState {
    /// Whether it was interrupted, may not be repeated unasked, and waits for a person to say.
    pub fn is_in_doubt(&self) -> bool {
        self.status == StepStatus::Waiting && self.due.is_none()
    }

    fn new() -> Self {
        Self {
            status: StepStatus::Pending,
            attempts: 0,
            failures: 0,
            interruptions: 0,
            role: Role::Primary,
            due: None,
            output: None,
            text: None,
            failure: None,
            started_at: None,
            ended_at: None,
            usage: StepUsage::default(),
            tokens: Usage::default(),
            cost: MicroUsd::ZERO,
            calls: Vec::new(),
        }
    }
}

/// A call that an attempt made, as far as the journal knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRecord {
    pub kind: CallKind,
    /// SHA-256 of the request, in hex.
    pub request: String,
    pub(crate) reserved: MicroUsd,
    /// The attempt that began it.
    pub(crate) attempt: u32,
    /// None: it is under way, or nobody knows how it ended.
    pub outcome: Option<CallOutcome>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Record this: nothing outside has to happen.
    Record(crate::event::EventKind),
    /// Record the intent ([`StartStep::event`]), then do the step.
    Start(Box<StartStep>),
    /// End a running step, then record that it was cancelled.
    Cancel { path: StepPath },
    /// Ask again at this time, if nothing happens before.
    WakeAt(Timestamp),
}

/// One attempt of a step that is to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct StartStep {
    pub path: StepPath,
    pub attempt: u32,
    pub agent: Name,
    pub action: String,
    pub input: Value,
    /// An LLM agent's instructions, rendered.
    pub system_prompt: Option<String>,
    /// The fields of the output that later steps read.
    pub required: RequiredFields,
    /// The same at every attempt.
    pub idempotency_key: String,
    pub timeout: Option<Duration>,
    /// The calls that an interrupted attempt made before: their answers are not asked for twice.
    pub recorded: Vec<CallRecord>,
}

/// A call that the budget does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    #[error(
        "the call may cost {asked}, and {left} of the budget of {budget} is left; raise `config.budget_usd`, or set `max_tokens` lower"
    )]
    Money {
        asked: MicroUsd,
        left: MicroUsd,
        budget: MicroUsd,
    },
    #[error("{used} of {budget} tokens are used; raise `config.budget_tokens`")]
    Tokens { used: u64, budget: u64 },
}

/// An execution in memory.
#[derive(Debug, Clone)]
pub struct Execution {
    pub(crate) id: ExecutionId,
    pub(crate) definition: Arc<Definition>,
    /// How many events led here.
    version: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) last_event_at: Timestamp,
    /// Time in which no process drove the execution; it does not count for its time limit.
    pub(crate) idle: Duration,
    pub(crate) inputs: Value,
    pub(crate) steps: BTreeMap<NodeIndex, StepState>,
    /// Blocks that were entered and have not ended.
    pub(crate) blocks: BTreeMap<NodeIndex, BlockState>,
    /// Steps that may be started now.
    pub(crate) ready: BTreeSet<NodeIndex>,
    /// Steps that are tried again at a time.
    pub(crate) timers: BTreeSet<(Timestamp, NodeIndex)>,
    pub(crate) running: BTreeSet<NodeIndex>,
    /// Steps with `idempotent: false` that a crash interrupted.
    pub(crate) in_doubt: BTreeSet<NodeIndex>,
    pub(crate) has_reached_end: bool,
    /// The failure that ends the execution once nothing runs any more.
    pub(crate) failing: Option<(Failure, Option<StepPath>)>,
    pub(crate) end: Option<End>,
    /// What calls that have ended cost.
    pub(crate) settled: MicroUsd,
    /// What calls that have not ended, or whose end is unknown, may cost.
    pub(crate) reserved: MicroUsd,
    pub(crate) tokens: Usage,
}

/// A parallel block that is entered.
#[derive(Debug, Clone)]
pub(crate) struct BlockState {
    /// Branches that have not ended.
    pub(crate) open: usize,
    /// The next branch to enter.
    pub(crate) next_branch: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum End {
    Completed(Value),
    Failed(Failure, Option<StepPath>),
}

impl Execution {
    /// The state that events lead to.
    ///
    /// # Errors
    /// The first event that does not fit.
    pub fn replay(
        id: ExecutionId,
        definition: Arc<Definition>,
        events: &[Event],
    ) -> Result<Self, IllegalEvent> {
        let mut execution = Self::empty(id, definition);
        for event in events {
            execution.apply(event)?;
        }
        Ok(execution)
    }

    fn empty(id: ExecutionId, definition: Arc<Definition>) -> Self {
        Self {
            id,
            definition,
            version: 0,
            created_at: Timestamp::default(),
            last_event_at: Timestamp::default(),
            idle: Duration::ZERO,
            inputs: Value::Null,
            steps: BTreeMap::new(),
            blocks: BTreeMap::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            running: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            has_reached_end: false,
            failing: None,
            end: None,
            settled: MicroUsd::ZERO,
            reserved: MicroUsd::ZERO,
            tokens: Usage::default(),
        }
    }

    pub fn id(&self) -> ExecutionId {
        self.id
    }

    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// How many events led here.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn inputs(&self) -> &Value {
        &self.inputs
    }

    /// The steps that a journal shows started and not ended: after a restart, the interrupted ones.
    pub fn running(&self) -> Vec<(StepPath, u32)> {
        self.running
            .iter()
            .map(|index| (self.path(*index), self.steps[index].attempts))
            .collect()
    }

    /// The steps that were interrupted, may not be repeated unasked, and wait for a person to say.
    pub fn in_doubt(&self) -> Vec<StepPath> {
        self.in_doubt
            .iter()
            .map(|index| self.path(*index))
            .collect()
    }

    /// Whether this attempt runs: only then may it begin and end calls.
    pub fn runs(&self, path: &StepPath, attempt: u32) -> bool {
        self.definition.find_path(path).is_some_and(|index| {
            self.running.contains(&index) && self.steps[&index].attempts == attempt
        })
    }

    /// The number of the next call of a step that runs: that of its earlier try, where `request` was begun and
    /// nobody knows how it ended.
    pub fn next_call(&self, path: &StepPath, request: &str) -> u32 {
        let step = self
            .definition
            .find_path(path)
            .and_then(|index| self.steps.get(&index));
        let Some(step) = step else { return 0 };
        let begun = step.calls.iter().position(|call| {
            call.outcome.is_none() && call.attempt < step.attempts && call.request == request
        });
        u32::try_from(begun.unwrap_or(step.calls.len())).unwrap_or(u32::MAX)
    }

    /// Whether calls are under way that may give back a part of what they reserved.
    pub fn holds_reservations(&self) -> bool {
        self.running
            .iter()
            .map(|index| &self.steps[index])
            .any(|step| {
                step.calls.iter().any(|call| {
                    call.outcome.is_none()
                        && call.attempt == step.attempts
                        && call.reserved > MicroUsd::ZERO
                })
            })
    }

    /// Whether the budget allows a call that may cost so much.
    ///
    /// # Errors
    /// Which budget does not, and what is left of it.
    pub fn check_reserve(&self, asked: MicroUsd) -> Result<(), ReserveError> {
        let config = self.definition.config();
        if config.on_budget_exceeded != BudgetPolicy::Stop {
            return Ok(());
        }
        if let Some(budget) = config.budget_tokens {
            let used = self
                .tokens
                .input_tokens
                .saturating_add(self.tokens.output_tokens);
            if used >= budget {
                return Err(ReserveError::Tokens { used, budget });
            }
        }
        match (config.budget, self.money_left()) {
            (Some(budget), Some(left)) if asked > left => Err(ReserveError::Money {
                asked,
                left,
                budget,
            }),
            _ => Ok(()),
        }
    }

    /// What is left of the money budget; none: there is no budget.
    pub fn money_left(&self) -> Option<MicroUsd> {
        let budget = self.definition.config().budget?;
        Some(budget.saturating_sub(self.settled + self.reserved))
    }

    pub(crate) fn path(&self, index: NodeIndex) -> StepPath {
        StepPath::of(&self.definition.node(index).id)
    }
}

#[cfg(test)]
mod tests;
