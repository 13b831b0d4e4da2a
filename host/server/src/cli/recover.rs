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
use crate::driver::{Owned, Patience};
use crate::run::{RunSettings, load, take_over};
use crate::services::Services;

/// Executions that one call takes up; the next call takes up the next.
const LIMIT: u32 = 1_000;

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// Only this execution
    execution: Option<ExecutionId>,
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
    let mut recovery = Recovery {
        config: &config,
        places: &places,
        journal,
        // One that waits for a timer keeps no other from going on.
        patience: match args.execution {
            Some(_) => Patience::ForTimers,
            None => Patience::None,
        },
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

/// Goes on with an execution to which somebody has brought something, unless a living process does.
pub(super) async fn go_on(
    (common, journal): (&Common, Journal),
    id: ExecutionId,
    format: Format,
) -> Result<End, CliError> {
    let config = common.config()?;
    let places = common.places()?;
    let row = journal.find(id).await.map_err(anyhow::Error::from)?;
    let mut recovery = Recovery {
        config: &config,
        places: &places,
        journal,
        patience: Patience::ForTimers,
        services: BTreeMap::new(),
    };
    match recovery.take_up(&row).await? {
        Some((owned, services)) => {
            let execution = run::drive(owned, services, Patience::ForTimers).await?;
            Ok(run::finish(&execution, format))
        }
        // What was brought is recorded, and the process that works on it goes on with it.
        None => Ok(End::Done),
    }
}

struct Recovery<'a> {
    config: &'a ServerConfig,
    places: &'a Places,
    journal: Journal,
    patience: Patience,
    /// For each way in which executions were started.
    services: BTreeMap<RunSettings, Arc<Services>>,
}

impl Recovery<'_> {
    async fn recover(&mut self, row: &ExecutionRow, format: Format) -> anyhow::Result<End> {
        let Some((owned, services)) = self.take_up(row).await? else {
            return Ok(End::Waiting);
        };
        let execution = run::drive(owned, services, self.patience).await?;
        Ok(run::finish(&execution, format))
    }

    /// Takes an execution over with what it needs; none: a living process works on it.
    async fn take_up(
        &mut self,
        row: &ExecutionRow,
    ) -> anyhow::Result<Option<(Owned, Arc<Services>)>> {
        let services = self.services_of(row)?;
        // With another configuration than it began with it could only fail: it is not touched then.
        let execution = load(&self.journal, row).await?;
        // To end, it needs nothing.
        if !execution.is_cancelling() {
            services
                .check(execution.definition())
                .await
                .map_err(|faults| {
                    anyhow::anyhow!("this machine's configuration lacks what it needs:\n{faults}")
                })?;
        }
        match take_over(&self.journal, row).await {
            Ok(owned) => Ok(Some((owned, services))),
            Err(error) if is_anothers(&error) => {
                output::note(&format!("{}: {error}", row.id));
                Ok(None)
            }
            Err(error) => Err(error),
        }
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
    if matches!(row.status.as_str(), "completed" | "failed" | "cancelled") {
        output::note(&format!("{id} is {}", row.status));
        return Ok(Vec::new());
    }
    Ok(vec![row])
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
