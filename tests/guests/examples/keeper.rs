//! Remembers what its input says, one request after the other, and returns all answers.
#![cfg(target_family = "wasm")]

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use guests::troupe::agent::memory;
use guests::troupe::agent::types::Error;
use serde_json::{Value, json};

struct Keeper;

impl Guest for Keeper {
    /// The input is a list of requests, each a list: `["get", key]`, `["set", key, value, version]`, `["delete", key]`,
    /// `["keys", prefix, after]`, or `["add", key, number]`, which reads a number and stores the sum. `["fail"]` is the
    /// end, with a failure that may pass.
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&invocation.input).unwrap_or(Value::Null);
        let mut answers = Vec::new();
        for request in input.as_array().map_or(&[][..], Vec::as_slice) {
            if request[0] == "fail" && invocation.attempt == 1 {
                return Err(Failure {
                    message: "it failed as it was asked to".to_owned(),
                    transient: true,
                    details: None,
                });
            }
            answers.push(answered(request).unwrap_or_else(refused));
        }
        Ok(Value::from(answers).to_string())
    }
}

fn answered(request: &Value) -> Result<Value, Error> {
    let text = |index: usize| request[index].as_str().unwrap_or_default();
    let key = text(1);
    Ok(match text(0) {
        "get" => match memory::get(key)? {
            Some(entry) => json!([read(&entry.value), entry.version]),
            None => Value::Null,
        },
        "set" => set(key, &request[2], request[3].as_u64())?,
        "add" => {
            let entry = memory::get(key)?;
            let before = entry
                .as_ref()
                .map_or(Value::Null, |entry| read(&entry.value));
            let sum = before.as_i64().unwrap_or(0) + request[2].as_i64().unwrap_or(0);
            set(
                key,
                &json!(sum),
                Some(entry.map_or(0, |entry| entry.version)),
            )?
        }
        "delete" => {
            memory::delete(key)?;
            json!("deleted")
        }
        "keys" => json!(memory::keys(key, request[2].as_str())?),
        _ => Value::Null,
    })
}

fn set(key: &str, value: &Value, version: Option<u64>) -> Result<Value, Error> {
    Ok(match memory::set(key, &value.to_string(), version)? {
        memory::SetOutcome::Stored(version) => json!({ "stored": version }),
        memory::SetOutcome::Conflict(version) => json!({ "conflict": version }),
    })
}

fn read(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or(Value::Null)
}

fn refused(error: Error) -> Value {
    match error {
        Error::Denied(denial) => json!({ "denied": denial.message }),
        Error::Invalid(detail) => json!({ "invalid": detail }),
        other => json!({ "error": format!("{other:?}") }),
    }
}

guests::export!(Keeper);
