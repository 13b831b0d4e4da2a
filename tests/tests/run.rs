//! `troupe run`, `show` and `recover` with small workflows: what is refused before anything is spent, and what is
//! recorded of what was done.

use std::time::Duration;

use e2e::loopback::{Gate, Loopback, Reply, Route};
use e2e::troupe::{Ended, OPENAI_KEY, Workplace, step, text};
use serde_json::{Value, json};

/// Writes a document and returns the arguments that run it.
fn document(place: &Workplace, document: &Value) -> Vec<String> {
    let path = place.write("workflow.json", document.to_string());
    vec!["run".to_owned(), text(path)]
}

/// Runs a document with further arguments.
async fn run(place: &Workplace, value: &Value, more: &[&str]) -> Ended {
    let mut arguments = document(place, value);
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    place.troupe(arguments).end().await
}

/// One question to one model.
fn question() -> Value {
    json!({
        "name": "Question",
        "agents": [{ "id": "model", "type": "llm", "model": "gpt-5-mini", "max_tokens": 1000 }],
        "steps": [{ "id": "ask", "agent": "model", "action": "answer", "input": "Question: {{ question }}" }],
        "config": { "max_retries": 1, "retry_delay_ms": 1 },
    })
}

fn python(id: &str, code: &str) -> Value {
    json!({ "id": id, "type": "code", "language": "python", "code": code })
}

async fn connected() -> (Loopback, Workplace) {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, "");
    (loopback, place)
}

#[tokio::test]
async fn wrong_inputs_are_refused_before_anything_is_spent() {
    let (loopback, place) = connected().await;
    let mut declared = question();
    declared["inputs"] = json!({ "type": "object", "properties": { "question": { "type": "string", "minLength": 3 } },
        "required": ["question"], "additionalProperties": false });
    for (document, given, expected) in [
        (
            question(),
            vec![],
            "the input `question` is missing; add `question` to the inputs, on the command line with -i question=…",
        ),
        (
            question(),
            vec!["-i", "question=x", "-i", "qestion=y"],
            "/qestion: the workflow reads no input `qestion`; did you mean `question`?",
        ),
        (
            declared.clone(),
            vec![],
            "the input `question` is missing; add `question` to the inputs, on the command line with -i question=…",
        ),
        (
            declared.clone(),
            vec!["-i", "question=x"],
            "/question: \"x\" is shorter than 3 characters",
        ),
        (
            declared.clone(),
            vec!["-i", "question:=7"],
            "/question: 7 is not of type \"string\"",
        ),
        (
            declared,
            vec!["-i", "question=why", "-i", "more=x"],
            "('more' was unexpected)",
        ),
        (
            question(),
            vec!["-i", "question"],
            "write NAME=TEXT, or NAME:=JSON",
        ),
        (
            question(),
            vec!["-i", "question:=why"],
            "after `:=` stands JSON",
        ),
    ] {
        let ended = run(&place, &document, &given).await.expect_code(2);
        assert!(ended.stderr.contains(expected), "{given:?}: {ended}");
        assert_eq!(ended.stdout, "");
    }
    assert!(loopback.requests().is_empty());
    assert!(place.list().await.is_empty());
}

