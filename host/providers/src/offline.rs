//! The built-in model. It is honest about what it is: no language model, but rules that act on the requested schema and
//! the input alone. It reads no instructions: the system prompt and the request's tools mean nothing to it. The same
//! request has the same answer always.

mod input;
mod instance;
mod phrases;
mod sentences;
mod summary;
mod words;

use crate::answer::cut_at_stop;
use crate::model::{Completion, Finish, Message, ModelRequest, Usage, UsageSource};

/// The name of the built-in model, in requests, answers and the price table.
pub const OFFLINE_MODEL: &str = "offline-extractive";

/// First line of every text it writes, so that nobody takes it for a language model's.
const LABEL: &str = "[offline extractive summary: no language model was used]";
/// Most of an input that is read. It bounds the time of one answer, which is computed in place.
const INPUT_BYTES_MAX: usize = 512 * 1024;
/// Bytes that count as one token: about what tokenizers make of English.
const BYTES_PER_TOKEN: usize = 4;

/// The built-in model as a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offline {
    name: String,
}

impl Offline {
    /// A provider of that name in the configuration.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The provider's name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Answers. With a schema: lists of strings and plain strings from key phrases of the input, choices and booleans by
    /// match, numbers by extraction, objects property by property. Without one: the sentences of the input that say most
    /// about its topic; where it holds search results as JSON, each sentence is cited and the sources are listed.
    ///
    /// Tokens are counted as a quarter of the bytes, rounded up.
    #[must_use]
    pub fn complete(&self, request: &ModelRequest) -> Completion {
        let text = input_text(&request.messages);
        let input = input::parse(&text[..text.floor_char_boundary(INPUT_BYTES_MAX)]);
        let mut answer = match &request.schema {
            Some(schema) => instance::fill(&schema.json, &input).to_string(),
            None => summary::text(&input, request.max_tokens.map(bytes_of)),
        };
        cut_at_stop(&mut answer, &request.stop);
        Completion {
            usage: Usage {
                input_tokens: tokens(text.len() + request.system.as_ref().map_or(0, String::len)),
                output_tokens: tokens(answer.len()),
                ..Usage::default()
            },
            text: answer,
            tool_calls: Vec::new(),
            finish: Finish::Stop,
            usage_source: UsageSource::Reported,
            model: OFFLINE_MODEL.to_owned(),
            request_id: None,
            left_out: Vec::new(),
        }
    }
}

/// What people and tools said; what the model said before is not material.
fn input_text(messages: &[Message]) -> String {
    let said = messages.iter().filter_map(|message| match message {
        Message::User { text } | Message::Tool { text, .. } => Some(text.as_str()),
        Message::Assistant { .. } => None,
    });
    said.collect::<Vec<_>>().join("\n\n")
}

fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(BYTES_PER_TOKEN)).unwrap_or(u64::MAX)
}

fn bytes_of(tokens: u32) -> usize {
    usize::try_from(tokens)
        .unwrap_or(usize::MAX)
        .saturating_mul(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests;
