//! Components of one's own as agents of a workflow: what they are told, how they may end, what they may ask, and that
//! they are kept with the execution.

use e2e::loopback::{Loopback, Reply, Route};
use e2e::troupe::{Ended, Workplace, guest, step};
use serde_json::{Value, json};

/// Runs one step of a guest; the component lies beside the document.
async fn run(place: &Workplace, name: &str, agent: Value, step: Value) -> Ended {
    place.write("agent.wasm", guest(name));
    let mut agent = agent;
    agent["id"] = json!("guest");
    agent["type"] = json!("code");
    agent["component"] = json!("agent.wasm");
    let mut last = step;
    last["id"] = json!("last");
    last["agent"] = json!("guest");
    let document = json!({
        "name": "Guests",
        "agents": [agent],
        "steps": [{ "id": "earlier", "set": { "found": [1, 2] } }, last],
        "config": { "max_retries": 1, "retry_delay_ms": 1 },
    });
    place.write("workflow.json", document.to_string());
    place.troupe(["run", "workflow.json", "--json"]).end().await
}

fn action(action: &str, input: Value) -> Value {
    json!({ "action": action, "input": input })
}

#[tokio::test]
async fn a_component_is_told_what_it_is_for() {
    let place = Workplace::new();
    let input =
        json!({ "list": "{{ earlier.found }}", "text": "{{ earlier.found | length }} found" });
    let ended = run(&place, "echo", json!({}), action("look", input))
        .await
        .expect_code(0);
    let shown = ended.json();
    let told = &step(&shown, "last")["output"];
    assert_eq!(
        (&told["action"], &told["input"]),
        (
            &json!("look"),
            &json!({ "list": [1, 2], "text": "2 found" })
        )
    );
    assert_eq!(
        (&told["workflow"], &told["execution"], &told["attempt"]),
        (&json!("Guests"), &shown["id"], &json!(1))
    );
    let key = told["idempotency_key"].as_str().expect("a key");
    assert!(
        key.starts_with(shown["id"].as_str().expect("an id")),
        "{key}"
    );
}

#[tokio::test]
async fn however_a_component_ends_the_host_stands() {
    let place = Workplace::new();
    for (way, input, limits, code, attempts) in [
        ("decline", json!(0), json!({}), "guest_failed", 1),
        ("decline for now", json!(0), json!({}), "guest_failed", 2),
        ("panic", json!(0), json!({}), "guest_trap", 2),
        ("exit", json!(0), json!({}), "guest_failed", 1),
        ("return no JSON", json!(0), json!({}), "output_invalid", 1),
        (
            "return a deep document",
            json!(0),
            json!({}),
            "output_invalid",
            1,
        ),
        (
            "return much",
            json!(1 << 20),
            json!({ "output_kb": 64 }),
            "limit_output",
            1,
        ),
        (
            "allocate",
            json!(0),
            json!({ "memory_mb": 16 }),
            "limit_memory",
            1,
        ),
        ("recurse", json!(0), json!({}), "guest_trap", 2),
        ("divide", json!(0), json!({}), "guest_trap", 2),
    ] {
        let ended = run(
            &place,
            "end",
            json!({ "limits": limits }),
            action(way, input),
        )
        .await
        .expect_code(1);
        let shown = ended.json();
        let last = step(&shown, "last");
        assert_eq!(
            (&last["error"]["code"], &last["attempts"]),
            (&json!(code), &json!(attempts)),
            "{way}: {ended}"
        );
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert!(
            !message.is_empty() && ended.stderr.contains("failed at the step `last`"),
            "{way}: {ended}"
        );
    }
}

#[tokio::test]
async fn what_a_panic_says_stands_in_the_failure() {
    let place = Workplace::new();
    let ended = run(&place, "end", json!({}), action("panic", json!(0)))
        .await
        .expect_code(1);
    let error = ended.json()["error"].clone();
    assert_eq!(error["code"], "guest_trap", "{ended}");
    let message = error["message"].as_str().unwrap_or_default();
    let (before, printed) = message.split_once("; it printed:\n").expect(message);
    assert!(before.contains("unreachable"), "{message}");
    let (panicked, frames) = printed.split_once("\n  in ").expect(message);
    assert!(
        panicked.contains("panicked at ") && panicked.contains("this guest panics"),
        "{message}"
    );
    assert!(frames.contains("panic"), "{message}");
}

