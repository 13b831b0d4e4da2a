//! Components that know nothing of Troupe, as tools: what the command line says of them, steps that call them, and agents
//! that are granted them.

use e2e::troupe::{Ended, Workplace, guest, step};
use serde_json::{Value, json};

/// A folder with a component in it.
fn place_with(name: &str) -> Workplace {
    let place = Workplace::new();
    place.write(&format!("{name}.wasm"), guest(name));
    place
}

async fn run(place: &Workplace, agents: Value, steps: Value) -> Ended {
    let document = json!({
        "name": "Tools", "agents": agents, "steps": steps,
        "config": { "max_retries": 1, "retry_delay_ms": 1 },
    });
    place.write("workflow.json", document.to_string());
    place.troupe(["run", "workflow.json", "--json"]).end().await
}

const ISOLATED: &str = "[server]\nisolation = \"process\"\nworkers = 1\n";

fn toolbox() -> Value {
    json!({ "id": "box", "type": "tool", "tools": [{ "name": "toolbox", "component": "toolbox.wasm" }] })
}

#[tokio::test]
async fn a_strangers_component_is_told_apart_without_running_it() {
    let place = place_with("toolbox");
    let ended = place
        .troupe(["agent", "inspect", "toolbox.wasm", "--json"])
        .end()
        .await
        .expect_code(0);
    let about = ended.json();
    assert_eq!(about["kind"], "tool", "{ended}");
    assert!(
        about["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    );
    assert_eq!(about["bytes"], json!(guest("toolbox").len()));
    let functions = about["functions"].as_array().expect("functions");
    let named = |name: &str| {
        let found = functions.iter().find(|function| function["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {ended}"))
    };
    assert_eq!(
        named("add")["parameters"]["properties"]["a"]["maximum"],
        json!(u32::MAX)
    );
    assert_eq!(
        named("values.divide")["interface"],
        "acme:toolbox/values@1.2.0"
    );
    assert!(named("values.divide")["error"].is_object());
    assert_eq!(named("add")["error"], Value::Null);
    let refused = about["refused_functions"].as_array().expect("a list");
    let names: Vec<_> = refused.iter().map(|function| &function["name"]).collect();
    assert_eq!(names, ["[constructor]handle", "open"], "{ended}");
    assert_eq!(about["limits"]["memory_mb"], 512);
    assert!(about["needs"].as_array().is_some());

    let shown = place
        .troupe(["agent", "inspect", "toolbox.wasm"])
        .end()
        .await
        .expect_code(0);
    for text in [
        "kind      tool",
        "  shout\n",
        "open: cannot be called",
        "needs, where it uses",
    ] {
        assert!(shown.stdout.contains(text), "{text}: {shown}");
    }
}

#[tokio::test]
async fn what_a_component_says_of_itself_is_shown() {
    let place = place_with("described");
    let ended = place
        .troupe(["agent", "inspect", "described.wasm", "--json"])
        .end()
        .await
        .expect_code(0);
    let about = ended.json();
    assert_eq!(about["description"]["version"], "1.2.3", "{ended}");
    assert_eq!(
        about["functions"][0]["description"], "What `greet` does.",
        "{ended}"
    );
    let place = place_with("ask");
    let ended = place
        .troupe(["agent", "inspect", "ask.wasm", "--json"])
        .end()
        .await
        .expect_code(0);
    let about = ended.json();
    let shown = place.troupe(["agent", "inspect", "ask.wasm"]).end().await;
    assert!(!shown.stdout.contains("functions\n"), "{shown}");
    assert!(shown.stdout.contains("\nexports\n  "), "{shown}");
    assert_eq!(about["kind"], "agent");
    let needs = about["needs"].as_array().expect("needs");
    for grant in ["llm", "search", "tools", "human", "memory"] {
        assert!(
            needs.iter().any(|need| need["grant"] == grant),
            "{grant}: {ended}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_inspected_or_used_says_why() {
    let place = Workplace::new();
    let ended = place
        .troupe(["agent", "inspect", "https://example.com/tool.wasm"])
        .end()
        .await
        .expect_code(2);
    assert!(
        ended
            .stderr
            .contains("is no component: name a file, a registry's reference"),
        "{ended}"
    );
    place.write("text.wasm", "no component");
    place.write("core.wasm", b"\0asm\x01\0\0\0");
    for (file, reason) in [
        ("text.wasm", "not a WebAssembly component"),
        ("core.wasm", "a core WebAssembly module, not a component"),
    ] {
        let inspect = ["agent", "inspect", file];
        let shown = place.troupe(inspect).end().await.expect_code(1);
        let line = shown
            .stdout
            .lines()
            .find(|line| line.starts_with("refused "));
        assert!(line.is_some_and(|line| line.contains(reason)), "{shown}");
        let inspect = [&inspect[..], &["--json"]].concat();
        let about = place.troupe(inspect).end().await.expect_code(1).json();
        assert_eq!(about["kind"], Value::Null, "{about:#}");
        assert!(about["digest"].is_string(), "{about:#}");
        let refused = about["refused"].as_str().unwrap_or_default();
        assert!(refused.contains(reason), "{about:#}");
    }
    let missing = place.troupe(["agent", "inspect", "nowhere.wasm"]);
    drop(missing.end().await.expect_code(2));
    // An empty component, and one with an import that nobody has.
    place.write("empty.wasm", b"\0asm\x0d\0\x01\0");
    let ended = place
        .troupe(["agent", "inspect", "empty.wasm", "--json"])
        .end()
        .await
        .expect_code(1);
    let refused = ended.json()["refused"].to_string();
    assert!(
        refused.contains("exports nothing that can be called"),
        "{ended}"
    );

    let agents = json!([
        { "id": "a", "type": "tool", "tools": ["content_api", { "name": "empty", "component": "empty.wasm" }] },
    ]);
    let steps = json!([{ "agent": "a", "action": "x", "input": {} }]);
    let ended = run(&place, agents, steps).await.expect_code(2);
    assert!(
        ended.stderr.contains(
            "/agents/0/tools/1/component: the component exports nothing that can be called"
        ),
        "{ended}"
    );
    let agents = json!([{ "id": "a", "type": "tool", "tools": ["content_api"] }]);
    let steps = json!([{ "agent": "a", "action": "x", "input": {} }]);
    let ended = run(&place, agents, steps).await.expect_code(2);
    assert!(
        ended
            .stderr
            .contains("/agents/0/tools/0: the tool `content_api` is not known"),
        "{ended}"
    );
}

#[tokio::test]
async fn functions_of_any_component_are_steps() {
    let place = place_with("toolbox");
    let steps = json!([
        { "id": "sum", "agent": "box", "action": "add", "input": { "a": 40, "b": 2 } },
        { "id": "loud", "agent": "box", "action": "toolbox.shout", "input": "it is {{ sum }}" },
        { "id": "louder", "agent": "box", "action": "shout", "input": { "text": "{{ loud }}", "times": 3 } },
        { "id": "third", "agent": "code", "action": "values.divide", "input": { "a": "{{ sum }}", "b": 3 } },
    ]);
    let agents = json!([toolbox(), { "id": "code", "type": "code", "component": "toolbox.wasm" }]);
    let ended = run(&place, agents, steps).await.expect_code(0);
    let shown = ended.json();
    assert_eq!(step(&shown, "louder")["output"], "IT IS 42!!!!", "{ended}");
    assert_eq!(step(&shown, "third")["output"], 14, "{ended}");
    assert!(
        step(&shown, "sum")["usage"]["fuel"].as_u64() > Some(0),
        "{ended}"
    );
}

#[tokio::test]
async fn a_step_that_fails_says_how() {
    let place = place_with("toolbox");
    for (action, input, (code, message)) in [
        (
            "add",
            json!({ "a": 1 }),
            ("input_invalid", "expected the argument `b`, a whole number"),
        ),
        (
            "add",
            json!("one"),
            ("input_invalid", "its schema is {\"type\":\"object\""),
        ),
        (
            "subtract",
            json!({}),
            (
                "input_invalid",
                "there is no function `subtract`; there are `toolbox.",
            ),
        ),
        (
            "open",
            json!({}),
            (
                "input_invalid",
                "cannot be called: its result is or holds a resource",
            ),
        ),
        (
            "values.divide",
            json!({ "a": 1, "b": 0 }),
            ("guest_failed", "`values.divide` declined: division-by-zero"),
        ),
        (
            "values.divide",
            json!({ "a": 5000, "b": 1 }),
            ("guest_failed", "{\"too-large\":5000}"),
        ),
        ("fail", json!("badly"), ("guest_trap", "unreachable")),
        ("fail", json!("exit"), ("guest_failed", "exit code 1")),
    ] {
        let steps = json!([{ "id": "it", "agent": "box", "action": action, "input": input }]);
        let ended = run(&place, json!([toolbox()]), steps).await.expect_code(1);
        let error = ended.json()["error"].clone();
        assert_eq!(error["code"], code, "{action}: {ended}");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.contains(message)),
            "{action}: {ended}"
        );
    }
}

#[tokio::test]
async fn limits_hold_for_tools() {
    let place = place_with("toolbox");
    let mut agent = toolbox();
    agent["tools"][0]["limits"] = json!({ "fuel": 1_000_000 });
    let steps = json!([{ "id": "it", "agent": "box", "action": "fail", "input": "loop" }]);
    let ended = run(&place, json!([agent.clone()]), steps.clone())
        .await
        .expect_code(1);
    assert_eq!(ended.json()["error"]["code"], "limit_fuel", "{ended}");
    let document = json!({
        "name": "Tools", "agents": [toolbox()], "steps": steps, "config": { "budget_fuel": 1_000_000 },
    });
    place.write("workflow.json", document.to_string());
    let ended = place
        .troupe(["run", "workflow.json", "--json"])
        .end()
        .await
        .expect_code(1);
    assert_eq!(ended.json()["error"]["code"], "budget_exceeded", "{ended}");
}

#[tokio::test]
async fn work_that_the_steps_time_ends_is_paid_by_the_budget() {
    for server in ["", ISOLATED] {
        let place = place_with("toolbox");
        place.write("troupe.toml", server);
        let document = json!({
            "name": "Tools",
            "agents": [toolbox()],
            "steps": [{
                "id": "it", "agent": "box", "action": "fail", "input": "loop", "timeout_ms": 100,
            }],
            "config": { "max_retries": 100, "retry_delay_ms": 1, "budget_fuel": 500_000_000 },
        });
        place.write("workflow.json", document.to_string());
        let run = ["run", "workflow.json", "--json"];
        let ended = place.troupe(run).end().await.expect_code(1);
        assert_eq!(ended.json()["error"]["code"], "budget_exceeded", "{ended}");
    }
}

#[tokio::test]
async fn a_program_is_an_agent() {
    let place = place_with("command");
    let agents = json!([{ "id": "program", "type": "code", "component": "command.wasm" }]);
    let steps = json!([{ "id": "it", "agent": "program", "action": "told", "input": { "n": 1 } }]);
    let ended = run(&place, agents.clone(), steps).await.expect_code(0);
    let shown = ended.json();
    let told = &step(&shown, "it")["output"];
    assert_eq!(told["input"], json!({ "n": 1 }), "{ended}");
    assert_eq!(told["arguments"], json!(["program", "told"]));
    assert_eq!(told["environment"]["TROUPE_EXECUTION"], shown["id"]);
    let steps = json!([{ "id": "it", "agent": "program", "action": "dance", "input": 1 }]);
    let ended = run(&place, agents, steps).await.expect_code(1);
    let error = ended.json()["error"].clone();
    assert_eq!(error["code"], "guest_failed", "{ended}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("exit code 1; it printed:\n…") && message.ends_with("cannot dance"),
        "{ended}"
    );
    assert!(message.len() < 3_000, "{ended}");
}

/// An agent that is granted the toolbox, and calls it.
fn caller(place: &Workplace, limits: Value) -> Value {
    place.write("tooluser.wasm", guest("tooluser"));
    json!([
        toolbox(),
        { "id": "user", "type": "code", "component": "tooluser.wasm", "limits": limits, "grants": { "tools": ["box"] } },
    ])
}

fn calls() -> Value {
    json!([
        { "name": "toolbox.add", "arguments": { "a": 1, "b": 2 } },
        { "name": "toolbox.values.divide", "arguments": { "a": 1, "b": 0 } },
        { "name": "toolbox.shout", "arguments": { "text": 1 } },
        { "name": "other.shout", "arguments": {} },
        { "name": "toolbox.shout", "arguments": { "text": "x" } },
    ])
}

#[tokio::test]
async fn who_is_denied_a_tool_is_told_which_agent_has_it() {
    let place = place_with("toolbox");
    let mut agents = caller(&place, json!({}));
    for (grants, config, says) in [
        (
            json!({}),
            "",
            "add `\"tools\": [\"box\"]` to the agent's `grants`",
        ),
        (
            json!({ "tools": ["box"] }),
            "[[grants]]\nagents = [\"user\"]\ntools = [\"calc*\"]\n",
            "the workflow grants it, the operator does not: add \"box\" to `tools` of the [[grants]] at line 1",
        ),
    ] {
        agents[1]["grants"] = grants;
        place.write("troupe.toml", config);
        let steps = json!([{ "id": "it", "agent": "user", "action": "each", "input": calls() }]);
        let ended = run(&place, agents.clone(), steps).await.expect_code(0);
        let output = step(&ended.json(), "it")["output"].clone();
        let error = output["answers"][0]["error"].as_str().unwrap_or_default();
        let says = format!("may not use the tool `toolbox.add`: {says}").replace('"', "\\\"");
        assert!(error.contains(&says), "{says}: {ended}");
    }
}

#[tokio::test]
async fn an_agent_calls_the_tools_it_is_granted() {
    let place = place_with("toolbox");
    for action in ["each", "many"] {
        let steps = json!([{ "id": "it", "agent": "user", "action": action, "input": calls() }]);
        let ended = run(&place, caller(&place, json!({})), steps)
            .await
            .expect_code(0);
        let shown = ended.json();
        let output = &step(&shown, "it")["output"];
        let tools = output["available"].as_array().expect("tools");
        assert!(
            tools.iter().any(|tool| tool["name"] == "toolbox.add"
                && tool["parameters"]["required"] == json!(["a", "b"])),
            "{ended}"
        );
        let answers = &output["answers"];
        assert_eq!(
            (&answers[0], &answers[4]),
            (&json!({ "ok": 3 }), &json!({ "ok": "X!" })),
            "{ended}"
        );
        for (number, text) in [
            (1, "declined: division-by-zero"),
            (2, "/text: expected a string, found 1"),
            (3, "may not use the tool `other.shout`"),
        ] {
            assert!(
                answers[number]["error"]
                    .as_str()
                    .is_some_and(|error| error.contains(text)),
                "{text}: {ended}"
            );
        }
        let events = place.events(&ended.id()).await;
        let started: Vec<_> = events
            .iter()
            .filter(|event| event["type"] == "call_started")
            .map(|event| event["kind"].as_str().unwrap_or_default())
            .collect();
        // The list of them, and four calls; what is denied is no call of a tool.
        assert_eq!(
            started,
            ["tool", "tool", "tool", "tool", "tool", "denied"],
            "{ended}"
        );
    }
}

/// Tools have no grants of their own, whoever calls them: a tool that calls one is denied it, itself and its caller too.
#[tokio::test]
async fn a_tool_that_calls_itself_or_its_caller_is_denied() {
    for server in ["", ISOLATED] {
        let place = place_with("toolbox");
        place.write("troupe.toml", server);
        place.write("looper.wasm", guest("looper"));
        place.write("tooluser.wasm", guest("tooluser"));
        let names = json!({ "names": ["looper.again", "looper", "user", "toolbox.add"] });
        let sum = json!({ "a": 1, "b": 2 });
        let agents = json!([
            { "id": "both", "type": "tool", "tools": [
                { "name": "looper", "component": "looper.wasm" },
                { "name": "toolbox", "component": "toolbox.wasm" },
            ] },
            { "id": "user", "type": "code", "component": "tooluser.wasm", "grants": { "tools": ["both"] } },
        ]);
        let steps = json!([
            { "id": "called", "agent": "user", "action": "each", "input": [
                { "name": "looper.again", "arguments": names },
                { "name": "toolbox.add", "arguments": sum },
            ] },
            { "id": "alone", "agent": "both", "action": "looper.again", "input": names },
            { "id": "good", "agent": "both", "action": "toolbox.add", "input": sum },
        ]);
        let ended = run(&place, agents, steps).await.expect_code(0);
        let shown = ended.json();
        let answers = &step(&shown, "called")["output"]["answers"];
        for heard in [&answers[0]["ok"], &step(&shown, "alone")["output"]] {
            let heard = heard.as_array().expect("what it heard");
            // What there is, each of the four alone, and all four at once.
            assert_eq!(heard.len(), 9, "{ended}");
            for heard in heard.iter().filter_map(Value::as_str) {
                assert!(heard.starts_with("Err(Error::Denied("), "{heard}");
            }
        }
        assert_eq!(answers[1], json!({ "ok": 3 }), "{ended}");
        assert_eq!(step(&shown, "good")["output"], 3, "{ended}");
        // The agent's own: the list of tools, and two calls.
        let events = place.events(&ended.id()).await;
        let called = events
            .iter()
            .filter(|event| event["type"] == "call_started" && event["kind"] == "tool");
        assert_eq!(called.count(), 3, "{ended}");
    }
}

#[tokio::test]
async fn a_tools_work_is_paid_by_its_caller() {
    let place = place_with("toolbox");
    let steps = json!([{
        "id": "it", "agent": "user", "action": "each",
        "input": [{ "name": "toolbox.fail", "arguments": { "how": "loop" } }],
    }]);
    let agents = caller(&place, json!({ "fuel": 50_000_000 }));
    let ended = run(&place, agents, steps).await.expect_code(1);
    assert_eq!(ended.json()["error"]["code"], "limit_fuel", "{ended}");
}

#[tokio::test]
async fn a_tool_that_the_steps_time_ends_is_paid_at_the_most_that_it_could_use() {
    for server in ["", ISOLATED] {
        let place = place_with("toolbox");
        place.write("troupe.toml", server);
        let mut agents = caller(&place, json!({}));
        agents[0]["tools"][0]["limits"] = json!({ "fuel": 5_000_000_000_u64 });
        let document = json!({
            "name": "Tools",
            "agents": agents,
            "steps": [{
                "id": "it", "agent": "user", "action": "each", "timeout_ms": 300,
                "input": [
                    { "name": "toolbox.add", "arguments": { "a": 1, "b": 2 } },
                    { "name": "toolbox.fail", "arguments": { "how": "loop" } },
                ],
            }],
            "config": { "max_retries": 0, "budget_fuel": 100_000_000_000_u64 },
        });
        place.write("workflow.json", document.to_string());
        let run = ["run", "workflow.json", "--json"];
        let ended = place.troupe(run).end().await.expect_code(1);
        let shown = ended.json();
        assert_eq!(shown["error"]["code"], "timed_out", "{ended}");
        let fuel = step(&shown, "it")["usage"]["fuel"].as_u64();
        let expected = 5_000_000_001..5_100_000_000;
        assert!(fuel.is_some_and(|fuel| expected.contains(&fuel)), "{ended}");
    }
}

#[tokio::test]
async fn tools_that_had_ended_when_the_steps_time_did_are_paid_too() {
    for server in ["", ISOLATED] {
        let place = place_with("toolbox");
        place.write(
            "troupe.toml",
            format!("{server}[limits]\nfuel = 10000000000000\n"),
        );
        let mut agents = caller(&place, json!({}));
        let tool = |name: &str, fuel: u64| json!({ "name": name, "component": "toolbox.wasm", "limits": { "fuel": fuel } });
        agents[0]["tools"] = json!([tool("quick", 10_000_000), tool("endless", 400_000_000_000)]);
        let called = |name: &str| json!({ "name": name, "arguments": { "how": "loop" } });
        // More than are called at once.
        let mut input = vec![called("quick.fail"); 20];
        input.push(called("endless.fail"));
        let document = json!({
            "name": "Tools",
            "agents": agents,
            "steps": [{ "id": "it", "agent": "user", "action": "many", "timeout_ms": 2_000, "input": input }],
            "config": { "max_retries": 0, "budget_fuel": 100_000_000_000_000_u64 },
        });
        place.write("workflow.json", document.to_string());
        let run = ["run", "workflow.json", "--json"];
        let ended = place.troupe(run).end().await.expect_code(1);
        let shown = ended.json();
        assert_eq!(shown["error"]["code"], "timed_out", "{ended}");
        let fuel = step(&shown, "it")["usage"]["fuel"].as_u64();
        let expected = 400_200_000_000..400_300_000_000;
        assert!(fuel.is_some_and(|fuel| expected.contains(&fuel)), "{ended}");
    }
}

#[tokio::test]
async fn a_tools_recorded_answer_is_not_paid_again_by_who_goes_on() {
    let place = place_with("toolbox");
    let mut agents = caller(&place, json!({}));
    agents[0]["tools"][0]["limits"] = json!({ "fuel": 100_000_000 });
    let called = json!({ "name": "toolbox.fail", "arguments": { "how": "loop" } });
    let document = json!({
        "name": "Tools",
        "agents": agents,
        "steps": [{ "id": "it", "agent": "user", "action": "each", "input": [called] }],
    });
    place.write("workflow.json", document.to_string());
    let run = place.troupe(["run", "workflow.json", "--json"]);
    let killed = run.variable("TROUPE_FAIL_POINT", "attempt:1:after");
    assert!(killed.end().await.was_killed());
    let recovered = place.troupe(["recover"]).end().await;
    let _ = recovered.expect_code(0);
    let listed = place.list().await;
    let shown = place.show(listed[0]["id"].as_str().expect("an id")).await;
    let fuel = step(&shown, "it")["usage"]["fuel"].as_u64();
    // The attempt that was broken off paid all that it had reserved.
    let own = 1_000_000..50_000_000;
    assert!(fuel.is_some_and(|fuel| own.contains(&fuel)), "{shown}");
}

#[tokio::test]
async fn answers_of_tools_are_not_asked_for_again_after_a_crash() {
    let place = place_with("toolbox");
    let steps = json!([{ "id": "it", "agent": "user", "action": "each", "input": calls() }]);
    let agents = caller(&place, json!({}));
    let whole = run(&place, agents.clone(), steps.clone())
        .await
        .expect_code(0)
        .json();
    let expected = step(&whole, "it")["output"].clone();
    let mut killed = 0;
    for write in 1..40 {
        let document = json!({ "name": "Tools", "agents": agents, "steps": steps });
        place.write("workflow.json", document.to_string());
        let point = format!("write:{write}:after");
        let listed = place.list().await.into_iter();
        let before: Vec<Value> = listed.map(|row| row["id"].clone()).collect();
        let call = place
            .troupe(["run", "workflow.json", "--json"])
            .variable("TROUPE_FAIL_POINT", &point);
        let ended = call.end().await;
        if !ended.was_killed() {
            break;
        }
        killed += 1;
        let recovered = place.troupe(["recover"]).end().await;
        assert!(
            [Some(0), Some(1)].contains(&recovered.status.code()),
            "{point}: {recovered}"
        );
        let listed = place.list().await;
        let row = listed
            .iter()
            .find(|row| !before.contains(&row["id"]))
            .expect("the execution");
        let id = row["id"].as_str().expect("an id").to_owned();
        let shown = place.show(&id).await;
        assert_eq!(
            step(&shown, "it")["output"],
            expected,
            "{point}: {recovered}"
        );
        let events = place.events(&id).await;
        let denied: Vec<_> = events
            .iter()
            .filter(|event| event["kind"] == "denied")
            .map(|event| &event["call"])
            .collect();
        let mut answered: Vec<u64> = events
            .iter()
            .filter(|event| event["type"] == "call_ended" && !denied.contains(&&event["call"]))
            .filter_map(|event| event["call"].as_u64())
            .collect();
        let ended = answered.len();
        answered.sort_unstable();
        answered.dedup();
        assert_eq!(
            (ended, answered.len()),
            (5, 5),
            "{point}: an answer was asked for again"
        );
    }
    assert!(killed >= 8, "only {killed} points");
}
