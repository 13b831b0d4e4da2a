//! The research assistant of the examples against services that a loopback plays: what is asked of them, what becomes
//! of their answers, what it costs, and what happens when they fail.

use std::time::Duration;

use e2e::loopback::{Loopback, Recorded, Reply, Route};
use e2e::troupe::{ANTHROPIC_KEY, Ended, OPENAI_KEY, Workplace, example, step, text};
use serde_json::{Value, json};

const TOPIC: &str = "how bees find their way home";
const QUERIES: [&str; 3] = ["bee navigation", "waggle dance", "sun compass"];

/// A loopback and a workplace that is connected with it.
async fn connected() -> (Loopback, Workplace) {
    let loopback = Loopback::start().await;
    let mut place = Workplace::new();
    place.connect(&loopback, "");
    (loopback, place)
}

/// Runs the example, with the given settings in place of its own.
async fn research(place: &Workplace, config: Value) -> Ended {
    let file = example("research-assistant").join("workflow.json");
    let stored = std::fs::read_to_string(file).expect("the example");
    let mut document: Value = serde_json::from_str(&stored).expect("a document");
    document["config"] = config;
    let path = place.write("workflow.json", document.to_string());
    let topic = format!("topic={TOPIC}");
    place
        .troupe(["run", &text(path), "-i", &topic, "--json"])
        .end()
        .await
}

fn queries() -> Value {
    json!({ "queries": QUERIES })
}

/// The texts of a request's messages, standing instructions first.
fn said(request: &Recorded) -> String {
    let body = request.json();
    format!("{} {}", body["system"], body["messages"])
}

/// A request's schema, wherever its format has it.
fn schema(request: &Recorded) -> Value {
    let body = request.json();
    let places = [
        "/response_format/json_schema/schema",
        "/output_config/format/schema",
    ];
    places
        .iter()
        .find_map(|place| body.pointer(place).cloned())
        .unwrap_or_default()
}

/// Runs the example once, with good answers.
async fn researched() -> (Loopback, Value) {
    let (loopback, place) = connected().await;
    loopback.script(Route::OpenAi, [Reply::json(&queries())]);
    loopback.script(Route::Anthropic, [Reply::text("Bees use the sun [1].")]);
    let ended = research(&place, json!({})).await.expect_code(0);
    (loopback, ended.json())
}

