//! What an agent remembers from one execution to the next: a key-value store, one for each agent of each
//! workflow.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::troupe::agent::memory as wit;
use crate::{Error, json};

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// What was stored.
    pub value: T,
    /// Counted from 1, one more at each change.
    pub version: u64,
}

/// How a [`set_if`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOutcome {
    /// Stored, with this version.
    Stored(u64),
    /// Not stored: the key's version is this one (0: it does not exist), not the expected one.
    Conflict(u64),
}

/// The value under a key.
///
/// # Errors
/// The host's, and [`Error::Unexpected`] where the value has another shape.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<Entry<T>>, Error> {
    let Some(entry) = wit::get(key).map_err(Error::from_wit)? else {
        return Ok(None);
    };
    let value = json::read(&format!("the memory of `{key}`"), &entry.value)?;
    Ok(Some(Entry {
        value,
        version: entry.version,
    }))
}

/// Stores a value, whatever was there; returns its version.
///
/// # Errors
/// The host's, see [`Error`].
pub fn set(key: &str, value: &impl Serialize) -> Result<u64, Error> {
    match wit::set(key, &write(key, value)?, None).map_err(Error::from_wit)? {
        wit::SetOutcome::Stored(version) | wit::SetOutcome::Conflict(version) => Ok(version),
    }
}

/// Stores a value where the key has the expected version now (0: does not exist).
///
/// # Errors
/// The host's, see [`Error`]; a conflict is an outcome, not an error.
pub fn set_if(
    key: &str,
    value: &impl Serialize,
    expected_version: u64,
) -> Result<SetOutcome, Error> {
    let outcome =
        wit::set(key, &write(key, value)?, Some(expected_version)).map_err(Error::from_wit)?;
    Ok(match outcome {
        wit::SetOutcome::Stored(version) => SetOutcome::Stored(version),
        wit::SetOutcome::Conflict(version) => SetOutcome::Conflict(version),
    })
}

/// Forgets a key; a key that does not exist is no error.
///
/// # Errors
/// The host's, see [`Error`].
pub fn delete(key: &str) -> Result<(), Error> {
    wit::delete(key).map_err(Error::from_wit)
}

/// Keys that begin with `prefix` and come after `after`, in order, at most 1,000.
///
/// # Errors
/// The host's, see [`Error`].
pub fn keys(prefix: &str, after: Option<&str>) -> Result<Vec<String>, Error> {
    wit::keys(prefix, after).map_err(Error::from_wit)
}

fn write(key: &str, value: &impl Serialize) -> Result<String, Error> {
    json::write(&format!("the value for `{key}`"), value)
}
