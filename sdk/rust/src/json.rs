//! JSON text, to and from an agent's own types.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Reads what came from the host; `what` names it in the error.
pub(crate) fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Unexpected {
        what: what.to_owned(),
        reason: error.to_string(),
    })
}

/// Writes what goes to the host; the error is as if the host had refused it.
pub(crate) fn write(what: &str, value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::Invalid(format!("{what} cannot be written as JSON: {error}")))
}
