//! What tests of the API begin with: a server, services that it asks, and workflows that ask them.

use serde_json::{Value, json};

use super::{Response, Server};
use crate::loopback::Loopback;
use crate::troupe::Workplace;

/// A server, and the services that its workflows ask.
pub struct Scene {
    pub loopback: Loopback,
    pub place: Workplace,
}

impl Scene {
    /// With more of the operator's file. Nothing is sent twice at the service's fault, so that requests can be counted.
    pub async fn new(more: &str) -> Self {
        let loopback = Loopback::start().await;
        let mut place = Workplace::new();
        place.connect(&loopback, more);
        Self { loopback, place }
    }

    /// Starts a server that asks them.
    pub async fn start(&self) -> Server {
        Server::start(self.place.serve()).await
    }
}

/// A workflow that asks a model once, then a person, then a model.
#[must_use]
pub fn article() -> Value {
    json!({
        "name": "Article",
        "agents": [
            { "id": "writer", "type": "llm", "model": "gpt-5-mini" },
            { "id": "editor", "type": "human", "assignees": ["ann@example.com"] },
        ],
        "steps": [
            { "id": "draft", "agent": "writer", "action": "write", "input": "About {{ topic }}" },
            { "id": "review", "agent": "editor", "action": "review", "input": "{{ draft.output }}" },
            { "id": "final", "agent": "writer", "action": "polish", "input": "{{ draft.output }} {{ review.approved }}" },
        ],
        "config": { "max_retries": 0 },
    })
}

/// A workflow that asks a model and nothing else.
#[must_use]
pub fn question() -> Value {
    json!({
        "name": "Question",
        "agents": [{ "id": "writer", "type": "llm", "model": "gpt-5-mini" }],
        "steps": [{ "id": "ask", "agent": "writer", "action": "write", "input": "About {{ topic }}" }],
        "config": { "max_retries": 0 },
    })
}

/// The inputs of both.
#[must_use]
pub fn topic(text: &str) -> Value {
    json!({ "topic": text })
}

/// An approval.
#[must_use]
pub fn yes() -> Value {
    json!({ "approved": true, "approved_by": "ann" })
}

/// Checks that an answer is this error, in the API's form.
///
/// # Panics
/// Where it is not.
#[track_caller]
pub fn expect_error(response: &Response, status: u16, code: &str) {
    assert_eq!(
        (response.status, response.code()),
        (status, Some(code)),
        "{response}"
    );
    let error = &response.body["error"];
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{response}"
    );
    let request = error["request_id"].as_str().expect("an id");
    assert!(request.starts_with("req_"), "{response}");
    assert_eq!(response.header("x-request-id"), Some(request), "{response}");
    if status == 503 {
        assert!(response.header("retry-after").is_some(), "{response}");
    }
}
