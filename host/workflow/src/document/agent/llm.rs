//! Agents that are language models.

use super::super::Fields;
use crate::fault::Faults;

/// A language model with its instructions.
#[derive(Debug, Clone)]
pub struct LlmAgent {
    pub model: String,
    /// A template, as the author wrote it.
    pub(crate) system_prompt: Option<String>,
    pub temperature: Option<f64>,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    /// Tool agents' ids, or names of tools, that the model may call.
    pub tools: Vec<String>,
    /// Most answers of the model in one step, tool calls included.
    pub max_turns: u32,
    /// Tried in order when the model's service fails.
    pub fallback_models: Vec<String>,
    pub response_format: ResponseFormat,
}

/// What is made of a model's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFormat {
    /// JSON where it is JSON, else the text.
    Auto,
    /// The text, whatever it holds.
    Text,
    /// JSON; anything else is a wrong answer.
    Json,
}

/// Answers of one step: protects the budget from a model that calls tools without end.
const TURNS_MAX: u32 = 100;
const TURNS_DEFAULT: u32 = 10;

pub(super) fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<LlmAgent> {
    let model = fields.required_text("model", faults);
    let system_prompt = fields.text("system_prompt", faults);
    let temperature = fields.number("temperature", faults);
    if temperature.is_some_and(|degrees| !(0.0..=2.0).contains(&degrees)) {
        faults.add(
            fields.at("temperature"),
            "the temperature lies between 0 and 2",
        );
    }
    let max_tokens = fields.count_from_one("max_tokens", u32::MAX, faults);
    let stop = fields.texts("stop", faults).unwrap_or_default();
    let tools = fields.texts("tools", faults).unwrap_or_default();
    let max_turns = fields
        .count_from_one("max_turns", TURNS_MAX, faults)
        .unwrap_or(TURNS_DEFAULT);
    let fallback_models = fields.texts("fallback_models", faults).unwrap_or_default();
    let formats = [
        ("text", ResponseFormat::Text),
        ("json", ResponseFormat::Json),
    ];
    let response_format = fields
        .choice("response_format", &formats, faults)
        .unwrap_or(ResponseFormat::Auto);
    Some(LlmAgent {
        model: model?,
        system_prompt,
        temperature,
        max_tokens,
        stop,
        tools,
        max_turns,
        fallback_models,
        response_format,
    })
}
