//! The agents that every document has.

use serde_json::{Value, json};

use super::document::Mood;
use super::shape::Choices;

/// The agent of a step by its number; a person among them.
pub(crate) fn name(agent: u8) -> &'static str {
    [
        "ask", "calc", "careful", "look", "hand", "boss", "ask", "calc",
    ][usize::from(agent % 8)]
}

pub(crate) fn agents(choices: Choices, mood: Mood) -> Value {
    let mut calc =
        json!({"id": "calc", "type": "code", "language": "python", "code": "result = 1"});
    if choices[0] % 2 == 1 {
        calc["limits"] = json!({"fuel": 100 + u32::from(choices[0])});
    }
    let mut boss = json!({
        "id": "boss", "type": "human", "assignees": ["ann", "bob"], "approvals_required": 1 + choices[1] % 3,
    });
    if choices[2] % 3 == 1 {
        boss["form"] = json!({"type": "object", "required": ["ok"]});
    }
    if mood == Mood::Any && choices[3] % 2 == 1 {
        boss["timeout_hours"] = json!(f64::from(choices[4]) / 50_000.0 + 0.000_01);
        let end = ["fail", "approve", "reject", "escalate"][usize::from(choices[5] % 4)];
        boss["on_timeout"] = json!(end);
        if end == "escalate" {
            boss["escalate_to"] = json!(["cy", ["di", "ed"]]);
        }
    }
    json!([
        {"id": "ask", "type": "llm", "model": "m", "system_prompt": "Speak of {{ topic }}."},
        {"id": "spare", "type": "llm", "model": "m", "max_tokens": 9},
        calc,
        {"id": "careful", "type": "tool", "tools": ["t"], "idempotent": false},
        {"id": "look", "type": "search", "sources": ["web"]},
        {"id": "hand", "type": "tool", "tools": ["t"], "on_error": {"retry": 1, "fallback": "continue"}},
        boss,
    ])
}
