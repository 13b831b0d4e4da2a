//! What guests ask of the host: for each capability first denied, then granted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use troupe_sandbox::{
    Call, ContextGrant, Error, Grants, HostCalls, HostFuture, HumanGrant, Limit, LlmGrant,
    LogLevel, LogLine, MemoryAnswer, MemoryGrant, MemoryRequest, Narrowed, Outcome, Report,
    SandboxError, SearchGrant, ToolAnswer, ToolsGrant, budget, human, llm, memory, search, tools,
};

use crate::support::{call, invocation, limited, returned, run_guest};

/// A world that answers from what it was asked, and remembers the log.
#[derive(Default)]
struct World {
    log: Mutex<Vec<LogLine>>,
    asked: Notify,
}

impl HostCalls for World {
    fn complete(&self, request: llm::Request) -> HostFuture<'_, Result<llm::Completion, Error>> {
        let model = request.model.expect("a model, by the contract");
        Box::pin(async move {
            match model.as_str() {
                "slow" => tokio::time::sleep(Duration::from_millis(100)).await,
                "panicking" => panic!("this world panics"),
                "never" => {
                    self.asked.notify_one();
                    std::future::pending::<()>().await;
                }
                _ => {}
            }
            let text = if model == "long" {
                "x".repeat(17 << 20)
            } else {
                "Hello yourself".to_owned()
            };
            let usage = llm::Usage {
                input_tokens: 1,
                cached_input_tokens: 0,
                output_tokens: 2,
            };
            let (finish, value) = (llm::FinishReason::Stop, None);
            Ok(llm::Completion {
                text,
                value,
                tool_calls: Vec::new(),
                finish,
                usage,
                cost_microdollars: 3,
                model,
            })
        })
    }

    fn search(&self, query: search::Query) -> HostFuture<'_, Result<search::Answer, Error>> {
        let hit = |source: &String| search::Hit {
            title: format!("{} in {source}", query.text),
            url: "https://example.com".to_owned(),
            snippet: String::new(),
            source: source.clone(),
            published_at: None,
            score_permille: 1000,
        };
        let results = query.sources.iter().map(hit).collect();
        Box::pin(std::future::ready(Ok(search::Answer {
            results,
            errors: Vec::new(),
        })))
    }

    fn tools(&self, granted: Vec<String>) -> HostFuture<'_, Result<Vec<tools::Tool>, Error>> {
        let tool = |name| tools::Tool {
            name,
            description: "A tool.".to_owned(),
            parameters: "true".to_owned(),
        };
        let tools = granted.into_iter().map(tool).collect();
        Box::pin(std::future::ready(Ok(tools)))
    }

    fn call_tools(
        &self,
        requests: Vec<tools::CallRequest>,
        fuel_max: u64,
    ) -> HostFuture<'_, Vec<ToolAnswer>> {
        let answers = requests
            .into_iter()
            .map(|request| match request.name.as_str() {
                "content.all" => ToolAnswer {
                    result: Ok("true".to_owned()),
                    fuel: fuel_max,
                },
                "content.late" => ToolAnswer {
                    result: Err(Error::TimedOut),
                    fuel: 1,
                },
                _ => ToolAnswer {
                    result: Ok(request.arguments),
                    fuel: 1_000_000,
                },
            });
        Box::pin(std::future::ready(answers.collect()))
    }

    fn context_inputs(&self) -> HostFuture<'_, String> {
        Box::pin(std::future::ready(r#"{"topic":"cars"}"#.to_owned()))
    }

    fn context_output(&self, step: String) -> HostFuture<'_, Result<String, Error>> {
        Box::pin(std::future::ready(match step.as_str() {
            "plan" => Ok("[1]".to_owned()),
            _ => Err(Error::NotFound(step)),
        }))
    }

    fn context_steps(&self) -> HostFuture<'_, Vec<String>> {
        Box::pin(std::future::ready(vec!["plan".to_owned()]))
    }

    fn ask(&self, question: human::Question) -> HostFuture<'_, Result<human::Answer, Error>> {
        Box::pin(std::future::ready(Ok(human::Answer {
            approved: true,
            approved_by: question.assignees.first().cloned(),
            notes: None,
            data: None,
            timed_out: false,
        })))
    }

    fn remember(&self, request: MemoryRequest) -> HostFuture<'_, Result<MemoryAnswer, Error>> {
        Box::pin(std::future::ready(Ok(match request {
            MemoryRequest::Get { key } => {
                MemoryAnswer::Entry((key != "none").then_some(memory::Entry {
                    value: key,
                    version: 7,
                }))
            }
            MemoryRequest::Set {
                expected_version: Some(version),
                ..
            } => MemoryAnswer::Set(memory::SetOutcome::Conflict(version)),
            MemoryRequest::Set { value, .. } => {
                let length = u64::try_from(value.len()).unwrap_or(0);
                MemoryAnswer::Set(memory::SetOutcome::Stored(length))
            }
            MemoryRequest::Delete { key } if key == "wrong" => MemoryAnswer::Keys(Vec::new()),
            MemoryRequest::Delete { .. } => MemoryAnswer::Deleted,
            MemoryRequest::Keys { prefix, after } => {
                MemoryAnswer::Keys([Some(prefix), after].into_iter().flatten().collect())
            }
        })))
    }

    fn budget_left(&self, own: budget::Remaining) -> HostFuture<'_, budget::Remaining> {
        let left = budget::Remaining {
            microdollars: Some(500_000),
            ..own
        };
        Box::pin(std::future::ready(left))
    }

    fn log(&self, line: LogLine) -> HostFuture<'_, ()> {
        self.log.lock().expect("no panic under the lock").push(line);
        Box::pin(std::future::ready(()))
    }
}

