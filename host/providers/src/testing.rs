//! What several test modules of this crate need.

use std::time::Duration;

use crate::model::{Message, ModelRequest};

/// A question with nothing but text.
pub(crate) fn request(text: &str) -> ModelRequest {
    ModelRequest {
        model: "test-model".to_owned(),
        system: None,
        messages: vec![Message::User {
            text: text.to_owned(),
        }],
        max_tokens: None,
        temperature: None,
        stop: Vec::new(),
        tools: Vec::new(),
        schema: None,
        idempotency_key: "key-1".to_owned(),
        timeout: Duration::from_secs(5),
    }
}
