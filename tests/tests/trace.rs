//! `--trace`: what components asked of the host, for whoever looks for a fault in one.

use e2e::loopback::{Loopback, Reply, Route};
use e2e::troupe::{Workplace, guest};
use serde_json::{Value, json};

const ISOLATED: &str = "[server]\nisolation = \"process\"\nworkers = 1\n";

/// Interface, how it ended, and how many answers were on record, of each call.
fn calls(listed: &Value) -> Vec<(&str, &str, u64)> {
    let calls = listed.as_array().expect("a list");
    calls
        .iter()
        .map(|call| {
            let call_name = call["call"].as_str().expect("a name");
            let name = call_name.strip_prefix("troupe:agent/");
            let end = call["end"].as_str().expect("a word");
            let recorded = call["recorded"].as_u64().expect("a number");
            (name.unwrap_or(call_name), end, recorded)
        })
        .collect()
}

#[tokio::test]
async fn code_that_runs_by_itself_lists_what_it_was_denied() {
    let source = "\
total = sum(range(1000))
try:
    context.output('hidden step')
except PermissionError:
    pass
result = context.inputs
";
    for config in ["", ISOLATED] {
        let place = Workplace::new();
        place.write("troupe.toml", config);
        place.write("main.py", source);
        let plain = place.troupe(["exec", "main.py"]).end().await;
        assert!(!plain.expect_code(0).stderr.contains("asked of the host"));
        let ended = place.troupe(["exec", "main.py", "--trace"]).end().await;
        let ended = ended.expect_code(0);
        assert_eq!(ended.stdout, "{}\n");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(lines[0], "the code asked of the host:", "{ended}");
        let line = lines.iter().find(|line| line.contains("context.output"));
        assert!(
            line.is_some_and(|line| line.ends_with(" denied")),
            "{ended}"
        );
        assert!(lines.last().is_some_and(|it| it.contains(" fuel in all, ")));
        let json = place.troupe(["exec", "main.py", "--trace", "--json"]);
        let json = json.end().await.expect_code(0).json();
        let expected = [("context.output", "denied", 0), ("context.inputs", "ok", 0)];
        assert_eq!(calls(&json["trace"]), expected, "{json:#}");
        assert_eq!(json["trace_left_out"], 0);
        assert!(!json["trace"].to_string().contains("hidden"), "{json:#}");
        let guest_fuel = json["trace"][0]["guest_fuel"].as_u64();
        assert!(guest_fuel < json["usage"]["fuel"].as_u64() && guest_fuel > Some(0));
    }
}

#[tokio::test]
async fn a_step_that_goes_on_lists_what_was_answered_from_the_record() {
    for config in ["", ISOLATED] {
        let loopback = Loopback::start().await;
        loopback.always(Route::OpenAi, Reply::text("so it is"));
        let mut place = Workplace::new();
        place.connect(&loopback, config);
        place.write("agent.wasm", guest("interview"));
        let question = json!({ "assignees": ["team@example.com"], "message": "May this be?" });
        let document = json!({
            "name": "Interview",
            "agents": [{
                "id": "reporter", "type": "code", "component": "agent.wasm",
                "grants": { "llm": { "models": ["gpt-5-mini"] }, "human": true },
            }],
            "steps": [{
                "id": "talk", "agent": "reporter", "action": "ask", "input": { "questions": [question] },
            }],
        });
        place.write("workflow.json", document.to_string());
        let run = place
            .troupe(["run", "workflow.json", "--trace"])
            .end()
            .await;
        let run = run.expect_code(3);
        let table = "`talk` (reporter), attempt 1, asked of the host:";
        assert!(run.stderr.contains(table), "{run}");
        let asked = run.stderr.lines().find(|line| line.contains("human.ask"));
        assert!(
            asked.is_some_and(|line| line.ends_with(" stopped")),
            "{run}"
        );
        let approve = ["approve", &run.id(), "--by", "ann", "--trace", "--json"];
        let approved = place.troupe(approve).end().await.expect_code(0).json();
        let attempt = &approved["trace"][0];
        assert_eq!(
            (&attempt["step"], &attempt["left_out"]),
            (&json!("talk"), &json!(0))
        );
        let calls = calls(&attempt["calls"]);
        assert_eq!(
            calls.first(),
            Some(&("budget.left", "ok", 1)),
            "{attempt:#}"
        );
        assert!(
            calls.contains(&("llm.complete-many", "ok", 2)),
            "{attempt:#}"
        );
        assert!(calls.contains(&("human.ask", "ok", 1)), "{attempt:#}");
        assert_eq!(
            calls.last(),
            Some(&("llm.complete-many", "ok", 0)),
            "{attempt:#}"
        );
        let said = approved["trace"].to_string();
        assert!(
            !said.contains("so it is") && !said.contains("May this"),
            "{said}"
        );
        let shown = place.show(&run.id()).await;
        assert!(shown.get("trace").is_none(), "{shown:#}");
    }
}

#[tokio::test]
async fn a_step_whose_time_is_over_lists_what_it_waited_for_and_pays_what_it_used() {
    for config in ["", ISOLATED] {
        let loopback = Loopback::start().await;
        loopback.always(Route::OpenAi, Reply::hang());
        let mut place = Workplace::new();
        place.connect(&loopback, config);
        place.write("agent.wasm", guest("ask"));
        let document = json!({
            "name": "Hangs",
            "config": { "max_retries": 1, "retry_delay_ms": 1 },
            "agents": [{
                "id": "ask", "type": "code", "component": "agent.wasm",
                "grants": { "llm": { "models": ["gpt-5-mini"] } },
            }],
            "steps": [{
                "id": "ask", "agent": "ask", "action": "llm.complete", "input": "gpt-5-mini",
                "timeout_ms": 2_000,
            }],
        });
        place.write("workflow.json", document.to_string());
        let run = ["run", "workflow.json", "--trace", "--json"];
        let run = place.troupe(run).end().await.expect_code(1).json();
        assert_eq!(run["error"]["code"], "timed_out", "{run:#}");
        let attempts = run["trace"].as_array().expect("a list");
        assert_eq!(attempts.len(), 2, "{run:#}");
        for attempt in attempts {
            let expected = [("llm.complete", "stopped", 0)];
            assert_eq!(calls(&attempt["calls"]), expected, "{run:#}");
        }
        let fuel = run["steps"][0]["usage"]["fuel"].as_u64();
        let guest_fuel = |place: usize| attempts[place]["calls"][0]["guest_fuel"].as_u64();
        let before = guest_fuel(0)
            .zip(guest_fuel(1))
            .map(|(one, other)| one + other);
        assert!(before > Some(0) && fuel > before, "{run:#}");
    }
}

#[tokio::test]
async fn a_step_says_how_many_instances_its_component_is_made_of() {
    let place = Workplace::new();
    place.write("agent.wasm", guest("ask"));
    let document = json!({
        "name": "Instances",
        "agents": [{ "id": "ask", "type": "code", "component": "agent.wasm" }],
        "steps": [{ "id": "ask", "agent": "ask", "action": "context.inputs", "input": "none" }],
    });
    place.write("workflow.json", document.to_string());
    let run = place.troupe(["run", "workflow.json", "--json"]).end().await;
    let run = run.expect_code(0).json();
    let instances = run["steps"][0]["usage"]["instances"].as_u64();
    assert!(instances.is_some_and(|it| (1..64).contains(&it)), "{run:#}");
}