#[tokio::test]
async fn what_is_printed_and_what_the_log_lost_are_counted() {
    let place = Workplace::new();
    let ended = run(&place, "end", json!({}), action("return much", json!(3)))
        .await
        .expect_code(0);
    let shown = ended.json();
    let usage = &step(&shown, "last")["usage"];
    assert_eq!(
        (&usage["printed_bytes"], &usage["output_bytes"]),
        (&json!("before the end\n".len()), &json!(5)),
        "{ended}"
    );
    let lines = vec!["x".repeat(600); 3];
    let agent = json!({ "limits": { "log_kb": 1 } });
    let ended = run(&place, "ask", agent, action("log.write", json!(lines)))
        .await
        .expect_code(0);
    let shown = ended.json();
    let usage = &step(&shown, "last")["usage"];
    assert_eq!(usage["log_lines_dropped"], 2, "{ended}");
    assert!(
        usage["log_bytes"]
            .as_u64()
            .is_some_and(|bytes| (600..1024).contains(&bytes)),
        "{ended}"
    );
}

/// `serde_json` reads the text behind this key as JSON, and counts its depth anew. The variable makes the stacks of all
/// threads small that have no size of their own; the first run has the interpreter compiled, without it.
#[tokio::test]
async fn json_that_is_nested_in_texts_of_itself_does_no_harm() {
    let source = "
import json
def nest(times):
    text = '1'
    for _ in range(times):
        text = '[' * 120 + json.dumps({'$serde_json::private::RawValue': text}) + ']' * 120
    return json.loads(text)
";
    let place = Workplace::new();
    let document = json!({
        "name": "Nested",
        "agents": [{ "id": "py", "type": "code", "language": "python", "code": source }],
        "steps": [{ "id": "last", "agent": "py", "action": "nest", "input": "{{ times }}" }],
    });
    place.write("workflow.json", document.to_string());
    let run = |times| place.troupe(["run", "workflow.json", "--json", "-i", times]);
    let few = run("times:=1").end().await.expect_code(1);
    let many = run("times:=14").variable("RUST_MIN_STACK", "500000");
    let many = many.end().await.expect_code(1);
    for run in [few, many] {
        assert_eq!(run.json()["error"]["code"], "output_invalid", "{run}");
    }
}

#[tokio::test]
async fn a_limit_that_is_hit_says_which_to_raise() {
    let place = Workplace::new();
    let of_operator = "raise `fuel` in the operator's `[limits]`, which allow no more";
    for (operator, limits, expected) in [
        (
            "",
            json!({ "fuel": 1_000_000 }),
            ("limit_fuel", "raise `fuel` in its `limits`"),
        ),
        (
            "",
            json!({ "timeout_ms": 50 }),
            ("limit_time", "raise `timeout_ms` in its `limits`"),
        ),
        (
            "[limits]\nfuel = 1_000_000\n",
            json!({ "fuel": 2_000_000 }),
            ("limit_fuel", of_operator),
        ),
        (
            "[limits]\nfuel = 1_000_000\n",
            json!({}),
            ("limit_fuel", of_operator),
        ),
    ] {
        place.write("troupe.toml", operator);
        let ended = run(
            &place,
            "surroundings",
            json!({ "limits": limits }),
            action("compute", json!(100_000_000_000_u64)),
        )
        .await
        .expect_code(1);
        let error = ended.json()["error"].clone();
        assert_eq!(error["code"], expected.0, "{ended}");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| message.ends_with(expected.1)),
            "{ended}"
        );
    }
}

