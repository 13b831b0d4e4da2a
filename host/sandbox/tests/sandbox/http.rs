//! Outgoing HTTP: first denied, then granted; what a guest can try with it, and what the host is asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use troupe_sandbox::{
    Call, Grants, HTTP_REQUEST_BYTES_MAX, HTTP_RESPONSE_BYTES_MAX, HostCalls, HostFuture,
    HttpFault, HttpFaultKind, HttpGrant, HttpRequest, HttpResponse, Limit, OperatorHost, Outcome,
    Reach, Report, Sandbox, SecretGrant,
};

use crate::support::{call, config, invocation, returned, run_guest, target};

/// Where requests go: it answers with what it was asked, and remembers it.
#[derive(Default)]
struct Web {
    asked: Mutex<Vec<HttpRequest>>,
    batches: Mutex<Vec<usize>>,
    /// Bytes of each body; none: `{}`.
    body_bytes: Option<usize>,
    delay: Duration,
    /// Bytes that may be held of all responses now, and the most that there ever were.
    may_hold: Mutex<(u64, u64)>,
}

impl Web {
    fn holds(&self, requests: &[HttpRequest]) -> u64 {
        let bytes = requests.iter().map(|request| request.response_bytes_max);
        let bytes = bytes.sum();
        let mut may_hold = self.may_hold.lock().expect("no panic");
        may_hold.0 += bytes;
        may_hold.1 = may_hold.1.max(may_hold.0);
        bytes
    }

    fn held_most(&self) -> u64 {
        self.may_hold.lock().expect("no panic").1
    }
}

impl HostCalls for Web {
    fn fetch_many(
        &self,
        requests: Vec<HttpRequest>,
    ) -> HostFuture<'_, Vec<Result<HttpResponse, HttpFault>>> {
        Box::pin(async move {
            let held = self.holds(&requests);
            tokio::time::sleep(self.delay).await;
            self.may_hold.lock().expect("no panic").0 -= held;
            self.batches.lock().expect("no panic").push(requests.len());
            let answer = |request: &HttpRequest| {
                if let Some(fault) = &request.refused {
                    return Err(fault.clone());
                }
                let bytes = self.body_bytes.unwrap_or(0);
                if u64::try_from(bytes).expect("small") > request.response_bytes_max {
                    return Err(HttpFault::new(HttpFaultKind::ResponseBody, "too large"));
                }
                let body = match self.body_bytes {
                    Some(bytes) => Bytes::from(vec![b'x'; bytes]),
                    None => request.body.clone(),
                };
                let header = |name: &str, value: &'static str| {
                    (name.to_owned(), Bytes::from_static(value.as_bytes()))
                };
                Ok(HttpResponse {
                    status: 302,
                    headers: vec![
                        header("location", "http://169.254.169.254/"),
                        header("connection", "upgrade"),
                        header("x-answer", "yes"),
                    ],
                    body,
                })
            };
            let answers = requests.iter().map(answer).collect();
            self.asked.lock().expect("no panic").extend(requests);
            answers
        })
    }
}

fn grant(operator: &[&str], workflow: &[&str]) -> HttpGrant {
    let pattern = |text: &&str| text.parse().expect("a host");
    HttpGrant {
        operator: operator
            .iter()
            .map(|text| OperatorHost {
                pattern: pattern(text),
                is_private: text.contains("intranet"),
            })
            .collect(),
        workflow: workflow.iter().map(pattern).collect(),
        secrets: Vec::new(),
    }
}

/// Both allow the same.
fn granted(hosts: &[&str]) -> HttpGrant {
    grant(hosts, hosts)
}

async fn run(web: &Arc<Web>, http: Option<HttpGrant>, action: &str, input: &Value) -> Report {
    run_as(web, http, (action, input), |call| call).await
}

