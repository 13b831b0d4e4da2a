//! Budgets: what may be spent of money, tokens and units of computation, by the execution and by each workflow in it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::frame::{Account, FrameId, Instance};
use super::{Execution, StepState};
use crate::document::{AgentKind, BudgetPolicy, Config};
use crate::event::{EventKind, StepUsage};
use crate::failure::{Code, Failure};
use crate::ids::StepPath;
use crate::money::MicroUsd;

/// What a budget is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BudgetKind {
    Usd,
    Tokens,
    Fuel,
}

impl BudgetKind {
    /// The field of `config`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Usd => "budget_usd",
            Self::Tokens => "budget_tokens",
            Self::Fuel => "budget_fuel",
        }
    }
}

/// The execution's own budgets: those of its workflow, until somebody raises them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budgets {
    pub(crate) usd: Option<MicroUsd>,
    pub(crate) tokens: Option<u64>,
    pub(crate) fuel: Option<u64>,
    /// How often they were raised.
    pub(crate) raises: u32,
    /// Those that were passed: under `continue`, or because a service took more than its worst case.
    pub(crate) passed: BTreeSet<BudgetKind>,
}

impl Budgets {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            usd: config.budget,
            tokens: config.budget_tokens,
            fuel: config.budget_fuel,
            raises: 0,
            passed: BTreeSet::new(),
        }
    }

    pub(crate) fn raise(&mut self, usd: Option<MicroUsd>, tokens: Option<u64>, fuel: Option<u64>) {
        self.raises = self.raises.saturating_add(1);
        self.usd = usd.or(self.usd);
        self.tokens = tokens.or(self.tokens);
        self.fuel = fuel.or(self.fuel);
    }
}

/// What somebody raises the execution's budgets to; those that are none stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RaisedBudgets {
    pub usd: Option<MicroUsd>,
    pub tokens: Option<u64>,
    pub fuel: Option<u64>,
}

/// Units of computation that the budgets leave an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenFuel {
    pub units: u64,
    /// The sub-workflow whose budget they are, by the path of its step; none: the execution's own.
    pub(crate) cap_of: Option<StepPath>,
}

impl GivenFuel {
    /// The failure of an attempt that used them all, and could have gone on.
    pub fn used_up(&self) -> Failure {
        let message = format!(
            "the component used the {} units of computation that the budget had left; raise `config.budget_fuel`",
            self.units
        );
        Failure::of_budget(message, self.cap_of.clone())
    }
}

/// A call that a budget does not allow.
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
    #[error(
        "the call may take {asked} tokens, and {left} of {budget} are left; raise `config.budget_tokens`, or set `max_tokens` lower"
    )]
    Tokens { asked: u64, left: u64, budget: u64 },
    #[error("all {budget} units of computation are used; raise `config.budget_fuel`")]
    Fuel { budget: u64 },
    #[error(
        "the call may cost {asked}, and {left} of the agent's share of {budget} is left for this step; raise `grants.llm.budget_usd` and, where the operator has one, `llm_budget_usd`, or set `max-tokens` lower"
    )]
    Share {
        asked: MicroUsd,
        left: MicroUsd,
        budget: MicroUsd,
    },
}

/// What the budgets say to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum BudgetVerdict {
    Allowed,
    /// It does not fit. Of a workflow's budget: what needs it fails. Of an agent's share: the agent is told so.
    Refused(Failure),
    /// It does not fit, and the execution waits for somebody to raise the budget.
    Paused(Failure),
}

/// The budgets that hold for one workflow.
struct Held {
    usd: Option<MicroUsd>,
    tokens: Option<u64>,
    fuel: Option<u64>,
    policy: BudgetPolicy,
    account: Account,
}

