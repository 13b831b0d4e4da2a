//! What a step does about a failure.

use std::time::Duration;

use serde_json::Value;

use super::Fields;
use super::config::Config;
use crate::fault::Faults;

/// What a step does about a failure, as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnErrorRule {
    Retry,
    Stop,
    Continue,
}

impl OnErrorRule {
    pub(crate) const WORDS: [(&'static str, Self); 3] = [
        ("retry", Self::Retry),
        ("stop", Self::Stop),
        ("continue", Self::Continue),
    ];
}

/// What a step does about a failure.
#[derive(Debug, Clone)]
pub(crate) enum OnError {
    Rule(OnErrorRule),
    Detailed {
        retry: Option<u32>,
        delay: Option<Duration>,
        then: Option<FallbackSpec>,
    },
}

/// What takes a failed step's place.
#[derive(Debug, Clone)]
pub(crate) enum FallbackSpec {
    Continue,
    Agent {
        agent: String,
        action: String,
        input: Value,
        pointer: String,
    },
}

impl OnError {
    pub(crate) fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        if let Some(word) = value.as_str() {
            let rule = OnErrorRule::WORDS.iter().find(|(known, _)| *known == word);
            if rule.is_none() {
                let known = OnErrorRule::WORDS.map(|(word, _)| word);
                let hint = crate::fault::suggestion(word, known);
                faults.add(pointer, format!("`{word}` is not known here{hint}"));
            }
            return rule.map(|(_, rule)| Self::Rule(*rule));
        }
        let mut fields = Fields::of(value, pointer, faults)?;
        let retry = fields
            .count("retry", Config::RETRIES_MAX, faults)
            .and_then(|count| u32::try_from(count).ok());
        let delay = fields
            .count("delay_ms", Config::DELAY_MS_MAX, faults)
            .map(Duration::from_millis);
        let then = match fields.value("fallback") {
            None => None,
            Some(fallback) if fallback == "continue" => Some(FallbackSpec::Continue),
            Some(fallback) => FallbackSpec::read(fallback, &fields.at("fallback"), faults),
        };
        fields.finish(faults);
        Some(Self::Detailed { retry, delay, then })
    }
}

impl FallbackSpec {
    fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        if value.is_string() {
            faults.add(
                pointer,
                "this must be \"continue\" or an object with `agent`, `action` and `input`",
            );
            return None;
        }
        let mut fields = Fields::of(value, pointer, faults)?;
        let agent = fields.required_text("agent", faults);
        let action = fields.required_text("action", faults);
        let input = fields.required("input", faults).cloned();
        let pointer = fields.pointer().to_owned();
        fields.finish(faults);
        Some(Self::Agent {
            agent: agent?,
            action: action?,
            input: input?,
            pointer,
        })
    }
}
