//! The JSON of a schedule: how it is written, and its schema. What is accepted is the reader's to say.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Missed, Overlap, Schedule, Timing};
use crate::document::simplify;

/// When which workflow is started by itself, and with what.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Schedule")]
pub(super) struct Form {
    /// The workflow that is started, in the version it has at that moment.
    #[schemars(length(min = 1, max = 128))]
    workflow_id: String,
    /// Five fields as in crontab(5): minute, hour, day of the month, month, day of the week, with names (`MON`,
    /// `JAN`), ranges, steps and lists; or `@hourly`, `@daily`, `@weekly`, `@monthly` or `@yearly`. Either this or
    /// `every_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    cron: Option<String>,
    /// Seconds from one moment to the next, counted from when the schedule was made. Either this or `cron`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 316_224_000))]
    every_s: Option<u64>,
    /// The IANA name of the time zone in which `cron` reads the clock.
    #[serde(default = "utc")]
    timezone: String,
    /// The inputs of every execution.
    #[serde(default)]
    inputs: Map<String, Value>,
    /// Overrides of the workflow's `config`.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Map<String, Value>>,
    /// What happens while the last execution has not ended.
    #[serde(default)]
    overlap: Overlap,
    /// What happens to moments at which the server was down.
    #[serde(default)]
    missed: Missed,
    /// Whether nothing is started; moments that pass meanwhile are not made up for.
    #[serde(default)]
    paused: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl From<Schedule> for Form {
    fn from(schedule: Schedule) -> Self {
        let (cron, every_s) = match schedule.timing {
            Timing::Cron(cron) => (Some(cron.to_string()), None),
            Timing::Every(every) => (None, Some(every.as_secs())),
        };
        let config = match schedule.config {
            Some(Value::Object(config)) => Some(config),
            _ => None,
        };
        Self {
            workflow_id: schedule.workflow_id,
            cron,
            every_s,
            timezone: schedule.timezone.to_string(),
            inputs: schedule.inputs,
            config,
            overlap: schedule.overlap,
            missed: schedule.missed,
            paused: schedule.paused,
        }
    }
}

/// The JSON schema (draft 2020-12) of a schedule. That it has exactly one of `cron` and `every_s` is in words only.
pub fn schedule_schema() -> Value {
    SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(simplify))
        .into_generator()
        .into_root_schema_for::<Form>()
        .to_value()
}
