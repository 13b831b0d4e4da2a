//! `troupe recover`.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use troupe_journal::{AppendError, ExecutionRow, Journal};
use troupe_workflow::ExecutionId;

use super::{CliError, Common, End, output, run};
use crate::driver::InDoubt;
use crate::run::{RunSettings, take_over};
use crate::services::Services;

/// Executions that one call takes up; the next call takes up the next.
const LIMIT: u32 = 1_000;

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// Only this execution
    execution: Option<ExecutionId>,
    /// Run steps with `idempotent: false` again that were interrupted
    #[arg(long, requires = "execution")]
    again: bool,
    /// Print each execution as JSON at the end
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, args: RecoverArgs) -> Result<End, CliError> {
    let config = common.config()?;
    let places = common.places()?;
    let journal = Services::open_journal(&places)?;
    let rows = rows(&journal, args.execution).await?;
    if rows.is_empty() {
        output::note("there is nothing to recover");
        return Ok(End::Done);
    }
    let mut services: BTreeMap<RunSettings, Arc<Services>> = BTreeMap::new();
    let in_doubt = if args.again {
        InDoubt::RunAgain
    } else {
        InDoubt::Wait
    };
    let mut end = End::Done;
    for row in rows {
        let settings: RunSettings = serde_json::from_str(&row.settings).map_err(|error| {
            anyhow::anyhow!("the settings of {} cannot be read: {error}", row.id)
        })?;
        let with = match services.get(&settings) {
            Some(services) => Arc::clone(services),
            None => {
                let opened = Services::new(journal.clone(), &config, &places, &settings.outside())?;
                Arc::clone(services.entry(settings).or_insert(Arc::new(opened)))
            }
        };
        let owned = match take_over(&journal, &row, in_doubt).await {
            Ok(owned) => owned,
            Err(error) if is_anothers(&error) => {
                output::note(&format!("{}: {error}", row.id));
                continue;
            }
            Err(error) => return Err(CliError::Host(error)),
        };
        let execution = run::drive(owned, with).await?;
        end = worse(end, run::finish(&execution, args.json));
    }
    Ok(end)
}

async fn rows(journal: &Journal, only: Option<ExecutionId>) -> Result<Vec<ExecutionRow>, CliError> {
    let Some(id) = only else {
        return Ok(journal
            .unfinished(LIMIT)
            .await
            .map_err(anyhow::Error::from)?);
    };
    let row = journal
        .find(id)
        .await
        .map_err(|error| CliError::Caller(error.into()))?;
    if matches!(row.status.as_str(), "running" | "paused") {
        return Ok(vec![row]);
    }
    output::note(&format!("{id} is {}", row.status));
    Ok(Vec::new())
}

/// A living process works on it, which is no error.
fn is_anothers(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AppendError::Owned { .. }))
}

fn worse(one: End, other: End) -> End {
    match (one, other) {
        (End::Failed, _) | (_, End::Failed) => End::Failed,
        (End::Waiting, _) | (_, End::Waiting) => End::Waiting,
        (End::Done, End::Done) => End::Done,
    }
}
