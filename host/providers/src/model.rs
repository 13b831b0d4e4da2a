//! The vocabulary of model calls, the same for every provider. It owns what can be asked and answered; it must not
//! know a wire format.

use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::anthropic::Anthropic;
use crate::error::{ProviderError, Reached};
use crate::offline::Offline;
use crate::openai::OpenAi;

/// Tokens a provider may add to a request of its own accord: the frame of the conversation, and what it tells the
/// model about tools and schemas. Anthropic's tool prompt, the longest that is published, is under 700.
const OVERHEAD_TOKENS: u64 = 1_024;
/// Tokens that mark one message or one tool for the model; published figures are under 10.
const MESSAGE_OVERHEAD_TOKENS: u64 = 16;

/// One question to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRequest {
    /// The model, as the provider names it.
    pub model: String,
    /// Standing instructions.
    pub system: Option<String>,
    /// The conversation, oldest first. Roles may repeat; providers that want turns get them joined.
    pub messages: Vec<Message>,
    /// Most tokens to produce, reasoning included. None: the provider's own limit (Anthropic's needs one and gets
    /// [`crate::ANTHROPIC_MAX_TOKENS`]).
    pub max_tokens: Option<u32>,
    /// How varied the answer is. Dropped for a model that refuses it; the completion says so.
    pub temperature: Option<Temperature>,
    /// Texts that end the answer where they appear; they are not part of it.
    pub stop: Vec<String>,
    /// Functions the model may ask for.
    pub tools: Vec<ToolDefinition>,
    /// What the answer has to look like. A provider may still break it: the caller checks.
    pub schema: Option<Schema>,
    /// The same for every try of one call, so that a provider that knows such keys does the work once.
    pub idempotency_key: String,
    /// Longest time for the whole call, connecting and reading included.
    pub timeout: Duration,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// A question or material.
    User {
        /// What is said.
        text: String,
    },
    /// What the model answered before.
    Assistant {
        /// What it said; may be empty where it only calls tools.
        text: String,
        /// The calls it asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// The result of a call that the model asked for.
    Tool {
        /// The [`ToolCall::id`] it answers.
        call_id: String,
        /// The result, as text or JSON text.
        text: String,
    },
}

/// A model's wish to have a function called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's name for this call.
    pub id: String,
    /// The function, by the name of its definition. It comes from a model: check it.
    pub name: String,
    /// The arguments. They come from a model: check them. Where the model wrote no JSON, its text as a JSON string.
    pub arguments: Value,
}

/// A function the model may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// Letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON schema of its arguments, an object.
    pub parameters: Value,
}

/// What an answer has to look like.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Letters, digits, `_` and `-`, at most 64; some providers show it to the model.
    pub name: String,
    /// The JSON schema.
    pub json: Value,
    /// How the provider is to be held to it.
    pub strictness: Strictness,
}

/// How a provider is held to a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// By constrained decoding where the provider has it. A schema that its strict mode would refuse (optional
    /// properties, a root that is no object) goes as [`Strictness::Lenient`].
    Strict,
    /// The model is shown the schema and asked to keep to it.
    Lenient,
}

/// A temperature in hundredths, 0 to 200: exact, so that equal requests are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Temperature(u16);

impl Temperature {
    /// Highest temperature any provider takes, in hundredths.
    const HUNDREDTHS_MAX: u16 = 200;

    /// From hundredths: 70 is 0.7. None above 2.
    #[must_use]
    pub fn from_hundredths(hundredths: u32) -> Option<Self> {
        let hundredths = u16::try_from(hundredths).ok()?;
        (hundredths <= Self::HUNDREDTHS_MAX).then_some(Self(hundredths))
    }

    /// From a number, rounded to hundredths. None outside 0 to 2.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        if !(0.0..=2.0).contains(&value) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 200 after the check above"
        )]
        let hundredths = (value * 100.0).round() as u16;
        Some(Self(hundredths))
    }

    /// As providers want it.
    pub(crate) fn as_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text as it came.
    pub text: String,
    /// The calls it asks for.
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: Finish,
    /// What it used.
    pub usage: Usage,
    /// Where `usage` comes from.
    pub usage_source: UsageSource,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// The provider's name for the request, for its support.
    pub request_id: Option<String>,
    /// Fields of the request that this model refused and that were therefore left out or done another way:
    /// `temperature`, `stop`, `schema`.
    pub left_out: Vec<&'static str>,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It was done, or met a text of `stop`.
    Stop,
    /// It reached `max_tokens` or the end of its window: the text is cut off.
    Length,
    /// It asks for tool calls.
    ToolCalls,
    /// The provider held the answer back, or the model declined; the text may say why.
    Filtered,
}

/// Tokens of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, those read from or written to a cache included.
    pub input_tokens: u64,
    /// Those of them that the provider had in its cache.
    pub cached_input_tokens: u64,
    /// Those of them that the provider wrote to its cache, at a price of their own.
    pub cache_write_tokens: u64,
    /// All output tokens, reasoning included.
    pub output_tokens: u64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_input_tokens: self
                .cached_input_tokens
                .saturating_add(other.cached_input_tokens),
            cache_write_tokens: self
                .cache_write_tokens
                .saturating_add(other.cache_write_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
        }
    }
}

