//! Requests as they go out and literal answers as they come in.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::model::{Schema, Temperature, ToolDefinition, UsageSource};
use crate::testing::request;

fn answer(body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("x-request-id", "req_1".parse().unwrap());
    Answer {
        headers,
        body: body.as_bytes().to_vec(),
    }
}

fn read(body: &str) -> Result<Completion, String> {
    completion(&request("hello"), &Refused::default(), &answer(body))
}

fn full_request() -> ModelRequest {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    ModelRequest {
        system: Some("Be brief.".to_owned()),
        messages: vec![
            Message::User {
                text: "hello".to_owned(),
            },
            Message::Assistant {
                text: String::new(),
                tool_calls: vec![ToolCall {
                    id: "c1".to_owned(),
                    name: "look".to_owned(),
                    arguments: json!({"x": 1}),
                }],
            },
            Message::Tool {
                call_id: "c1".to_owned(),
                text: "42".to_owned(),
            },
        ],
        max_tokens: Some(100),
        temperature: Temperature::from_f64(0.3),
        stop: vec!["END".to_owned()],
        tools: vec![ToolDefinition {
            name: "look".to_owned(),
            description: "Looks.".to_owned(),
            parameters: json!({"type": "object"}),
        }],
        schema: Some(Schema {
            name: "answer".to_owned(),
            json: schema,
            strictness: Strictness::Strict,
        }),
        ..request("")
    }
}

#[test]
fn writes_every_field() {
    let body = body(
        &full_request(),
        &Refused::default(),
        TokenLimitName::MaxCompletionTokens,
    );
    let schema = full_request().schema.unwrap().json;
    let expected = json!({
        "model": "test-model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
        "max_completion_tokens": 100,
        "temperature": 0.3,
        "stop": ["END"],
        "tools": [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": true}},
    });
    assert_eq!(body, expected);
}

#[test]
fn leaves_out_what_the_model_refused() {
    let mut refused = Refused::default();
    for field in [
        Field::Temperature,
        Field::Stop,
        Field::Schema,
        Field::TokenLimitName,
    ] {
        assert!(refused.add(field) && !refused.add(field));
    }
    let body = body(
        &full_request(),
        &refused,
        TokenLimitName::MaxCompletionTokens,
    );
    assert_eq!(body["max_tokens"], 100);
    for field in [
        "temperature",
        "stop",
        "response_format",
        "max_completion_tokens",
    ] {
        assert_eq!(body.get(field), None, "{field}");
    }
    let system = body["messages"][0]["content"].as_str().unwrap();
    assert!(
        system.starts_with("Be brief.\n\nAnswer with one JSON document")
            && system.contains("\"required\":[\"a\"]")
    );

    let text = r#"{"choices":[{"message":{"content":"one END two"},"finish_reason":"stop"}]}"#;
    let completion = completion(&full_request(), &refused, &answer(text)).unwrap();
    assert_eq!(completion.text, "one ");
    assert_eq!(completion.left_out, ["temperature", "stop", "schema"]);
}

#[test]
fn a_schema_that_strict_modes_refuse_goes_as_a_lenient_one() {
    let mut request = full_request();
    request.schema.as_mut().unwrap().json = json!({"type": "object", "properties": {"a": {}}});
    let body = body(&request, &Refused::default(), TokenLimitName::MaxTokens);
    assert_eq!(body["response_format"]["json_schema"]["strict"], false);
    assert_eq!(body["max_tokens"], 100);
}

#[test]
fn reads_text_usage_and_ids() {
    let completion = read(
        r#"{"id":"chatcmpl-1","model":"gpt-5-mini-2025-08-07","choices":[{"index":0,"message":{"role":"assistant",
        "content":"Hi.","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":5,
        "total_tokens":25,"prompt_tokens_details":{"cached_tokens":8,"cache_write_tokens":2}}}"#,
    )
    .unwrap();
    assert_eq!(
        (completion.text.as_str(), completion.finish),
        ("Hi.", Finish::Stop)
    );
    let usage = Usage {
        input_tokens: 20,
        cached_input_tokens: 8,
        cache_write_tokens: 2,
        output_tokens: 5,
    };
    assert_eq!(
        (completion.usage, completion.usage_source),
        (usage, UsageSource::Reported)
    );
    assert_eq!(completion.model, "gpt-5-mini-2025-08-07");
    assert_eq!(completion.request_id.as_deref(), Some("req_1"));
}

#[test]
fn reads_why_the_model_stopped() {
    let call =
        r#"[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"x\": 1}"}}]"#;
    let cases = [
        (r#"{"content":"cut"}"#.to_owned(), "length", Finish::Length),
        (
            r#"{"content":""}"#.to_owned(),
            "content_filter",
            Finish::Filtered,
        ),
        (
            r#"{"content":null,"refusal":"I cannot."}"#.to_owned(),
            "stop",
            Finish::Filtered,
        ),
        (
            format!(r#"{{"content":null,"tool_calls":{call}}}"#),
            "tool_calls",
            Finish::ToolCalls,
        ),
        (
            format!(r#"{{"content":null,"tool_calls":{call}}}"#),
            "stop",
            Finish::ToolCalls,
        ),
        (
            r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#.to_owned(),
            "stop",
            Finish::Stop,
        ),
    ];
    for (message, reason, finish) in cases {
        let body = format!(r#"{{"choices":[{{"message":{message},"finish_reason":"{reason}"}}]}}"#);
        assert_eq!(read(&body).unwrap().finish, finish, "{body}");
    }
    let body = format!(
        r#"{{"choices":[{{"message":{{"tool_calls":{call}}},"finish_reason":"tool_calls"}}]}}"#
    );
    assert_eq!(
        read(&body).unwrap().tool_calls[0].arguments,
        json!({"x": 1})
    );
}

#[test]
fn arguments_that_are_no_json_stay_text() {
    let calls = json!([{"function": {"name": "look", "arguments": "{broken"}}, {"function": {"name": "look", "arguments": ""}}]);
    let calls = tool_calls(&calls).unwrap();
    assert_eq!(calls[0].arguments, Value::String("{broken".to_owned()));
    assert_eq!(
        (calls[1].arguments.clone(), calls[1].id.as_str()),
        (json!({}), "call_1")
    );
}

#[test]
fn a_usage_that_cannot_be_is_bounded() {
    for usage in [
        "null",
        "{}",
        r#"{"prompt_tokens":-1,"completion_tokens":2}"#,
        r#"{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":50}}"#,
    ] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"four"}}}}],"usage":{usage}}}"#);
        let completion = read(&body).unwrap();
        assert_eq!(completion.usage_source, UsageSource::Bounded, "{usage}");
        assert!(
            completion.usage.input_tokens > 5 && completion.usage.output_tokens >= 4,
            "{usage}"
        );
    }
}

#[test]
fn says_what_is_wrong_with_an_answer() {
    for (body, expected) in [
        (
            r#"{"choices":[{"message":{"content":"trunc"#,
            "JSON that breaks off",
        ),
        ("<html><body>Bad gateway</body></html>", "no JSON"),
        ("", "an empty body"),
        ("{}", "without `choices[0].message`"),
        (r#"{"choices":[]}"#, "without `choices[0].message`"),
        (
            r#"{"choices":[{"message":{"tool_calls":[{}]}}]}"#,
            "without a function name",
        ),
    ] {
        let error = read(body).unwrap_err();
        assert!(error.contains(expected), "{body}: {error}");
    }
}
