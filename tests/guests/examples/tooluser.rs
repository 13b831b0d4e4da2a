//! An agent that uses the tools it is given: its input is a list of calls, which it makes at once, and one by one
//! where the action is `each`. It returns what was answered.
#![cfg(target_family = "wasm")]

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use guests::troupe::agent::tools::{self, CallRequest};
use serde_json::{Value, json};

struct ToolUser;

fn answer(answer: Result<String, tools::Error>) -> Value {
    match answer {
        Ok(text) => json!({ "ok": serde_json::from_str::<Value>(&text).unwrap_or(Value::Null) }),
        Err(error) => json!({ "error": format!("{error:?}") }),
    }
}

impl Guest for ToolUser {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&invocation.input).unwrap_or(Value::Null);
        let requests: Vec<CallRequest> = input
            .as_array()
            .into_iter()
            .flatten()
            .map(|request| CallRequest {
                name: request["name"].as_str().unwrap_or_default().to_owned(),
                arguments: request["arguments"].to_string(),
            })
            .collect();
        let available = match tools::available() {
            Ok(tools) => tools
                .iter()
                .map(|tool| {
                    let parameters: Value = serde_json::from_str(&tool.parameters).unwrap_or(Value::Null);
                    json!({ "name": tool.name, "description": tool.description, "parameters": parameters })
                })
                .collect(),
            Err(error) => json!({ "error": format!("{error:?}") }),
        };
        let answers: Vec<Value> = if invocation.action == "each" {
            requests
                .iter()
                .map(|request| answer(tools::call(request)))
                .collect()
        } else {
            tools::call_many(&requests)
                .into_iter()
                .map(answer)
                .collect()
        };
        Ok(json!({ "available": available, "answers": answers }).to_string())
    }
}

guests::export!(ToolUser);
