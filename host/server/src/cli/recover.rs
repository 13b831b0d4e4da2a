//! `troupe recover`.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use troupe_journal::{AppendError, ExecutionRow, Journal, Listing, Order};
use troupe_workflow::{ExecutionId, ExecutionStatus};

use super::trace::Shown;
use super::{CliError, Common, End, output, run};
use crate::driver::{Owned, Patience};
use crate::open;
use crate::run::{RunSettings, take_over};
use crate::services::{Services, ServicesBySettings};
use crate::stored::Definitions;

/// Executions that one call takes up; the next call takes up the next.
const LIMIT: u32 = 1_000;

const UNFINISHED: [ExecutionStatus; 5] = [
    ExecutionStatus::Queued,
    ExecutionStatus::Running,
    ExecutionStatus::WaitingApproval,
    ExecutionStatus::Waiting,
    ExecutionStatus::Paused,
];

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// Only this execution
    execution: Option<ExecutionId>,
    /// List at the end what the components of its steps asked of the host: on standard error, or with --json as `trace`
    #[arg(long)]
    trace: bool,
    /// Print each execution as JSON at the end
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, args: RecoverArgs) -> Result<End, CliError> {
    let config = common.config()?;
    let places = common.places()?;
    let journal = open::journal(&config.server, &places).await?;
    let rows = rows(&*journal, args.execution).await?;
    if rows.is_empty() {
        output::note("there is nothing to recover");
        return Ok(End::Done);
    }
    let shown = Shown::from(args.json).with_traces(args.trace.then(Arc::default));
    let services = ServicesBySettings::new(Arc::clone(&journal), config, places);
    let mut recovery = Recovery {
        services: services.with_traces(shown.traces.clone()),
        journal,
        definitions: Definitions::default(),
        // One that waits for a timer keeps no other from going on.
        patience: match args.execution {
            Some(_) => Patience::ForTimers,
            None => Patience::None,
        },
    };
    let mut end = End::Done;
    for row in rows {
        // One that cannot go on keeps no other from it.
        let one = match recovery.recover(&row, &shown).await {
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
    (common, journal): (&Common, Arc<dyn Journal>),
    id: ExecutionId,
    shown: Shown,
) -> Result<End, CliError> {
    let config = common.config()?;
    let places = common.places()?;
    let row = journal.find(id).await.map_err(anyhow::Error::from)?;
    let services = ServicesBySettings::new(Arc::clone(&journal), config, places);
    let mut recovery = Recovery {
        services: services.with_traces(shown.traces.clone()),
        journal,
        definitions: Definitions::default(),
        patience: Patience::ForTimers,
    };
    match recovery.take_up(&row).await? {
        Some((owned, services)) => {
            let execution = run::drive(owned, services, Patience::ForTimers).await?;
            Ok(run::finish(&execution, &shown))
        }
        // What was brought is recorded, and the process that works on it goes on with it.
        None => Ok(End::Done),
    }
}

struct Recovery {
    journal: Arc<dyn Journal>,
    definitions: Definitions,
    patience: Patience,
    services: ServicesBySettings,
}

impl Recovery {
    async fn recover(&mut self, row: &ExecutionRow, shown: &Shown) -> anyhow::Result<End> {
        let Some((owned, services)) = self.take_up(row).await? else {
            return Ok(End::Waiting);
        };
        let execution = run::drive(owned, services, self.patience).await?;
        Ok(run::finish(&execution, shown))
    }

    /// Takes an execution over with what it needs; none: a living process works on it.
    async fn take_up(
        &mut self,
        row: &ExecutionRow,
    ) -> anyhow::Result<Option<(Owned, Arc<Services>)>> {
        let services = self.services_of(row)?;
        // With another configuration than it began with it could only fail: it is not touched then.
        let journal = (&*self.journal, &self.definitions);
        let execution = self.definitions.load(journal.0, row.id).await?.execution;
        // To end, it needs nothing.
        if !execution.is_cancelling() {
            services
                .check(execution.definition())
                .await
                .map_err(|faults| {
                    anyhow::anyhow!("this machine's configuration lacks what it needs:\n{faults}")
                })?;
        }
        match take_over(journal, row.id).await {
            Ok(owned) => Ok(Some((owned, services))),
            Err(error) if is_anothers(&error) => {
                output::note(&format!("{}: {error}", row.id));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn services_of(&self, row: &ExecutionRow) -> anyhow::Result<Arc<Services>> {
        let settings: RunSettings =
            serde_json::from_str(&row.settings).context("its settings cannot be read")?;
        self.services.get(&settings)
    }
}

async fn rows(
    journal: &dyn Journal,
    only: Option<ExecutionId>,
) -> Result<Vec<ExecutionRow>, CliError> {
    let Some(id) = only else {
        return Ok(journal
            .list(Listing {
                statuses: UNFINISHED.into(),
                order: Order::OldestFirst,
                limit: LIMIT,
                ..Listing::default()
            })
            .await
            .map_err(anyhow::Error::from)?);
    };
    let row = journal.find(id).await?;
    if row.status.is_terminal() {
        output::note(&format!("{id} is {}", row.status.as_str()));
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
