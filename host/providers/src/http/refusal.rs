//! A status that is not 2xx, read once: the provider's own words, and what the status means for the caller.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{Endpoint, retry_after};
use crate::error::{ProviderError, Reached};

/// What services say of a field that they do not take at all.
const NEVER_TAKEN: [&str; 12] = [
    "deprecated",
    "does not support",
    "doesn't support",
    "extra inputs",
    "extra fields",
    "not allowed",
    "not permitted",
    "not supported",
    "unexpected",
    "unknown",
    "unrecognized",
    "unsupported",
];

/// What a provider said instead of an answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// The provider's message, bounded, on one line, without the key.
    pub(crate) message: String,
    /// The field of the request that the provider names as the cause.
    pub(crate) param: Option<String>,
    /// The provider's machine-readable reason, for example `insufficient_quota`.
    code: Option<String>,
    retry_after: Option<Duration>,
    key_advice: String,
}

impl Refusal {
    pub(super) fn new(
        endpoint: &Endpoint,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        // `{"error": {…}}` is OpenAI's and Anthropic's form, `{"error": "…"}` Ollama's, `{"message": …}` vLLM's,
        // `{"detail": …}` that of servers built with FastAPI.
        let error = json.get("error").unwrap_or(&json);
        let field = |name: &str| error.get(name).and_then(Value::as_str);
        let message = match (error, field("message"), json.get("detail")) {
            (Value::String(text), _, _) => text.clone(),
            (_, Some(text), _) => text.to_owned(),
            (_, None, Some(Value::String(text))) => text.clone(),
            (_, None, Some(detail)) => detail.to_string(),
            (_, None, None) => String::from_utf8_lossy(body).into_owned(),
        };
        let message = endpoint.clean(&message);
        Self {
            status,
            message: if message.is_empty() {
                "no reason given".to_owned()
            } else {
                message
            },
            param: field("param").map(str::to_owned),
            code: field("code").or_else(|| field("type")).map(str::to_owned),
            retry_after: retry_after::from_headers(headers),
            key_advice: endpoint.key_advice(),
        }
    }

    /// Whether the provider says that the request itself is wrong, and did no work.
    pub(crate) fn is_about_the_request(&self) -> bool {
        matches!(self.status.as_u16(), 400 | 422)
    }

    /// Whether the model will never take the field that the refusal names, rather than this value of it.
    pub(crate) fn is_for_good(&self) -> bool {
        let message = self.message.to_lowercase();
        !message.contains("invalid schema")
            && NEVER_TAKEN.iter().any(|words| message.contains(words))
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// What it means for the caller.
    pub(crate) fn into_error(self, endpoint: &Endpoint) -> ProviderError {
        let provider = endpoint.name().to_owned();
        let message = format!("HTTP {}: {}", self.status.as_u16(), self.message);
        let retry_after = self.retry_after;
        let out_of_credit = matches!(
            self.code.as_deref(),
            Some("insufficient_quota" | "billing_error")
        );
        match self.status.as_u16() {
            401 | 403 => ProviderError::Denied {
                provider,
                message: format!("{message}; {}", self.key_advice),
            },
            // Waiting does not help an account without credit, whatever status it is told with.
            402 | 429 if out_of_credit || self.status == StatusCode::PAYMENT_REQUIRED => {
                ProviderError::Denied {
                    provider,
                    message: format!(
                        "{message}; add credit to the account or {}",
                        self.key_advice
                    ),
                }
            }
            429 => ProviderError::RateLimited {
                provider,
                message,
                retry_after,
            },
            503 | 529 => ProviderError::Overloaded {
                provider,
                message,
                retry_after,
            },
            408 | 409 | 425 | 500..=599 => ProviderError::Unavailable {
                provider,
                message,
                reached: Reached::Maybe,
            },
            300..=399 => ProviderError::Invalid {
                provider,
                message: format!(
                    "{message}; redirects are not followed: set `base_url` to the final address"
                ),
            },
            _ => ProviderError::Invalid { provider, message },
        }
    }
}