/// Where a [`Usage`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider counted.
    Reported,
    /// The provider sent no usable count; an upper bound from the bytes stands in.
    Bounded,
}

impl ModelRequest {
    /// An upper bound of the input tokens, for reserving money before the call: a token of any tokenizer in use stands
    /// for at least one byte of UTF-8, and what providers add is bounded by a constant.
    #[must_use]
    pub fn input_tokens_max(&self) -> u64 {
        let json_len = |value: &Value| value.to_string().len();
        let messages = self.messages.iter().map(|message| match message {
            Message::User { text } => text.len(),
            Message::Tool { call_id, text } => call_id.len() + text.len(),
            Message::Assistant { text, tool_calls } => {
                let calls = tool_calls
                    .iter()
                    .map(|c| c.id.len() + c.name.len() + json_len(&c.arguments));
                text.len() + calls.sum::<usize>()
            }
        });
        let tools = self
            .tools
            .iter()
            .map(|t| t.name.len() + t.description.len() + json_len(&t.parameters));
        let schema = self
            .schema
            .as_ref()
            .map_or(0, |schema| schema.name.len() + json_len(&schema.json));
        let bytes = messages.sum::<usize>()
            + tools.sum::<usize>()
            + schema
            + self.system.as_ref().map_or(0, String::len);
        let parts = self.messages.len() + self.tools.len();
        let tokens = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        tokens(bytes)
            .saturating_add(tokens(parts).saturating_mul(MESSAGE_OVERHEAD_TOKENS))
            .saturating_add(OVERHEAD_TOKENS)
    }

    /// About how many input tokens it has, for pacing calls: a token of prose, code or Chinese stands for some three
    /// bytes.
    #[must_use]
    pub fn input_tokens_expected(&self) -> u64 {
        self.input_tokens_max().div_ceil(3)
    }

    /// What stands in for a usage that the provider did not send: the bounds of both sides.
    pub(crate) fn usage_max(&self, output_bytes: usize) -> Usage {
        let output = u64::try_from(output_bytes).unwrap_or(u64::MAX);
        Usage {
            input_tokens: self.input_tokens_max(),
            output_tokens: self
                .max_tokens
                .map_or(output, |max| u64::from(max).max(output)),
            ..Usage::default()
        }
    }
}

/// A model service of the configuration.
#[derive(Debug)]
pub enum ModelProvider {
    /// OpenAI and everything that speaks its chat completions.
    OpenAi(OpenAi),
    /// Anthropic's messages.
    Anthropic(Anthropic),
    /// The built-in extractive model.
    Offline(Offline),
}

impl ModelProvider {
    /// The provider's name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::OpenAi(provider) => provider.name(),
            Self::Anthropic(provider) => provider.name(),
            Self::Offline(provider) => provider.name(),
        }
    }

    /// Asks the model and waits for the whole answer. It does not retry: the caller decides, with the same key.
    ///
    /// # Errors
    /// A [`ProviderError`]; its `sent()` tells whether the call may have cost something.
    pub async fn complete(&self, request: &ModelRequest) -> Result<Completion, ProviderError> {
        match self {
            Self::OpenAi(provider) => provider.complete(request).await,
            Self::Anthropic(provider) => provider.complete(request).await,
            Self::Offline(provider) => complete_offline(provider, request).await,
        }
    }
}

/// Its answer is computed: that happens on a thread that may be kept busy.
async fn complete_offline(
    provider: &Offline,
    request: &ModelRequest,
) -> Result<Completion, ProviderError> {
    let name = || provider.name().to_owned();
    let (work, asked) = (provider.clone(), request.clone());
    let work = tokio::task::spawn_blocking(move || work.complete(&asked));
    match tokio::time::timeout(request.timeout, work).await {
        Ok(done) => done.map_err(|error| ProviderError::Unavailable {
            provider: name(),
            message: format!("its thread ended early: {error}"),
            reached: Reached::No,
        }),
        Err(_elapsed) => Err(ProviderError::TimedOut {
            provider: name(),
            after: request.timeout,
            reached: Reached::No,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_are_exact_and_bounded() {
        assert_eq!(Temperature::from_f64(0.7), Temperature::from_hundredths(70));
        assert_eq!(
            Temperature::from_hundredths(70).map(Temperature::as_f64),
            Some(0.7)
        );
        for value in [-0.1, 2.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Temperature::from_f64(value), None);
        }
        assert_eq!(Temperature::from_hundredths(201), None);
    }

    #[test]
    fn sums_of_usage_do_not_overflow() {
        let huge = Usage {
            input_tokens: u64::MAX,
            ..Usage::default()
        };
        assert_eq!((huge + huge).input_tokens, u64::MAX);
    }
}