#[tokio::test]
async fn what_the_machine_does_not_have_is_named_with_the_way_out() {
    let (loopback, place) = connected().await;
    let with = |pointer: &str, value: Value| {
        let mut document = question();
        *document
            .pointer_mut(pointer)
            .expect("a place in the document") = value;
        document
    };
    let search = json!({ "id": "model", "type": "search", "sources": ["database"] });
    let component =
        json!({ "id": "model", "type": "code", "component": format!("sha256:{}", "0".repeat(64)) });
    let no_component = json!({ "id": "model", "type": "code", "component": "workflow.json" });
    let granted = json!({ "id": "model", "type": "code", "language": "python", "code": "result = 1", "grants": { "search": ["nowhere"] } });
    for (document, expected) in [
        (
            with("/agents/0/model", json!("gpt-5-mni")),
            "/agents/0/model: the configuration knows no model `gpt-5-mni` (did you mean `gpt-5-mini`?); add it: [models] \"gpt-5-mni\" = {",
        ),
        (
            with("/agents/0/model", json!("zephyr")),
            "[models] \"zephyr\" = { provider = \"…\", model = \"…\" }",
        ),
        (
            with("/agents/0", search),
            "/agents/0/sources/0: the configuration has no source `database`; add [sources.database]",
        ),
        (with("/agents/0", component), "is not on this machine"),
        (with("/agents/0", no_component), "/agents/0/component: "),
        (
            with("/agents/0", granted),
            "/agents/0/grants/search/0: the configuration has no source `nowhere`",
        ),
    ] {
        let ended = run(&place, &document, &["-i", "question=why"])
            .await
            .expect_code(2);
        assert!(ended.stderr.contains(expected), "{expected}\n{ended}");
    }
    assert!(loopback.requests().is_empty());
    assert!(place.list().await.is_empty());
}

#[tokio::test]
async fn a_missing_key_is_named() {
    let place = Workplace::new();
    let ended = run(&place, &question(), &["-i", "question=why"])
        .await
        .expect_code(2);
    for expected in ["/agents/0/model", "OPENAI_API_KEY is not set", "--offline"] {
        assert!(ended.stderr.contains(expected), "{ended}");
    }
}

#[tokio::test]
async fn a_configuration_with_a_fault_is_refused() {
    let place = Workplace::new();
    for (config, expected) in [
        (
            "[providers.x]\nkind = \"openai\"\nbase_ur = \"http://127.0.0.1\"\n",
            "base_ur",
        ),
        (
            "[limits]\nfuel = \"much\"\n",
            "line 2, column 8: invalid type",
        ),
        ("[nonsense]\n", "nonsense"),
        ("[providers", "troupe.toml has a fault"),
    ] {
        place.write("troupe.toml", config);
        let ended = run(&place, &question(), &["-i", "question=why"])
            .await
            .expect_code(2);
        assert!(ended.stderr.contains(expected), "{ended}");
    }
}