async fn run_as(
    web: &Arc<Web>,
    http: Option<HttpGrant>,
    (action, input): (&str, &Value),
    change: impl FnOnce(Call) -> Call,
) -> Report {
    let call = Call {
        host: Arc::clone(web) as Arc<dyn HostCalls>,
        grants: Grants {
            http,
            ..Grants::none()
        },
        ..call()
    };
    run_guest("http", invocation(action, &input.to_string()), change(call)).await
}

fn asked(web: &Web) -> Vec<HttpRequest> {
    web.asked.lock().expect("no panic").clone()
}

#[tokio::test]
async fn without_a_grant_a_request_is_an_error_and_no_trap() {
    let web = Arc::new(Web::default());
    let input = json!([{ "scheme": "https", "authority": "api.example.com", "path": "/v1" }]);
    for (http, says) in [
        (
            None,
            "add `\"hosts\": [\"https://api.example.com\"]` to the agent's `grants`",
        ),
        (
            Some(grant(&["https://api.example.com"], &[])),
            "add `\"hosts\": [\"https://api.example.com\"]` to the agent's `grants`",
        ),
        (
            Some(grant(&[], &["https://api.example.com"])),
            "add `hosts = [\"https://api.example.com\"]` to the [[grants]] of this agent",
        ),
    ] {
        let result = returned(run(&web, http, "send", &input).await);
        assert_eq!(result, json!([{ "error": "ErrorCode::HttpRequestDenied" }]));
        let last = asked(&web).pop().expect("the host was told");
        let fault = last.refused.expect("refused");
        assert_eq!(fault.kind, HttpFaultKind::Denied);
        let whole = &fault.message;
        assert!(whole.contains("the agent `tester` may not"), "{whole}");
        assert!(whole.contains(says), "{whole}");
    }
}

#[tokio::test]
async fn a_granted_request_reaches_the_host_whole() {
    let web = Arc::new(Web::default());
    let request = |early| {
        json!([{
            "method": "POST", "authority": "API.example.com.:8080", "path": "/v1?q=1", "body": "x".repeat(100_000),
            "body_first": early, "headers": [["X-One", "1"], ["content-length", "100000"], ["x-one", "2"]],
            "connect_ms": 0, "first_byte_ms": 7,
        }])
    };
    for early in [false, true] {
        let hosts = granted(&["http://api.example.com:8080"]);
        let report = run(&web, Some(hosts), "send", &request(early)).await;
        let usage = report.usage;
        let result = returned(report);
        assert_eq!(result[0]["status"], 302);
        assert_eq!(result[0]["bytes"], 100_000);
        // What is between two machines is not handed on.
        let headers = json!([["location", "http://169.254.169.254/"], ["x-answer", "yes"]]);
        assert_eq!(result[0]["headers"], headers);
        let sent = asked(&web).pop().expect("a request");
        assert_eq!(sent.method, "POST");
        assert_eq!(sent.url, "http://api.example.com:8080/v1?q=1");
        assert_eq!(sent.body.len(), 100_000);
        assert_eq!(sent.reach, Reach::Public);
        let headers: Vec<_> = sent.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(headers, ["x-one", "x-one"]);
        assert_eq!(sent.timeouts.connect, Some(Duration::ZERO));
        assert_eq!(sent.timeouts.first_byte, Some(Duration::from_millis(7)));
        assert_eq!(sent.timeouts.between_bytes, None);
        assert_eq!(usage.host_calls, 1);
        assert!(usage.host_bytes > 200_000 && usage.host_bytes < 200_200);
        assert!(usage.fuel > 200_000);
    }
}

