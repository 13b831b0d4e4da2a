//! Names of models and what the operator's file makes of them: aliases, routes, prices, requests at once.

use e2e::loopback::{Loopback, Reply, Route};
use e2e::troupe::{Ended, Workplace, step};
use serde_json::{Value, json};

/// A workplace whose configuration ends with these lines; `[url]` is the loopback's address.
async fn connected(more: &str) -> (Loopback, Workplace) {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, &more.replace("[url]", &loopback.openai_url()));
    (loopback, place)
}

/// Asks an agent one question.
async fn ask(place: &Workplace, agent: &Value, config: &Value) -> Ended {
    let mut agent = agent.clone();
    agent["id"] = json!("model");
    agent["type"] = json!("llm");
    let document = json!({
        "name": "Question",
        "agents": [agent],
        "steps": [{ "id": "ask", "agent": "model", "action": "answer", "input": "why" }],
        "config": config,
    });
    place.write("workflow.json", document.to_string());
    place.troupe(["run", "workflow.json", "--json"]).end().await
}

fn once() -> Value {
    json!({ "max_retries": 0 })
}

#[tokio::test]
async fn an_alias_is_what_the_operator_says() {
    let (loopback, place) = connected(
        "[models]\n\"auto\" = { provider = \"anthropic\", model = \"claude-haiku-4-5\" }\n",
    )
    .await;
    loopback.script(
        Route::Anthropic,
        [Reply::text("because").usage(json!({ "input_tokens": 1_000, "output_tokens": 100 }))],
    );
    let ended = ask(
        &place,
        &json!({ "model": "auto" }),
        &json!({ "budget_usd": 0.1 }),
    )
    .await
    .expect_code(0);
    assert_eq!(loopback.requests()[0].json()["model"], "claude-haiku-4-5");
    // $1 and $5 for a million tokens.
    assert_eq!(ended.json()["cost"]["usd"], json!(0.001_5), "{ended}");
}

#[tokio::test]
async fn a_route_goes_on_where_a_service_fails() {
    let (loopback, place) =
        connected("[models]\n\"auto\" = { route = [\"gpt-5-mini\", \"claude-4.5-haiku\"] }\n")
            .await;
    for refusal in [
        Reply::status(429),
        Reply::status(503),
        Reply::reset(),
        Reply::truncated(),
    ] {
        loopback.script(Route::OpenAi, [refusal]);
        loopback.script(Route::Anthropic, [Reply::text("because")]);
        let ended = ask(&place, &json!({ "model": "auto" }), &once())
            .await
            .expect_code(0);
        let shown = ended.json();
        assert_eq!(
            (
                &step(&shown, "ask")["output"],
                &step(&shown, "ask")["attempts"]
            ),
            (&json!("because"), &json!(1)),
            "{ended}"
        );
    }
    assert_eq!(loopback.requests().len(), 8);
    // A request that is wrong is wrong everywhere.
    loopback.script(Route::OpenAi, [Reply::status(400)]);
    let ended = ask(&place, &json!({ "model": "auto" }), &once())
        .await
        .expect_code(1);
    assert_eq!(ended.json()["error"]["code"], "input_invalid", "{ended}");
    assert_eq!(loopback.requests().len(), 9);
}

#[tokio::test]
async fn an_agents_own_fallback_models_are_tried_in_order() {
    let (loopback, place) = connected("").await;
    loopback.script(Route::OpenAi, [Reply::status(500), Reply::status(500)]);
    loopback.script(Route::Anthropic, [Reply::text("because")]);
    let agent =
        json!({ "model": "gpt-5-mini", "fallback_models": ["gpt-5-nano", "claude-4.5-haiku"] });
    let ended = ask(&place, &agent, &once()).await.expect_code(0);
    assert_eq!(step(&ended.json(), "ask")["output"], "because");
    let models: Vec<Value> = loopback
        .requests()
        .iter()
        .map(|request| request.json()["model"].clone())
        .collect();
    assert_eq!(models, ["gpt-5-mini", "gpt-5-nano", "claude-haiku-4-5"]);
}

#[tokio::test]
async fn names_that_lead_nowhere_are_refused() {
    let config = "[models]\n\"a\" = { route = [\"b\"] }\n\"b\" = { route = [\"a\"] }\n\"c\" = { route = [\"nowhere\"] }\n\
        \"d\" = { provider = \"nobody\", model = \"x\" }\n\"free\" = { provider = \"openai\", model = \"no-price\" }\n";
    let (loopback, place) = connected(config).await;
    for (agent, settings, expected) in [
        (json!({ "model": "a" }), json!({}), "leads in a circle"),
        (json!({ "model": "c" }), json!({}), "no model `nowhere`"),
        (json!({ "model": "d" }), json!({}), "add [providers.nobody]"),
        (
            json!({ "model": "gpt-5-mini", "fallback_models": ["zephyr"] }),
            json!({}),
            "/agents/0/fallback_models/0: the configuration knows no model `zephyr`",
        ),
        (
            json!({ "model": "free" }),
            json!({ "budget_usd": 1 }),
            "add [prices] \"no-price\"",
        ),
    ] {
        let ended = ask(&place, &agent, &settings).await.expect_code(2);
        assert!(
            ended.stderr.contains(expected) && ended.stderr.contains("/agents/0/"),
            "{expected}\n{ended}"
        );
    }
    assert!(loopback.requests().is_empty());
    // Without a budget nobody has to know the price.
    let ended = ask(&place, &json!({ "model": "free" }), &json!({}))
        .await
        .expect_code(0);
    assert_eq!(ended.json()["cost"]["usd"], json!(0.0));
}

