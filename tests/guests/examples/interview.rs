//! Asks a model, people and a model again, and tells them all that it knows of clock and chance: a run that is repeated
//! asks the same only if these are the same.
#![cfg(target_family = "wasm")]
#![expect(
    clippy::disallowed_methods,
    reason = "a guest has nobody to give it the time"
)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use guests::troupe::agent::types::Error;
use guests::troupe::agent::{budget, human, llm};
use serde_json::{Value, json};

struct Interview;

impl Guest for Interview {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&invocation.input).unwrap_or(Value::Null);
        let began = Instant::now();
        let chance = RandomState::new().hash_one(1);
        let mut times = vec![now_ms()];
        let mut answers = Vec::new();
        let left = budget::left();
        times.push(now_ms());
        // What a guest is told of the operator's limits is no part of the record.
        let limit = match invocation.action.as_str() {
            "diverge" => invocation.time_limit_ms,
            _ => 0,
        };
        let first = ask_models(&[
            format!("First {chance} at {times:?}, {left:?}, {limit}"),
            format!("Beside {}", invocation.attempt),
        ]);
        times.push(now_ms());
        let questions = input["questions"].as_array().cloned().unwrap_or_default();
        for question in &questions {
            std::thread::sleep(Duration::from_millis(7));
            let answer = match human::ask(&read(question)) {
                Ok(answer) => json!({
                    "approved": answer.approved, "by": answer.approved_by, "notes": answer.notes,
                    "data": answer.data, "timed_out": answer.timed_out,
                }),
                Err(error) => json!({ "error": described(error) }),
            };
            answers.push(answer);
            times.push(now_ms());
        }
        let second = ask_models(&[format!("Second {chance} at {times:?}: {answers:?}")]);
        times.push(now_ms());
        let elapsed = began.elapsed().as_nanos().to_string();
        let said = json!({
            "first": first, "second": second, "answers": answers, "times": times,
            "chance": chance.to_string(), "elapsed_ns": elapsed, "attempt": invocation.attempt,
        });
        Ok(said.to_string())
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn ask_models(prompts: &[String]) -> Vec<String> {
    let requests: Vec<_> = prompts.iter().map(request).collect();
    let answers = llm::complete_many(&requests).into_iter();
    answers
        .map(|answer| match answer {
            Ok(completion) => completion.text,
            Err(error) => described(error),
        })
        .collect()
}

fn request(prompt: &String) -> llm::Request {
    llm::Request {
        model: None,
        messages: vec![llm::Message {
            role: llm::Role::User,
            content: prompt.clone(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }],
        max_tokens: Some(100),
        temperature_hundredths: None,
        stop: Vec::new(),
        tools: Vec::new(),
        schema: None,
    }
}

/// A question as the input says it.
fn read(question: &Value) -> human::Question {
    let texts = question["assignees"].as_array().into_iter().flatten();
    human::Question {
        assignees: texts.filter_map(Value::as_str).map(str::to_owned).collect(),
        message: question["message"].as_str().unwrap_or_default().to_owned(),
        context: question.get("context").map(Value::to_string),
        form: question.get("form").map(Value::to_string),
        deadline_ms: question["deadline_ms"].as_u64(),
    }
}

fn described(error: Error) -> String {
    match error {
        Error::Denied(denial) => denial.message,
        other => format!("{other:?}"),
    }
}

guests::export!(Interview);
