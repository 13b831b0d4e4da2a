//! The shape of `on_error`: a word, or an object that says more.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{Id, RETRIES_MAX, STEP_MS_MAX};

/// What happens when a step fails.
pub(super) struct OnError;

impl JsonSchema for OnError {
    fn schema_name() -> Cow<'static, str> {
        "OnError".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        word_or_object::<OnErrorWord, OnErrorRule>(generator, "What happens when a step fails.")
    }
}

/// What happens when a loop or a workflow step fails.
pub(super) struct BlockOnError;

impl JsonSchema for BlockOnError {
    fn schema_name() -> Cow<'static, str> {
        "BlockOnError".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        word_or_object::<BlockOnErrorWord, BlockOnErrorRule>(
            generator,
            "What happens when a loop or a workflow step fails.",
        )
    }
}

/// What takes a failed step's place.
struct Fallback;

impl JsonSchema for Fallback {
    fn schema_name() -> Cow<'static, str> {
        "Fallback".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        word_or_object::<FallbackWord, FallbackStep>(generator, "What takes a failed step's place.")
    }
}

/// A word or an object, told apart by a condition: with alternatives an editor says of an object with one faulty
/// field that it should be a word. Editors offer the examples where there is no value yet.
fn word_or_object<Word: JsonSchema, Object: JsonSchema>(
    generator: &mut SchemaGenerator,
    meaning: &str,
) -> Schema {
    let choices = Word::json_schema(generator);
    let choices = choices.get("oneOf").and_then(Value::as_array);
    let words: Vec<&Value> = choices
        .into_iter()
        .flatten()
        .filter_map(|choice| choice.get("const"))
        .collect();
    json_schema!({
        "description": meaning,
        "type": ["string", "object"],
        "examples": words,
        "if": { "type": "string" },
        "then": generator.subschema_for::<Word>(),
        "else": generator.subschema_for::<Object>(),
    })
}

/// What happens when a step fails, in one word.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub(super) enum OnErrorWord {
    /// It is tried again; when the tries are used up, the execution fails.
    Retry,
    /// The execution fails at once.
    Stop,
    /// The step's value is null and the execution goes on.
    Continue,
}

/// How often a step is tried again, and what takes its place then.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct OnErrorRule {
    /// Tries after the first, whatever the error.
    #[schemars(range(max = RETRIES_MAX), example = 3)]
    retry: Option<u32>,
    /// Pause before the first retry, in milliseconds; doubled each time, up to a minute.
    #[schemars(range(max = STEP_MS_MAX))]
    delay_ms: Option<u64>,
    /// What takes the step's place when the tries are used up.
    fallback: Option<Fallback>,
}

/// What happens when a loop or a workflow step fails, in one word.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum BlockOnErrorWord {
    /// The execution fails.
    Stop,
    /// The step's value is null and the execution goes on.
    Continue,
}

/// What takes the place of a loop or a workflow step that failed.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BlockOnErrorRule {
    /// What takes the step's place.
    fallback: Fallback,
}

/// Nothing takes a failed step's place.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum FallbackWord {
    /// The step's value is null and the execution goes on.
    Continue,
}

/// A step of another agent, whose output becomes the failed step's output.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FallbackStep {
    /// Who does it: an agent's id.
    agent: Id,
    /// What is to be done.
    #[schemars(length(min = 1), example = &"handle")]
    action: String,
    /// What the agent is given. `error` is the failure: `error.message`, `error.code`, `error.attempts`.
    #[schemars(example = "Error: {{ error }}")]
    input: Value,
}