impl Execution {
    /// The events that end a pause, and raise budgets.
    ///
    /// # Errors
    /// What is wrong: nothing is paused, or a budget is not raised.
    pub fn resume(&self, raised: &RaisedBudgets) -> Result<Vec<EventKind>, String> {
        let status = self.status();
        if status.is_terminal() {
            return Err(format!("it is {} already", status.as_str()));
        }
        let lower = |name: &str, given: &dyn std::fmt::Display, now: &dyn std::fmt::Display| {
            format!("`{name}` is {now} now; give more than that, not {given}")
        };
        match (raised.usd, self.budgets.usd) {
            (Some(given), Some(now)) if given <= now => {
                return Err(lower("budget_usd", &given, &now));
            }
            (Some(_), None) => return Err("there is no `budget_usd` to raise".to_owned()),
            _ => {}
        }
        let counts = [
            ("budget_tokens", raised.tokens, self.budgets.tokens),
            ("budget_fuel", raised.fuel, self.budgets.fuel),
        ];
        for (name, given, now) in counts {
            match (given, now) {
                (Some(given), Some(now)) if given <= now => return Err(lower(name, &given, &now)),
                (Some(_), None) => return Err(format!("there is no `{name}` to raise")),
                _ => {}
            }
        }
        let is_raised = *raised != RaisedBudgets::default();
        let mut events = Vec::new();
        if is_raised {
            events.push(EventKind::BudgetRaised {
                usd: raised.usd,
                tokens: raised.tokens,
                fuel: raised.fuel,
            });
        }
        events.extend(self.end_pause(None));
        // Whoever raises a budget, or ends a pause, has not said that a step in doubt may have its effect twice.
        if !events.is_empty() {
            return Ok(events);
        }
        let doubted = self.in_doubt().into_iter();
        let events: Vec<EventKind> = doubted
            .map(|path| EventKind::StepResumed { path })
            .collect();
        if events.is_empty() {
            return Err(match self.unpaid().first() {
                Some((path, reason)) => {
                    format!("`{path}` waits for a budget to be raised: {reason}")
                }
                None => format!("it is not paused, it is {}", status.as_str()),
            });
        }
        Ok(events)
    }

    /// Whether the budgets allow a call of a step that may cost so much and take so many tokens.
    pub fn check_reserve(&self, path: &StepPath, asked: MicroUsd, tokens: u64) -> BudgetVerdict {
        self.check_reserve_within(path, (asked, tokens), None)
    }

    /// The same where somebody else has a word too: at most so much for all calls of the step's agent in it.
    pub fn check_reserve_within(
        &self,
        path: &StepPath,
        (asked, tokens): (MicroUsd, u64),
        share: Option<MicroUsd>,
    ) -> BudgetVerdict {
        let Some(at) = self.find(path) else {
            return BudgetVerdict::Allowed;
        };
        if let Some(failure) = self.check_share(at, asked, share) {
            return BudgetVerdict::Refused(failure);
        }
        for home in self.homes(at.frame) {
            let held = self.held(home);
            let Some(error) = held.check(asked, tokens) else {
                continue;
            };
            if held.policy != BudgetPolicy::Continue {
                return self.refusal(home, error);
            }
        }
        BudgetVerdict::Allowed
    }

    /// What a workflow's budget that has nothing left means.
    fn refusal(&self, home: FrameId, error: ReserveError) -> BudgetVerdict {
        let cap_of = self.workflow(home).opener.map(|opener| self.path(opener));
        let failure = Failure::of_budget(error.to_string(), cap_of);
        if self.pauses_for(&failure) {
            BudgetVerdict::Paused(failure)
        } else {
            BudgetVerdict::Refused(failure)
        }
    }

    /// Whether an attempt that ended so waits for somebody to raise the budget. Nobody can raise what a workflow
    /// grants its sub-workflow.
    fn pauses_for(&self, failure: &Failure) -> bool {
        failure.code == Code::BudgetExceeded
            && failure.cap_of.is_none()
            && self.config().on_budget_exceeded == BudgetPolicy::Pause
    }

    /// What the failure of an attempt is: one for which a budget has nothing left may wait until it is raised.
    pub fn failed_attempt(
        &self,
        (path, attempt): (StepPath, u32),
        failure: Failure,
        usage: StepUsage,
    ) -> EventKind {
        if self.pauses_for(&failure) {
            return EventKind::StepPaused {
                path,
                attempt,
                reason: failure,
                usage: Some(usage),
                raises: self.budget_raises(),
            };
        }
        EventKind::StepFailed {
            path,
            attempt,
            failure,
            usage,
        }
    }

    /// How often somebody has raised the execution's budgets.
    pub fn budget_raises(&self) -> u32 {
        self.budgets.raises
    }

    fn held(&self, home: FrameId) -> Held {
        let workflow = self.workflow(home);
        let config = workflow.definition.config();
        let own = Budgets::of(config);
        let budgets = if home == FrameId::ROOT {
            &self.budgets
        } else {
            &own
        };
        Held {
            usd: budgets.usd,
            tokens: budgets.tokens,
            fuel: budgets.fuel,
            policy: config.on_budget_exceeded,
            account: workflow.account,
        }
    }

    /// What is left of the money for a step, and of its agent's share of it; none: neither is bounded.
    pub fn money_left(&self, path: &StepPath) -> Option<MicroUsd> {
        self.money_left_within(path, None)
    }

    /// The same where somebody else has a word too, see [`Execution::check_reserve_within`].
    pub fn money_left_within(&self, path: &StepPath, share: Option<MicroUsd>) -> Option<MicroUsd> {
        let at = self.find(path)?;
        let of_budgets = self.least(at, |held| {
            let account = &held.account;
            Some(held.usd?.saturating_sub(account.settled + account.reserved))
        });
        of_budgets
            .into_iter()
            .chain(self.share_left(at, share))
            .min()
    }

