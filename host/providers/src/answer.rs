//! What the formats of all model services have in common when an answer is read. Pure.

use serde_json::Value;

use crate::http::Answer;
use crate::learned::{Field, Refused};
use crate::model::{Completion, Finish, ModelRequest, ToolCall, Usage, UsageSource};
use crate::text::one_line;

/// Most characters of an unusable answer that an error shows.
const SHOWN_CHARS_MAX: usize = 120;

/// Parses a body that has to be JSON; the error says what was expected, and whether the end is missing.
pub(crate) fn parse_json(body: &[u8], expected: &str) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_eof() {
            "JSON that breaks off"
        } else {
            "no JSON"
        };
        format!(
            "expected {expected}, got {what} after {} bytes ({error}): {}",
            body.len(),
            shown(body)
        )
    })
}

/// The message for JSON that lacks what the format requires.
pub(crate) fn lacks(expected: &str, field: &str, body: &[u8]) -> String {
    format!(
        "expected {expected}, got JSON without {field}: {}",
        shown(body)
    )
}

fn shown(body: &[u8]) -> String {
    let start = &body[..body.len().min(4 * SHOWN_CHARS_MAX)];
    let text = crate::text::cut_chars(&one_line(&String::from_utf8_lossy(start)), SHOWN_CHARS_MAX);
    if text.is_empty() {
        "an empty body".to_owned()
    } else {
        text
    }
}

/// A header of an answer, as text.
pub(crate) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
}

/// Whether the parts of a usage fit into its whole.
pub(crate) fn is_consistent(usage: &Usage) -> bool {
    usage
        .cached_input_tokens
        .saturating_add(usage.cache_write_tokens)
        <= usage.input_tokens
}

/// An answer as read from the wire, before what is the same for all formats.
pub(crate) struct Parts<'a> {
    pub(crate) text: String,
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) finish: Finish,
    pub(crate) usage: Option<Usage>,
    pub(crate) model: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
}

impl Parts<'_> {
    /// Applies what the model refused to do itself, and bounds a usage that did not come.
    pub(crate) fn into_completion(self, request: &ModelRequest, refused: &Refused) -> Completion {
        let arguments = self
            .tool_calls
            .iter()
            .map(|call| call.arguments.to_string().len());
        let output_bytes = self.text.len() + arguments.sum::<usize>();
        let (usage, usage_source) = match self.usage {
            Some(usage) => (usage, UsageSource::Reported),
            None => (request.usage_max(output_bytes), UsageSource::Bounded),
        };
        let asked = [
            (Field::Temperature, request.temperature.is_some()),
            (Field::Stop, !request.stop.is_empty()),
            (Field::Schema, request.schema.is_some()),
        ];
        let left_out = asked
            .into_iter()
            .filter(|(field, asked)| *asked && refused.has(*field));
        let mut text = self.text;
        if refused.has(Field::Stop) {
            cut_at_stop(&mut text, &request.stop);
        }
        Completion {
            text,
            tool_calls: self.tool_calls,
            finish: self.finish,
            usage,
            usage_source,
            model: self
                .model
                .filter(|name| !name.is_empty())
                .unwrap_or(&request.model)
                .to_owned(),
            request_id: self.request_id.map(one_line),
            left_out: left_out.filter_map(|(field, _)| field.left_out()).collect(),
        }
    }
}

/// Ends a text before the first of these texts.
pub(crate) fn cut_at_stop(text: &mut String, stop: &[String]) {
    let first = stop
        .iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()))
        .min();
    if let Some(at) = first {
        text.truncate(at);
    }
}