#[tokio::test]
async fn what_confuses_others_goes_nowhere() {
    let web = Arc::new(Web::default());
    let hosts = [
        "https://api.example.com",
        "http://10.0.0.5:8080",
        "http://intranet.example.com",
    ];
    let request = |scheme: &str, authority: &str, path: &str| json!({ "scheme": scheme, "authority": authority, "path": path });
    let input = json!([
        request("http", "api.example.com", "/"),
        request("https", "api.example.com:8443", "/"),
        request("https", "api.example.com@evil.com", "/"),
        request("https", "evil.com@api.example.com", "/"),
        request("https", "api.example.com.evil.com", "/"),
        request("https", "[::ffff:10.0.0.5]:8080", "/"),
        request("http", "[::ffff:10.0.0.5]:8080", "/"),
        request("http", "[64:ff9b::10.0.0.5]:8080", "/"),
        request("http", "10.0.0.6:8080", "/"),
        request("http", "167772166:8080", "/"),
        request("https", "арi.example.com", "/"),
        request("https", "api.example.com", "http://evil.com/"),
        request("https", "api.example.com", "@evil.com/"),
        request("https", "api.example.com", "/a b"),
        request("https", "api.example.com", "/a\r\nx: y"),
        request("ftp", "api.example.com", "/"),
        json!({ "scheme": "https", "authority": "api.example.com", "method": "CONNECT" }),
        json!({ "scheme": "https", "authority": "api.example.com", "method": "TRACE" }),
        json!({ "scheme": "https", "authority": "api.example.com", "body": "x", "method": "POST", "headers": [["content-length", "2"]] }),
        json!({ "scheme": "https", "authority": "api.example.com", "headers": [["host", "evil.com"]] }),
    ]);
    let result = returned(run(&web, Some(granted(&hosts)), "send", &input).await);
    for (answer, input) in result
        .as_array()
        .expect("answers")
        .iter()
        .zip(input.as_array().expect("requests"))
    {
        assert!(answer["error"].is_string(), "{input}: {answer}");
    }
    assert!(asked(&web).iter().all(|request| request.refused.is_some()));

    // The same hosts in other spellings are the same hosts.
    let input = json!([
        request("https", "API.EXAMPLE.COM", "/"),
        request("https", "api.example.com.:443", "//evil.com/"),
        request("http", "167772165:8080", "/"),
        request("http", "0x0a.0.0.05:8080", "/"),
        request("http", "intranet.example.com", ""),
    ]);
    let web = Arc::new(Web::default());
    returned(run(&web, Some(granted(&hosts)), "send", &input).await);
    let urls: Vec<_> = asked(&web)
        .into_iter()
        .map(|request| (request.url, request.reach, request.refused))
        .collect();
    let expected = [
        ("https://api.example.com/", Reach::Public),
        ("https://api.example.com//evil.com/", Reach::Public),
        ("http://10.0.0.5:8080/", Reach::Literal),
        ("http://10.0.0.5:8080/", Reach::Literal),
        ("http://intranet.example.com/", Reach::Private),
    ];
    assert_eq!(
        urls,
        expected.map(|(url, reach)| (url.to_owned(), reach, None))
    );
}

#[tokio::test]
async fn headers_that_the_host_writes_are_refused() {
    let web = Arc::new(Web::default());
    let input = json!([
        ["host", "a"],
        ["Connection", "close"],
        ["transfer-encoding", "chunked"],
        ["proxy-anything", "a"],
        ["Proxy-Authorization", "a"],
        ["te", "trailers"],
        ["upgrade", "h2c"],
        ["keep-alive", "1"],
        ["expect", "100-continue"],
        ["x-a", "b\r\nc: d"],
        ["x\r\na", "b"],
        ["x-fine", "ü"],
    ]);
    let result = returned(run(&web, None, "set headers", &input).await);
    let forbidden = "HeaderError::Forbidden";
    let invalid = "HeaderError::InvalidSyntax";
    let mut expected = vec![forbidden; 9];
    expected.extend([invalid, invalid, "taken"]);
    assert_eq!(result, json!(expected));
    let report = run(&web, None, "long texts", &Value::Null).await;
    let taken = json!([true, false, false]);
    assert_eq!(returned(report), json!([taken, taken, taken]));
    let report = run(&web, None, "many headers", &Value::Null).await;
    assert!(
        matches!(&report.outcome, Outcome::Trapped(trap) if trap.message.contains("total size of fields")),
        "{:?}",
        report.outcome
    );
}