    /// What is left of the tokens for a step; none: no budget bounds it.
    pub fn tokens_left(&self, path: &StepPath) -> Option<u64> {
        let at = self.find(path)?;
        self.least(at, |held| {
            let account = &held.account;
            let gone = account
                .tokens_used()
                .saturating_add(account.tokens_reserved);
            Some(held.tokens?.saturating_sub(gone))
        })
    }

    /// What is left of the units of computation for a step, and of which workflow; none: no budget bounds it.
    pub(super) fn fuel_left(&self, at: Instance) -> Option<(u64, FrameId)> {
        self.homes(at.frame)
            .map(|home| (home, self.held(home)))
            .filter(|(_, held)| held.policy != BudgetPolicy::Continue)
            .filter_map(|(home, held)| {
                let account = &held.account;
                let gone = account.fuel.saturating_add(account.fuel_reserved);
                Some((held.fuel?.saturating_sub(gone), home))
            })
            .min_by_key(|(left, _)| *left)
    }

    /// The least of what the workflows around a step have left, of those that keep to their budgets.
    fn least<T: Ord>(&self, at: Instance, left: impl Fn(&Held) -> Option<T>) -> Option<T> {
        self.homes(at.frame)
            .map(|home| self.held(home))
            .filter(|held| held.policy != BudgetPolicy::Continue)
            .filter_map(|held| left(&held))
            .min()
    }

    /// Why a component has no units of computation left, and whether somebody can help.
    pub(super) fn fuel_verdict(&self, at: Instance) -> BudgetVerdict {
        for home in self.homes(at.frame) {
            let held = self.held(home);
            let account = &held.account;
            let Some(budget) = held.fuel else { continue };
            if account.fuel.saturating_add(account.fuel_reserved) < budget {
                continue;
            }
            if held.policy != BudgetPolicy::Continue {
                return self.refusal(home, ReserveError::Fuel { budget });
            }
        }
        BudgetVerdict::Allowed
    }

    /// The limit that the document sets for a component, where a step runs one.
    pub(super) fn fuel_asked(&self, at: Instance) -> Option<Option<u64>> {
        match &self.agent_of(at)?.kind {
            AgentKind::Code(code) => Some(code.limits.fuel),
            AgentKind::Tool(tool) => tool.fuel_asked(),
            AgentKind::Llm(_) | AgentKind::Search(_) | AgentKind::Human(_) => None,
        }
    }

    /// Whether calls are under way that may give back a part of what they reserved.
    pub fn holds_reservations(&self) -> bool {
        self.running
            .iter()
            .filter_map(|at| self.step(*at))
            .any(StepState::holds_reservations)
    }

    /// Whether components run that may give back a part of the units they were given.
    pub(super) fn holds_fuel(&self) -> bool {
        self.running
            .iter()
            .filter_map(|at| self.step(*at))
            .any(|step| step.fuel_reserved > 0)
    }

    /// The execution's budgets that were passed.
    pub fn passed(&self) -> impl Iterator<Item = BudgetKind> {
        self.budgets.passed.iter().copied()
    }

    /// Notes the execution's budgets that are passed now.
    pub(super) fn note_excess(&mut self) {
        let held = self.held(FrameId::ROOT);
        let account = &held.account;
        if held
            .usd
            .is_some_and(|budget| account.settled + account.reserved > budget)
        {
            self.budgets.passed.insert(BudgetKind::Usd);
        }
        let tokens = account
            .tokens_used()
            .saturating_add(account.tokens_reserved);
        if held.tokens.is_some_and(|budget| tokens > budget) {
            self.budgets.passed.insert(BudgetKind::Tokens);
        }
        let fuel = account.fuel.saturating_add(account.fuel_reserved);
        if held.fuel.is_some_and(|budget| fuel > budget) {
            self.budgets.passed.insert(BudgetKind::Fuel);
        }
    }
}

impl Held {
    fn check(&self, asked: MicroUsd, tokens: u64) -> Option<ReserveError> {
        let account = &self.account;
        if let Some(budget) = self.usd {
            let left = budget.saturating_sub(account.settled + account.reserved);
            if asked > left {
                return Some(ReserveError::Money {
                    asked,
                    left,
                    budget,
                });
            }
        }
        let budget = self.tokens?;
        let gone = account
            .tokens_used()
            .saturating_add(account.tokens_reserved);
        let left = budget.saturating_sub(gone);
        (tokens > left).then_some(ReserveError::Tokens {
            asked: tokens,
            left,
            budget,
        })
    }
}
