//! A worker that a guest has broken asks for what it likes, and gets nothing that its guest was not granted.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::*;
use crate::budget;
use crate::cancel::CancelFlag;
use crate::capability::context::ContextGrant;
use crate::capability::http::{HttpGrant, OperatorHost, SecretGrant};
use crate::capability::human::HumanGrant;
use crate::capability::llm::LlmGrant;
use crate::capability::memory::MemoryGrant;
use crate::capability::narrowed::Narrowed;
use crate::capability::search::SearchGrant;
use crate::capability::tools::ToolsGrant;
use crate::guest_memory::{GuestMemory, Patience};
use crate::host_calls::{DenyAll, HostFuture, LogLevel, MemoryRequest, ToolAnswer};
use crate::http_exchange::{HttpRequest, HttpTimeouts, Reach, SecretUse};

const ALL_MEMORY: u64 = 1 << 30;

fn guard(grants: Grants) -> Guard {
    let call = Call {
        agent: "tester".to_owned(),
        grants,
        limits: Limits {
            host_calls_max: 20,
            log_bytes_max: 10,
            memory_bytes_max: 1 << 20,
            disk_bytes_max: 0,
            ..Limits::STANDARD
        },
        host: Arc::new(DenyAll),
        seed: [7; 32],
        started_at: UNIX_EPOCH,
        cancel: CancelFlag::new(),
    };
    let share = GuestMemory::new(ALL_MEMORY).enter(Patience::Waits);
    Guard::new(&call, Arc::new(share), 0)
}

fn completion(model: Option<&str>) -> Ask {
    Ask::Complete(vec![llm::Request {
        model: model.map(str::to_owned),
        messages: Vec::new(),
        max_tokens: None,
        temperature_hundredths: None,
        stop: Vec::new(),
        tools: Vec::new(),
        schema: None,
    }])
}

fn search(sources: &[&str]) -> Ask {
    Ask::Search(vec![search::Query {
        text: "bees".to_owned(),
        sources: sources.iter().map(|it| (*it).to_owned()).collect(),
        max_results: None,
    }])
}

fn tool(name: &str) -> Ask {
    let request = tools::CallRequest {
        name: name.to_owned(),
        arguments: "{}".to_owned(),
    };
    Ask::CallTools(vec![request], u64::MAX)
}

fn question(assignee: &str) -> Ask {
    Ask::Human(human::Question {
        assignees: vec![assignee.to_owned()],
        message: "?".to_owned(),
        context: None,
        form: None,
        deadline_ms: None,
    })
}

fn line(bytes: usize) -> Ask {
    Ask::Log(LogLine {
        level: LogLevel::Info,
        message: "x".repeat(bytes),
        fields: None,
    })
}

fn request(url: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
        reach: Reach::Literal,
        timeouts: HttpTimeouts::default(),
        response_bytes_max: u64::MAX,
        secrets: vec![SecretUse {
            name: "OTHER".to_owned(),
            placeholder: "x".to_owned(),
            header: Some("authorization".to_owned()),
        }],
        refused: None,
    }
}

