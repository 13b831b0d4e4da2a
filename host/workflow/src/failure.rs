//! Why a step or an execution failed, as the journal keeps it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::StepPath;

/// The closed list of reasons. Clients see them as `snake_case`; none is ever renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A service asks to wait.
    RateLimited,
    /// A service has no capacity now.
    Overloaded,
    /// A service cannot be reached or failed.
    Unavailable,
    /// No answer came in time.
    TimedOut,
    /// A component or code raised an error or declared a failure.
    GuestFailed,
    /// A component did what WebAssembly forbids.
    GuestTrap,
    /// A component that was run again asked something else than the record says.
    ReplayDiverged,
    /// A component used up its units of computation.
    LimitFuel,
    /// A component asked for more memory than it may have.
    LimitMemory,
    /// A component ran longer than it may.
    LimitTime,
    /// A component wrote more than it may.
    LimitOutput,
    /// A component called the host more often than it may.
    LimitHostCalls,
    /// A component exchanged more with the host than it may.
    LimitHostBytes,
    /// A component is made of more parts than it may be.
    LimitInstances,
    /// An answer was not what later steps need, or not what its schema says.
    OutputInvalid,
    /// A condition's outcome was neither true nor false.
    ConditionType,
    /// A template could not be evaluated.
    TemplateFailed,
    /// A step's input is not what its agent takes.
    InputInvalid,
    /// A loop went on for as many rounds as it may.
    MaxIterations,
    /// What a loop should go through is no list.
    LoopItemsType,
    /// Nobody answered in time.
    ApprovalTimeout,
    /// A capability is not granted, or a service rejected the key.
    Denied,
    /// The execution's own budget has nothing left.
    BudgetExceeded,
    /// A person, or a sibling's failure, ended it.
    Cancelled,
    /// A component is not there.
    ComponentUnavailable,
    /// The host's own fault.
    Internal,
}

impl Code {
    /// The code as clients see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::GuestFailed => "guest_failed",
            Self::GuestTrap => "guest_trap",
            Self::ReplayDiverged => "replay_diverged",
            Self::LimitFuel => "limit_fuel",
            Self::LimitMemory => "limit_memory",
            Self::LimitTime => "limit_time",
            Self::LimitOutput => "limit_output",
            Self::LimitHostCalls => "limit_host_calls",
            Self::LimitHostBytes => "limit_host_bytes",
            Self::LimitInstances => "limit_instances",
            Self::OutputInvalid => "output_invalid",
            Self::ConditionType => "condition_type",
            Self::TemplateFailed => "template_failed",
            Self::InputInvalid => "input_invalid",
            Self::MaxIterations => "max_iterations",
            Self::LoopItemsType => "loop_items_type",
            Self::ApprovalTimeout => "approval_timeout",
            Self::Denied => "denied",
            Self::BudgetExceeded => "budget_exceeded",
            Self::Cancelled => "cancelled",
            Self::ComponentUnavailable => "component_unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether a service failed, so that another may be asked, or the same one later.
    pub fn is_services_fault(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Overloaded | Self::Unavailable | Self::TimedOut
        )
    }

    /// Whether `continue` and fallbacks may take its place.
    pub fn is_caught(self) -> bool {
        !matches!(
            self,
            Self::BudgetExceeded | Self::Cancelled | Self::ComponentUnavailable | Self::Internal
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stored reason. It prints as its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: Code,
    /// What went wrong and what would help, for a person; at most [`Failure::MESSAGE_BYTES_MAX`].
    pub message: String,
    /// True where a component said that trying again may help.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
    /// How long a service asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The sub-workflow whose own budget has nothing left, or the step whose agent's share has, by the path of the step;
    /// none: it is no budget's, or the execution's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_of: Option<StepPath>,
}

impl Failure {
    /// Protects the journal from errors as large as the answer that caused them.
    pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

    /// A failure with its message, cut to what is kept.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > Self::MESSAGE_BYTES_MAX {
            let end = message.floor_char_boundary(Self::MESSAGE_BYTES_MAX);
            message.truncate(end);
            message.push_str(" … (cut)");
        }
        Self {
            code,
            message,
            transient: false,
            retry_after_ms: None,
            cap_of: None,
        }
    }

    /// The same, which trying again may help.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// A budget that has nothing left: that of the sub-workflow or the agent at `cap_of`, else the execution's own.
    pub(crate) fn of_budget(message: impl Into<String>, cap_of: Option<StepPath>) -> Self {
        Self {
            cap_of,
            ..Self::new(Code::BudgetExceeded, message)
        }
    }

    /// The same, with the time a service asked to wait.
    #[must_use]
    pub fn retry_after_ms(mut self, millis: Option<u64>) -> Self {
        self.retry_after_ms = millis;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
