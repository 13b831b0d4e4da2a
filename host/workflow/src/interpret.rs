//! What a model's text means: the value of an LLM step.

use serde_json::{Value, json};

use crate::definition::RequiredFields;
use crate::document::{ResponseFormat, kind};
use crate::fault::listed;

/// A text, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct LlmAnswer {
    /// The step's value: parsed JSON, or the text itself.
    pub value: Value,
    /// The text as it came.
    pub text: String,
}

/// Why a text is not the answer that was asked for, in words that the model can use to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AnswerProblem(pub String);

/// Reads a model's answer.
///
/// If the text is JSON, or holds exactly one fenced JSON block, the value is that JSON; otherwise the value
/// is the text. JSON that is no object is taken for the one field that is read, if exactly one is.
///
/// # Errors
/// Where a required field is missing or `schema` is violated: what is wrong, for the model.
pub fn interpret_text(
    text: String,
    required: &RequiredFields,
    schema: Option<&Value>,
    format: ResponseFormat,
) -> Result<LlmAnswer, AnswerProblem> {
    let wants_text = format == ResponseFormat::Text
        || (format == ResponseFormat::Auto
            && schema.is_some_and(|schema| schema["type"] == "string"));
    let parsed = if wants_text { None } else { json_of(&text) };
    let mut value = match parsed {
        Some(value) => value,
        None if wants_text
            || (format == ResponseFormat::Auto && required.is_empty() && schema.is_none()) =>
        {
            Value::String(text.clone())
        }
        None => {
            return Err(AnswerProblem(
                "The answer is not JSON. Answer with JSON only.".to_owned(),
            ));
        }
    };
    if let (Some((field, _)), false) = (required.only(), value.is_object()) {
        value = json!({ field: value });
    }
    check_fields(&value, required)?;
    if let Some(schema) = schema {
        check_schema(&value, schema)?;
    }
    Ok(LlmAnswer { value, text })
}

fn check_fields(value: &Value, required: &RequiredFields) -> Result<(), AnswerProblem> {
    if required.is_empty() {
        return Ok(());
    }
    let Some(object) = value.as_object() else {
        return Err(AnswerProblem(format!(
            "The answer is {}, it must be a JSON object.",
            kind(value)
        )));
    };
    let missing: Vec<&str> = required
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !object.contains_key(*name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(AnswerProblem(format!(
        "The answer lacks {}.",
        listed(&missing)
    )))
}

/// Checks an output against its agent's schema.
///
/// # Errors
/// The first faults, with their places.
pub fn check_schema(value: &Value, schema: &Value) -> Result<(), AnswerProblem> {
    const SHOWN_MAX: usize = 5;
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| AnswerProblem(format!("The schema cannot be used: {error}")))?;
    let problems: Vec<String> = validator
        .iter_errors(value)
        .take(SHOWN_MAX)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(AnswerProblem(format!(
        "The answer violates its schema: {}.",
        problems.join("; ")
    )))
}

/// Checks that a schema can be used.
///
/// # Errors
/// Why it cannot.
pub fn check_is_schema(schema: &Value) -> Result<(), String> {
    match jsonschema::validator_for(schema) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("it is no JSON schema: {error}")),
    }
}

/// The JSON that a text is, or that its one fenced block holds.
pub fn json_of(text: &str) -> Option<Value> {
    let trimmed = text.trim();
    if let Ok(value) = serde_json::from_str(trimmed) {
        return Some(value);
    }
    let mut blocks = fenced_blocks(trimmed).into_iter();
    match (blocks.next(), blocks.next()) {
        (Some(block), None) => serde_json::from_str(block.trim()).ok(),
        _ => None,
    }
}

/// The contents of the blocks between fences that are plain or marked `json`.
fn fenced_blocks(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("```") {
        let after = &rest[start + 3..];
        let Some(line_end) = after.find('\n') else {
            break;
        };
        let language = after[..line_end].trim();
        let body = &after[line_end + 1..];
        let Some(end) = body.find("```") else { break };
        if language.is_empty() || language.eq_ignore_ascii_case("json") {
            blocks.push(&body[..end]);
        }
        rest = &body[end + 3..];
    }
    blocks
}

#[cfg(test)]
mod tests;
