//! The `config` of a workflow: what holds for all of its steps.

use std::time::Duration;

use serde_json::Value;

use super::Fields;
use super::on_error::OnErrorRule;
use crate::fault::Faults;
use crate::money::MicroUsd;

/// What happens when a budget has nothing left for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetPolicy {
    /// The execution fails with `budget_exceeded`.
    Stop,
    /// The execution waits until somebody raises the budget.
    Pause,
    /// The call is made, and the excess is in the record.
    Continue,
}

/// The settings of a workflow.
#[derive(Debug, Clone)]
pub struct Config {
    /// Tries after the first.
    pub max_retries: u32,
    /// Pause before the first retry; doubled each time.
    pub retry_delay: Duration,
    pub(crate) on_error: OnErrorRule,
    pub budget: Option<MicroUsd>,
    pub on_budget_exceeded: BudgetPolicy,
    /// Most tokens, input and output together, of all model calls.
    pub budget_tokens: Option<u64>,
    /// Most units of computation of all components.
    pub budget_fuel: Option<u64>,
    /// How long an execution may take.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_retries: 3,
            retry_delay: Duration::from_secs(1),
            on_error: OnErrorRule::Retry,
            budget: None,
            on_budget_exceeded: BudgetPolicy::Stop,
            budget_tokens: None,
            budget_fuel: None,
            timeout: Duration::from_secs(300),
        }
    }
}

impl Config {
    /// More tries than this help nobody.
    pub(crate) const RETRIES_MAX: u64 = 100;
    /// A day between two tries; also the longest step.
    pub(crate) const DELAY_MS_MAX: u64 = 86_400_000;
    /// A year of work.
    const TIMEOUT_MS_MAX: u64 = 31_536_000_000;

    pub(crate) fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Self {
        let mut config = Self::default();
        let Some(mut fields) = Fields::of(value, pointer, faults) else {
            return config;
        };
        if let Some(retries) = fields.count("max_retries", Self::RETRIES_MAX, faults) {
            config.max_retries = u32::try_from(retries).unwrap_or(u32::MAX);
        }
        if let Some(millis) = fields.count("retry_delay_ms", Self::DELAY_MS_MAX, faults) {
            config.retry_delay = Duration::from_millis(millis);
        }
        if let Some(rule) = fields.choice("on_error", &OnErrorRule::WORDS, faults) {
            config.on_error = rule;
        }
        if let Some(dollars) = fields.number("budget_usd", faults) {
            match MicroUsd::from_dollars(dollars) {
                Ok(budget) => config.budget = Some(budget),
                Err(error) => faults.add(fields.at("budget_usd"), error.to_string()),
            }
        }
        let policies = [
            ("stop", BudgetPolicy::Stop),
            ("pause", BudgetPolicy::Pause),
            ("continue", BudgetPolicy::Continue),
        ];
        if let Some(policy) = fields.choice("on_budget_exceeded", &policies, faults) {
            config.on_budget_exceeded = policy;
        }
        config.budget_tokens = fields.count("budget_tokens", u64::MAX, faults);
        config.budget_fuel = fields.count("budget_fuel", u64::MAX, faults);
        if let Some(timeout) = fields.millis("timeout_ms", Self::TIMEOUT_MS_MAX, faults) {
            config.timeout = timeout;
        }
        fields.finish(faults);
        config
    }
}
