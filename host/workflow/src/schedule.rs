//! When a workflow is started by itself: the schedule as it is written and stored, and the moments it means.
//!
//! It reads no clock and starts nothing: a node asks [`Schedule::due`] what is to be done now, and records it.

mod cron;
mod due;
mod form;
mod zone;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use cron::Cron;
pub use due::{Firing, LastRun, MISSED_COUNTED_MAX, Standing};
pub use form::schedule_schema;
pub use zone::Zone;

use crate::depth::check_depth;
use crate::document::{Config, Fields};
use crate::duration::Timestamp;
use crate::fault::Faults;
use form::Form;

/// The rarest that `every_s` may say: ten years.
const EVERY_S_MAX: u32 = 10 * 366 * 86_400;
/// Protects the journal's index from an id that is none.
const WORKFLOW_ID_BYTES_MAX: usize = 128;

/// When which workflow is started, and with what. Its JSON is that of the API and of the journal; reading it checks
/// it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Value")]
pub struct Schedule {
    /// The workflow that is started, in the version it has at that moment. Required.
    pub workflow_id: String,
    /// `cron` or `every_s`: one of them is required.
    pub timing: Timing,
    /// Where `cron` reads the clock; `UTC` by default.
    pub timezone: Zone,
    /// The inputs of every execution; `{}` by default.
    pub inputs: Map<String, Value>,
    /// Overrides of the workflow's `config`; none by default.
    pub config: Option<Value>,
    /// What happens while the last execution has not ended; `skip` by default.
    pub overlap: Overlap,
    /// What happens to moments at which nobody looked; `once` by default.
    pub missed: Missed,
    /// Whether nothing is started; `false` by default. Moments that pass meanwhile are not made up for.
    pub paused: bool,
}

/// The moments of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timing {
    /// By the wall clock of the schedule's time zone.
    Cron(Cron),
    /// At this distance from each other, whatever the clock on the wall says.
    Every(Duration),
}

/// What happens at a moment while the last execution has not ended.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Nothing is started. The default: an execution that takes longer than planned must not pile up.
    #[default]
    Skip,
    /// One start is remembered, and happens when the last execution has ended; further ones are skipped.
    Queue,
    /// It is started beside the last one.
    Allow,
}

/// What happens to moments at which no node looked, for instance because it was down.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are left out, but for one that passed less than a minute ago.
    Skip,
    /// One execution is started for all of them. The default: the usual reason is a restart at the wrong moment, and
    /// the nightly report is expected all the same; one late start is also the most it can cost.
    #[default]
    Once,
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// All its faults, each with its place.
    pub fn read(value: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let schedule = read(value, &mut faults);
        faults.sort_along(value);
        match schedule {
            Some(schedule) if faults.is_empty() => Ok(schedule),
            _ => Err(faults),
        }
    }

    /// The first moment after `after`; none: never again. With `every_s` the moments are counted from `anchor`, which
    /// is none of them: when the schedule was made, or its timing last changed.
    pub fn next_after(&self, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        match &self.timing {
            Timing::Cron(cron) => {
                let after = jiff::Timestamp::from_millisecond(after.as_millis()).ok()?;
                let next = cron.next_after(after, self.timezone.rules())?;
                Some(Timestamp::from_millis(next.as_millisecond()))
            }
            Timing::Every(every) => {
                let every = i64::try_from(every.as_millis()).ok()?;
                let passed = after.as_millis().checked_sub(anchor.as_millis())?.max(0);
                let rounds = passed.checked_div(every)?.checked_add(1)?;
                let next = anchor.as_millis().checked_add(rounds.checked_mul(every)?)?;
                Some(Timestamp::from_millis(next))
            }
        }
    }
}

impl TryFrom<Value> for Schedule {
    type Error = Faults;

    fn try_from(value: Value) -> Result<Self, Faults> {
        Self::read(&value)
    }
}

fn read(value: &Value, faults: &mut Faults) -> Option<Schedule> {
    let mut fields = Fields::of(value, "", faults)?;
    let workflow_id = fields.required_text("workflow_id", faults);
    if let Some(id) = &workflow_id
        && (id.is_empty() || id.len() > WORKFLOW_ID_BYTES_MAX)
    {
        faults.add(fields.at("workflow_id"), "this is no workflow's id");
    }
    let timing = read_timing(&mut fields, faults);
    let timezone = match fields.text("timezone", faults) {
        Some(name) => Zone::find(&name)
            .map_err(|message| faults.add(fields.at("timezone"), message))
            .ok(),
        None => Some(Zone::default()),
    };
    let inputs = match fields.value("inputs") {
        Some(Value::Object(inputs)) => inputs.clone(),
        Some(other) => {
            fields.expected("inputs", other, "an object", faults);
            Map::new()
        }
        None => Map::new(),
    };
    if let Some(Err(message)) = fields.value("inputs").map(check_depth) {
        faults.add(fields.at("inputs"), message);
    }
    let config = fields.value("config").cloned();
    if let Some(config) = &config {
        Config::read(config, &fields.at("config"), faults);
    }
    let overlaps = [
        ("skip", Overlap::Skip),
        ("queue", Overlap::Queue),
        ("allow", Overlap::Allow),
    ];
    let overlap = fields.choice("overlap", &overlaps, faults);
    let misses = [("skip", Missed::Skip), ("once", Missed::Once)];
    let missed = fields.choice("missed", &misses, faults);
    let paused = fields.flag("paused", faults);
    fields.finish(faults);
    Some(Schedule {
        workflow_id: workflow_id?,
        timing: timing?,
        timezone: timezone?,
        inputs,
        config,
        overlap: overlap.unwrap_or_default(),
        missed: missed.unwrap_or_default(),
        paused: paused.unwrap_or_default(),
    })
}

fn read_timing(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Timing> {
    let is_cron = fields.value("cron").is_some();
    let cron = fields.text("cron", faults);
    let is_every = fields.value("every_s").is_some();
    let every = fields.count_from_one("every_s", EVERY_S_MAX, faults);
    let cron = cron.and_then(|text| {
        Cron::parse(&text)
            .map_err(|message| faults.add(fields.at("cron"), message))
            .ok()
    });
    match (is_cron, is_every) {
        (true, true) => {
            faults.add(
                fields.at("every_s"),
                "there is a `cron` already; a schedule has one of the two",
            );
            None
        }
        (false, false) => {
            faults.add(fields.pointer(), "`cron` or `every_s` is missing");
            None
        }
        _ => cron
            .map(Timing::Cron)
            .or(every.map(|seconds| Timing::Every(Duration::from_secs(seconds.into())))),
    }
}

#[cfg(test)]
mod tests;
