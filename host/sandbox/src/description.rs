//! What a component tells about itself, through `describe` of `troupe:agent/description`. It is asked once, when it
//! is loaded, under small limits and without grants; everything it says is a stranger's text.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use crate::call::Call;
use crate::cancel::CancelFlag;
use crate::capability::Grants;
use crate::error::LoadError;
use crate::host_calls::DenyAll;
use crate::limits::Limits;
use crate::outcome::Outcome;

/// The interface and the version that it is asked in.
pub(crate) const INTERFACE: &str = "troupe:agent/description";

/// What describing may use: it is a matter of returning a text, but an interpreter has to start for it.
const LIMITS: Limits = Limits {
    fuel: 1_000_000_000,
    memory_bytes_max: 256 << 20,
    time_max: Duration::from_secs(5),
    output_bytes_max: 256 << 10,
    log_bytes_max: 0,
    host_calls_max: 0,
    // It is told of each capability that it may not use it.
    host_bytes_max: 64 << 10,
    disk_bytes_max: 0,
    open_files_max: 0,
    instances_max: Limits::STANDARD.instances_max,
    traced_calls_max: 0,
};

/// What a component tells about itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// What it can do.
    pub actions: Vec<Action>,
}

/// Something that a component says it can do: an agent's action, or a tool's function of this name.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Action {
    /// Its name.
    pub name: String,
    /// For a person or a model.
    pub description: String,
    /// JSON schema of the input.
    #[serde(deserialize_with = "schema")]
    pub input_schema: Value,
    /// JSON schema of the output.
    #[serde(deserialize_with = "schema")]
    pub output_schema: Value,
}

/// A schema as JSON text: an object, `true` or `false`.
fn schema<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let text = String::deserialize(deserializer)?;
    let schema: Value = serde_json::from_str(&text)
        .map_err(|error| serde::de::Error::custom(format!("a schema is no JSON: {error}")))?;
    if schema.is_object() || schema.is_boolean() {
        return Ok(schema);
    }
    Err(serde::de::Error::custom(
        "a schema is an object, `true` or `false`",
    ))
}

/// The circumstances of the call. It depends on nothing, so that it tells the same each time.
pub(crate) fn call() -> Call {
    Call {
        agent: "describe".to_owned(),
        grants: Grants::none(),
        limits: LIMITS,
        host: Arc::new(DenyAll),
        seed: [0; 32],
        started_at: UNIX_EPOCH,
        cancel: CancelFlag::new(),
    }
}

/// Reads what `describe` returned.
///
/// # Errors
/// It failed, or said nothing that can be read.
pub(crate) fn read(outcome: Outcome) -> Result<Description, LoadError> {
    let reason = match outcome {
        Outcome::Returned(json) => match description_of(&json) {
            Ok(description) => return Ok(description),
            Err(error) => error.to_string(),
        },
        Outcome::Trapped(trap) => trap.to_string(),
        Outcome::LimitHit(limit) => format!("{} was reached", limit.code()),
        Outcome::Exited(code) => format!("it ended itself with exit code {code}"),
        other => format!("{other:?}"),
    };
    Err(LoadError::Description { reason })
}

fn description_of(json: &str) -> serde_json::Result<Description> {
    serde_json::from_value(serde_json::from_str::<Value>(json)?)
}
