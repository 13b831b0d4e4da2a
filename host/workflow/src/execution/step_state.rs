//! One step of an execution: how far it has come, and what is known of its attempts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration::Timestamp;
use crate::event::{Answer, CallKind, CallOutcome, Question, StepUsage, Usage};
use crate::failure::Failure;
use crate::money::MicroUsd;

use super::share::SpentByRole;

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepStatus {
    Pending,
    Running,
    /// For what is in [`StepState::waits_for`].
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

/// What a step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitsFor {
    /// It failed and is tried again at a time.
    Retry,
    /// A moment in time.
    Timer,
    /// People's answers.
    Approval,
    /// A budget that somebody raises.
    Budget,
    /// It was interrupted, may not be repeated unasked, and a person must say.
    Doubt,
}

/// Who does the step now: its own agent, or the fallback's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Primary,
    Fallback,
}

/// A step of this execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepState {
    pub status: StepStatus,
    pub waits_for: Option<WaitsFor>,
    /// Attempts that were started, of the step's own agent and of its fallback.
    pub attempts: u32,
    /// Those of them that were made before the execution was tried again.
    pub(crate) attempts_before: u32,
    /// Whether an attempt began of which nobody knows how it ended.
    pub(crate) has_open_end: bool,
    /// How many of the present agent's attempts failed.
    pub(crate) failures: u32,
    /// Attempts that a crash ended; they do not count as failures.
    pub(crate) interruptions: u32,
    pub(crate) role: Role,
    /// The failure that the fallback handles, and after how many attempts.
    pub(crate) caught: Option<(Failure, u32)>,
    /// When what it waits for is due.
    pub(crate) due: Option<Timestamp>,
    /// What it returned; of a block, what its fallback did.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::snapshot::present"
    )]
    pub output: Option<Value>,
    pub(crate) text: Option<String>,
    pub failure: Option<Failure>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub usage: StepUsage,
    pub tokens: Usage,
    pub cost: MicroUsd,
    /// What counts for the shares of its agents.
    #[serde(default, skip_serializing_if = "super::snapshot::is_default")]
    pub(crate) spent: SpentByRole,
    /// The attempt that the present one goes on with; none: the next one begins anew.
    pub(crate) series: Option<Series>,
    /// The calls of the attempt that runs, or that was interrupted.
    pub(crate) calls: Vec<CallRecord>,
    /// Units of computation that the attempt under way took from the budget.
    pub(crate) fuel_reserved: u64,
    /// What people were asked, and what they said.
    pub(crate) approval: Option<Box<Approval>>,
    /// Whether it was completed before, and not done again.
    pub is_kept: bool,
}

impl StepState {
    /// Whether it was interrupted, may not be repeated unasked, and waits for a person to say.
    pub fn is_in_doubt(&self) -> bool {
        self.waits_for == Some(WaitsFor::Doubt)
    }

    pub(super) fn new() -> Self {
        Self {
            status: StepStatus::Pending,
            waits_for: None,
            attempts: 0,
            attempts_before: 0,
            has_open_end: false,
            failures: 0,
            interruptions: 0,
            role: Role::Primary,
            caught: None,
            due: None,
            output: None,
            text: None,
            failure: None,
            started_at: None,
            ended_at: None,
            usage: StepUsage::default(),
            tokens: Usage::default(),
            cost: MicroUsd::ZERO,
            spent: SpentByRole::default(),
            series: None,
            calls: Vec::new(),
            fuel_reserved: 0,
            approval: None,
            is_kept: false,
        }
    }

    /// Whether calls of its attempt are under way that may give back a part of what they reserved.
    pub(super) fn holds_reservations(&self) -> bool {
        self.calls.iter().any(|call| {
            call.outcome.is_none()
                && call.attempt == self.attempts
                && (call.reserved > MicroUsd::ZERO || call.reserved_tokens > 0)
        })
    }

    pub(super) fn add_usage(&mut self, usage: StepUsage) {
        self.usage = self.usage.plus(usage);
    }
}

/// An attempt that began anew, and those after it that only go on with it: after an interruption, a pause, or a
/// person's answer. To a component they are one run: they see the same clock, chance and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Series {
    /// The attempt that began it.
    pub attempt: u32,
    /// When that was recorded.
    pub began_at: Timestamp,
}

/// A call that an attempt made, as far as the journal knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub kind: CallKind,
    /// SHA-256 of the request, in hex.
    pub request: String,
    /// Which of a component's requests it is for.
    pub position: Option<u32>,
    pub(crate) reserved: MicroUsd,
    pub(crate) reserved_tokens: u64,
    /// The attempt that began it.
    pub(crate) attempt: u32,
    /// None: it is under way, or nobody knows how it ended.
    pub outcome: Option<CallOutcome>,
    /// When the outcome was recorded.
    pub ended_at: Option<Timestamp>,
}

/// What people are asked, and what they have said so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// The agent that stands for them.
    pub agent: String,
    /// What they are shown.
    pub input: Value,
    /// All who were asked so far.
    pub assignees: Vec<String>,
    pub deadline: Option<Timestamp>,
    pub answers: Vec<Answer>,
    /// How many levels of an escalation were asked.
    pub(crate) escalations: usize,
    /// The component's call that it answers; none: the step itself is people's.
    pub(crate) question: Option<OpenQuestion>,
}

/// A question of a component that is not answered yet.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OpenQuestion {
    /// The call's number.
    pub(crate) call: u32,
    pub question: Question,
}