#[tokio::test]
async fn requests_that_are_under_way_together_are_sent_together_and_in_order() {
    let web = Arc::new(Web::default());
    let host = "http://api.example.com";
    let requests: Vec<_> = (0..20)
        .map(|number| json!({ "authority": "api.example.com", "path": format!("/{number}"), "method": "POST", "body": format!("{number}") }))
        .collect();
    let report = run(
        &web,
        Some(granted(&[host])),
        "send, all started first",
        &json!(requests),
    )
    .await;
    let bodies: Vec<_> = returned(report)
        .as_array()
        .expect("answers")
        .iter()
        .map(|answer| answer["body"].as_str().expect("a body").to_owned())
        .collect();
    assert_eq!(
        bodies,
        (0..20).map(|number| number.to_string()).collect::<Vec<_>>()
    );
    // No more than eight at once.
    assert_eq!(*web.batches.lock().expect("no panic"), [8, 8, 4]);
}

#[tokio::test]
async fn no_timer_of_the_guests_overtakes_a_response() {
    for delay in [Duration::ZERO, Duration::from_millis(100)] {
        let web = Arc::new(Web {
            delay,
            ..Web::default()
        });
        let input = json!({ "authority": "api.example.com" });
        let hosts = granted(&["http://api.example.com"]);
        let result = returned(run(&web, Some(hosts), "race a timer", &input).await);
        assert_eq!(result, json!({ "ready": [1], "there": true }), "{delay:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_finished_is_not_waited_for() {
    let web = Arc::new(Web::default());
    let input = json!({ "authority": "api.example.com" });
    let hosts = granted(&["http://api.example.com"]);
    let result = returned(run(&web, Some(hosts), "wait for an unfinished body", &input).await);
    assert_eq!(result["error"], "ErrorCode::HttpRequestBodySize(None)");
    assert!(asked(&web).is_empty());
}

#[tokio::test]
async fn a_body_has_a_largest_size() {
    let web = Arc::new(Web::default());
    let input = json!({ "authority": "api.example.com" });
    let hosts = granted(&["http://api.example.com"]);
    let result = returned(run(&web, Some(hosts.clone()), "write too much", &input).await);
    assert_eq!(result["stopped"], HTTP_REQUEST_BYTES_MAX);
    assert_eq!(
        result["answer"]["error"],
        "ErrorCode::HttpRequestBodySize(None)"
    );
    // All bodies together have one too.
    let report = run_as(&web, Some(hosts), ("write too much", &input), |mut call| {
        call.limits.host_bytes_max = 1 << 20;
        call
    })
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::HostBytes));
    assert!(report.usage.fuel > 1 << 20);
}

/// What one call asks for, with memory for all guests that holds a few responses.
async fn run_in_64_mib(web: &Arc<Web>, calls: usize, (action, input): (&str, Value)) -> Vec<Value> {
    let mut config = config(target().join("compiled"));
    config.calls_max = 32;
    config.guest_memory_bytes_max = 64 << 20;
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let wasm = std::fs::read(target().join("guests/wasm32-wasip2/guest/examples/http.wasm"));
    let component = sandbox.load(wasm.expect("built").into()).await;
    let component = component.expect("a component");
    let input = input.to_string();
    let run = || {
        let call = Call {
            host: Arc::clone(web) as Arc<dyn HostCalls>,
            grants: Grants {
                http: Some(granted(&["http://api.example.com"])),
                ..Grants::none()
            },
            ..call()
        };
        sandbox.call_agent(&component, invocation(action, &input), call)
    };
    let reports = futures::future::join_all((0..calls).map(|_| run())).await;
    let reports = reports.into_iter();
    reports
        .map(|report| returned(report.expect("the host is well")))
        .collect()
}

