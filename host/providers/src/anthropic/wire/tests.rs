//! Requests as they go out and literal answers as they come in.

use reqwest::header::HeaderMap;
use serde_json::json;

use super::*;
use crate::model::{Schema, Temperature, ToolDefinition, UsageSource};
use crate::testing::request;

fn read(body: &str) -> Result<Completion, String> {
    let mut headers = HeaderMap::new();
    headers.insert("request-id", "req_1".parse().unwrap());
    completion(
        &request("hello"),
        &Refused::default(),
        &Answer {
            headers,
            body: body.as_bytes().to_vec(),
        },
    )
}

fn schema(strictness: Strictness) -> Schema {
    let json = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"], "additionalProperties": false});
    Schema {
        name: "answer".to_owned(),
        json,
        strictness,
    }
}

#[test]
fn writes_turns_and_tools() {
    let call = |id: &str| ToolCall {
        id: id.to_owned(),
        name: "look".to_owned(),
        arguments: json!({"x": 1}),
    };
    let result = |id: &str| Message::Tool {
        call_id: id.to_owned(),
        text: "42".to_owned(),
    };
    let request = ModelRequest {
        system: Some("Be brief.".to_owned()),
        messages: vec![
            Message::User {
                text: "hello".to_owned(),
            },
            Message::Assistant {
                text: String::new(),
                tool_calls: vec![call("c1"), call("c2")],
            },
            result("c1"),
            result("c2"),
            Message::User {
                text: "and now?".to_owned(),
            },
        ],
        stop: vec!["END".to_owned()],
        tools: vec![ToolDefinition {
            name: "look".to_owned(),
            description: "Looks.".to_owned(),
            parameters: json!({"type": "object"}),
        }],
        ..request("")
    };
    let tool_use =
        |id: &str| json!({"type": "tool_use", "id": id, "name": "look", "input": {"x": 1}});
    let tool_result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "42"});
    let expected = json!({
        "model": "test-model",
        "max_tokens": 4096,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
            {"role": "assistant", "content": [tool_use("c1"), tool_use("c2")]},
            {"role": "user", "content": [tool_result("c1"), tool_result("c2"), {"type": "text", "text": "and now?"}]},
        ],
        "stop_sequences": ["END"],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}],
    });
    assert_eq!(body(&request, &Refused::default()), expected);
}

#[test]
fn asks_for_json_by_mode_or_in_words() {
    let strict = ModelRequest {
        schema: Some(schema(Strictness::Strict)),
        ..request("hello")
    };
    let by_mode = body(&strict, &Refused::default());
    assert_eq!(by_mode["output_config"]["format"]["type"], "json_schema");
    let property = &by_mode["output_config"]["format"]["schema"]["properties"]["n"];
    assert_eq!(
        property,
        &json!({"type": "integer", "description": "(minimum: 1)"})
    );
    assert_eq!(by_mode.get("system"), None);

    let lenient = ModelRequest {
        schema: Some(schema(Strictness::Lenient)),
        ..request("hello")
    };
    let mut refused = Refused::default();
    refused.add(Field::Schema);
    for in_words in [body(&lenient, &Refused::default()), body(&strict, &refused)] {
        assert_eq!(in_words.get("output_config"), None);
        assert!(
            in_words["system"]
                .as_str()
                .unwrap()
                .contains("\"minimum\":1")
        );
    }
}

#[test]
fn names_the_version_that_takes_a_temperature() {
    let warm = ModelRequest {
        temperature: Temperature::from_f64(1.5),
        ..request("hello")
    };
    let warm = body(&warm, &Refused::default());
    assert_eq!(
        (warm["temperature"].as_f64(), version(&warm)),
        (Some(1.0), "2023-06-01")
    );
    assert_eq!(
        version(&body(&request("hello"), &Refused::default())),
        "2026-10-21"
    );
}

#[test]
fn reads_text_calls_and_usage() {
    let completion = read(
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[
        {"type":"thinking","thinking":"…"},{"type":"text","text":"I look. "},
        {"type":"tool_use","id":"toolu_1","name":"look","input":{"x":1}}],"stop_reason":"tool_use","usage":
        {"input_tokens":10,"cache_read_input_tokens":30,"cache_creation_input_tokens":5,"output_tokens":7}}"#,
    )
    .unwrap();
    assert_eq!(
        (completion.text.as_str(), completion.finish),
        ("I look. ", Finish::ToolCalls)
    );
    assert_eq!(completion.tool_calls[0].arguments, json!({"x": 1}));
    let usage = Usage {
        input_tokens: 45,
        cached_input_tokens: 30,
        cache_write_tokens: 5,
        output_tokens: 7,
    };
    assert_eq!(
        (completion.usage, completion.usage_source),
        (usage, UsageSource::Reported)
    );
    assert_eq!(
        (completion.model.as_str(), completion.request_id.as_deref()),
        ("claude-sonnet-4-5-20250929", Some("req_1"))
    );
}

#[test]
fn reads_why_the_model_stopped() {
    for (reason, finish) in [
        ("end_turn", Finish::Stop),
        ("stop_sequence", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("refusal", Finish::Filtered),
        ("something_new", Finish::Stop),
    ] {
        let body =
            format!(r#"{{"content":[{{"type":"text","text":"a"}}],"stop_reason":"{reason}"}}"#);
        assert_eq!(read(&body).unwrap().finish, finish, "{reason}");
    }
}

#[test]
fn says_what_is_wrong_with_an_answer() {
    for (body, expected) in [
        (
            r#"{"type":"message","content":[{"type":"te"#,
            "JSON that breaks off",
        ),
        (r#"{"type":"message"}"#, "without a list `content`"),
        (
            r#"{"content":[{"type":"tool_use","name":"a"}]}"#,
            "`tool_use` block without `id`",
        ),
    ] {
        let error = read(body).unwrap_err();
        assert!(error.contains(expected), "{body}: {error}");
    }
}
