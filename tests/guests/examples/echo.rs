//! Returns everything it was told.
#![cfg(target_family = "wasm")]

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use serde_json::{Value, json};

struct Echo;

impl Guest for Echo {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&invocation.input).unwrap_or(Value::Null);
        let told = json!({
            "action": invocation.action,
            "input": input,
            "execution": invocation.execution,
            "workflow": invocation.workflow,
            "step": invocation.step,
            "attempt": invocation.attempt,
            "idempotency_key": invocation.idempotency_key,
            "time_limit_ms": invocation.time_limit_ms,
        });
        Ok(told.to_string())
    }
}

guests::export!(Echo);
