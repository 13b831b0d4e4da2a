//! Asks the host for what its action names, and returns the answer, errors too.
#![cfg(target_family = "wasm")]

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use guests::troupe::agent::types::Error;
use guests::troupe::agent::{budget, context, human, llm, log, memory, search, tools};
use serde_json::{Value, json};

struct Ask;

impl Guest for Ask {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&invocation.input).unwrap_or(Value::Null);
        Ok(ask(&invocation.action, &input).to_string())
    }
}

fn ask(action: &str, input: &Value) -> Value {
    match action {
        "llm.complete" => completed(llm::complete(&request(input))),
        "llm.complete-many" => {
            let requests: Vec<_> = list(input).iter().map(request).collect();
            llm::complete_many(&requests)
                .into_iter()
                .map(completed)
                .collect()
        }
        "llm.models" => json!(llm::models()),
        "search.search" => found(search::search(&query(input))),
        "search.search-many" => {
            let queries: Vec<_> = list(input).iter().map(query).collect();
            search::search_many(&queries)
                .into_iter()
                .map(found)
                .collect()
        }
        "search.sources" => json!(search::sources()),
        "tools.available" => answer(tools::available().map(|tools| json!(tools.len()))),
        "tools.call" => answer(tools::call(&tool_call(input)).map(Value::String)),
        "tools.call-many" => {
            let requests: Vec<_> = list(input).iter().map(tool_call).collect();
            tools::call_many(&requests)
                .into_iter()
                .map(|result| answer(result.map(Value::String)))
                .collect()
        }
        "human.ask" => answer(human::ask(&question(input)).map(|given| json!(given.approved))),
        "memory.get" => answer(
            memory::get(text(&input["key"]))
                .map(|entry| json!(entry.map(|entry| json!([entry.value, entry.version])))),
        ),
        "memory.set" => {
            let (key, value) = (text(&input["key"]), text(&input["value"]));
            let outcome = memory::set(key, value, input["version"].as_u64());
            answer(outcome.map(|outcome| json!(format!("{outcome:?}"))))
        }
        "memory.delete" => answer(memory::delete(text(&input["key"])).map(|()| Value::Null)),
        "memory.keys" => {
            let keys = memory::keys(text(&input["prefix"]), input["after"].as_str());
            answer(keys.map(|keys| json!(keys)))
        }
        "context.inputs" => json!(context::inputs()),
        "context.output" => answer(context::output(text(input)).map(Value::String)),
        "context.steps" => json!(context::steps()),
        "budget.left" => {
            let left = budget::left();
            json!({ "microdollars": left.microdollars, "fuel": left.fuel, "time_ms": left.time_ms, "host_calls": left.host_calls })
        }
        "log.write" => {
            for line in list(input) {
                log::write(log::Level::Info, text(line), None);
            }
            log::write(log::Level::Warn, "with fields", Some(r#"{"pages":12}"#));
            log::write(log::Level::Error, "with bad fields", Some("12"));
            Value::Null
        }
        "context.output, many times" => {
            let times = input.as_u64().unwrap_or(0);
            (0..times)
                .map(|_| answer(context::output("plan").map(Value::String)))
                .collect()
        }
        other => json!(format!("unknown: {other}")),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A request to the model of this name; null names none.
fn request(model: &Value) -> llm::Request {
    llm::Request {
        model: model.as_str().map(str::to_owned),
        messages: vec![llm::Message {
            role: llm::Role::User,
            content: "Hello".to_owned(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }],
        max_tokens: None,
        temperature_hundredths: None,
        stop: Vec::new(),
        tools: Vec::new(),
        schema: None,
    }
}

/// A query to these sources.
fn query(sources: &Value) -> search::Query {
    let sources = list(sources)
        .iter()
        .map(|source| text(source).to_owned())
        .collect();
    search::Query {
        text: "cars".to_owned(),
        sources,
        max_results: None,
    }
}

fn tool_call(name: &Value) -> tools::CallRequest {
    tools::CallRequest {
        name: text(name).to_owned(),
        arguments: "{}".to_owned(),
    }
}

/// A question to these people.
fn question(assignees: &Value) -> human::Question {
    let assignees = list(assignees);
    human::Question {
        assignees: assignees.iter().map(|who| text(who).to_owned()).collect(),
        message: "May I?".to_owned(),
        context: None,
        form: None,
        deadline_ms: None,
    }
}

fn completed(result: Result<llm::Completion, Error>) -> Value {
    answer(result.map(|completion| json!({ "text": completion.text, "model": completion.model })))
}

fn found(result: Result<search::Answer, Error>) -> Value {
    answer(result.map(|answer| {
        answer
            .results
            .into_iter()
            .map(|hit| json!(hit.title))
            .collect()
    }))
}

fn answer(result: Result<Value, Error>) -> Value {
    match result {
        Ok(value) => json!({ "ok": value }),
        Err(Error::Denied(denial)) => {
            json!({ "denied": denial.capability, "message": denial.message })
        }
        Err(Error::BudgetSpent(kind)) => json!({ "budget spent": format!("{kind:?}") }),
        Err(Error::Unavailable(detail)) => json!({ "unavailable": detail }),
        Err(other) => json!({ "error": format!("{other:?}") }),
    }
}

guests::export!(Ask);