#[tokio::test]
async fn what_the_host_may_hold_of_responses_is_memory_of_all_guests() {
    let web = Arc::new(Web {
        body_bytes: Some(1 << 20),
        delay: Duration::from_millis(50),
        ..Web::default()
    });
    let input = json!([{ "authority": "api.example.com" }]);
    let results = run_in_64_mib(&web, 24, ("send", input)).await;
    assert!(results.iter().all(|result| result[0]["status"] == 302));
    assert!(web.held_most() > HTTP_RESPONSE_BYTES_MAX, "several at once");
    assert!(web.held_most() <= 64 << 20, "{}", web.held_most());
}

#[tokio::test]
async fn what_requests_do_not_need_is_put_back() {
    let web = Arc::new(Web::default());
    let request = json!({ "authority": "api.example.com", "method": "POST", "body": "small" });
    // As many bodies as all memory would hold twice, were each as large as it may be.
    let input = json!(vec![request; 16]);
    let results = run_in_64_mib(&web, 1, ("send, all started first", input)).await;
    assert_eq!(results[0][15]["body"], "small");
    // And bodies that are never sent.
    let input = json!({ "authority": "api.example.com" });
    let results = run_in_64_mib(&web, 16, ("write too much", input)).await;
    assert!(
        results
            .iter()
            .all(|it| it["stopped"] == HTTP_REQUEST_BYTES_MAX)
    );
}

#[tokio::test]
async fn requests_and_bytes_are_limited() {
    let requests: Vec<_> = (0..5)
        .map(|_| json!({ "authority": "api.example.com" }))
        .collect();
    let input = json!(requests);
    let hosts = granted(&["http://api.example.com"]);
    let web = Arc::new(Web::default());
    let report = run_as(&web, Some(hosts.clone()), ("send", &input), |mut call| {
        call.limits.host_calls_max = 4;
        call
    })
    .await;
    let usage = report.usage;
    let result = returned(report);
    assert_eq!(result[3]["status"], 302);
    assert!(
        result[4]["error"]
            .as_str()
            .is_some_and(|error| error.contains("as often as it may"))
    );
    assert_eq!((usage.host_calls, asked(&web).len()), (5, 4));

    // The third response would pass the limit: less is let through, and the guest ends.
    let web = Arc::new(Web {
        body_bytes: Some(1 << 20),
        ..Web::default()
    });
    let report = run_as(&web, Some(hosts), ("send", &input), |mut call| {
        call.limits.host_bytes_max = 5 << 19;
        call
    })
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::HostBytes));
    assert_eq!(asked(&web).len(), 3);
    assert!(asked(&web)[2].response_bytes_max < 1 << 20);
    assert!(report.usage.host_bytes > 2 << 20 && report.usage.host_bytes < 5 << 19);
}

#[tokio::test]
async fn a_guest_without_fuel_sends_nothing() {
    let web = Arc::new(Web::default());
    let input =
        json!([{ "authority": "api.example.com", "method": "POST", "body": "x".repeat(200_000) }]);
    let hosts = granted(&["http://api.example.com"]);
    let report = run(&web, Some(hosts.clone()), "send", &input).await;
    let whole = report.usage.fuel;
    assert_eq!(asked(&web).len(), 1);
    let web = Arc::new(Web::default());
    let report = run_as(&web, Some(hosts), ("send", &input), |mut call| {
        // The response costs as much as the request: what is left does not pay for it.
        call.limits.fuel = whole - 100_000;
        call
    })
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
}

fn with_secret() -> HttpGrant {
    let mut http = granted(&["https://api.example.com", "https://other.example.com"]);
    let host = |text: &str| text.parse().expect("a host");
    http.secrets.push(SecretGrant {
        name: "TOKEN".to_owned(),
        host: host("https://*.example.com"),
        workflow_host: host("https://api.example.com"),
        header: "authorization".to_owned(),
    });
    http
}