#[tokio::test]
async fn the_operators_prices_win() {
    let (loopback, place) = connected("[prices]\n\"gpt-5-mini\" = { input_usd_per_million = 100, output_usd_per_million = \"0.5\" }\n").await;
    loopback.script(
        Route::OpenAi,
        [Reply::text("because").usage(json!({ "prompt_tokens": 11, "completion_tokens": 3 }))],
    );
    let ended = ask(&place, &json!({ "model": "gpt-5-mini" }), &json!({}))
        .await
        .expect_code(0);
    // 11 × 100 + 3 × 0.5 = 1,101.5 micro-dollars, rounded up.
    assert_eq!(ended.json()["cost"]["usd"], json!(0.001_102), "{ended}");
}

#[tokio::test]
async fn a_server_without_a_key_is_sent_none() {
    let config = "[providers.local]\nkind = \"openai\"\nbase_url = \"[url]\"\n[models]\n\"small\" = { provider = \"local\", model = \"qwen3:8b\" }\n";
    let (loopback, place) = connected(config).await;
    let _ = ask(&place, &json!({ "model": "small" }), &json!({}))
        .await
        .expect_code(0);
    let [request] = loopback.requests().try_into().expect("one request");
    assert_eq!(
        (request.header("authorization"), &request.json()["model"]),
        ("", &json!("qwen3:8b"))
    );
}

#[tokio::test]
async fn no_more_requests_at_once_than_the_operator_allows() {
    let config = "[providers.narrow]\nkind = \"openai\"\nbase_url = \"[url]\"\nconcurrency = 2\n\
        [models]\n\"narrow\" = { provider = \"narrow\", model = \"gpt-5-mini\" }\n";
    let (loopback, place) = connected(config).await;
    loopback.always(
        Route::OpenAi,
        Reply::text("because").after(std::time::Duration::from_millis(20)),
    );
    let branch = |number: usize| json!({ "id": format!("ask_{number}"), "agent": "model", "action": "answer", "input": "why" });
    let branches: Vec<Value> = (0..12).map(branch).collect();
    for (model, settings, most) in [
        ("narrow", json!({ "parallel": branches }), 2),
        (
            "gpt-5-mini",
            json!({ "parallel": branches, "max_concurrency": 3 }),
            3,
        ),
    ] {
        let loopback_before = loopback.requests().len();
        let document = json!({ "name": "Many", "agents": [{ "id": "model", "type": "llm", "model": model }], "steps": [settings] });
        place.write("workflow.json", document.to_string());
        let ended = place
            .troupe(["run", "workflow.json", "--json"])
            .end()
            .await
            .expect_code(0);
        assert_eq!(
            ended.json()["progress"],
            json!({ "completed": 12, "total": 12 })
        );
        assert_eq!(loopback.requests().len() - loopback_before, 12);
        assert!(
            (2..=most).contains(&loopback.most_at_once()),
            "{model}: {} at once",
            loopback.most_at_once()
        );
    }
}

#[tokio::test]
async fn keys_come_from_where_the_file_says() {
    let (loopback, place) = connected("").await;
    place.write("key.txt", "sk-from-a-file\n");
    let file = e2e::troupe::text(place.path("key.txt"));
    for (source, expected) in [
        (
            "env:TEST_OPENAI_KEY".to_owned(),
            format!("Bearer {}", e2e::troupe::OPENAI_KEY),
        ),
        (format!("file:{file}"), "Bearer sk-from-a-file".to_owned()),
        (
            "cmd:echo sk-from-a-command".to_owned(),
            "Bearer sk-from-a-command".to_owned(),
        ),
    ] {
        let url = loopback.openai_url();
        place.write("troupe.toml", format!("[providers.openai]\nkind = \"openai\"\nbase_url = \"{url}\"\napi_key = '{source}'\n"));
        let _ = ask(&place, &json!({ "model": "gpt-5-mini" }), &json!({}))
            .await
            .expect_code(0);
        let last = loopback.requests().pop().expect("a request");
        assert_eq!(last.header("authorization"), expected);
    }
    for (source, expected) in [
        ("env:NOT_SET", "the environment variable NOT_SET is not set"),
        ("file:/nowhere/key", "/nowhere/key"),
        ("cmd:exit 7", "ended with"),
    ] {
        place.write(
            "troupe.toml",
            format!("[providers.openai]\nkind = \"openai\"\napi_key = '{source}'\n"),
        );
        let ended = ask(&place, &json!({ "model": "gpt-5-mini" }), &json!({}))
            .await
            .expect_code(2);
        assert!(ended.stderr.contains(expected), "{ended}");
    }
}