#[tokio::test]
async fn openai_is_asked_in_its_own_format() {
    let (loopback, _) = researched().await;
    let [planned] = loopback
        .requests_to(Route::OpenAi)
        .try_into()
        .expect("one request");
    assert_eq!(
        (planned.method.as_str(), planned.path.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(
        planned.header("authorization"),
        format!("Bearer {OPENAI_KEY}")
    );
    assert_eq!(planned.header("content-type"), "application/json");
    assert_eq!(planned.json()["model"], "gpt-5-mini");
    for expected in ["You are a research planner", TOPIC, "generate"] {
        assert!(
            said(&planned).contains(expected),
            "{expected}: {}",
            said(&planned)
        );
    }
    // The next step searches for `plan.queries`: the model is asked for a list of texts of that name.
    assert_eq!(
        schema(&planned),
        json!({ "type": "object", "properties": { "queries": { "type": "array", "items": { "type": "string" } } },
            "required": ["queries"], "additionalProperties": false })
    );
}

#[tokio::test]
async fn searxng_is_asked_in_its_own_format() {
    let (loopback, shown) = researched().await;
    let searched = loopback.requests_to(Route::Searxng);
    let mut asked: Vec<(String, String)> = searched
        .iter()
        .map(|request| {
            (
                request.query["q"].clone(),
                request.query["categories"].clone(),
            )
        })
        .collect();
    asked.sort();
    let mut expected: Vec<(String, String)> = QUERIES
        .iter()
        .flat_map(|query| {
            ["general", "news", "science"]
                .map(|category| ((*query).to_owned(), category.to_owned()))
        })
        .collect();
    expected.sort();
    assert_eq!(asked, expected);
    for request in &searched {
        assert_eq!(
            (request.method.as_str(), request.query["format"].as_str()),
            ("GET", "json")
        );
        assert_eq!(
            (request.header("authorization"), request.header("x-api-key")),
            ("", ""),
            "keys are for their service"
        );
    }
    let results = step(&shown, "search")["output"]["results"]
        .as_array()
        .map_or(0, Vec::len);
    assert_eq!(
        results, 27,
        "3 results for each of 3 queries in each of 3 sources"
    );
}

#[tokio::test]
async fn anthropic_is_asked_in_its_own_format() {
    let (loopback, shown) = researched().await;
    let [written] = loopback
        .requests_to(Route::Anthropic)
        .try_into()
        .expect("one request");
    assert_eq!(
        (written.method.as_str(), written.path.as_str()),
        ("POST", "/v1/messages")
    );
    assert_eq!(
        (written.header("x-api-key"), written.header("authorization")),
        (ANTHROPIC_KEY, "")
    );
    assert_eq!(written.header("anthropic-version"), "2026-10-21");
    assert_eq!(written.json()["model"], "claude-sonnet-4-5");
    assert!(
        written.json()["max_tokens"]
            .as_u64()
            .is_some_and(|tokens| tokens > 0)
    );
    for expected in [
        "You are a research synthesizer",
        TOPIC,
        "says what is known about waggle dance today",
    ] {
        assert!(
            said(&written).contains(expected),
            "{expected}: {}",
            said(&written)
        );
    }
    assert_eq!(
        schema(&written),
        Value::Null,
        "nobody reads a field of the last step"
    );
    assert_eq!(
        step(&shown, "synthesize")["output"],
        "Bees use the sun [1]."
    );
}

#[tokio::test]
async fn a_list_of_queries_is_understood_in_every_dress() {
    let (loopback, place) = connected().await;
    let list = json!(QUERIES).to_string();
    for answer in [
        list.clone(),
        format!("```json\n{list}\n```"),
        format!("Here are the queries:\n\n```\n{list}\n```\nGood luck!"),
        queries().to_string(),
        format!("```json\n{}\n```", queries()),
        format!("  \n{}\n ", queries()),
    ] {
        let (models, searches) = (
            loopback.requests_to(Route::OpenAi).len(),
            loopback.requests_to(Route::Searxng).len(),
        );
        loopback.script(Route::OpenAi, [Reply::text(answer.clone())]);
        let ended = research(&place, json!({})).await.expect_code(0);
        assert_eq!(
            loopback.requests_to(Route::OpenAi).len() - models,
            1,
            "{answer}: no repair is needed"
        );
        assert_eq!(
            loopback.requests_to(Route::Searxng).len() - searches,
            9,
            "{answer}"
        );
        assert_eq!(step(&ended.json(), "plan")["output"], queries(), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_lacks_what_is_read_is_mended_once() {
    let (loopback, place) = connected().await;
    loopback.script(
        Route::OpenAi,
        [
            Reply::text("I would search for bees."),
            Reply::json(&queries()),
        ],
    );
    let ended = research(&place, json!({})).await.expect_code(0);
    let [first, second] = loopback
        .requests_to(Route::OpenAi)
        .try_into()
        .expect("two requests");
    assert_eq!(first.json()["messages"].as_array().map(Vec::len), Some(2));
    let messages = second.json()["messages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert_eq!(
        messages.len(),
        4,
        "the answer and what is wrong with it come after"
    );
    assert_eq!(
        (&messages[2]["role"], &messages[2]["content"]),
        (&json!("assistant"), &json!("I would search for bees."))
    );
    let repair = messages[3]["content"].as_str().unwrap_or_default();
    assert!(
        repair.contains("not JSON") && repair.contains("\"queries\""),
        "{repair}"
    );
    let shown = ended.json();
    assert_eq!(
        (
            &step(&shown, "plan")["attempts"],
            &step(&shown, "plan")["output"]
        ),
        (&json!(1), &queries())
    );

    loopback.script(
        Route::OpenAi,
        [
            Reply::json(&json!({ "searches": [] })),
            Reply::json(&json!({ "searches": [] })),
        ],
    );
    let ended = research(&place, json!({})).await.expect_code(1);
    assert_eq!(ended.json()["error"]["code"], "output_invalid", "{ended}");
    assert!(
        ended.stderr.contains("lacks `queries`") && ended.stderr.contains("gpt-5-mini"),
        "{ended}"
    );
    assert_eq!(
        loopback.requests_to(Route::OpenAi).len(),
        4,
        "one repair turn, and no retry"
    );
}

#[tokio::test]
async fn usage_and_cost_are_right_to_the_micro_dollar() {
    let (loopback, place) = connected().await;
    let planner = json!({ "prompt_tokens": 1_003, "completion_tokens": 207, "prompt_tokens_details": { "cached_tokens": 400 } });
    let writer = json!({ "input_tokens": 3_000, "cache_read_input_tokens": 1_001, "cache_creation_input_tokens": 0, "output_tokens": 811 });
    loopback.script(Route::OpenAi, [Reply::json(&queries()).usage(planner)]);
    loopback.script(Route::Anthropic, [Reply::text("Done.").usage(writer)]);
    let ended = research(&place, json!({ "budget_usd": 1 }))
        .await
        .expect_code(0);
    let shown = ended.json();
    // gpt-5-mini: $0.25, cached $0.025, output $2 for a million tokens.
    // 603 × 0.25 + 400 × 0.025 + 207 × 2 = 150.75 + 10 + 414 = 574.75, rounded up.
    let plan = step(&shown, "plan");
    assert_eq!(plan["cost"]["usd"], json!(0.000_575));
    assert_eq!(plan["usage"]["input_tokens"], 1_003);
    assert_eq!(plan["usage"]["cached_input_tokens"], 400);
    assert_eq!(plan["usage"]["output_tokens"], 207);
    // claude-sonnet-4-5: $3, cached $0.30, output $15. 3,000 × 3 + 1,001 × 0.3 + 811 × 15 = 9,000 + 300.3 + 12,165.
    let synthesize = step(&shown, "synthesize");
    assert_eq!(synthesize["cost"]["usd"], json!(0.021_466));
    assert_eq!(synthesize["usage"]["input_tokens"], 4_001);
    assert_eq!(synthesize["usage"]["output_tokens"], 811);
    assert_eq!(step(&shown, "search")["cost"]["usd"], json!(0.0));
    assert_eq!(shown["cost"]["usd"], json!(0.022_041));
    assert_eq!(
        shown["usage"],
        json!({ "input_tokens": 5_004, "cached_input_tokens": 1_401, "output_tokens": 1_018 })
    );
    assert!(
        ended.stderr.contains("$0.000575") && ended.stderr.contains("$0.022041"),
        "{ended}"
    );
}

#[tokio::test]
async fn a_service_that_asks_to_wait_is_not_asked_before() {
    let (loopback, place) = connected().await;
    for (route, id) in [(Route::OpenAi, "plan"), (Route::Anthropic, "synthesize")] {
        loopback.script(
            Route::OpenAi,
            [Reply::json(&queries())]
                .into_iter()
                .filter(|_| route == Route::Anthropic),
        );
        loopback.script(route, [Reply::status(429).header("retry-after", "1")]);
        loopback.script(
            Route::OpenAi,
            [Reply::json(&queries())]
                .into_iter()
                .filter(|_| route == Route::OpenAi),
        );
        let ended = research(&place, json!({ "retry_delay_ms": 1 }))
            .await
            .expect_code(0);
        let shown = ended.json();
        assert_eq!(step(&shown, id)["attempts"], 2, "{ended}");
        // By the journal's own times: the failed try, then the next start.
        let events = place.events(&ended.id()).await;
        let at = |kind: &str, attempt: u64| {
            let found = events.iter().find(|event| {
                event["type"] == kind
                    && event["path"] == shown_path(&shown, id)
                    && event["attempt"] == attempt
            });
            found
                .and_then(|event| event["at"].as_i64())
                .unwrap_or_else(|| panic!("no {kind} in {events:?}"))
        };
        let waited = at("step_started", 2) - at("step_failed", 1);
        assert!((1_000..30_000).contains(&waited), "it waited {waited} ms");
    }
}

fn shown_path(shown: &Value, id: &str) -> Value {
    step(shown, id)["path"].clone()
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error_that_says_so() {
    let (loopback, place) = connected().await;
    loopback.always(Route::OpenAi, Reply::truncated());
    let ended = research(&place, json!({ "max_retries": 1, "retry_delay_ms": 1 }))
        .await
        .expect_code(1);
    let shown = ended.json();
    let error = &step(&shown, "plan")["error"];
    assert_eq!(
        (&error["code"], &step(&shown, "plan")["attempts"]),
        (&json!("unavailable"), &json!(2)),
        "{ended}"
    );
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("`openai`") && message.contains("JSON"),
        "{message}"
    );
    assert_eq!(loopback.requests().len(), 2);
    // Nobody knows what the two calls cost: they stay charged at their worst case.
    assert!(
        shown["cost"]["usd"].as_f64().is_some_and(|cost| cost > 0.0),
        "{shown:#}"
    );
}

#[tokio::test]
async fn broken_connections_are_tried_again() {
    let began = tokio::time::Instant::now();
    let (loopback, place) = connected().await;
    loopback.script(
        Route::OpenAi,
        [
            Reply::reset(),
            Reply::closed_mid_body(),
            Reply::status(503),
            Reply::json(&queries()),
        ],
    );
    let ended = research(&place, json!({ "max_retries": 3, "retry_delay_ms": 1 }))
        .await
        .expect_code(0);
    assert_eq!(step(&ended.json(), "plan")["attempts"], 4, "{ended}");
    let ended = {
        loopback.always(Route::OpenAi, Reply::status(529));
        research(&place, json!({ "max_retries": 2, "retry_delay_ms": 1 }))
            .await
            .expect_code(1)
    };
    assert_eq!(ended.json()["error"]["code"], "overloaded", "{ended}");
    assert_eq!(loopback.requests_to(Route::OpenAi).len(), 4 + 3);
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "a pause of milliseconds took long"
    );
}

#[tokio::test]
async fn a_refused_key_is_denied_and_not_tried_again() {
    let (loopback, place) = connected().await;
    for status in [401, 403] {
        let before = loopback.requests().len();
        loopback.script(
            Route::OpenAi,
            [Reply::status(status).message(&format!("Incorrect API key provided: {OPENAI_KEY}"))],
        );
        let ended = research(&place, json!({})).await.expect_code(1);
        assert_eq!(ended.json()["error"]["code"], "denied", "{ended}");
        assert!(
            ended.stderr.contains("providers.openai"),
            "the setting to mend is named: {ended}"
        );
        assert_eq!(loopback.requests().len() - before, 1);
    }
    keys_are_nowhere(&place, &[]);
}

#[tokio::test]
async fn keys_are_never_seen_again() {
    let (loopback, place) = connected().await;
    // Services that repeat the key in what they say, in an answer and in an error.
    loopback.script(Route::OpenAi, [Reply::json(&queries())]);
    loopback.script(
        Route::Anthropic,
        [Reply::status(400).message(&format!("bad header x-api-key: {ANTHROPIC_KEY}"))],
    );
    let failed = research(&place, json!({})).await.expect_code(1);
    loopback.script(Route::OpenAi, [Reply::json(&queries())]);
    let done = research(&place, json!({})).await.expect_code(0);
    let file = text(place.path("workflow.json"));
    let arguments = ["run", &file, "-i", "topic=loud"];
    let loud = place
        .troupe(arguments)
        .variable("TROUPE_LOG", "trace")
        .end()
        .await
        .expect_code(0);
    keys_are_nowhere(&place, &[failed, done, loud]);
}

/// Looks for the keys in every file of the data folder and in everything that was said.
fn keys_are_nowhere(place: &Workplace, ended: &[Ended]) {
    let holds = |bytes: &[u8], key: &str| {
        bytes
            .windows(key.len())
            .any(|window| window == key.as_bytes())
    };
    let files = place.data_files();
    assert!(
        files.iter().any(|(_, bytes)| holds(bytes, TOPIC)),
        "the journal was looked at"
    );
    for key in [OPENAI_KEY, ANTHROPIC_KEY] {
        for (path, bytes) in &files {
            assert!(!holds(bytes, key), "a key is in {}", path.display());
        }
        for said in ended {
            assert!(
                !said.stdout.contains(key) && !said.stderr.contains(key),
                "a key was printed: {said}"
            );
        }
    }
}

#[tokio::test]
async fn one_source_that_fails_is_left_out_and_said_so() {
    let (loopback, mut place) = connected().await;
    let closed = "http://127.0.0.1:9";
    let config = std::fs::read_to_string(place.path("troupe.toml")).expect("the configuration");
    let news = format!(
        "[sources.news]\nkind = \"searxng\"\nbase_url = \"{}\"",
        loopback.searxng_url()
    );
    assert!(config.contains(&news));
    place.write(
        "troupe.toml",
        config.replace(&news, &news.replace(&loopback.searxng_url(), closed)),
    );
    place.set("NO_PROXY", "*");
    loopback.script(Route::OpenAi, [Reply::json(&queries())]);
    let ended = research(&place, json!({})).await.expect_code(0);
    let shown = ended.json();
    let found = &step(&shown, "search")["output"];
    assert_eq!(
        found["results"].as_array().map(Vec::len),
        Some(18),
        "{found:#}"
    );
    let errors = found["errors"].as_array().cloned().unwrap_or_default();
    assert!(
        !errors.is_empty()
            && errors
                .iter()
                .all(|error| error["source"] == "news" && error["code"] == "unavailable"),
        "{errors:?}"
    );
}

#[tokio::test]
async fn a_model_that_hangs_is_given_up_at_the_steps_time() {
    let (loopback, place) = connected().await;
    loopback.always(Route::OpenAi, Reply::hang());
    let began = tokio::time::Instant::now();
    let file = example("research-assistant").join("workflow.json");
    let mut document: Value =
        serde_json::from_str(&std::fs::read_to_string(file).expect("the example"))
            .expect("a document");
    document["steps"][0]["timeout_ms"] = json!(300);
    document["config"] = json!({ "max_retries": 1, "retry_delay_ms": 1 });
    let path = place.write("workflow.json", document.to_string());
    let ended = place
        .troupe(["run", &text(path), "-i", "topic=x", "--json"])
        .end()
        .await
        .expect_code(1);
    assert_eq!(ended.json()["error"]["code"], "timed_out", "{ended}");
    assert_eq!(loopback.requests().len(), 2);
    assert!(began.elapsed() < Duration::from_secs(30));
}
