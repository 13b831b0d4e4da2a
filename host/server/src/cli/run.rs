//! `troupe run`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use troupe_journal::FirstOwner;
use troupe_workflow::{Event, Execution, ExecutionStatus, Faults, StepView, WaitingApproval};

use super::output::Format;
use super::progress::Progress;
use super::trace::{self, Shown};
use super::{CliError, Common, End, document, output};
use crate::clock;
use crate::driver::{Owned, Patience};
use crate::open;
use crate::run::{self, NewRun, RunSettings, create};
use crate::services::Services;
use crate::tasks;

/// Events that wait to be shown; then the execution waits for the terminal.
const EVENTS_MAX: usize = 256;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The workflow document
    file: PathBuf,
    /// An input: NAME=TEXT, or NAME:=JSON for other values; may be given again
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// Ask no service: the built-in model and the documents answer for all
    #[arg(long)]
    offline: bool,
    /// A folder of documents for the source `document`; offline for all sources
    #[arg(long, value_name = "FOLDER")]
    docs: Option<PathBuf>,
    /// List at the end what the components of its steps asked of the host: on standard error, or with --json as `trace`
    #[arg(long)]
    trace: bool,
    /// Print the whole execution as JSON at the end
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, args: RunArgs) -> Result<End, CliError> {
    let inputs = parse_inputs(&args.input).map_err(CliError::Caller)?;
    let config = common.config()?;
    let places = common.places()?;
    let settings = RunSettings {
        offline: args.offline,
        documents: args
            .docs
            .as_deref()
            .map(std::path::absolute)
            .transpose()
            .context("--docs")?,
    };
    let mut faults = Faults::default();
    let mut gathered = document::gather(&args.file, &mut faults)?;
    let journal = open::journal(&config.server, &places).await?;
    let mut services = Services::new(journal, &config, &places, &settings.outside())?;
    let shown = Shown::from(args.json).with_traces(args.trace.then(Arc::default));
    services.traces = shown.traces.clone();
    gathered
        .add_components(
            (&services.components, settings.outside().reach),
            &mut faults,
        )
        .await;
    let definition = Arc::new(document::compile(&gathered.document, faults)?);
    services
        .check(&definition)
        .await
        .map_err(|faults| document::invalid(&faults))?;
    definition.check_inputs(&inputs).map_err(|faults| {
        CliError::Caller(anyhow!(
            "the inputs of `{}` are not right:\n{faults}",
            definition.name()
        ))
    })?;
    document::warn(&definition);
    let new = NewRun {
        definition,
        inputs,
        settings,
        workflow: None,
        forked_from: None,
        kept: Vec::new(),
        planned: None,
        first_owner: FirstOwner::Creator,
        records: Vec::new(),
    };
    let owned = create(&*services.journal, clock::new_execution_id(), new)
        .await
        .map_err(anyhow::Error::from)?;
    let execution = drive(owned, Arc::new(services), Patience::ForTimers).await?;
    Ok(finish(&execution, &shown))
}

/// Drives an execution with its progress on standard error.
pub(super) async fn drive(
    owned: Owned,
    services: Arc<Services>,
    patience: Patience,
) -> anyhow::Result<Execution> {
    let id = owned.execution.id();
    let (sender, mut events) = mpsc::channel::<Event>(EVENTS_MAX);
    let mut progress = Progress::new(&owned.execution);
    let shown = tasks::spawn("progress", async move {
        while let Some(event) = events.recv().await {
            progress.show(&event);
        }
        progress.finish();
    });
    let journal = Arc::clone(&services.journal);
    let epoch = owned.epoch;
    tokio::select! {
        driven = run::drive(owned, services, Some(sender), patience) => {
            let _ = shown.await;
            driven
        }
        _ = tokio::signal::ctrl_c() => {
            // The steps under way are given up; the next owner sees them as interrupted.
            let _ = run::hand_over(&*journal, id, epoch).await;
            Err(anyhow!("stopped by Ctrl-C; `troupe recover {id}` goes on with what was not finished"))
        }
    }
}

/// Prints the end of an execution, with what its components asked of the host where that was traced.
pub(super) fn finish(execution: &Execution, shown: &Shown) -> End {
    let traced = shown.traces.as_ref().map(|traces| traces.take());
    if shown.format == Format::Json {
        let mut json = execution.to_json();
        if let Some(traced) = traced {
            json["trace"] = trace::attempts_json(&traced);
        }
        output::json(&json);
        return end(execution);
    }
    if let Some(traced) = traced {
        trace::print_attempts(&traced);
    }
    if let Some(outputs) = execution.outputs() {
        output::line(&answer(execution, outputs));
    }
    end(execution)
}

