//! `troupe resume` and `troupe cancel`.

use std::sync::Arc;

use clap::Args;
use troupe_workflow::{ExecutionId, MicroUsd, RaisedBudgets};

use super::{CliError, Common, End, output, recover};
use crate::operations::OwnDesk;

/// Budgets that are raised.
#[derive(Debug, Args)]
pub(super) struct BudgetArgs {
    /// What it may cost from now on, in US dollars, all that it has cost included
    #[arg(long, value_name = "USD")]
    budget_usd: Option<f64>,
    /// How many tokens it may use from now on, all that it has used included
    #[arg(long, value_name = "TOKENS")]
    budget_tokens: Option<u64>,
    /// How many units of computation it may use from now on, all that it has used included
    #[arg(long, value_name = "FUEL")]
    budget_fuel: Option<u64>,
}

impl BudgetArgs {
    pub(super) fn raised(&self) -> Result<RaisedBudgets, CliError> {
        let usd = self.budget_usd.map(MicroUsd::from_dollars).transpose();
        Ok(RaisedBudgets {
            usd: usd.map_err(|error| CliError::Caller(error.into()))?,
            tokens: self.budget_tokens,
            fuel: self.budget_fuel,
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The execution
    execution: ExecutionId,
    #[command(flatten)]
    budgets: BudgetArgs,
    /// Print the whole execution as JSON at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The execution
    execution: ExecutionId,
    /// Print the whole execution as JSON at the end
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, args: ResumeArgs) -> Result<End, CliError> {
    let raised = args.budgets.raised()?;
    let journal = common.journal().await?;
    let id = args.execution;
    let own = OwnDesk::new(Arc::clone(&journal));
    own.desk().resume(id, &raised, Vec::new()).await?;
    recover::go_on((common, journal), id, args.json.into()).await
}

pub(super) async fn cancel(common: &Common, args: CancelArgs) -> Result<End, CliError> {
    let journal = common.journal().await?;
    let id = args.execution;
    let own = OwnDesk::new(Arc::clone(&journal));
    own.desk().cancel(id, Vec::new()).await?;
    output::note(&format!("{id}: it is to end"));
    // That it ended as it was asked to is no failure of this command.
    match recover::go_on((common, journal), id, args.json.into()).await? {
        End::Failed | End::Done => Ok(End::Done),
        End::Waiting => Ok(End::Waiting),
    }
}