#[tokio::test]
async fn what_is_not_granted_is_denied_with_the_way_to_grant_it() {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, "");
    for (what, input, expected) in [
        (
            "llm.complete",
            json!("gpt-5-mini"),
            "\"llm\": {\"models\": [\"gpt-5-mini\"]}",
        ),
        ("search.search", json!(["web"]), "\"search\": [\"web\"]"),
    ] {
        let ended = run(&place, "ask", json!({}), action(what, input))
            .await
            .expect_code(0);
        let shown = ended.json();
        let answer = &step(&shown, "last")["output"];
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(
            answer["denied"].is_string()
                && message.contains("`guest`")
                && message.contains(expected),
            "{what}: {answer}"
        );
    }
    for what in ["tools.call", "human.ask", "memory.get"] {
        let ended = run(&place, "ask", json!({}), action(what, json!("x")))
            .await
            .expect_code(0);
        let shown = ended.json();
        let answer = &step(&shown, "last")["output"];
        assert!(
            answer["denied"].is_string() || answer["unavailable"].is_string(),
            "{what}: {answer}"
        );
    }
    assert!(
        loopback.requests().is_empty(),
        "the host asked for a component that may not"
    );
}

#[tokio::test]
async fn what_is_granted_is_done_counted_and_recorded() {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, "");
    let grants = json!({ "grants": { "llm": { "models": ["gpt-5-mini"] }, "search": ["web"] } });
    loopback.script(
        Route::OpenAi,
        [Reply::text("Hello yourself")
            .usage(json!({ "prompt_tokens": 1_000, "completion_tokens": 100 }))],
    );
    let ended = run(
        &place,
        "ask",
        grants.clone(),
        action("llm.complete", json!("gpt-5-mini")),
    )
    .await
    .expect_code(0);
    let shown = ended.json();
    let last = step(&shown, "last");
    assert_eq!(last["output"]["ok"]["text"], "Hello yourself", "{ended}");
    assert_eq!(
        (&last["cost"]["usd"], &last["usage"]["input_tokens"]),
        (&json!(0.000_45), &json!(1_000))
    );
    let events = place.events(&ended.id()).await;
    assert!(
        events
            .iter()
            .any(|event| event["type"] == "call_started" && event["target"] == "gpt-5-mini")
    );

    let ended = run(
        &place,
        "ask",
        grants.clone(),
        action("search.search", json!(["web"])),
    )
    .await
    .expect_code(0);
    assert_eq!(
        step(&ended.json(), "last")["output"]["ok"]
            .as_array()
            .map(Vec::len),
        Some(3),
        "{ended}"
    );
    // Another model than the granted one stays closed.
    let ended = run(
        &place,
        "ask",
        grants,
        action("llm.complete", json!("gpt-5")),
    )
    .await
    .expect_code(0);
    assert!(
        step(&ended.json(), "last")["output"]["denied"].is_string(),
        "{ended}"
    );
    assert_eq!(loopback.requests().len(), 2);
}

#[tokio::test]
async fn a_component_sees_its_own_execution_only() {
    let mut place = Workplace::new();
    place.set("A_SECRET", "seen");
    let ended = run(
        &place,
        "ask",
        json!({}),
        action("context.output", json!("earlier")),
    )
    .await
    .expect_code(0);
    let shown = ended.json();
    let seen: Value = step(&shown, "last")["output"]["ok"]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    assert_eq!(seen, json!({ "found": [1, 2] }), "{ended}");
    let ended = run(&place, "surroundings", json!({}), action("look", json!(0)))
        .await
        .expect_code(0);
    let shown = ended.json();
    let seen = step(&shown, "last")["output"]
        .as_object()
        .cloned()
        .expect("what it saw");
    for (what, found) in &seen {
        match what.as_str() {
            "now_s" | "random" => {}
            "arguments" => assert!(!found.to_string().contains("workflow.json"), "{found}"),
            "environment" => assert!(!found.to_string().contains("seen"), "{found}"),
            "stdin" => assert!(
                ["ok: \"\""].contains(&found.as_str().unwrap_or_default())
                    || found.to_string().contains("error"),
                "{found}"
            ),
            _ => assert!(
                found
                    .as_str()
                    .is_some_and(|text| text.starts_with("error: ")),
                "{what}: {found}"
            ),
        }
    }
}

