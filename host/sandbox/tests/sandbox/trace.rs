//! The list of what a guest asked of the host: what is in it, what is not, and that it changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use troupe_sandbox::{
    Call, CallEnd, CancelFlag, ContextGrant, Error, Grants, HostCalls, HostFunction, HostFuture,
    HttpFault, HttpFaultKind, HttpGrant, HttpRequest, HttpResponse, Limits, LlmGrant, Outcome,
    Report, SearchGrant, ToolAnswer, ToolsGrant, Trace, TracedCall, llm, search, tools,
};

use crate::support::{call, invocation, run_guest};

/// How long this world needs for an answer.
const SLOWNESS: Duration = Duration::from_millis(20);

/// A world that answers slowly, some of it from a record.
#[derive(Default)]
struct World {
    recorded: AtomicU64,
    cancel: CancelFlag,
}

impl HostCalls for World {
    fn complete(&self, request: llm::Request) -> HostFuture<'_, Result<llm::Completion, Error>> {
        let model = request.model.unwrap_or_default();
        Box::pin(async move {
            match model.as_str() {
                "recorded" => drop(self.recorded.fetch_add(1, Ordering::Relaxed)),
                "ended" => {
                    self.cancel.cancel();
                    std::future::pending::<()>().await;
                }
                "late" => return Err(Error::TimedOut),
                _ => tokio::time::sleep(SLOWNESS).await,
            }
            Ok(llm::Completion {
                text: "secret".repeat(10),
                value: None,
                tool_calls: Vec::new(),
                finish: llm::FinishReason::Stop,
                usage: llm::Usage {
                    input_tokens: 1,
                    cached_input_tokens: 0,
                    output_tokens: 2,
                },
                cost_microdollars: 3,
                model,
            })
        })
    }

    fn search(&self, _query: search::Query) -> HostFuture<'_, Result<search::Answer, Error>> {
        Box::pin(std::future::ready(Err(Error::RateLimited(None))))
    }

    fn call_tools(
        &self,
        requests: Vec<tools::CallRequest>,
        _fuel_max: u64,
    ) -> HostFuture<'_, Vec<ToolAnswer>> {
        let answers = requests.into_iter().map(|request| ToolAnswer {
            result: Ok(request.arguments),
            fuel: 1_000_000,
        });
        Box::pin(std::future::ready(answers.collect()))
    }

    fn fetch_many(
        &self,
        requests: Vec<HttpRequest>,
    ) -> HostFuture<'_, Vec<Result<HttpResponse, HttpFault>>> {
        let answers = requests.into_iter().map(|request| match request.refused {
            Some(fault) => Err(fault),
            None => Ok(HttpResponse {
                status: 404,
                headers: Vec::new(),
                body: request.body,
            }),
        });
        Box::pin(std::future::ready(answers.collect()))
    }

    fn context_output(&self, _step: String) -> HostFuture<'_, Result<String, Error>> {
        Box::pin(std::future::ready(Ok("[1]".to_owned())))
    }

    fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }
}

/// A call that is granted this and that, of which so many calls of the host are listed.
fn traced(calls_max: u32) -> Call {
    let world = World::default();
    let pattern = || "https://example.com".parse().expect("a host");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Call {
        grants: Grants {
            llm: Some(LlmGrant {
                models: names(&["small", "recorded", "ended", "late"]),
            }),
            search: Some(SearchGrant {
                sources: names(&["web"]),
            }),
            tools: Some(ToolsGrant {
                names: names(&["content"]),
            }),
            context: Some(ContextGrant),
            http: Some(HttpGrant {
                operator: vec![troupe_sandbox::OperatorHost {
                    pattern: pattern(),
                    is_private: false,
                }],
                workflow: vec![pattern()],
                secrets: Vec::new(),
            }),
            ..Grants::none()
        },
        limits: Limits {
            traced_calls_max: calls_max,
            ..call().limits
        },
        cancel: world.cancel.clone(),
        host: Arc::new(world),
        ..call()
    }
}

async fn ask(action: &str, input: Value, call: Call) -> Report {
    run_guest("ask", invocation(action, &input.to_string()), call).await
}