#[tokio::test]
async fn a_call_that_the_budget_cannot_pay_is_not_made() {
    let (loopback, place) = connected().await;
    let mut document = question();
    // 1,000 tokens of output are $0.002 at most.
    document["config"]["budget_usd"] = json!(0.0001);
    let ended = run(&place, &document, &["-i", "question=why", "--json"])
        .await
        .expect_code(1);
    let shown = ended.json();
    assert_eq!(shown["error"]["code"], "budget_exceeded", "{ended}");
    assert!(
        shown["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("budget_usd")),
        "{ended}"
    );
    assert_eq!(
        (&shown["status"], &shown["cost"]["usd"]),
        (&json!("failed"), &json!(0.0))
    );
    assert!(loopback.requests().is_empty(), "the call was made");
}

/// Twenty branches that each ask a model, under a budget that affords four of them at their worst.
async fn twenty_branches(usage: Value) -> (Loopback, Ended) {
    let (loopback, place) = connected().await;
    let branch = |number: usize| json!({ "id": format!("ask_{number}"), "agent": "model", "action": "answer", "input": "why" });
    let mut document = question();
    document["steps"] = json!([{ "parallel": (0..20).map(branch).collect::<Vec<_>>() }]);
    // Each call reserves a little more than $0.002.
    document["config"]["budget_usd"] = json!(0.0095);
    let gate = Gate::closed();
    loopback.always(
        Route::OpenAi,
        Reply::text("because").usage(usage).behind(&gate),
    );
    let mut arguments = self::document(&place, &document);
    arguments.push("--json".to_owned());
    let running = place.troupe(arguments).start();
    loopback.wait_for(4).await;
    gate.open();
    (loopback, running.end().await)
}

#[tokio::test]
async fn branches_cannot_overshoot_the_budget_together() {
    // 40 × $0.25 and 1,000 × $2 for a million tokens: nearly the worst case. Four calls leave too little for a fifth.
    let dear = json!({ "prompt_tokens": 40, "completion_tokens": 1_000 });
    let (loopback, ended) = twenty_branches(dear).await;
    let shown = ended.expect_code(1).json();
    assert_eq!(shown["error"]["code"], "budget_exceeded", "{shown:#}");
    assert_eq!(loopback.requests().len(), 4);
    assert_eq!(shown["cost"]["usd"], json!(0.008_04));
}

#[tokio::test]
async fn branches_wait_for_money_that_comes_back() {
    let cheap = json!({ "prompt_tokens": 40, "completion_tokens": 10 });
    let (loopback, ended) = twenty_branches(cheap).await;
    let shown = ended.expect_code(0).json();
    assert_eq!(shown["cost"]["usd"], json!(0.000_6), "{shown:#}");
    assert_eq!(
        (loopback.requests().len(), loopback.most_at_once()),
        (20, 4)
    );
}

#[tokio::test]
async fn a_retry_helps_and_is_recorded() {
    let (loopback, place) = connected().await;
    loopback.script(Route::OpenAi, [Reply::status(500), Reply::text("because")]);
    let ended = run(&place, &question(), &["-i", "question=why", "--json"])
        .await
        .expect_code(0);
    let shown = ended.json();
    let asked = step(&shown, "ask");
    assert_eq!(
        (&asked["status"], &asked["attempts"], &asked["output"]),
        (&json!("completed"), &json!(2), &json!("because"))
    );
    assert_eq!(loopback.requests().len(), 2);
    // The same key at every try.
    let keys: Vec<String> = loopback
        .requests()
        .iter()
        .map(|request| request.header("idempotency-key").to_owned())
        .collect();
    assert!(!keys[0].is_empty() && keys[0] == keys[1], "{keys:?}");
    assert!(
        ended.stderr.contains("unavailable"),
        "the failed try is shown: {ended}"
    );
}

#[tokio::test]
async fn retries_are_not_late() {
    let (loopback, place) = connected().await;
    let steps: Vec<Value> = (0..60)
        .map(|number| json!({ "id": format!("ask_{number}"), "agent": "model", "action": "answer", "input": "why" }))
        .collect();
    let mut value = question();
    value["steps"] = json!(steps);
    // About as long as it takes to record the failure: the pause is over before anybody waits for it.
    value["config"]["retry_delay_ms"] = json!(2);
    let replies = (0..120).map(|number| {
        if number % 2 == 0 {
            Reply::status(500)
        } else {
            Reply::text("because")
        }
    });
    loopback.script(Route::OpenAi, replies);
    let ended = run(&place, &value, &["--json"]).await.expect_code(0);
    let shown = ended.json();
    // Sixty pauses of two milliseconds; a wake-up that is missed costs far more than all of them.
    assert!(
        shown["duration_ms"]
            .as_u64()
            .is_some_and(|millis| millis < 10_000),
        "{ended}"
    );
}

#[tokio::test]
async fn a_failing_branch_ends_its_siblings_and_the_execution() {
    let (loopback, place) = connected().await;
    loopback.always(Route::OpenAi, Reply::hang());
    let value = json!({
        "name": "Branches",
        "agents": [
            { "id": "slow", "type": "llm", "model": "gpt-5-mini" },
            python("bad", "def run(x):\n    rows = x['rows']\n    return rows[0]['amount']\n"),
        ],
        "steps": [
            { "id": "first", "set": { "rows": [{}] } },
            { "parallel": [
                { "id": "wait", "agent": "slow", "action": "answer", "input": "why" },
                { "id": "fail", "agent": "bad", "action": "run", "input": "{{ first }}" },
            ] },
            { "id": "last", "agent": "slow", "action": "answer", "input": "never" },
        ],
    });
    let ended = run(&place, &value, &["--json"]).await.expect_code(1);
    let shown = ended.json();
    let statuses: Vec<&Value> = ["first", "wait", "fail", "last"]
        .iter()
        .map(|id| &step(&shown, id)["status"])
        .collect();
    assert_eq!(
        statuses,
        ["completed", "cancelled", "failed", "pending"],
        "{ended}"
    );
    assert_eq!(shown["error"]["code"], "guest_failed");
    assert!(
        ended.stderr.contains("failed at the step `fail`"),
        "{ended}"
    );
    // The author's own file, line and error.
    let message = step(&shown, "fail")["error"]["message"]
        .as_str()
        .unwrap_or_default();
    assert!(
        message.contains("bad.py\", line 3") && message.contains("KeyError: 'amount'"),
        "{message}"
    );
}

#[tokio::test]
async fn a_failed_branch_may_be_left_or_replaced() {
    let (loopback, place) = connected().await;
    loopback.always(Route::OpenAi, Reply::text("from the model"));
    let fallback = json!({ "retry": 0, "fallback": { "agent": "model", "action": "explain", "input": "It failed: {{ error.message }}" } });
    let value = json!({
        "name": "Second chances",
        "agents": [{ "id": "model", "type": "llm", "model": "gpt-5-mini" }, python("bad", "raise ValueError('no luck')")],
        "steps": [
            { "parallel": [
                { "id": "left", "agent": "bad", "action": "run", "input": 1, "on_error": "continue" },
                { "id": "replaced", "agent": "bad", "action": "run", "input": 1, "on_error": fallback },
            ] },
            { "id": "last", "set": "{{ left.output | default('nothing') }}; {{ left.error.code }}; {{ replaced.output }}" },
        ],
    });
    let ended = run(&place, &value, &["--json"]).await.expect_code(0);
    let shown = ended.json();
    assert_eq!(
        step(&shown, "last")["output"],
        "nothing; guest_failed; from the model",
        "{ended}"
    );
    let asked = loopback.requests()[0].json().to_string();
    assert!(asked.contains("no luck"), "{asked}");
}

#[tokio::test]
async fn a_condition_chooses() {
    let place = Workplace::new();
    let value = json!({
        "name": "Conditions",
        "agents": [python("double", "def run(x):\n    return x * 2\n"), { "id": "triple", "type": "code", "language": "javascript", "code": "function run(x) { return x * 3; }" }],
        "steps": [
            { "id": "large", "agent": "double", "action": "run", "input": "{{ n }}", "condition": "{{ n }} > 10" },
            { "id": "small", "agent": "triple", "action": "run", "input": "{{ n }}", "condition": "{{ n }} <= 10" },
        ],
        "outputs": { "value": "{{ large.output | default(small.output) }}" },
    });
    for (n, expected, skipped) in [("n:=7", "21", "large"), ("n:=11", "22", "small")] {
        let ended = run(&place, &value, &["-i", n]).await.expect_code(0);
        assert_eq!(ended.stdout.trim(), expected, "{ended}");
        assert!(ended.stderr.contains(&format!("– {skipped}")), "{ended}");
    }
    let ended = run(&place, &value, &["-i", "n=seven"]).await.expect_code(1);
    assert!(ended.stderr.contains("condition"), "{ended}");
}

#[tokio::test]
async fn executions_are_listed_and_shown() {
    let (loopback, place) = connected().await;
    loopback.script(Route::OpenAi, [Reply::text("because")]);
    loopback.script(Route::OpenAi, [Reply::status(400).message("no such thing")]);
    let first = run(&place, &question(), &["-i", "question=why"])
        .await
        .expect_code(0);
    assert_eq!(first.stdout, "because\n");
    let second = run(&place, &question(), &["-i", "question=why not"])
        .await
        .expect_code(1);
    assert!(
        second.stderr.contains("input_invalid") && second.stderr.contains("no such thing"),
        "{second}"
    );
    assert_eq!(second.stdout, "");
    let (first, second) = (first.id(), second.id());
    let listed = place.troupe(["show"]).end().await.expect_code(0).stdout;
    assert_eq!(
        listed,
        format!("{second}  failed     Question\n{first}  completed  Question\n")
    );
    let shown = place
        .troupe(["show", &first])
        .end()
        .await
        .expect_code(0)
        .stdout;
    for expected in [
        first.as_str(),
        "Question  completed  1/1 steps",
        "inputs: {\"question\":\"why\"}",
        "✓ ask (model)",
        "because",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    let shown = place
        .troupe(["show", &second])
        .end()
        .await
        .expect_code(0)
        .stdout;
    assert!(
        shown.contains("✗ ask (model)") && shown.contains("failed: input_invalid"),
        "{shown}"
    );
    for id in ["exec_00000000000000000000000000", "nonsense"] {
        let _ = place.troupe(["show", id]).end().await.expect_code(2);
    }
}

#[tokio::test]
async fn everything_that_happened_is_recorded_but_no_key() {
    let (loopback, place) = connected().await;
    loopback.script(Route::OpenAi, [Reply::text("because")]);
    let ended = run(&place, &question(), &["-i", "question=why"])
        .await
        .expect_code(0);
    let types: Vec<Value> = place
        .events(&ended.id())
        .await
        .iter()
        .map(|event| event["type"].clone())
        .collect();
    assert_eq!(
        types,
        [
            "execution_created",
            "step_started",
            "call_started",
            "call_ended",
            "step_completed",
            "execution_completed"
        ]
    );
    let ended = place.troupe(["recover"]).end().await.expect_code(0);
    assert!(
        ended.stderr.contains("there is nothing to recover"),
        "{ended}"
    );
    for (path, bytes) in place.data_files() {
        let found = bytes
            .windows(OPENAI_KEY.len())
            .any(|window| window == OPENAI_KEY.as_bytes());
        assert!(!found, "the key is in {}", path.display());
    }
}

#[tokio::test]
async fn the_same_document_runs_offline_as_online() {
    let place = Workplace::new();
    let ended = run(
        &place,
        &question(),
        &["-i", "question=why", "--offline", "--json"],
    )
    .await
    .expect_code(0);
    let shown = ended.json();
    assert_eq!(
        (&shown["status"], &shown["cost"]["usd"]),
        (&json!("completed"), &json!(0.0)),
        "{ended}"
    );
}

#[tokio::test]
async fn a_step_that_may_not_be_repeated_waits_for_a_person() {
    let (loopback, place) = connected().await;
    loopback.always(Route::OpenAi, Reply::hang());
    let mut value = question();
    value["agents"][0]["idempotent"] = json!(false);
    let mut arguments = document(&place, &value);
    arguments.extend(["-i".to_owned(), "question=why".to_owned()]);
    let running = place.troupe(arguments).start();
    loopback.wait_for(1).await;
    let killed = running.kill().await;
    let id = killed.id();
    for _ in 0..2 {
        let ended = place.troupe(["recover"]).end().await.expect_code(3);
        assert!(
            ended.stderr.contains("is paused") && ended.stderr.contains("`idempotent: false`"),
            "{ended}"
        );
    }
    assert_eq!(loopback.requests().len(), 1, "the call was repeated");
    let shown = place.show(&id).await;
    assert_eq!(shown["status"], "paused");
    assert!(
        shown["cost"]["usd"]
            .as_f64()
            .is_some_and(|cost| cost > 0.002),
        "charged at its worst case: {shown:#}"
    );
    loopback.always(Route::OpenAi, Reply::text("because"));
    let resumed = place.troupe(["resume", &id]).end().await.expect_code(0);
    assert_eq!(resumed.stdout.trim(), "because");
    assert_eq!(loopback.requests().len(), 2);
    let again = place.troupe(["resume", &id]).end().await.expect_code(2);
    assert!(again.stderr.contains("completed already"), "{again}");
}

#[tokio::test]
async fn an_execution_ends_at_its_deadline() {
    let (loopback, place) = connected().await;
    loopback.always(
        Route::OpenAi,
        Reply::text("late").after(Duration::from_secs(60)),
    );
    let mut value = question();
    value["config"]["timeout_ms"] = json!(500);
    let ended = run(&place, &value, &["-i", "question=why", "--json"])
        .await
        .expect_code(1);
    assert_eq!(ended.json()["error"]["code"], "timed_out", "{ended}");
    assert!(ended.stderr.contains("config.timeout_ms"), "{ended}");
}