fn in_world(call: Call) -> Call {
    Call {
        host: Arc::new(World::default()),
        ..call
    }
}

fn granted() -> Call {
    let models = ["small", "slow", "panicking", "never", "long"]
        .map(str::to_owned)
        .to_vec();
    let sources = ["web", "news"].map(str::to_owned).to_vec();
    let grants = Grants {
        llm: Some(LlmGrant { models }),
        search: Some(SearchGrant { sources }),
        tools: Some(ToolsGrant {
            names: vec!["content".to_owned(), "blog.post".to_owned()],
        }),
        human: Some(HumanGrant {
            assignees: Some(vec!["ann".to_owned()]),
        }),
        memory: Some(MemoryGrant),
        context: Some(ContextGrant),
        ..Grants::none()
    };
    Call {
        grants,
        ..in_world(call())
    }
}

async fn report(action: &str, input: Value, call: Call) -> Report {
    run_guest("ask", invocation(action, &input.to_string()), call).await
}

async fn ask(action: &str, input: Value, call: Call) -> Value {
    returned(report(action, input, call).await)
}

/// The capability that was denied, and the text.
async fn denial(action: &str, input: Value) -> (String, String) {
    let answer = ask(action, input, in_world(call())).await;
    let text = |key: &str| {
        answer[key]
            .as_str()
            .unwrap_or_else(|| panic!("{action}: {answer}"))
            .to_owned()
    };
    (text("denied"), text("message"))
}

#[tokio::test]
async fn llm() {
    let (capability, message) = denial("llm.complete", json!("small")).await;
    assert_eq!(capability, "llm");
    assert_eq!(
        message,
        "the agent `tester` may not use the model `small`: add `\"llm\": {\"models\": [\"small\"]}` to the agent's \
         `grants`"
    );
    assert_eq!(denial("llm.complete", json!(null)).await.0, "llm");
    assert_eq!(
        ask("llm.models", json!(null), in_world(call())).await,
        json!([])
    );

    let answer = json!({"ok": {"text": "Hello yourself", "model": "small"}});
    assert_eq!(ask("llm.complete", json!("small"), granted()).await, answer);
    assert_eq!(
        ask("llm.complete", json!(null), granted()).await,
        answer,
        "the first that is granted"
    );
    assert_eq!(
        ask("llm.complete", json!("other"), granted()).await["denied"],
        json!("llm")
    );
    assert_eq!(
        ask("llm.models", json!(null), granted()).await[0],
        json!("small")
    );
}

