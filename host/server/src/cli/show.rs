//! `troupe show`.

use clap::Args;
use serde_json::json;
use troupe_journal::Listing;
use troupe_workflow::{Execution, ExecutionId, StepView};

use super::{CliError, Common, End, output, progress};
use crate::stored::Definitions;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The execution; without one the newest are listed
    execution: Option<ExecutionId>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print every event of its journal, one JSON document a line
    #[arg(long)]
    events: bool,
    /// How many to list
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

pub(super) async fn run(common: &Common, args: ShowArgs) -> Result<End, CliError> {
    let journal = common.journal().await?;
    let Some(id) = args.execution else {
        let rows = journal
            .list(Listing {
                limit: args.limit,
                ..Listing::default()
            })
            .await
            .map_err(anyhow::Error::from)?;
        for row in rows {
            if args.json {
                let view = json!({ "id": row.id.to_string(), "workflow_name": row.workflow_name, "status": row.status.as_str() });
                output::line(&view.to_string());
            } else {
                output::line(&format!(
                    "{}  {:<9}  {}",
                    row.id,
                    row.status.as_str(),
                    row.workflow_name
                ));
            }
        }
        return Ok(End::Done);
    };
    journal.find(id).await?;
    if args.events {
        for event in journal.all_events(id).await.map_err(anyhow::Error::from)? {
            output::line(&serde_json::to_string(&event).map_err(anyhow::Error::from)?);
        }
        return Ok(End::Done);
    }
    let execution = Definitions::default().load(&*journal, id).await?.execution;
    if args.json {
        output::json(&execution.to_json());
    } else {
        show(&execution);
    }
    Ok(End::Done)
}

fn show(execution: &Execution) {
    let progress = execution.progress();
    output::line(&format!(
        "{}  {}  {}  {}/{} steps  {}",
        execution.id(),
        execution.definition().name(),
        execution.status().as_str(),
        progress.completed,
        progress.total,
        execution.cost(),
    ));
    output::line(&format!("inputs: {}", execution.inputs()));
    for step in execution.steps() {
        show_step(&step);
    }
    if let Some((failure, _)) = execution.failure() {
        output::line(&format!("\nfailed: {}: {failure}", failure.code));
    }
    if let Some(outputs) = execution.outputs() {
        output::line(&format!("\noutputs: {outputs:#}"));
    }
}

fn show_step(step: &StepView<'_>) {
    output::line(&format!("\n{}", progress::step_line(step)));
    let Some(state) = step.state else { return };
    if let Some(failure) = &state.failure {
        output::line(&indented(&format!("{}: {failure}", failure.code)));
    }
    if let Some(value) = step.output() {
        output::line(&indented(&output::shown(&value)));
    }
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