/// The only call of the host that there was.
async fn only(action: &str, input: Value) -> TracedCall {
    let report = ask(action, input, traced(100)).await;
    assert_eq!(report.trace.left_out, 0);
    match report.trace.calls.as_slice() {
        [only] => *only,
        other => panic!("{action}: {other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_listed_unless_somebody_wants_it_and_it_costs_the_guest_nothing() {
    let without = ask("llm.complete", json!("small"), traced(0)).await;
    assert_eq!(without.trace, Trace::default());
    let with = ask("llm.complete", json!("small"), traced(100)).await;
    assert_eq!(with.trace.calls.len(), 1);
    assert_eq!(with.usage.fuel, without.usage.fuel);
    assert_eq!(with.usage.host_bytes, without.usage.host_bytes);
}

#[tokio::test]
async fn a_call_has_its_time_its_bytes_and_its_fuel() {
    let report = ask("llm.complete", json!("small"), traced(100)).await;
    let call = report.trace.calls[0];
    assert_eq!(call.function, HostFunction::LlmComplete);
    assert_eq!(call.function.as_str(), "troupe:agent/llm.complete");
    assert_eq!((call.requests, call.failed, call.recorded), (1, 0, 0));
    assert_eq!((call.end, call.status), (CallEnd::Ok, None));
    assert!(
        call.took >= SLOWNESS && call.took < 100 * SLOWNESS,
        "{call:?}"
    );
    assert_eq!(call.answered_bytes, 65);
    assert_eq!(
        call.asked_bytes + call.answered_bytes,
        report.usage.host_bytes
    );
    // The price of a call, and a unit for each byte.
    assert_eq!(call.fuel, 5_000 + report.usage.host_bytes);
    assert!(call.fuel_before > 0, "{call:?}");
    assert!(call.fuel_before + call.fuel < report.usage.fuel, "{call:?}");
    let said = serde_json::to_string(&report.trace).expect("JSON");
    assert!(
        !said.contains("secret") && !said.contains("small"),
        "{said}"
    );
}

#[tokio::test]
async fn each_end_is_told() {
    for (action, input, function, end) in [
        (
            "llm.complete",
            json!("other"),
            "llm.complete",
            CallEnd::Denied,
        ),
        (
            "llm.complete",
            json!("late"),
            "llm.complete",
            CallEnd::TimedOut,
        ),
        ("llm.models", json!(null), "llm.models", CallEnd::Ok),
        (
            "search.search",
            json!([]),
            "search.search",
            CallEnd::RateLimited,
        ),
        ("memory.keys", json!({}), "memory.keys", CallEnd::Denied),
        ("human.ask", json!({}), "human.ask", CallEnd::Denied),
        ("context.inputs", json!(null), "context.inputs", CallEnd::Ok),
        ("budget.left", json!(null), "budget.left", CallEnd::Ok),
    ] {
        let call = only(action, input).await;
        let name = format!("troupe:agent/{function}");
        assert_eq!((call.function.as_str(), call.end), (name.as_str(), end));
        assert_eq!(call.failed, u32::from(end != CallEnd::Ok), "{action}");
    }
}

#[tokio::test]
async fn requests_that_were_made_at_once_are_one_call() {
    let call = only("llm.complete-many", json!(["small", "other", "recorded"])).await;
    assert_eq!(call.function, HostFunction::LlmCompleteMany);
    assert_eq!((call.requests, call.failed, call.recorded), (3, 1, 1));
    assert_eq!(call.end, CallEnd::Denied);
}

#[tokio::test]
async fn the_fuel_of_a_tool_is_that_of_its_call() {
    let call = only("tools.call", json!("content.all")).await;
    assert!(call.fuel > 1_000_000 && call.fuel < 1_010_000, "{call:?}");
}

#[tokio::test]
async fn the_list_has_an_end_and_says_so() {
    let report = ask("context.output, many times", json!(5), traced(2)).await;
    assert_eq!((report.trace.calls.len(), report.trace.left_out), (2, 3));
    let [first, second] = report.trace.calls.as_slice() else {
        panic!("two")
    };
    assert!(first.began + first.took <= second.began);
    assert!(first.fuel_before + first.fuel < second.fuel_before);
    let lines = ask("log.write", json!(["a", "bc"]), traced(100))
        .await
        .trace;
    let bytes: Vec<u64> = lines.calls.iter().map(|call| call.asked_bytes).collect();
    assert_eq!(bytes, [1, 2, 23, 17]);
}

#[tokio::test]
async fn a_call_that_the_guest_does_not_come_back_from_is_listed() {
    let report = ask("llm.complete", json!("ended"), traced(100)).await;
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert_eq!(report.trace.calls[0].end, CallEnd::Stopped);
}

#[tokio::test]
async fn http_is_listed_too() {
    let send = async |input: Value| {
        let invocation = invocation("send, all started first", &input.to_string());
        run_guest("http", invocation, traced(100)).await
    };
    let request = |host: &str| json!({ "method": "POST", "scheme": "https", "authority": host, "path": "/a", "body": "text" });
    let report = send(json!([request("example.com")])).await;
    let call = report.trace.calls[0];
    assert_eq!(call.function, HostFunction::Http);
    assert_eq!((call.end, call.status), (CallEnd::Ok, Some(404)));
    assert_eq!(
        call.asked_bytes + call.answered_bytes,
        report.usage.host_bytes
    );
    assert!(call.fuel_before > 0 && call.fuel > 0, "{call:?}");
    let report = send(json!([request("example.com"), request("example.org")])).await;
    let call = report.trace.calls[0];
    assert_eq!((call.requests, call.failed), (2, 1));
    assert_eq!(call.end, CallEnd::Http(HttpFaultKind::Denied));
    assert_eq!((call.end.as_str(), call.status), ("denied", None));
}
