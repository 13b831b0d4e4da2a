//! A second account of what calls took, kept apart from the execution's own.

use std::collections::BTreeMap;

use serde_json::Value;
use troupe_workflow::{Event, EventKind, Execution, MicroUsd, RaisedBudgets, StepPath};

use super::document::{Caps, Written};

/// What a call took, or may take until it ends.
#[derive(Debug)]
struct Charge {
    path: StepPath,
    call: u32,
    usd: u64,
    tokens: u64,
    is_open: bool,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    charges: Vec<Charge>,
    caps: BTreeMap<String, Caps>,
    workflow_steps: BTreeMap<String, String>,
    fuel: Option<u64>,
    may_pass: bool,
}

impl Ledger {
    pub(crate) fn new(written: &Written) -> Self {
        let policy = written.document.pointer("/config/on_budget_exceeded");
        let budget_fuel = written.document.pointer("/config/budget_fuel");
        Self {
            charges: Vec::new(),
            caps: written.caps.clone(),
            workflow_steps: written.workflow_steps.clone(),
            fuel: budget_fuel.and_then(Value::as_u64),
            may_pass: policy.and_then(Value::as_str) == Some("continue"),
        }
    }

    /// Notes an event, and compares the accounts after it.
    pub(crate) fn note(&mut self, event: &Event, execution: &Execution) {
        match &event.kind {
            EventKind::CallStarted {
                path,
                call,
                reserved,
                reserved_tokens,
                ..
            } => self.charges.push(Charge {
                path: path.clone(),
                call: *call,
                usd: reserved.as_micro_usd(),
                tokens: *reserved_tokens,
                is_open: true,
            }),
            EventKind::CallEnded {
                path,
                call,
                usage,
                cost,
                ..
            } => {
                let mut charges = self.charges.iter_mut().rev();
                let charge = charges.find(|charge| charge.path == *path && charge.call == *call);
                let charge = charge.expect("what ends has begun");
                charge.usd = cost.as_micro_usd();
                charge.tokens = usage.input_tokens + usage.output_tokens;
                charge.is_open = false;
            }
            EventKind::BudgetRaised { usd, tokens, fuel } => {
                let caps = self.caps.entry(String::new()).or_default();
                caps.usd = usd.map(MicroUsd::as_micro_usd).or(caps.usd);
                caps.tokens = tokens.or(caps.tokens);
                self.fuel = fuel.or(self.fuel);
            }
            _ => return self.check_passed(execution),
        }
        self.check(execution);
    }

    fn check_passed(&self, execution: &Execution) {
        let passed: Vec<_> = execution.passed().collect();
        assert!(self.may_pass || passed.is_empty(), "passed: {passed:?}");
    }

    fn check(&self, execution: &Execution) {
        self.check_passed(execution);
        let all = || self.charges.iter();
        let usd: u64 = all().map(|charge| charge.usd).sum();
        assert_eq!(execution.cost(), MicroUsd::new(usd), "the accounts differ");
        let ended: u64 = all()
            .filter(|charge| !charge.is_open)
            .map(|charge| charge.tokens)
            .sum();
        let tokens = execution.tokens();
        assert_eq!(tokens.input_tokens + tokens.output_tokens, ended);
        self.check_cap("", "");
        let last = self.charges.last().map(|charge| charge.path.as_str());
        let path = last.unwrap_or_default();
        for (end, _) in path.match_indices('.') {
            let step = path[..end].rsplit('.').next().unwrap_or_default();
            if let Some(workflow) = self.workflow_steps.get(step) {
                self.check_cap(&path[..=end], workflow);
            }
        }
    }

    /// What the calls under a path took is within what the workflow there may spend.
    fn check_cap(&self, prefix: &str, workflow: &str) {
        let caps = self.caps[workflow];
        let inside = || {
            let charges = self.charges.iter();
            charges.filter(|charge| charge.path.as_str().starts_with(prefix))
        };
        let usd: u64 = inside().map(|charge| charge.usd).sum();
        let tokens: u64 = inside().map(|charge| charge.tokens).sum();
        assert!(caps.usd.is_none_or(|cap| usd <= cap), "{prefix}: {usd}");
        assert!(
            caps.tokens.is_none_or(|cap| tokens <= cap),
            "{prefix}: {tokens}"
        );
    }

    /// Budgets above what is there now.
    pub(crate) fn raised(&self) -> RaisedBudgets {
        let caps = self.caps[""];
        RaisedBudgets {
            usd: caps.usd.map(|usd| MicroUsd::new(usd + 50_000)),
            tokens: caps.tokens.map(|tokens| tokens + 700),
            fuel: self.fuel.map(|fuel| fuel + 900),
        }
    }
}
