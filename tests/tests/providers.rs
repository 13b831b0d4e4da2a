//! The provider clients against a server that misbehaves on purpose.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::time::Duration;

use e2e::loopback::{Gate, Loopback, Reply, Route};
use serde_json::{Value, json};
use troupe_providers::{
    Anthropic, AnthropicSettings, Completion, Finish, HttpClient, HttpSettings, Message,
    ModelProvider, ModelRequest, OpenAi, OpenAiSettings, ProviderError, Schema, SearchCategory,
    SearchHit, SearchQuery, Searxng, SearxngSettings, Secret, Strictness, Temperature,
    ToolDefinition, Usage, UsageSource,
};

const KEY: &str = "sk-secret-0123456789";

fn client() -> HttpClient {
    HttpClient::new(&HttpSettings::STANDARD).unwrap()
}

fn openai(loopback: &Loopback) -> ModelProvider {
    let settings = OpenAiSettings {
        name: "openai".to_owned(),
        base_url: loopback.openai_url(),
        api_key: Some(Secret::new(KEY)),
    };
    ModelProvider::OpenAi(OpenAi::new(settings, client()).unwrap())
}

fn anthropic(loopback: &Loopback) -> ModelProvider {
    let settings = AnthropicSettings {
        name: "anthropic".to_owned(),
        base_url: loopback.anthropic_url(),
        api_key: Some(Secret::new(KEY)),
    };
    ModelProvider::Anthropic(Anthropic::new(settings, client()).unwrap())
}

fn searxng(loopback: &Loopback) -> Searxng {
    let settings = SearxngSettings {
        name: "web".to_owned(),
        base_url: loopback.searxng_url(),
        api_key: None,
        category: SearchCategory::News,
    };
    Searxng::new(settings, client()).unwrap()
}

fn request(text: &str) -> ModelRequest {
    ModelRequest {
        model: "test-model".to_owned(),
        system: Some("Be brief.".to_owned()),
        messages: vec![Message::User {
            text: text.to_owned(),
        }],
        max_tokens: Some(64),
        temperature: None,
        stop: Vec::new(),
        tools: Vec::new(),
        schema: None,
        idempotency_key: "exec_1/plan/1".to_owned(),
        timeout: Duration::from_secs(20),
    }
}

/// Both model services, each with its route.
fn services(loopback: &Loopback) -> [(ModelProvider, Route); 2] {
    [
        (openai(loopback), Route::OpenAi),
        (anthropic(loopback), Route::Anthropic),
    ]
}

/// Plays one reply and returns the error that comes of it.
async fn error_of(
    loopback: &Loopback,
    service: &(ModelProvider, Route),
    reply: Reply,
) -> ProviderError {
    loopback.script(service.1, [reply]);
    let error = service.0.complete(&request("hello")).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
    error
}

