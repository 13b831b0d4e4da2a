//! `troupe schedule`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use troupe_workflow::Schedule;

use super::run::parse_inputs;
use super::{CliError, Common, End, output, workflow};
use crate::clock;
use crate::operations::OperationError;
use crate::records;
use crate::schedules::{self, StoredSchedule};
use crate::workflows;

/// Schedules that a list shows: bounds what is read at once.
const LIST_MAX: u32 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// Start a workflow by the clock; a running `troupe serve` does it
    Create(CreateArgs),
    /// List schedules, the oldest first
    List {
        /// Print JSON, one document a line
        #[arg(long)]
        json: bool,
    },
    /// Show a schedule
    Show(OneArgs),
    /// Start nothing until `resume`
    Pause(OneArgs),
    /// Go on with the moments from now on
    Resume(OneArgs),
    /// Remove a schedule; what it has started goes on
    Delete {
        /// The schedule, `sched_…`
        schedule: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// A workflow document, which is stored as a new workflow
    #[arg(required_unless_present = "workflow", conflicts_with = "workflow")]
    file: Option<PathBuf>,
    /// A stored workflow, `wf_…`
    #[arg(long, value_name = "ID")]
    workflow: Option<String>,
    /// When, as in crontab(5): `0 7 * * MON-FRI`, or `@hourly`, `@daily`, `@weekly` …
    #[arg(long, required_unless_present = "every", conflicts_with = "every")]
    cron: Option<String>,
    /// How often, counted from now: `90s`, `15m`, `6h`, `1d`
    #[arg(long, value_name = "TIME", value_parser = seconds_of)]
    every: Option<u64>,
    /// Where `--cron` reads the clock, `Europe/Berlin` for instance [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// An input: NAME=TEXT, or NAME:=JSON for other values; may be given again
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// What happens while the last execution has not ended [default: skip]
    #[arg(long, value_parser = ["skip", "queue", "allow"])]
    overlap: Option<String>,
    /// What happens to moments at which no server was running [default: once]
    #[arg(long, value_parser = ["skip", "once"])]
    missed: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// The schedule, `sched_…`
    schedule: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, command: ScheduleCommand) -> Result<End, CliError> {
    match command {
        ScheduleCommand::Create(args) => create(common, args).await?,
        ScheduleCommand::List { json } => {
            let journal = common.journal().await?;
            for stored in records::list::<StoredSchedule>(&*journal, None, LIST_MAX).await? {
                let view = stored.to_json();
                let line = if json { view.to_string() } else { line(&view) };
                output::line(&line);
            }
        }
        ScheduleCommand::Show(args) => {
            let journal = common.journal().await?;
            let stored: StoredSchedule = records::find(&*journal, &args.schedule).await?;
            show(&stored, args.json.into());
        }
        ScheduleCommand::Pause(args) => {
            set_paused(common, &args, json!({ "paused": true })).await?;
        }
        ScheduleCommand::Resume(args) => {
            set_paused(common, &args, json!({ "paused": false })).await?;
        }
        ScheduleCommand::Delete { schedule } => {
            let journal = common.journal().await?;
            schedules::delete(&*journal, &schedule).await?;
            output::note(&format!("{schedule} is removed"));
        }
    }
    Ok(End::Done)
}

async fn set_paused(common: &Common, args: &OneArgs, patch: Value) -> Result<(), CliError> {
    let journal = common.journal().await?;
    let stored = schedules::patch(&*journal, &args.schedule, &patch, clock::now).await?;
    show(&stored, args.json.into());
    Ok(())
}

async fn create(common: &Common, args: CreateArgs) -> Result<(), CliError> {
    let inputs = parse_inputs(&args.input).map_err(CliError::Caller)?;
    let id = clock::new_id("sched");
    let (journal, stored) = match (&args.workflow, &args.file) {
        (Some(workflow), _) => {
            let schedule = read(&args, workflow, inputs)?;
            let journal = common.journal().await?;
            schedules::check(&*journal, &schedule)
                .await
                .map_err(with_places)?;
            (journal, StoredSchedule::new(id, schedule, clock::now()))
        }
        (None, Some(file)) => {
            // Nothing is stored of a document whose schedule has faults.
            let workflow = clock::new_id("wf");
            let schedule = read(&args, &workflow, inputs)?;
            let (journal, definition) = workflow::read(common, file).await?;
            let definition = Arc::new(definition);
            schedules::with_given(Arc::clone(&definition), &schedule).map_err(with_places)?;
            workflows::create(&*journal, &definition, Vec::new(), workflow).await?;
            (journal, StoredSchedule::new(id, schedule, clock::now()))
        }
        (None, None) => {
            let message = "name a workflow document, or a stored workflow with --workflow";
            return Err(CliError::Caller(anyhow!(message)));
        }
    };
    schedules::create(&*journal, &stored, Vec::new()).await?;
    show(&stored, args.json.into());
    output::note("a running `troupe serve` on this journal starts it");
    Ok(())
}

fn read(args: &CreateArgs, workflow: &str, inputs: Value) -> Result<Schedule, CliError> {
    let mut form = Map::new();
    form.insert("workflow_id".to_owned(), json!(workflow));
    form.insert("inputs".to_owned(), inputs);
    let options = [
        ("cron", json!(args.cron)),
        ("every_s", json!(args.every)),
        ("timezone", json!(args.timezone)),
        ("overlap", json!(args.overlap)),
        ("missed", json!(args.missed)),
    ];
    form.extend(options.map(|(name, value)| (name.to_owned(), value)));
    Schedule::read(&Value::Object(form))
        .map_err(|faults| with_places(OperationError::Faults(faults)))
}

fn with_places(error: OperationError) -> CliError {
    match error {
        OperationError::Faults(faults) => {
            CliError::Caller(anyhow!("the schedule is not right:\n{faults}"))
        }
        other => other.into(),
    }
}

fn show(stored: &StoredSchedule, format: output::Format) {
    let view = stored.to_json();
    if format == output::Format::Json {
        output::json(&view);
        return;
    }
    output::line(&line(&view));
    for name in [
        "timezone",
        "inputs",
        "config",
        "overlap",
        "missed",
        "queued_at",
        "last_execution",
        "last_error",
        "missed_count",
    ] {
        if let Some(value) = view.get(name).filter(|value| !value.is_null()) {
            output::line(&format!("  {name}: {}", one_line(value)));
        }
    }
}

/// A schedule in one line.
fn line(view: &Value) -> String {
    let text = |name: &str| one_line(&view[name]);
    let timing = match &view["cron"] {
        Value::String(cron) => cron.clone(),
        _ => format!("every {} s", text("every_s")),
    };
    let next = match (&view["paused"], &view["next_at"]) {
        (Value::Bool(true), _) => "paused".to_owned(),
        (_, Value::String(next)) => format!("next {next}"),
        _ => "never again".to_owned(),
    };
    format!("{}  {}  {timing}  {next}", text("id"), text("workflow_id"))
}

fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Reads `90`, `90s`, `15m`, `6h` or `1d`.
fn seconds_of(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time; write `90s`, `15m`, `6h` or `1d`");
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_wrong| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::seconds_of;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("15m", 900),
            ("6h", 21_600),
            ("1d", 86_400),
        ] {
            assert_eq!(seconds_of(text), Ok(seconds));
        }
        for text in [
            "",
            "m",
            "1.5h",
            "-1s",
            "1w",
            "99999999999999999999d",
            "9999999999999999d",
            "1ü",
        ] {
            assert!(seconds_of(text).is_err(), "{text}");
        }
    }
}
