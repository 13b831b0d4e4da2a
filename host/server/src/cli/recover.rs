//! `troupe recover`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use troupe_journal::{AppendError, ExecutionRow, Journal};
use troupe_workflow::ExecutionId;

use super::output::Format;
use super::{CliError, Common, End, output, run};
use crate::config::{Places, ServerConfig};
use crate::driver::InDoubt;
use crate::run::{RunSettings, load, take_over};
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
    let in_doubt = if args.again {
        InDoubt::RunAgain
    } else {
        InDoubt::Wait
    };
    let mut recovery = Recovery {
        config: &config,
        places: &places,
        journal,
        in_doubt,
        services: BTreeMap::new(),
    };
    let mut end = End::Done;
    for row in rows {
        // One that cannot go on keeps no other from it.
        let one = match recovery.recover(&row, args.json.into()).await {
            Ok(end) => end,
            Err(error) => {
                output::error(&error.context(format!("{} was left as it is", row.id)));
                End::Failed
            }
        };
        end = worse(end, one);
    }
    Ok(end)
}

struct Recovery<'a> {
    config: &'a ServerConfig,
    places: &'a Places,
    journal: Journal,
    in_doubt: InDoubt,
    /// For each way in which executions were started.
    services: BTreeMap<RunSettings, Arc<Services>>,
}

impl Recovery<'_> {
    async fn recover(&mut self, row: &ExecutionRow, format: Format) -> anyhow::Result<End> {
        let services = self.services_of(row)?;
        // With another configuration than it began with it could only fail: it is not touched then.
        let execution = load(&self.journal, row).await?;
        services
            .check(execution.definition())
            .await
            .map_err(|faults| {
                anyhow::anyhow!("this machine's configuration lacks what it needs:\n{faults}")
            })?;
        let owned = match take_over(&self.journal, row, self.in_doubt).await {
            Ok(owned) => owned,
            Err(error) if is_anothers(&error) => {
                output::note(&format!("{}: {error}", row.id));
                return Ok(End::Waiting);
            }
            Err(error) => return Err(error),
        };
        let execution = run::drive(owned, services).await?;
        Ok(run::finish(&execution, format))
    }

    fn services_of(&mut self, row: &ExecutionRow) -> anyhow::Result<Arc<Services>> {
        let settings: RunSettings =
            serde_json::from_str(&row.settings).context("its settings cannot be read")?;
        if let Some(services) = self.services.get(&settings) {
            return Ok(Arc::clone(services));
        }
        let outside = settings.outside();
        let opened = Services::new(self.journal.clone(), self.config, self.places, &outside)?;
        Ok(Arc::clone(
            self.services.entry(settings).or_insert(Arc::new(opened)),
        ))
    }
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