#[tokio::test]
async fn requests_are_well_formed() {
    let loopback = Loopback::start().await;
    for (provider, _) in services(&loopback) {
        let completion = provider.complete(&request("hello")).await.unwrap();
        assert_eq!(
            (completion.text.as_str(), completion.finish),
            ("Echo: hello", Finish::Stop)
        );
        assert_eq!(
            (completion.model.as_str(), completion.usage_source),
            ("test-model", UsageSource::Reported)
        );
    }
    let [first, second] = loopback.requests().try_into().unwrap();
    assert_eq!(
        (first.method.as_str(), first.path.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(first.header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(first.json()["max_tokens"], 64);
    assert_eq!(
        (second.method.as_str(), second.path.as_str()),
        ("POST", "/v1/messages")
    );
    assert_eq!(
        (
            second.header("x-api-key"),
            second.header("anthropic-version")
        ),
        (KEY, "2026-10-21")
    );
    assert_eq!(
        (second.header("authorization"), &second.json()["system"]),
        ("", &json!("Be brief."))
    );
    for request in [first, second] {
        assert_eq!(request.header("idempotency-key"), "exec_1/plan/1");
        assert_eq!(request.header("content-type"), "application/json");
        assert!(request.header("user-agent").starts_with("troupe/"));
    }
}

#[tokio::test]
async fn usage_comes_back_as_it_was_counted() {
    let loopback = Loopback::start().await;
    let [openai, anthropic] = services(&loopback);
    loopback.script(
        Route::OpenAi,
        [Reply::text("a").usage(json!({"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 40}}))],
    );
    loopback.script(
        Route::Anthropic,
        [Reply::text("a")
            .usage(json!({"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 7}))],
    );
    for (provider, _) in [openai, anthropic] {
        let usage = provider.complete(&request("hello")).await.unwrap().usage;
        let expected = Usage {
            input_tokens: 100,
            cached_input_tokens: 40,
            cache_write_tokens: 0,
            output_tokens: 7,
        };
        assert_eq!(usage, expected);
    }
}

#[tokio::test]
async fn a_wrong_usage_is_replaced_by_a_bound() {
    let loopback = Loopback::start().await;
    for (provider, route) in services(&loopback) {
        for usage in [
            Value::Null,
            json!({}),
            json!("many"),
            json!({"prompt_tokens": -5, "input_tokens": 1.5, "completion_tokens": 1}),
        ] {
            loopback.script(route, [Reply::text("four").usage(usage)]);
            let completion = provider.complete(&request("hello")).await.unwrap();
            assert_eq!(
                (completion.usage_source, completion.usage.output_tokens),
                (UsageSource::Bounded, 64)
            );
            assert!(completion.usage.input_tokens >= 5);
        }
    }
}

#[tokio::test]
async fn schemas_and_tools_make_the_round() {
    let loopback = Loopback::start().await;
    let json = json!({"type": "object", "properties": {"queries": {"type": "array", "items": {"type": "string"}}},
        "required": ["queries"], "additionalProperties": false});
    for (provider, route) in services(&loopback) {
        for strictness in [Strictness::Strict, Strictness::Lenient] {
            let schema = Some(Schema {
                name: "plan".to_owned(),
                json: json.clone(),
                strictness,
            });
            let completion = provider
                .complete(&ModelRequest {
                    schema,
                    ..request("Plan.")
                })
                .await
                .unwrap();
            assert_eq!(completion.text, r#"{"queries":["queries 1","queries 2"]}"#);
        }
        let tools = vec![ToolDefinition {
            name: "look".to_owned(),
            description: "Looks.".to_owned(),
            parameters: json!({"type": "object"}),
        }];
        loopback.script(
            route,
            [Reply::tool_calls([
                ("look", json!({"at": 1})),
                ("look", json!({"at": 2})),
            ])],
        );
        let asked = ModelRequest {
            tools,
            ..request("Look.")
        };
        let Completion {
            tool_calls, finish, ..
        } = provider.complete(&asked).await.unwrap();
        assert_eq!(
            (finish, tool_calls.len(), &tool_calls[1].arguments),
            (Finish::ToolCalls, 2, &json!({"at": 2}))
        );

        let mut messages = asked.messages.clone();
        let results = tool_calls.iter().map(|call| Message::Tool {
            call_id: call.id.clone(),
            text: "seen".to_owned(),
        });
        let results: Vec<Message> = results.collect();
        messages.push(Message::Assistant {
            text: String::new(),
            tool_calls,
        });
        messages.extend(results);
        let completion = provider
            .complete(&ModelRequest { messages, ..asked })
            .await
            .unwrap();
        assert_eq!(completion.text, "Echo: seen");
    }
}

#[tokio::test]
async fn refusals_say_what_to_do_and_when() {
    let loopback = Loopback::start().await;
    for service in services(&loopback) {
        let error = error_of(
            &loopback,
            &service,
            Reply::status(429).header("retry-after", "7"),
        )
        .await;
        assert_eq!(
            (error.code(), error.retry_after(), error.sent()),
            ("rate_limited", Some(Duration::from_secs(7)), false)
        );
        let dated = Reply::status(429)
            .header("date", "Sun, 22 Nov 2026 10:00:00 GMT")
            .header("retry-after", "Sun, 22 Nov 2026 10:00:09 GMT");
        assert_eq!(
            error_of(&loopback, &service, dated).await.retry_after(),
            Some(Duration::from_secs(9))
        );
        assert_eq!(
            error_of(&loopback, &service, Reply::status(429))
                .await
                .retry_after(),
            None
        );

        let error = error_of(&loopback, &service, Reply::status(529)).await;
        assert_eq!(
            (error.code(), error.is_retryable(), error.sent()),
            ("overloaded", true, false)
        );
        let error = error_of(&loopback, &service, Reply::status(500)).await;
        assert_eq!(
            (error.code(), error.is_retryable(), error.sent()),
            ("unavailable", true, true)
        );

        let echoed = Reply::status(401).message(&format!("wrong key {KEY}"));
        let error = error_of(&loopback, &service, echoed).await;
        assert_eq!((error.code(), error.is_retryable()), ("denied", false));
        let advice = format!("check `api_key` under [providers.{}]", service.0.name());
        assert!(error.to_string().contains(&advice), "{error}");

        let error = error_of(
            &loopback,
            &service,
            Reply::status(400).message("no such model"),
        )
        .await;
        assert_eq!(error.code(), "input_invalid");
        assert!(error.to_string().contains("no such model"), "{error}");
        let elsewhere = Reply::status(307).header("location", "https://elsewhere.example/");
        assert!(
            error_of(&loopback, &service, elsewhere)
                .await
                .to_string()
                .contains("`base_url`")
        );
    }
}

#[tokio::test]
async fn a_field_that_a_model_refuses_is_left_out_from_then_on() {
    let loopback = Loopback::start().await;
    let refusal = "Unsupported value: 'temperature' does not support 0.3 with this model.";
    for (provider, route) in services(&loopback) {
        loopback.script(route, [Reply::status(400).message(refusal)]);
        let warm = ModelRequest {
            temperature: Temperature::from_f64(0.3),
            ..request("hello")
        };
        for _ in 0..2 {
            let completion = provider.complete(&warm).await.unwrap();
            assert_eq!(
                (completion.text.as_str(), completion.left_out),
                ("Echo: hello", vec!["temperature"])
            );
        }
        let temperatures: Vec<bool> = loopback
            .requests_to(route)
            .iter()
            .map(|request| request.json().get("temperature").is_some())
            .collect();
        assert_eq!(temperatures, [true, false, false]);
    }
}

#[tokio::test]
async fn a_schema_that_is_refused_is_asked_for_in_words_this_once() {
    let loopback = Loopback::start().await;
    let json = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let schema = Some(Schema {
        name: "answer".to_owned(),
        json,
        strictness: Strictness::Strict,
    });
    let asked = ModelRequest {
        schema,
        ..request("hello")
    };
    for (provider, route) in services(&loopback) {
        let refusal = "Invalid schema for response_format 'answer' (output_config.format): unsupported keyword.";
        loopback.script(route, [Reply::status(400).message(refusal)]);
        let completion = provider.complete(&asked).await.unwrap();
        assert_eq!(
            (completion.text.as_str(), completion.left_out),
            (r#"{"a":"a"}"#, vec!["schema"])
        );
        assert_eq!(
            provider.complete(&asked).await.unwrap().left_out,
            Vec::<&str>::new()
        );
    }
}

#[tokio::test]
async fn a_server_that_wants_the_other_name_of_the_limit_gets_it() {
    let loopback = Loopback::start().await;
    let provider = openai(&loopback);
    let refusal = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    loopback.script(Route::OpenAi, [Reply::status(400).message(refusal)]);
    provider.complete(&request("hello")).await.unwrap();
    let last = loopback.requests().pop().unwrap().json();
    assert_eq!(
        (last.get("max_tokens"), &last["max_completion_tokens"]),
        (None, &json!(64))
    );

    let too_high =
        Reply::status(400).message("max_tokens is too large: 64. This model supports at most 32.");
    assert_eq!(
        error_of(&loopback, &(provider, Route::OpenAi), too_high)
            .await
            .code(),
        "input_invalid"
    );
}

#[tokio::test]
async fn a_truncated_answer_says_so() {
    let loopback = Loopback::start().await;
    for service in services(&loopback) {
        let error = error_of(&loopback, &service, Reply::truncated()).await;
        assert!(
            matches!(error, ProviderError::BadAnswer { .. }),
            "{error:?}"
        );
        assert!(error.sent() && error.is_retryable());
        assert!(
            error.to_string().contains("JSON that breaks off"),
            "{error}"
        );
        let error = error_of(&loopback, &service, Reply::verbatim("<html>Welcome</html>")).await;
        assert!(
            error.to_string().contains("no JSON") && error.to_string().contains("Welcome"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_broken_connection_leaves_the_cost_unknown() {
    let loopback = Loopback::start().await;
    for service in services(&loopback) {
        for reply in [Reply::reset(), Reply::closed_mid_body()] {
            let error = error_of(&loopback, &service, reply).await;
            assert!(
                matches!(error, ProviderError::Unavailable { .. }),
                "{error:?}"
            );
            assert!(error.sent() && error.is_retryable(), "{error}");
        }
    }
}

#[tokio::test]
async fn no_connection_costs_nothing() {
    let gone = Loopback::start().await;
    let [openai, anthropic] = services(&gone);
    drop(gone);
    for (provider, _) in [openai, anthropic] {
        // The server's task ends soon after its handle; until then a connection may still be made and reset.
        let error = loop {
            let error = provider.complete(&request("hello")).await.unwrap_err();
            if !error.sent() {
                break error;
            }
        };
        assert_eq!((error.code(), error.sent()), ("unavailable", false));
        assert!(
            error
                .to_string()
                .contains("no connection to http://127.0.0.1"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_service_that_hangs_times_out() {
    let loopback = Loopback::start().await;
    for (provider, route) in services(&loopback) {
        loopback.script(route, [Reply::hang()]);
        let hasty = ModelRequest {
            timeout: Duration::from_millis(200),
            ..request("hello")
        };
        let error = provider.complete(&hasty).await.unwrap_err();
        assert!(matches!(error, ProviderError::TimedOut { .. }), "{error:?}");
        assert_eq!(
            (error.code(), error.sent(), error.is_retryable()),
            ("timed_out", true, true)
        );
    }
}

#[tokio::test]
async fn calls_run_at_the_same_time() {
    let loopback = Loopback::start().await;
    let gate = Gate::closed();
    loopback.always(Route::OpenAi, Reply::text("done").behind(&gate));
    let provider = openai(&loopback);
    let asked = request("hello");
    let calls = async {
        tokio::join!(
            provider.complete(&asked),
            provider.complete(&asked),
            provider.complete(&asked)
        )
    };
    let opened = async {
        loopback.wait_for(3).await;
        gate.open();
    };
    let ((first, second, third), ()) = tokio::join!(calls, opened);
    for completion in [first, second, third] {
        assert_eq!(completion.unwrap().text, "done");
    }
    assert_eq!(loopback.most_at_once(), 3);
}

async fn search(source: &Searxng, text: &str) -> Result<Vec<SearchHit>, ProviderError> {
    let query = SearchQuery {
        text: text.to_owned(),
        max_results: 2,
        language: None,
        time_range: None,
        timeout: Duration::from_secs(20),
    };
    source.search(&query).await
}

#[tokio::test]
async fn searches_are_well_formed_and_bounded() {
    let loopback = Loopback::start().await;
    let hits = search(&searxng(&loopback), "solar & wind, 100%")
        .await
        .unwrap();
    assert_eq!(hits.len(), 2);
    assert_eq!(
        (
            hits[0].source.as_str(),
            hits[0].score_permille,
            hits[1].score_permille
        ),
        ("web", 1_000, 667)
    );
    let asked = loopback.requests().pop().unwrap();
    let parameter = |name: &str| asked.query.get(name).map(String::as_str);
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("GET", "/search")
    );
    assert_eq!(parameter("q"), Some("solar & wind, 100%"));
    assert_eq!(
        (parameter("format"), parameter("categories")),
        (Some("json"), Some("news"))
    );
}

#[tokio::test]
async fn a_search_service_that_fails_says_how_to_set_it_up() {
    let loopback = Loopback::start().await;
    let source = searxng(&loopback);
    loopback.script(
        Route::Searxng,
        [
            Reply::status(403),
            Reply::status(429),
            Reply::verbatim(r#"{"results": [], "unresponsive_engines": [["google", "CAPTCHA"]]}"#),
            Reply::verbatim(r#"{"results": "#),
            Reply::results(json!([])),
        ],
    );
    let error = search(&source, "tides").await.unwrap_err();
    assert!(
        error.code() == "denied" && error.to_string().contains("`search.formats`"),
        "{error}"
    );
    let error = search(&source, "tides").await.unwrap_err();
    assert!(
        error.code() == "rate_limited" && error.to_string().contains("limiter"),
        "{error}"
    );
    let error = search(&source, "tides").await.unwrap_err();
    assert!(
        error.code() == "overloaded" && error.to_string().contains("google (CAPTCHA)"),
        "{error}"
    );
    assert!(
        search(&source, "tides")
            .await
            .unwrap_err()
            .to_string()
            .contains("expected search results")
    );
    assert_eq!(search(&source, "tides").await.unwrap(), vec![]);
}