#[tokio::test]
async fn a_secret_is_a_placeholder_that_goes_into_its_header_to_its_host() {
    let web = Arc::new(Web::default());
    let variables = returned(run(&web, Some(with_secret()), "variables", &Value::Null).await);
    let placeholder = variables[0][1].as_str().expect("a value").to_owned();
    assert_eq!(variables.as_array().map(Vec::len), Some(1));
    assert_eq!(variables[0][0], "TROUPE_SECRET_TOKEN");
    assert!(placeholder.starts_with("{{secret:TOKEN:"), "{placeholder}");
    // The same in a repeated run, another in another.
    let again = returned(run(&web, Some(with_secret()), "variables", &Value::Null).await);
    assert_eq!(again, variables);
    let other = run_as(
        &web,
        Some(with_secret()),
        ("variables", &Value::Null),
        |call| Call {
            seed: [8; 32],
            ..call
        },
    );
    assert_ne!(returned(other.await), variables);

    let input = json!({ "scheme": "https", "authority": "api.example.com", "headers": [["Authorization", "Bearer $TOKEN"]] });
    let report = run(&web, Some(with_secret()), "send with a secret", &input).await;
    assert_eq!(returned(report)["status"], 302);
    let sent = asked(&web).pop().expect("a request");
    let value = format!("Bearer {placeholder}");
    assert_eq!(
        sent.headers[0],
        ("authorization".to_owned(), Bytes::from(value))
    );
    assert_eq!(sent.secrets[0].header.as_deref(), Some("authorization"));
    assert_eq!(sent.secrets[0].placeholder, placeholder);
    let input = json!({ "scheme": "https", "authority": "api.example.com" });
    returned(run(&web, Some(with_secret()), "send with a secret", &input).await);
    assert_eq!(
        asked(&web).pop().expect("a request").secrets[0].header,
        None
    );
}

#[tokio::test]
async fn a_placeholder_anywhere_else_is_refused() {
    let api = |more: Value| {
        let mut request =
            json!({ "scheme": "https", "authority": "api.example.com", "method": "POST" });
        for (name, value) in more.as_object().expect("an object") {
            request[name] = value.clone();
        }
        request
    };
    for input in [
        api(json!({ "authority": "other.example.com", "headers": [["authorization", "$TOKEN"]] })),
        api(json!({ "headers": [["x-token", "$TOKEN"]] })),
        api(json!({ "body": "my token is $TOKEN" })),
        api(json!({ "path": "/?token=%7B%7Bsecret:TOKEN:9d3a" })),
    ] {
        let web = Arc::new(Web::default());
        let report = run(&web, Some(with_secret()), "send with a secret", &input).await;
        let result = returned(report);
        let fault = asked(&web).pop().and_then(|request| request.refused);
        if input["path"].is_string() {
            // A token that is not ours is nobody's secret.
            assert_eq!(fault, None);
            continue;
        }
        assert_eq!(result["error"], "ErrorCode::HttpRequestDenied", "{input}");
        let message = fault.expect("refused").message;
        let says = "the secret `TOKEN` may only go into the header `authorization` to https://api.example.com";
        assert!(message.contains(says), "{message}");
        assert!(!message.contains("{{"), "{message}");
    }
    // In the address its braces are no characters of a path; encoded, the token gives it away.
    let web = Arc::new(Web::default());
    let variables = returned(run(&web, Some(with_secret()), "variables", &Value::Null).await);
    let placeholder = variables[0][1].as_str().expect("a value");
    let encoded = placeholder.replace('{', "%7B").replace('}', "%7D");
    let input = api(json!({ "path": format!("/?t={encoded}") }));
    let result = returned(run(&web, Some(with_secret()), "send", &json!([input])).await);
    assert_eq!(result[0]["error"], "ErrorCode::HttpRequestDenied");
}

#[tokio::test]
async fn a_failure_of_the_guests_is_its_own() {
    let web = Arc::new(Web::default());
    let input = json!({ "authority": "evil.com" });
    let report = run(&web, None, "send or fail", &input).await;
    assert!(
        matches!(report.outcome, Outcome::Declined(_)),
        "{:?}",
        report.outcome
    );
}
