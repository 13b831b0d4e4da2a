//! Asks models in batches, each batch at once, looks at what is left before and after each, and returns all that it was
//! told.
#![cfg(target_family = "wasm")]

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use guests::troupe::agent::types::Error;
use guests::troupe::agent::{budget, llm};
use serde_json::{Value, json};

struct Spender;

impl Guest for Spender {
    /// The input is a list of batches: lists of `max-tokens`, null for none.
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&invocation.input).unwrap_or(Value::Null);
        let mut left = vec![budget::left().microdollars];
        let mut told = Vec::new();
        for batch in list(&input) {
            let requests: Vec<_> = list(batch).iter().map(request).collect();
            let answers = llm::complete_many(&requests).into_iter().map(answer);
            told.push(Value::from_iter(answers));
            left.push(budget::left().microdollars);
        }
        Ok(json!({ "told": told, "left": left }).to_string())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn request(max_tokens: &Value) -> llm::Request {
    let max_tokens = max_tokens.as_u64();
    llm::Request {
        model: None,
        messages: vec![llm::Message {
            role: llm::Role::User,
            content: "Say something.".to_owned(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }],
        max_tokens: max_tokens.and_then(|tokens| u32::try_from(tokens).ok()),
        temperature_hundredths: None,
        stop: Vec::new(),
        tools: Vec::new(),
        schema: None,
    }
}

/// What an answer cost, or why there is none.
fn answer(result: Result<llm::Completion, Error>) -> Value {
    match result {
        Ok(completion) => json!(completion.cost_microdollars),
        Err(Error::BudgetSpent(kind)) => json!(format!("spent: {kind:?}")),
        Err(other) => json!(format!("{other:?}")),
    }
}

guests::export!(Spender);