#[tokio::test]
async fn an_execution_keeps_the_component_it_began_with() {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, "");
    loopback.script(Route::OpenAi, [Reply::hang()]);
    place.write("agent.wasm", guest("echo"));
    let document = json!({
        "name": "Kept",
        "agents": [{ "id": "model", "type": "llm", "model": "gpt-5-mini" }, { "id": "guest", "type": "code", "component": "agent.wasm" }],
        "steps": [{ "id": "ask", "agent": "model", "action": "answer", "input": "why" }, { "id": "last", "agent": "guest", "action": "look", "input": "{{ ask }}" }],
    });
    place.write("workflow.json", document.to_string());
    let running = place.troupe(["run", "workflow.json"]).start();
    loopback.wait_for(1).await;
    let killed = running.kill().await;
    // The author's files are gone; the execution does not need them.
    for file in ["agent.wasm", "workflow.json"] {
        std::fs::remove_file(place.path(file)).expect("a file of the test");
    }
    let ended = place
        .troupe(["recover", &killed.id(), "--json"])
        .end()
        .await
        .expect_code(0);
    assert_eq!(
        step(&ended.json(), "last")["output"]["action"],
        "look",
        "{ended}"
    );
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    let place = Workplace::new();
    let document = json!({
        "name": "Broken",
        "agents": [{ "id": "guest", "type": "code", "component": "agent.wasm" }],
        "steps": [{ "id": "last", "agent": "guest", "action": "look", "input": 1 }],
    });
    place.write("workflow.json", document.to_string());
    let whole = guest("echo");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    for bytes in [
        Vec::new(),
        b"hello".to_vec(),
        b"\0asm\x01\0\0\0".to_vec(),
        whole[..middle].to_vec(),
        flipped,
    ] {
        place.write("agent.wasm", &bytes);
        let ended = place
            .troupe(["run", "workflow.json"])
            .end()
            .await
            .expect_code(2);
        assert!(ended.stderr.contains("/agents/0/component: "), "{ended}");
    }
    assert!(place.list().await.is_empty());
}

/// A component of one function of a million operations, as text.
fn giant() -> Vec<u8> {
    let operations =
        "local.get 0 i32.const 7 i32.xor local.tee 0 i32.load8_u offset=3 local.set 0 "
            .repeat(250_000);
    let text = format!(
        r#"(component
            (core module $m (memory 1) (func (export "f") (param i32) (result i32) {operations} local.get 0))
            (core instance $i (instantiate $m))
            (func (export "f") (param "x" u32) (result u32) (canon lift (core func $i "f"))))"#
    );
    wat::parse_str(text).expect("a component")
}

#[tokio::test]
async fn a_component_that_takes_too_much_to_compile_is_refused_and_ends_nothing_else() {
    let place = Workplace::new();
    place.write("giant.wasm", giant());
    place.write("echo.wasm", guest("echo"));
    for (limit, says) in [
        ("compile_timeout_ms = 50", "it took more than 50 ms"),
        ("compile_memory_mb = 600", "too little memory"),
    ] {
        place.write("troupe.toml", format!("[server]\n{limit}\n"));
        let compile = |file: &'static str| place.troupe(["component", "compile", file]).end();
        let refused = compile("giant.wasm").await.expect_code(2);
        for text in ["cannot be compiled here", says, "smaller functions"] {
            assert!(refused.stderr.contains(text), "{text}: {refused}");
        }
    }
    place.write("troupe.toml", "");
    let reference = "oci://registry.example.com/acme/echo:1";
    let compile = place.troupe(["component", "compile", "echo.wasm", reference]);
    let refused = compile.end().await.expect_code(2);
    assert!(
        refused
            .stderr
            .contains("acme/echo:1 is a registry's reference, and this command takes files"),
        "{refused}"
    );
    drop(
        place
            .troupe(["component", "compile", "echo.wasm"])
            .end()
            .await
            .expect_code(0),
    );
}

#[tokio::test]
async fn what_the_compiler_refuses_is_said_as_before() {
    let place = Workplace::new();
    // Its function leaves nothing, and promises a number.
    let broken = r#"(component
        (core module $m (func (export "f") (result i32)))
        (core instance $i (instantiate $m))
        (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
    place.write("broken.wasm", wat::parse_str(broken).expect("a binary"));
    let refused = place
        .troupe(["component", "compile", "broken.wasm"])
        .end()
        .await
        .expect_code(2);
    for text in ["the component is not valid", "type mismatch"] {
        assert!(refused.stderr.contains(text), "{text}: {refused}");
    }
}
