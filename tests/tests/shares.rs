//! The share of an agent: what the models that a component asks may cost, whatever it asks at once, and wherever the
//! process dies.

use e2e::loopback::{Loopback, Reply, Route};
use e2e::troupe::{Ended, Workplace, guest, step};
use serde_json::{Value, json};

/// What the component may spend in a step, in micro-dollars.
const SHARE: u64 = 5_000;
/// What each answer costs: 100 tokens of input at $0.25 and 500 of output at $2 a million.
const COST: u64 = 1_025;

struct Scene {
    loopback: Loopback,
    place: Workplace,
}

impl Scene {
    /// The guest `spender`, which asks in these batches.
    async fn new(batches: &Value, config: &Value) -> Self {
        let loopback = Loopback::start().await;
        let usage = json!({ "prompt_tokens": 100, "completion_tokens": 500 });
        loopback.always(Route::OpenAi, Reply::text("something").usage(usage));
        let mut place = Workplace::new();
        place.connect(&loopback, "");
        place.write("agent.wasm", guest("spender"));
        let document = json!({
            "name": "Spend",
            "agents": [{
                "id": "spender", "type": "code", "component": "agent.wasm",
                "grants": { "llm": { "models": ["gpt-5-mini"], "budget_usd": 0.005 } },
            }],
            "steps": [{ "id": "spend", "agent": "spender", "action": "spend", "input": batches }],
            "config": config,
        });
        place.write("workflow.json", document.to_string());
        Self { loopback, place }
    }

    async fn run(&self) -> Ended {
        let ended = self.place.troupe(["run", "workflow.json", "--json"]);
        ended.end().await.expect_code(0)
    }
}

/// All that the component was told, in the order of its requests.
fn told(output: &Value) -> Vec<Value> {
    let batches = output["told"].as_array().into_iter().flatten();
    batches
        .flat_map(|batch| batch.as_array().cloned().unwrap_or_default())
        .collect()
}

/// What a request limits its answer to, under either name that the field has.
fn most(request: &Value) -> Option<u64> {
    let names = ["max_completion_tokens", "max_tokens"];
    names.iter().find_map(|name| request[name].as_u64())
}

fn micro_usd(shown: &Value) -> u64 {
    let usd = shown["cost"]["usd"].as_f64().expect("a cost");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand micro-dollars"
    )]
    let cost = (usd * 1e6).round() as u64;
    cost
}

/// At no moment was more spent or reserved than the share.
fn expect_within_the_share(events: &[Value]) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (mut open, mut gone) = (std::collections::BTreeMap::new(), 0);
    for event in events {
        match event["type"].as_str() {
            Some("call_started") => {
                // One that is begun anew: what it had reserved before stays charged.
                let before = open.insert(number(&event["call"]), number(&event["reserved"]));
                gone += before.unwrap_or(0);
            }
            Some("call_ended") => {
                open.remove(&number(&event["call"]));
                gone += number(&event["cost"]);
            }
            _ => {}
        }
        let all: u64 = gone + open.values().sum::<u64>();
        assert!(all <= SHARE, "{all} after {event}");
    }
}

#[tokio::test]
async fn what_is_asked_at_once_does_not_overshoot_together() {
    let scene = Scene::new(&json!([[1000, 1000, 1000, 1000]]), &json!({})).await;
    let shown = scene.run().await.json();
    let output = &step(&shown, "spend")["output"];
    // Two fit at once; the third when both have cost less than they might have; then too little is left.
    let told = told(output);
    let count = |wanted: Value| told.iter().filter(|told| **told == wanted).count();
    assert_eq!(count(json!(COST)), 3, "{shown:#}");
    assert_eq!(count(json!("spent: BudgetKind::Usd")), 1, "{shown:#}");
    assert_eq!(output["left"], json!([SHARE, SHARE - 3 * COST]));
    assert_eq!(scene.loopback.requests().len(), 3);
    assert_eq!(micro_usd(&shown), 3 * COST);
    let id = shown["id"].as_str().expect("an id");
    expect_within_the_share(&scene.place.events(id).await);
}

#[tokio::test]
async fn an_answer_gets_what_the_share_affords_and_the_budget_may_have_less() {
    let scene = Scene::new(&json!([[null], [null]]), &json!({ "budget_usd": 0.004 })).await;
    let shown = scene.run().await.json();
    let output = &step(&shown, "spend")["output"];
    let budget = 4_000;
    assert_eq!(
        output["left"],
        json!([budget, budget - COST, budget - 2 * COST]),
        "{shown:#}"
    );
    let asked: Vec<u64> = scene
        .loopback
        .requests()
        .iter()
        .filter_map(|request| most(&request.json()))
        .collect();
    assert!(
        asked.len() == 2 && asked[0] < budget / 2 && asked[1] < (budget - COST) / 2,
        "{asked:?}"
    );

    let scene = Scene::new(&json!([[null]]), &json!({})).await;
    scene.run().await;
    let request = scene.loopback.requests().remove(0).json();
    assert!(
        most(&request).is_some_and(|most| most < SHARE / 2),
        "{request}"
    );
}

