//! `troupe pause`, `troupe retry` and `troupe fork`.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::Value;
use troupe_journal::FirstOwner;
use troupe_workflow::{Definition, ExecutionId, ForkedFrom, StepPath};

use super::resume::BudgetArgs;
use super::{CliError, Common, End, output, recover};
use crate::clock;
use crate::config::user_name;
use crate::operations::OwnDesk;
use crate::records;
use crate::run::{NewRun, create};
use crate::workflows;

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// The execution
    execution: ExecutionId,
    /// Why, for whoever looks at it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The execution
    execution: ExecutionId,
    #[command(flatten)]
    budgets: BudgetArgs,
    /// Print the whole execution as JSON at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ForkArgs {
    /// The execution that is kept in part
    execution: ExecutionId,
    /// The step at which the new execution begins, by its path as `troupe show` prints it
    #[arg(long, value_name = "PATH")]
    from_step: String,
    /// Other inputs, as a JSON object [default: those of the execution]
    #[arg(long, value_name = "JSON")]
    inputs: Option<String>,
    /// Another version of its stored workflow
    #[arg(long)]
    version: Option<u32>,
    /// Print the whole execution as JSON at the end
    #[arg(long)]
    json: bool,
}

pub(super) async fn pause(common: &Common, args: PauseArgs) -> Result<End, CliError> {
    let own = OwnDesk::new(common.journal().await?);
    let id = args.execution;
    let by = user_name();
    let why = (by.as_deref(), args.reason.as_deref());
    own.desk().pause(id, why, Vec::new()).await?;
    output::note(&format!(
        "{id}: nothing new is started; `troupe resume {id}` goes on with it"
    ));
    Ok(End::Done)
}

pub(super) async fn retry(common: &Common, args: RetryArgs) -> Result<End, CliError> {
    let raised = args.budgets.raised()?;
    let journal = common.journal().await?;
    let id = args.execution;
    let own = OwnDesk::new(Arc::clone(&journal));
    let by = user_name();
    let how = (by.as_deref(), &raised);
    own.desk().retry(id, how, Vec::new()).await?;
    recover::go_on((common, journal), id, args.json.into()).await
}

pub(super) async fn fork(common: &Common, args: ForkArgs) -> Result<End, CliError> {
    let inputs: Option<Value> = args
        .inputs
        .as_deref()
        .map(serde_json::from_str)
        .transpose()
        .context("--inputs is no JSON")
        .map_err(CliError::Caller)?;
    let journal = common.journal().await?;
    let own = OwnDesk::new(Arc::clone(&journal));
    let from = StepPath::new(args.from_step.as_str());
    let forked = own.desk().fork(args.execution, &from).await?;
    let (definition, workflow): (Arc<Definition>, _) = match (args.version, &forked.row.workflow) {
        (None, workflow) => (Arc::clone(forked.execution.definition()), workflow.clone()),
        (Some(version), Some(workflow)) => {
            let stored = records::find(&*journal, &workflow.id).await?;
            let (definition, version) =
                workflows::definition(&*journal, &stored, Some(version)).await?;
            (definition, Some(version))
        }
        (Some(_), None) => {
            return Err(CliError::Caller(anyhow!(
                "{} is no run of a stored workflow, so there are no versions",
                args.execution
            )));
        }
    };
    let inputs = inputs.unwrap_or_else(|| forked.execution.inputs().clone());
    definition
        .check_inputs(&inputs)
        .map_err(|faults| CliError::Caller(anyhow!("the inputs are not right:\n{faults}")))?;
    let new = NewRun {
        definition,
        inputs,
        settings: serde_json::from_str(&forked.row.settings).map_err(anyhow::Error::from)?,
        workflow,
        forked_from: Some(ForkedFrom {
            execution: args.execution,
            step: from,
        }),
        kept: forked.kept,
        planned: None,
        // This process takes it next, or another that is faster.
        first_owner: FirstOwner::Anyone,
        records: Vec::new(),
    };
    let id = clock::new_execution_id();
    create(&*journal, id, new)
        .await
        .map_err(anyhow::Error::from)?;
    output::note(&format!(
        "{id} begins at `{}` of {}",
        args.from_step, args.execution
    ));
    recover::go_on((common, journal), id, args.json.into()).await
}