fn hosts() -> Grants {
    let pattern = "https://api.example.com".parse::<crate::HostPattern>();
    let pattern = pattern.expect("a host");
    Grants {
        http: Some(HttpGrant {
            operator: vec![OperatorHost {
                pattern: pattern.clone(),
                is_private: false,
            }],
            workflow: vec![pattern.clone()],
            secrets: vec![SecretGrant {
                name: "TOKEN".to_owned(),
                host: pattern.clone(),
                workflow_host: pattern,
                header: "authorization".to_owned(),
            }],
        }),
        ..Grants::none()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn team_only() -> Narrowed {
    Narrowed {
        capability: "human".to_owned(),
        patterns: names(&["team@*"]),
        place: String::new(),
    }
}

#[tokio::test]
async fn nothing_is_given_that_was_not_granted() {
    let all_but = || Grants {
        llm: Some(LlmGrant {
            models: names(&["small"]),
        }),
        search: Some(SearchGrant {
            sources: names(&["web"]),
        }),
        tools: Some(ToolsGrant {
            names: names(&["calculator"]),
        }),
        human: Some(HumanGrant {
            assignees: Some(names(&["team@example.com", "out@example.com"])),
        }),
        narrowed: vec![team_only()],
        ..hosts()
    };
    for ask in [
        completion(Some("large")),
        completion(None),
        search(&["web", "database"]),
        search(&[]),
        tool("shell.run"),
        question("boss@example.com"),
        question("out@example.com"),
        Ask::Inputs,
        Ask::Output("earlier".to_owned()),
        Ask::Steps,
        Ask::Fetch(vec![request("https://evil.example.com/")]),
        Ask::Remember(MemoryRequest::Get {
            key: "a".to_owned(),
        }),
    ] {
        let shown = format!("{ask:?}");
        let lie = guard(all_but()).answer(ask).await;
        assert!(lie.is_err(), "{shown}");
        assert!(
            guard(Grants::none())
                .answer(Ask::Tools(names(&["calculator"])))
                .await
                .is_err()
        );
    }
    for ask in [
        completion(Some("small")),
        search(&["web"]),
        tool("calculator.add"),
        Ask::Tools(names(&["another"])),
        question("team@example.com"),
        Ask::Fetch(vec![request("https://api.example.com/")]),
        line(10),
    ] {
        let shown = format!("{ask:?}");
        assert!(guard(all_but()).answer(ask).await.is_ok(), "{shown}");
    }
    let context = Grants {
        context: Some(ContextGrant),
        ..Grants::none()
    };
    assert!(guard(context).answer(Ask::Steps).await.is_ok());
    let remembering = || Grants {
        memory: Some(MemoryGrant),
        ..Grants::none()
    };
    for (key, is_one) in [("a", true), ("", false), ("a\0b", false)] {
        let key = key.to_owned();
        let mut guard = guard(remembering());
        let answer = guard.answer(Ask::Remember(MemoryRequest::Get { key }));
        assert_eq!(answer.await.is_ok(), is_one);
    }
}

#[tokio::test]
async fn questions_lines_and_memory_have_an_end() {
    let mut asking = guard(Grants::none());
    let own = budget::Remaining {
        microdollars: None,
        fuel: u64::MAX,
        time_ms: 0,
        host_calls: 0,
    };
    let mut asked = 0;
    while asking.answer(Ask::Budget(own)).await.is_ok() {
        asked += 1;
        assert!(asked < 1_000, "it may ask for ever");
    }
    // As often as it may call the host, as often to look at what is left, and what is refused before a guest is ended.
    assert_eq!(asked, 2 * (20 + REFUSED_CALLS_MAX));
    let mut logging = guard(Grants::none());
    assert!(logging.answer(line(10)).await.is_ok());
    assert!(logging.answer(line(1)).await.is_err());
    let mut growing = guard(Grants::none());
    let given = growing.answer(Ask::Memory(1 << 19, u64::MAX)).await;
    let (Answer::Memory(Some(given)), _) = given.expect("it may have it") else {
        panic!("it was not given")
    };
    assert!(given <= 1 << 20);
    assert!(growing.answer(Ask::Memory(1 << 20, 0)).await.is_err());
    let more = tokio::time::timeout(
        Duration::from_secs(5),
        growing.answer(Ask::Memory(u64::MAX, u64::MAX)),
    );
    assert!(more.await.expect("it does not wait").is_err());
}

#[test]
fn what_the_grants_decide_of_a_request_is_decided_here() {
    let look = SecondLook::new(hosts().http.as_ref(), "tester", &[7; 32]);
    let checked = look
        .check(request("https://api.example.com/a?b"))
        .expect("granted");
    assert_eq!(checked.reach, Reach::Public, "not what the worker says");
    let names: Vec<&str> = checked
        .secrets
        .iter()
        .map(|secret| secret.name.as_str())
        .collect();
    assert_eq!(names, ["TOKEN"]);
    assert_eq!(
        checked.secrets[0].header, None,
        "its placeholder is not in the request"
    );
    assert!(checked.response_bytes_max < u64::MAX);
    let changed = |change: fn(&mut HttpRequest)| {
        let mut changed = request("https://api.example.com/");
        change(&mut changed);
        changed
    };
    for wrong in [
        request("http://api.example.com/"),
        request("https://api.example.com:8443/"),
        request("https://user@api.example.com/"),
        request("https://API.example.com/"),
        request("https://api.example.com"),
        request("file:///etc/passwd"),
        request(""),
        changed(|it| it.method = "CONNECT".to_owned()),
        changed(|it| it.method = "GET / HTTP/1.1\r\nx: y".to_owned()),
        changed(|it| it.headers = vec![("Host".to_owned(), Bytes::from("evil.example.com"))]),
        changed(|it| it.headers = vec![("host".to_owned(), Bytes::from("evil.example.com"))]),
        changed(|it| it.headers = vec![("x\r\ny".to_owned(), Bytes::new())]),
        changed(|it| it.headers = vec![("x".to_owned(), Bytes::from("a\r\nb: c"))]),
        changed(|it| it.body = Bytes::from(vec![0; 9 << 20])),
    ] {
        let shown = format!("{} {} {:?}", wrong.method, wrong.url, wrong.headers);
        assert!(look.check(wrong).is_err(), "{shown}");
    }
}

/// Tools that use all that they may.
struct Spends;

impl HostCalls for Spends {
    fn call_tools(
        &self,
        requests: Vec<tools::CallRequest>,
        fuel_max: u64,
    ) -> HostFuture<'_, Vec<ToolAnswer>> {
        let answers = requests.into_iter().map(move |_| ToolAnswer {
            result: Ok("1".to_owned()),
            fuel: fuel_max,
        });
        Box::pin(std::future::ready(answers.collect()))
    }
}

#[tokio::test]
async fn tools_together_use_no_more_than_the_call_may() {
    let grants = Grants {
        tools: Some(ToolsGrant {
            names: names(&["calculator"]),
        }),
        ..Grants::none()
    };
    let mut guard = guard(grants);
    guard.host = Arc::new(Spends);
    let all = guard.limits.fuel;
    let mut used = 0_u64;
    for _ in 0..5 {
        let Ok((Answer::Called(answers), _)) = guard.answer(tool("calculator.add")).await else {
            panic!("it was refused");
        };
        used = answers
            .iter()
            .fold(used, |used, answer| used.saturating_add(answer.fuel));
    }
    assert_eq!(used, all);
    guard.next_program();
    assert_eq!(guard.tool_fuel_left, all);
}