#[tokio::test]
async fn a_share_is_told_and_needs_a_price() {
    let mut scene = Scene::new(&json!([]), &json!({})).await;
    let explained = scene.place.troupe(["policy", "explain", "workflow.json"]);
    let explained = explained.end().await.expect_code(0);
    let says = "granted   llm at most $0.005000 in each step: the workflow";
    assert!(explained.stdout.contains(says), "{explained}");
    let text = std::fs::read_to_string(scene.place.path("workflow.json")).expect("a document");
    let text = text.replace("gpt-5-mini", "nameless");
    scene.place.write("workflow.json", text);
    let model = "[models]\nnameless = { provider = \"openai\", model = \"nameless\" }\n";
    scene.place.connect(&scene.loopback, model);
    let refused = scene.place.troupe(["run", "workflow.json"]);
    let refused = refused.end().await.expect_code(2);
    for says in [
        "/agents/0/grants/llm/models/0",
        "has no price, so `budget_usd` cannot be kept",
    ] {
        assert!(refused.stderr.contains(says), "{says}: {refused}");
    }
}

#[tokio::test]
async fn the_operator_may_allow_less_and_sees_it() {
    let scene = Scene::new(&json!([[1000], [1000]]), &json!({})).await;
    let config = std::fs::read_to_string(scene.place.path("troupe.toml")).expect("a file");
    let grants = "[[grants]]\nagents = [\"*\"]\nllm_budget_usd = 0.01\n[[grants]]\nagents = [\"spender\"]\nllm_budget_usd = 0.0025\n";
    scene
        .place
        .write("troupe.toml", format!("{config}\n{grants}"));
    let explained = scene.place.troupe(["policy", "explain", "workflow.json"]);
    let explained = explained.end().await.expect_code(0);
    let says = "granted   llm at most $0.002500 in each step: the [[grants]] at line";
    assert!(explained.stdout.contains(says), "{explained}");
    let shown = scene.run().await.json();
    let output = &step(&shown, "spend")["output"];
    assert_eq!(told(output), [json!(COST), json!("spent: BudgetKind::Usd")]);
    assert_eq!(output["left"], json!([2_500, 2_500 - COST, 2_500 - COST]));
    assert_eq!(scene.loopback.requests().len(), 1);
}

/// Killed at one append, before or after it. None: there are not so many.
async fn crash_at(append: u32, side: &str) -> Option<()> {
    let point = format!("write:{append}:{side}");
    let batches = json!([[1000, 1000], [1000], [1000]]);
    let scene = Scene::new(&batches, &json!({})).await;
    let killed = scene.place.troupe(["run", "workflow.json"]);
    let killed = killed.variable("TROUPE_FAIL_POINT", &point).end().await;
    if !killed.was_killed() {
        return None;
    }
    let listed = scene.place.list().await;
    let Some(row) = listed.first() else {
        return Some(());
    };
    let id = row["id"].as_str().expect("an id").to_owned();
    let recovered = scene.place.troupe(["recover", &id]);
    let _ = recovered.end().await.expect_code(0);
    let shown = scene.place.show(&id).await;
    let output = &step(&shown, "spend")["output"];
    let answered = told(output).iter().filter(|told| told.is_u64()).count();
    // Each call that is hidden by the crash costs its worst case; two of them leave nothing for an answer.
    assert!(answered <= 3, "{point}: {shown:#}");
    assert!(micro_usd(&shown) <= SHARE, "{point}: {shown:#}");
    assert_eq!(told(output).len(), 4, "{point}: {shown:#}");
    let left = output["left"].as_array().expect("what was left");
    let last = left.last().and_then(Value::as_u64);
    assert_eq!(last, Some(SHARE - micro_usd(&shown)), "{point}: {shown:#}");
    expect_within_the_share(&scene.place.events(&id).await);
    Some(())
}

#[tokio::test]
async fn a_share_is_kept_wherever_the_process_dies() {
    let mut crashes = 0;
    for append in 1.. {
        let before = crash_at(append, "before").await;
        let after = crash_at(append, "after").await;
        crashes += usize::from(before.is_some()) + usize::from(after.is_some());
        if before.is_none() && after.is_none() {
            break;
        }
    }
    assert!(crashes >= 20, "{crashes}");
}