#[tokio::test]
async fn llm_asks_many_at_once_and_keeps_their_order() {
    let many = ask(
        "llm.complete-many",
        json!(["small", "small"]),
        in_world(call()),
    )
    .await;
    assert_eq!(
        (&many[0]["denied"], &many[1]["denied"]),
        (&json!("llm"), &json!("llm"))
    );

    let began = tokio::time::Instant::now();
    let models = json!(["slow", "other", "small", "slow", "slow", "slow", null]);
    let report = report("llm.complete-many", models, granted()).await;
    assert!(
        began.elapsed() < Duration::from_millis(390),
        "one after the other"
    );
    assert_eq!(report.usage.host_calls, 7);
    assert!(
        report.usage.duration < Duration::from_millis(90),
        "waiting was counted"
    );
    let answers = returned(report);
    let models: Vec<&Value> = answers
        .as_array()
        .expect("a list")
        .iter()
        .map(|answer| &answer["ok"]["model"])
        .collect();
    assert_eq!(
        json!(models),
        json!(["slow", null, "small", "slow", "slow", "slow", "small"])
    );
    assert_eq!(answers[1]["denied"], json!("llm"));
}

#[tokio::test]
async fn search() {
    let (capability, message) = denial("search.search", json!(["web"])).await;
    assert_eq!(capability, "search");
    assert!(
        message.contains("the source `web`: add `\"search\": [\"web\"]`"),
        "{message}"
    );
    assert_eq!(denial("search.search", json!([])).await.0, "search");
    let many = ask("search.search-many", json!([[], ["web"]]), in_world(call())).await;
    assert_eq!(
        (&many[0]["denied"], &many[1]["denied"]),
        (&json!("search"), &json!("search"))
    );
    assert_eq!(
        ask("search.sources", json!(null), in_world(call())).await,
        json!([])
    );

    assert_eq!(
        ask("search.search", json!(["web"]), granted()).await,
        json!({"ok": ["cars in web"]})
    );
    assert_eq!(
        ask("search.search", json!([]), granted()).await,
        json!({"ok": ["cars in web", "cars in news"]})
    );
    assert_eq!(
        ask("search.search", json!(["web", "dark"]), granted()).await["denied"],
        json!("search")
    );
    let many = ask(
        "search.search-many",
        json!([["news"], ["dark"], ["web"]]),
        granted(),
    )
    .await;
    assert_eq!(many[0]["ok"], json!(["cars in news"]));
    assert_eq!(many[1]["denied"], json!("search"));
    assert_eq!(many[2]["ok"], json!(["cars in web"]));
    assert_eq!(
        ask("search.sources", json!(null), granted()).await,
        json!(["web", "news"])
    );
}

#[tokio::test]
async fn tools() {
    for (action, input) in [
        ("tools.available", json!(null)),
        ("tools.call", json!("content.publish")),
    ] {
        assert_eq!(denial(action, input).await.0, "tools", "{action}");
    }
    assert_eq!(
        ask("tools.available", json!(null), granted()).await,
        json!({"ok": 2})
    );
    assert_eq!(
        ask("tools.call", json!("content.publish"), granted()).await,
        json!({"ok": "{}"})
    );
    let names = json!([
        "content.a",
        "other.b",
        "content.late",
        "blog.post",
        "blog.delete"
    ]);
    let many = ask("tools.call-many", names, granted()).await;
    assert_eq!(many[0], json!({"ok": "{}"}));
    assert_eq!(many[1]["denied"], json!("tools"));
    assert!(many[2]["error"].is_string());
    assert_eq!(many[3], json!({"ok": "{}"}));
    assert_eq!(many[4]["denied"], json!("tools"));
}

#[tokio::test]
async fn a_tools_fuel_is_its_callers() {
    let fuel = async |name: &str| {
        let report = run_guest(
            "ask",
            invocation("tools.call", &json!(name).to_string()),
            granted(),
        );
        let report = report.await;
        (report.outcome, report.usage.fuel)
    };
    let (outcome, used) = fuel("content.publish").await;
    assert!(matches!(outcome, Outcome::Returned(_)), "{outcome:?}");
    assert!(used > 1_000_000, "{used}");
    // A tool that used all there was leaves nothing for its caller.
    let (outcome, used) = fuel("content.all").await;
    assert_eq!(outcome, Outcome::LimitHit(Limit::Fuel));
    assert_eq!(used, granted().limits.fuel);
}

#[tokio::test]
async fn human() {
    assert_eq!(denial("human.ask", json!(null)).await.0, "human");
    let answer = ask("human.ask", json!(["ann"]), granted()).await;
    assert_eq!(answer, json!({"ok": true}));
    let stranger = ask("human.ask", json!(["ann", "eve"]), granted()).await;
    assert_eq!(stranger["denied"], "human");
    let message = stranger["message"].as_str().expect("a text");
    assert!(
        message.contains("questions to `eve`: add `\"human\": {\"assignees\": [\"eve\"]}`"),
        "{message}"
    );
}