/// Says how an execution ended, or what it waits for.
fn end(execution: &Execution) -> End {
    let id = execution.id();
    match execution.status() {
        ExecutionStatus::Completed => {
            output::note(&format!(
                "\n{id} completed; `troupe show {id}` has every step's output"
            ));
            End::Done
        }
        ExecutionStatus::Failed => {
            if let Some((failure, step)) = execution.failure() {
                let place = step.map_or(String::new(), |step| format!(" at the step `{step}`"));
                output::note(&format!(
                    "\n{id} failed{place}: {}: {failure}",
                    failure.code
                ));
            }
            End::Failed
        }
        ExecutionStatus::Cancelled => {
            output::note(&format!("\n{id} was cancelled"));
            End::Failed
        }
        ExecutionStatus::WaitingApproval => {
            for waiting in execution.waiting_approvals() {
                output::note(&waiting_note(execution, &waiting));
            }
            End::Waiting
        }
        ExecutionStatus::Paused
        | ExecutionStatus::Queued
        | ExecutionStatus::Running
        | ExecutionStatus::Waiting => {
            if execution.status() == ExecutionStatus::Waiting {
                output::note(&format!(
                    "\n{id} waits for a timer; `troupe recover {id}` waits with it"
                ));
            }
            if let Some(pause) = execution.paused() {
                let by = pause.by.as_ref().map(|by| format!(" by {by}"));
                let reason = pause.reason.as_ref().map(|reason| format!(": {reason}"));
                output::note(&format!(
                    "\n{id} is paused{}{}\nto go on: `troupe resume {id}`",
                    by.unwrap_or_default(),
                    reason.unwrap_or_default()
                ));
            }
            for path in execution.in_doubt() {
                output::note(&format!(
                    "\n{id} is paused: `{path}` has `idempotent: false`, was interrupted, and may or may not have had its effect; once you know that it may run again: `troupe resume {id}`"
                ));
            }
            for (path, reason) in execution.unpaid() {
                output::note(&format!(
                    "\n{id} is paused at `{path}`: {reason}\nto go on: `troupe resume {id} --budget-usd …` (or `--budget-tokens`, `--budget-fuel`)"
                ));
            }
            End::Waiting
        }
    }
}

/// Who is asked what, and how to answer.
fn waiting_note(execution: &Execution, waiting: &WaitingApproval<'_>) -> String {
    let id = execution.id();
    let approval = waiting.approval;
    let mut text = format!(
        "\n{id} waits for {} at `{}`:\n{}\n",
        approval.assignees.join(", "),
        waiting.path,
        output::shown(&approval.input)
    );
    if waiting.required > 1 {
        text.push_str(&format!(
            "{} of {} approvals are given\n",
            approval.answers.len(),
            waiting.required
        ));
    }
    if let Some(form) = waiting.form {
        text.push_str(&format!("with --form as this schema says: {form}\n"));
    }
    if let Some(deadline) = approval.deadline {
        text.push_str(&format!("until {deadline}\n"));
    }
    text.push_str(&format!(
        "answer with `troupe approve {id} --step '{}'` or the same with `--reject`",
        waiting.path
    ));
    text
}

/// What a person wants to read: the one output, or that of the last step, or all that were asked for.
fn answer(execution: &Execution, outputs: &Value) -> String {
    let map = outputs.as_object();
    if execution.definition().document().get("outputs").is_none() {
        let steps = execution.steps();
        let last = steps
            .iter()
            .filter(|step| step.depth == 0 || !step.path.as_str().contains(['[', '.']))
            .rev()
            .find_map(StepView::output);
        return last.map_or_else(String::new, |value| output::shown(&value));
    }
    match map.map(|map| map.values().collect::<Vec<_>>()).as_deref() {
        Some([only]) => output::shown(only),
        _ => output::shown(outputs),
    }
}

/// The inputs that the options `-i` give.
pub(super) fn parse_inputs(given: &[String]) -> anyhow::Result<Value> {
    let mut inputs = Map::new();
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, json)) if name.ends_with(':') => {
                let value = serde_json::from_str(json)
                    .with_context(|| format!("-i {text}: after `:=` stands JSON"))?;
                (name.trim_end_matches(':'), value)
            }
            Some((name, value)) => (name, Value::String(value.to_owned())),
            None => return Err(anyhow!("-i {text}: write NAME=TEXT, or NAME:=JSON")),
        };
        inputs.insert(name.to_owned(), value);
    }
    Ok(Value::Object(inputs))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::parse_inputs;

    #[test]
    fn inputs_are_texts_or_json() {
        let given = ["a=x=y".to_owned(), "n:=3".to_owned(), "l:=[1]".to_owned()];
        assert_eq!(
            parse_inputs(&given).unwrap(),
            json!({ "a": "x=y", "n": 3, "l": [1] })
        );
        assert!(parse_inputs(&["a".to_owned()]).is_err());
        assert!(parse_inputs(&["a:=x".to_owned()]).is_err());
    }
}
