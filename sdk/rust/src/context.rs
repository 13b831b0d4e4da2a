//! What the workflow knows so far.

use serde::de::DeserializeOwned;

use crate::bindings::troupe::agent::context as wit;
use crate::{Error, json};

/// The inputs of the execution, for example `{"topic": "electric vehicles"}`.
///
/// # Errors
/// [`Error::Unexpected`] where they have another shape.
pub fn inputs<T: DeserializeOwned>() -> Result<T, Error> {
    json::read("the inputs of the execution", &wit::inputs())
}

/// The output of an earlier step, by its id (or its agent's id, where it was given none). A step that was
/// skipped is null: read it into an `Option`.
///
/// # Errors
/// [`Error::NotFound`] for a step that has not ended, [`Error::Unexpected`] where the output has another
/// shape.
pub fn output<T: DeserializeOwned>(step: &str) -> Result<T, Error> {
    let text = wit::output(step).map_err(Error::from_wit)?;
    json::read(&format!("the output of `{step}`"), &text)
}

/// The names [`output`] takes now, in the workflow's order.
pub fn steps() -> Vec<String> {
    wit::steps()
}