#[tokio::test]
async fn what_the_operator_leaves_is_a_pattern_and_a_denial_names_who_keeps_it_back() {
    let names = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
    let operator = "\"eve\" to `human` of the [[grants]] at line 3";
    let workflow = "add `\"human\": {\"assignees\": [\"eve\"]}` to the agent's `grants`";
    let kept = format!("the workflow grants it, the operator does not: add {operator}");
    let both = format!("{workflow}, and {operator}");
    let (ann, team) = (["ann@example.com"].as_slice(), ["*@example.com"].as_slice());
    for (assignees, patterns, who, says) in [
        (None, team, "ann@example.com", None),
        (None, ["*"].as_slice(), "eve", None),
        (None, team, "eve", Some(kept.as_str())),
        (None, &[], "eve", Some(kept.as_str())),
        (Some(ann), team, "ann@example.com", None),
        (Some(ann), &["*"], "eve", Some(workflow)),
        (Some(ann), team, "eve", Some(both.as_str())),
    ] {
        let mut call = granted();
        let assignees = assignees.map(names);
        call.grants.human = Some(HumanGrant { assignees });
        call.grants.narrowed = vec![Narrowed {
            capability: "human".to_owned(),
            patterns: names(patterns),
            place: "`human` of the [[grants]] at line 3".to_owned(),
        }];
        let answer = ask("human.ask", json!([who]), call).await;
        match says {
            None => assert_eq!(answer, json!({"ok": true}), "{who}"),
            Some(says) => {
                let message = answer["message"].as_str().expect("a text");
                assert!(message.ends_with(&format!("`eve`: {says}")), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn memory() {
    let one = json!({ "key": "one", "value": "[1]", "version": 3 });
    for action in ["memory.get", "memory.set", "memory.delete", "memory.keys"] {
        let (capability, message) = denial(action, one.clone()).await;
        assert_eq!(capability, "memory", "{action}");
        assert_eq!(
            message,
            "the agent `tester` may not use a memory of its own: add `\"memory\": true` to the agent's `grants`"
        );
    }
    let asked = async |action: &str, input: &Value| ask(action, input.clone(), granted()).await;
    // This world answers with what it was asked.
    assert_eq!(asked("memory.get", &one).await, json!({"ok": ["one", 7]}));
    assert_eq!(
        asked("memory.get", &json!({ "key": "none" })).await,
        json!({"ok": null})
    );
    assert_eq!(
        asked("memory.set", &one).await,
        json!({"ok": "SetOutcome::Conflict(3)"})
    );
    let any = json!({ "key": "one", "value": "[1]" });
    assert_eq!(
        asked("memory.set", &any).await,
        json!({"ok": "SetOutcome::Stored(3)"})
    );
    assert_eq!(asked("memory.delete", &one).await, json!({"ok": null}));
    let page = json!({ "prefix": "a", "after": "ab" });
    assert_eq!(
        asked("memory.keys", &page).await,
        json!({"ok": ["a", "ab"]})
    );
    // An answer to something else is no answer.
    assert_eq!(
        asked("memory.delete", &json!({ "key": "wrong" })).await,
        json!({"error": "Error::Interrupted"})
    );
}

#[tokio::test]
async fn a_memory_takes_no_keys_and_values_that_could_not_be_kept() {
    let (long, large) = ("k".repeat(513), format!("[{}]", "1,".repeat(40_000)));
    for (action, input, says) in [
        ("memory.get", json!({ "key": "" }), "a key is not empty"),
        (
            "memory.get",
            json!({ "key": long }),
            "the key has 513 bytes",
        ),
        ("memory.delete", json!({ "key": "a\u{0}" }), "U+0000"),
        (
            "memory.set",
            json!({ "key": "", "value": "1" }),
            "not empty",
        ),
        ("memory.set", json!({ "key": "a", "value": "{" }), "no JSON"),
        (
            "memory.set",
            json!({ "key": "a", "value": large }),
            "at most 65536",
        ),
        (
            "memory.keys",
            json!({ "prefix": long }),
            "the prefix has 513",
        ),
        ("memory.keys", json!({ "after": "\u{0}" }), "`after` holds"),
    ] {
        let answer = ask(action, input, granted()).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(
            error.starts_with("Error::Invalid") && error.contains(says),
            "{action}: {says}: {answer}"
        );
    }
    let most = json!({ "key": "k".repeat(512), "value": format!("\"{}\"", "v".repeat(65_534)) });
    let answer = ask("memory.set", most, granted()).await;
    assert!(answer["ok"].is_string(), "{answer}");
}

#[tokio::test]
async fn a_guest_goes_on_by_what_it_remembers() {
    let requests = json!([
        ["get", "none"],
        ["get", "7"],
        ["add", "3", 4],
        ["keys", "a", "b"]
    ]);
    let invocation = invocation("keep", &requests.to_string());
    let told = returned(run_guest("keeper", invocation, granted()).await);
    // This world answers to a key with the key, and to a version with a conflict.
    let expected = json!([null, [7, 7], { "conflict": 7 }, ["a", "b"]]);
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_guest_is_told_what_is_left_before_and_after() {
    let invocation = || invocation("spend", "[[5, null], []]");
    let told = returned(run_guest("spender", invocation(), granted()).await);
    let left = 500_000;
    assert_eq!(
        told,
        json!({ "told": [[3, 3], []], "left": [left, left, left] })
    );
    let denied = returned(run_guest("spender", invocation(), in_world(call())).await);
    let text = denied["told"][0][0].as_str().unwrap_or_default();
    assert!(text.starts_with("Error::Denied"), "{denied}");
}

#[tokio::test]
async fn what_is_remembered_counts_as_a_call_and_in_bytes() {
    let input = json!({ "key": "one", "value": "\"text\"" });
    let used = report("memory.set", input.clone(), granted()).await.usage;
    assert_eq!((used.host_calls, used.host_bytes), (1, 9));
    let none = Call {
        limits: limited(|limits| limits.host_calls_max = 0).limits,
        ..granted()
    };
    assert_eq!(
        ask("memory.set", input, none).await,
        json!({"budget spent": "BudgetKind::HostCalls"})
    );
}

#[tokio::test]
async fn context() {
    let (capability, message) = denial("context.output", json!("plan")).await;
    assert_eq!(capability, "context");
    assert_eq!(
        message,
        "the agent `tester` may not use outputs of other steps: code agents of a workflow have them, its tools and code that runs by itself do not; hand over what it needs in its input"
    );
    assert_eq!(
        ask("context.inputs", json!(null), in_world(call())).await,
        json!("{}")
    );
    assert_eq!(
        ask("context.steps", json!(null), in_world(call())).await,
        json!([])
    );

    assert_eq!(
        ask("context.output", json!("plan"), granted()).await,
        json!({"ok": "[1]"})
    );
    assert_eq!(
        ask("context.output", json!("x"), granted()).await,
        json!({"error": "Error::NotFound(\"x\")"})
    );
    assert_eq!(
        ask("context.inputs", json!(null), granted()).await,
        json!(r#"{"topic":"cars"}"#)
    );
    assert_eq!(
        ask("context.steps", json!(null), granted()).await,
        json!(["plan"])
    );
}

#[tokio::test]
async fn budget_says_what_is_really_left() {
    let limits = limited(|limits| {
        limits.fuel = 5_000_000;
        limits.host_calls_max = 7;
        limits.time_max = Duration::from_secs(3);
    })
    .limits;
    let report = report(
        "budget.left",
        json!(null),
        Call {
            limits,
            ..granted()
        },
    )
    .await;
    let used = report.usage.fuel;
    let left = returned(report);
    assert_eq!(
        (&left["microdollars"], &left["host_calls"]),
        (&json!(500_000), &json!(7))
    );
    let fuel = left["fuel"].as_u64().expect("a number");
    assert!(
        fuel < 5_000_000 && fuel > 5_000_000 - used,
        "{fuel} left, {used} used"
    );
    let time = left["time_ms"].as_u64().expect("a number");
    assert!(time > 2_000 && time < 3_000, "{time}");
}

#[tokio::test]
async fn the_log_takes_lines_up_to_its_limit() {
    let world = Arc::new(World::default());
    let limits = limited(|limits| limits.log_bytes_max = 60).limits;
    let call = Call {
        limits,
        host: Arc::clone(&world) as Arc<dyn HostCalls>,
        ..call()
    };
    let report = report("log.write", json!(["a", "x".repeat(100), "b"]), call).await;
    let lines = world.log.lock().expect("no panic under the lock").clone();
    let line = |level, message: &str, fields: Option<&str>| LogLine {
        level,
        message: message.to_owned(),
        fields: fields.map(str::to_owned),
    };
    let expected = [
        line(LogLevel::Info, "a", None),
        line(LogLevel::Info, "b", None),
        line(LogLevel::Warn, "with fields", Some(r#"{"pages":12}"#)),
        line(LogLevel::Error, "with bad fields 12", None),
    ];
    assert_eq!(lines, expected);
    assert_eq!(
        (report.usage.log_bytes, report.usage.log_lines_dropped),
        (42, 1)
    );
}

#[tokio::test]
async fn host_calls_are_limited_and_a_guest_that_goes_on_is_stopped() {
    let limits = limited(|limits| limits.host_calls_max = 3).limits;
    let answers = ask(
        "context.output, many times",
        json!(5),
        Call {
            limits,
            ..granted()
        },
    )
    .await;
    let spent = json!({"budget spent": "BudgetKind::HostCalls"});
    assert_eq!(answers[2], json!({"ok": "[1]"}));
    assert_eq!((&answers[3], &answers[4]), (&spent, &spent));

    let report = report(
        "context.output, many times",
        json!(1_000),
        Call {
            limits,
            ..granted()
        },
    )
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::HostCalls));
    assert_eq!(report.usage.host_calls, 3 + 101);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_handed_over() {
    let answer = ask("llm.complete", json!("long"), granted()).await;
    let text = answer["unavailable"].as_str().expect("an error");
    assert!(text.starts_with("the answer has 178257"), "{text}");
}

#[tokio::test]
async fn answers_that_are_too_large_together_are_not_handed_over() {
    let mut models = vec!["small"; 2];
    models.extend(["long"; 18]);
    let answers = ask("llm.complete-many", json!(models), granted()).await;
    let answers = answers.as_array().expect("a list");
    assert_eq!(answers.len(), models.len());
    let is_refused = |answer: &&serde_json::Value| answer["unavailable"].is_string();
    assert_eq!(
        answers
            .iter()
            .take_while(|answer| answer["ok"].is_object())
            .count(),
        2
    );
    assert_eq!(answers.iter().filter(is_refused).count(), 18);
}

#[tokio::test]
async fn bytes_that_pass_are_counted_and_limited() {
    let report = report("llm.complete", json!("small"), granted()).await;
    let passed = report.usage.host_bytes;
    assert!((10..10_000).contains(&passed), "{passed}");
    assert!(report.usage.output_bytes > 0);
    let mut call = granted();
    call.limits.host_bytes_max = passed - 1;
    let report = self::report("llm.complete", json!("small"), call).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::HostBytes));
}

#[tokio::test]
async fn a_panic_of_the_host_ends_the_call_and_nothing_else() {
    let guest = crate::support::guest("ask").await;
    let ask = invocation("llm.complete", "\"panicking\"");
    let error = crate::support::sandbox()
        .call_agent(&guest, ask, granted())
        .await
        .expect_err("a panic");
    let SandboxError::Panicked { message } = &error else {
        panic!("{error}")
    };
    assert_eq!(message, "this world panics");
    assert!(!error.is_retryable());
    assert!(self::ask("llm.complete", json!("small"), granted()).await["ok"].is_object());
}

#[tokio::test]
async fn a_guest_that_waits_for_the_host_can_be_cancelled() {
    let world = Arc::new(World::default());
    let call = Call {
        host: Arc::clone(&world) as Arc<dyn HostCalls>,
        ..granted()
    };
    let flag = call.cancel.clone();
    let cancel = async {
        world.asked.notified().await;
        flag.cancel();
    };
    let (report, ()) = tokio::join!(report("llm.complete", json!("never"), call), cancel);
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert_eq!(report.usage.host_calls, 1);
    assert!(report.usage.fuel > 0, "what it used until then");
}

#[tokio::test]
async fn waiting_for_the_host_does_not_count_as_the_guests_time() {
    let limits = limited(|limits| limits.time_max = Duration::from_millis(60)).limits;
    let report = report(
        "llm.complete",
        json!("slow"),
        Call {
            limits,
            ..granted()
        },
    )
    .await;
    assert!(report.usage.duration < Duration::from_millis(60));
    assert!(returned(report)["ok"].is_object());
}
