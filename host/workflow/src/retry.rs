//! Whether and when a failed attempt is tried again.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::failure::{Code, Failure};
use crate::ids::{ExecutionId, StepPath};

/// No pause between two tries is longer, unless a service asks for it.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// Nor does a service's wish hold an execution for longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How often and how patiently a step is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// Tries after the first.
    pub(crate) retries: u32,
    /// Pause before the first of them.
    pub(crate) delay: Duration,
    /// Whether the step asked for retries itself: then a guest's plain failure is tried again too.
    pub(crate) asked_by: AskedBy,
}

/// Who asked for the retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskedBy {
    Workflow,
    Step,
}

impl RetryPolicy {
    /// Whether this failure is of a kind that trying again may help.
    pub(crate) fn is_retried(&self, failure: &Failure) -> bool {
        match failure.code {
            Code::RateLimited
            | Code::Overloaded
            | Code::Unavailable
            | Code::TimedOut
            | Code::GuestTrap
            | Code::ComponentUnavailable
            | Code::Internal => true,
            Code::GuestFailed => failure.transient || self.asked_by == AskedBy::Step,
            // Without the record it may well work; but then its answers are paid again.
            Code::ReplayDiverged => self.asked_by == AskedBy::Step,
            Code::LimitFuel
            | Code::LimitMemory
            | Code::LimitTime
            | Code::LimitOutput
            | Code::LimitHostCalls
            | Code::LimitHttpRequests
            | Code::LimitHttpBytes
            | Code::OutputInvalid
            | Code::ConditionType
            | Code::TemplateFailed
            | Code::InputInvalid
            | Code::MaxIterations
            | Code::LoopItemsType
            | Code::ApprovalTimeout
            | Code::Denied
            | Code::BudgetExceeded
            | Code::Cancelled => false,
        }
    }

    /// The pause before the try after `failures` failed ones (1 or more): doubled each time, with a jitter
    /// of a quarter that depends on the step alone, so that replay sees the same.
    pub(crate) fn pause(
        &self,
        failure: &Failure,
        failures: u32,
        execution: ExecutionId,
        path: &StepPath,
    ) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let backoff = self.delay.saturating_mul(doubled).min(DELAY_MAX);
        let digest = Sha256::digest(format!("{execution}/{path}/{failures}"));
        let jitter = u32::from(digest[0]);
        let pause = backoff - backoff / 4 + (backoff / 4) * jitter / 255;
        match failure.retry_after_ms {
            Some(asked) => pause.max(Duration::from_millis(asked).min(RETRY_AFTER_MAX)),
            None => pause,
        }
    }
}
