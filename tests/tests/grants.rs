//! What the operator and the workflow let an agent use: HTTP requests, secrets, folders, environment, and less of models
//! and people; what is denied and how that is told; what `kill -9` leaves of a request.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use e2e::loopback::{Loopback, Reply, Route};
use e2e::troupe::{Ended, Workplace, guest, step};
use serde_json::{Value, json};

/// A secret of the operator's.
const TOKEN: &str = "s3cr3t/token+of?the~operator=";
const PATH: &str = "/v1/chat/completions";

struct Scene {
    loopback: Loopback,
    place: Workplace,
}

impl Scene {
    /// The guest `http` as the one agent of a workflow, which sends one request with these grants.
    async fn sending(
        config: impl FnOnce(&str) -> String,
        grants: impl FnOnce(&str) -> Value,
    ) -> Self {
        let loopback = Loopback::start().await;
        loopback.always(
            Route::OpenAi,
            Reply::verbatim(format!("hello, {TOKEN}")).header("x-echo", TOKEN),
        );
        let mut place = Workplace::new();
        let url = loopback.base_url().to_owned();
        place.connect(&loopback, &config(&url));
        place.set("TEST_TOKEN", TOKEN);
        place.write("agent.wasm", guest("http"));
        let request = json!({
            "method": "POST", "authority": url.trim_start_matches("http://"), "path": PATH, "body": "{}",
            "headers": [["authorization", "Bearer $TOKEN"], ["content-type", "application/json"]],
        });
        let document = json!({
            "name": "Fetch",
            "agents": [{
                "id": "fetcher", "type": "code", "component": "agent.wasm", "grants": grants(&url),
            }],
            "steps": [{
                "id": "fetch", "agent": "fetcher", "action": "send with a secret", "input": request,
            }],
            "config": { "max_retries": 1, "retry_delay_ms": 1 },
        });
        place.write("workflow.json", document.to_string());
        Self { loopback, place }
    }

    async fn call(&self, arguments: &[&str], code: i32) -> Ended {
        let ended = self.place.troupe(arguments).end().await;
        ended.expect_code(code)
    }

    /// Nothing that was written holds the secret.
    fn expect_no_secret(&self, said: &Ended) {
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(!tells_token(text.as_bytes()), "{said}");
        for (path, bytes) in self.place.data_files() {
            assert!(!tells_token(&bytes), "{} holds the secret", path.display());
        }
    }
}

/// Undoes escapes of addresses and JSON, and the alphabet of base64 that addresses have.
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, others)) = rest.split_first() {
        let behind = rest.strip_prefix(b"%").or(rest.strip_prefix(b"\\u00"));
        let code = behind.and_then(|behind| {
            let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, &behind[2..]))
        });
        match (code, first) {
            (Some((code, _)), _) => plain.push(code),
            (None, b'\\') => {}
            (None, b'-') => plain.push(b'+'),
            (None, b'_') => plain.push(b'/'),
            (None, other) => plain.push(other),
        }
        rest = code.map_or(others, |(_, behind)| behind);
    }
    plain
}

/// Whether the secret is there, also escaped or in base64.
fn tells_token(bytes: &[u8]) -> bool {
    let plain = unescaped(&unescaped(&unescaped(bytes)));
    let plain = String::from_utf8_lossy(&plain);
    // The characters of base64 that tell of the secret alone.
    let in_base64 = (0..3).map(|before| {
        let all = BASE64.encode(format!("{}{TOKEN}", &"..."[..before]));
        let inner = all.trim_end_matches('=');
        inner[(before * 8).div_ceil(6)..inner.len() - 1].to_owned()
    });
    let mut all = std::iter::once(TOKEN.to_owned()).chain(in_base64);
    all.any(|token| plain.contains(&token))
}

fn operator(url: &str) -> String {
    format!(
        r#"
        [[grants]]
        agents = ["Fetch/fetcher"]
        hosts = ["{url}"]
        secrets = [{{ name = "TOKEN", value = "env:TEST_TOKEN", host = "{url}", header = "authorization" }}]
        "#
    )
}

fn workflow(url: &str) -> Value {
    json!({
        "hosts": [url],
        "secrets": [{ "name": "TOKEN", "host": url, "header": "Authorization" }],
    })
}

fn denied(events: &[Value]) -> Vec<(String, String)> {
    let calls = events
        .iter()
        .filter(|event| event["type"] == "call_started");
    let denied = calls
        .filter(|event| event["kind"] == "denied")
        .map(|event| {
            let call = &event["call"];
            let ended = events
                .iter()
                .find(|event| event["type"] == "call_ended" && event["call"] == *call);
            let failure = &ended.expect("an end")["outcome"]["failed"];
            assert_eq!(failure["code"], "denied");
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&event["target"]), text(&failure["message"]))
        });
    denied.collect()
}

#[tokio::test]
async fn a_request_goes_where_both_let_it_with_a_secret_nobody_else_sees() {
    let scene = Scene::sending(operator, workflow).await;
    let ended = scene.call(&["run", "workflow.json", "--json"], 0).await;
    let [request] = &scene.loopback.requests()[..] else {
        panic!("one request")
    };
    assert_eq!(request.header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(request.body, b"{}");
    // A service that repeats the secret tells the guest no more than its placeholder.
    let shown = ended.json();
    let output = &step(&shown, "fetch")["output"];
    assert_eq!(output["status"], 200, "{shown:#}");
    let body = output["body"].as_str().unwrap_or_default();
    assert!(body.starts_with("hello, ") && body.len() > 20, "{body}");
    scene.expect_no_secret(&ended);
    let used = &step(&shown, "fetch")["usage"];
    assert_eq!(used["host_calls"], 1);
    assert!(used["host_bytes"].as_u64().is_some_and(|bytes| bytes > 50));
}

#[tokio::test]
async fn a_secret_that_a_service_writes_in_another_way_is_told_to_nobody_either() {
    assert!(tells_token(
        b"dXNlcjpzM2NyM3QvdG9rZW4rb2Y_dGhlfm9wZXJhdG9yPQ%3d%3D"
    ));
    // As Python's `quote` does it, and others.
    let quoted = TOKEN
        .replace('+', "%2B")
        .replace('?', "%3F")
        .replace('=', "%3D");
    assert!(tells_token(quoted.as_bytes()));
    let all_quoted: String = TOKEN.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let in_json = TOKEN.replace('s', "\\u0073").replace('/', "\\/");
    let basic = BASE64.encode(format!("user:{TOKEN}"));
    let unpadded = URL_SAFE_NO_PAD.encode(format!("me:{TOKEN}"));
    let scene = Scene::sending(operator, workflow).await;
    for (reply, status) in [
        (
            Reply::status(302)
                .message(&format!("see {quoted}"))
                .header("location", &format!("/next?t={quoted}&u=1"))
                .header("x-basic", &format!("Basic {basic}")),
            302,
        ),
        (
            Reply::verbatim(format!(
                "{{\"quoted\": \"{all_quoted}\", \"json\": \"{in_json}\", \"basic\": \"{basic}\"}}"
            ))
            .header("x-unpadded", &unpadded),
            200,
        ),
    ] {
        scene.loopback.always(Route::OpenAi, reply);
        let ended = scene.call(&["run", "workflow.json", "--json"], 0).await;
        let output = step(&ended.json(), "fetch")["output"].clone();
        assert_eq!(output["status"], status, "{output:#}");
        assert!(output.to_string().contains("{{secret:TOKEN:"), "{output:#}");
        scene.expect_no_secret(&ended);
    }
}

#[tokio::test]
async fn what_one_of_both_does_not_grant_is_not_sent_and_the_way_out_is_told() {
    for (config, grants, says) in [
        (
            operator as fn(&str) -> String,
            (|_| json!({})) as fn(&str) -> Value,
            "to the agent's `grants`",
        ),
        (
            |_| String::new(),
            |url| json!({ "hosts": [url] }),
            "the operator does not; add `hosts = [\"http://127.0.0.1:",
        ),
        (
            |_| "[[grants]]\nagents = [\"other\"]\nhosts = [\"http://127.0.0.1\"]\n".to_owned(),
            |url| json!({ "hosts": [url] }),
            "to the [[grants]] of this agent",
        ),
    ] {
        let scene = Scene::sending(config, grants).await;
        let ended = scene.call(&["run", "workflow.json", "--json"], 0).await;
        let output = step(&ended.json(), "fetch")["output"].clone();
        assert_eq!(output["error"], "ErrorCode::HttpRequestDenied", "{ended}");
        assert!(ended.stderr.contains(says), "{says}: {ended}");
        assert_eq!(scene.loopback.requests().len(), 0);
        let id = ended.json()["id"].as_str().expect("an id").to_owned();
        let events = scene.place.events(&id).await;
        let call = events.iter().find(|event| event["kind"] == "http");
        assert!(call.is_some(), "the refusal is on record: {events:#?}");
        // What the author says at the command line is said by the operator.
        let url = scene.loopback.base_url();
        let grant = format!("hosts = [\"{url}\"]");
        let granted = scene
            .call(&["run", "workflow.json", "--grant", &grant], 0)
            .await;
        let sent = scene.loopback.requests().len();
        let by_workflow = grants(url)["hosts"].is_array();
        assert_eq!(sent, usize::from(by_workflow), "{granted}");
    }
}

#[tokio::test]
async fn a_secret_that_nobody_grants_is_refused_before_anything_runs() {
    let scene = Scene::sending(|_| String::new(), workflow).await;
    let ended = scene.call(&["run", "workflow.json"], 2).await;
    for text in [
        "/agents/0/grants/secrets/0",
        "the operator grants it with [[grants]] agents = [\"fetcher\"], secrets = [{ name = \"TOKEN\"",
    ] {
        assert!(ended.stderr.contains(text), "{text}: {ended}");
    }
    let scene = Scene::sending(operator, workflow).await;
    let ended = scene
        .place
        .troupe(["run", "workflow.json"])
        .variable("TEST_TOKEN", "")
        .end()
        .await
        .expect_code(2);
    assert!(
        ended.stderr.contains("the secret `TOKEN` cannot be used"),
        "{ended}"
    );
}

/// Killed at one append, before or after it. None: there are not so many.
async fn crash_at(append: u32, side: &str) -> Option<()> {
    let point = format!("write:{append}:{side}");
    let scene = Scene::sending(operator, workflow).await;
    let killed = scene
        .place
        .troupe(["run", "workflow.json"])
        .variable("TROUPE_FAIL_POINT", &point)
        .end()
        .await;
    if !killed.was_killed() {
        return None;
    }
    let sent_before = scene.loopback.requests().len();
    let listed = scene.place.list().await;
    let Some(row) = listed.first() else {
        assert_eq!(sent_before, 0, "{point}");
        return Some(());
    };
    let id = row["id"].as_str().expect("an id").to_owned();
    let events = scene.place.events(&id).await;
    let is = |kind: &str| events.iter().any(|event| event["type"] == kind);
    // Its outcome is not known: it is sent again, with the same key.
    let in_doubt = is("call_started") && !is("call_ended");
    let ended = scene.call(&["recover", &id], 0).await;
    let requests = scene.loopback.requests();
    let again = usize::from(in_doubt && sent_before > 0);
    assert_eq!(requests.len(), 1 + again, "{point}: {ended}");
    let keys: Vec<_> = requests
        .iter()
        .map(|request| request.header("idempotency-key"))
        .collect();
    assert!(
        !keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]),
        "{point}"
    );
    let shown = scene.place.show(&id).await;
    assert_eq!(step(&shown, "fetch")["output"]["status"], 200, "{point}");
    scene.expect_no_secret(&ended);
    Some(())
}

#[tokio::test]
async fn a_request_is_sent_once_wherever_the_process_dies_and_again_only_where_its_end_is_unknown()
{
    let mut crashes = 0;
    for append in 1.. {
        let before = crash_at(append, "before").await;
        let after = crash_at(append, "after").await;
        crashes += usize::from(before.is_some()) + usize::from(after.is_some());
        if before.is_none() && after.is_none() {
            break;
        }
    }
    assert!(crashes >= 6, "{crashes}");
}

/// A workflow of one Python agent.
fn python(code: &str, grants: &Value) -> String {
    let document = json!({
        "name": "Report",
        "agents": [{ "id": "writer", "type": "code", "language": "python", "code": code, "grants": grants }],
        "steps": [{ "id": "write", "agent": "writer", "action": "write", "input": 1 }],
        "config": { "max_retries": 1, "retry_delay_ms": 1 },
    });
    document.to_string()
}

#[tokio::test]
async fn python_reads_and_writes_the_folders_that_it_was_granted() {
    let code = "
import os
text = open('/in/note.txt').read()
open('/out/copy.txt', 'w').write(text.upper())
open('/tmp/scratch.txt', 'w').write('gone soon')
try: open('/in/note.txt', 'w'); denied = None
except OSError as error: denied = error.strerror
result = [text, os.environ.get('REGION'), os.environ.get('HOME'), os.listdir('/tmp'), denied]
";
    let grants = json!({
        "files": [
            { "path": "notes", "at": "/in" }, { "path": "out", "at": "/out", "mode": "rw" },
            { "path": "scratch", "at": "/tmp" },
        ],
        "env": ["REGION"],
    });
    let place = Workplace::new();
    std::fs::create_dir(place.path("notes")).expect("a folder");
    std::fs::create_dir(place.path("out")).expect("a folder");
    place.write("notes/note.txt", "a note");
    place.write(
        "troupe.toml",
        r#"
        [[grants]]
        agents = ["writer"]
        files = [{ name = "notes", path = "notes" }, { name = "out", path = "out", mode = "rw" }]
        env = { REGION = "eu" }
        "#,
    );
    place.write("workflow.json", python(code, &grants));
    let ended = place
        .troupe(["run", "workflow.json", "--json"])
        .end()
        .await
        .expect_code(0);
    let shown = ended.json();
    let output = &step(&shown, "write")["output"];
    assert_eq!(
        output,
        &json!([
            "a note",
            "eu",
            null,
            ["scratch.txt"],
            "Read-only file system"
        ])
    );
    let copy = std::fs::read_to_string(place.path("out/copy.txt")).expect("a copy");
    assert_eq!(copy, "A NOTE");
    assert_eq!(step(&shown, "write")["usage"]["disk_bytes"], 6 + 9);
    // The denial is told, and on record with the line that would grant it.
    let events = place.events(shown["id"].as_str().expect("an id")).await;
    let [(capability, message)] = &denied(&events)[..] else {
        panic!("{events:#?}")
    };
    assert_eq!(capability, "files");
    assert!(
        message.contains("the agent `writer` may not write in the folder `/in`")
            && message.contains("\"mode\": \"rw\""),
        "{message}"
    );
    assert!(ended.stderr.contains(message), "{ended}");
}

#[tokio::test]
async fn folders_that_are_not_granted_or_are_none_are_refused_before_anything_runs() {
    let place = Workplace::new();
    let grants = json!({ "files": [{ "path": "notes", "at": "/in" }], "env": ["REGION"] });
    place.write("workflow.json", python("result = 1", &grants));
    let refused = place
        .troupe(["run", "workflow.json"])
        .end()
        .await
        .expect_code(2);
    for text in [
        "/agents/0/grants/files/0: the folder `notes` is not granted",
        "/agents/0/grants/env/0",
    ] {
        assert!(refused.stderr.contains(text), "{text}: {refused}");
    }
    // A document names no path of the machine.
    let outside =
        json!({ "files": [{ "path": "../etc", "at": "/in" }, { "path": "scratch", "at": "tmp" }] });
    place.write("workflow.json", python("result = 1", &outside));
    let refused = place
        .troupe(["validate", "workflow.json"])
        .end()
        .await
        .expect_code(2);
    for text in [
        "`../etc` is a path of a machine",
        "`tmp` is no place of a folder",
    ] {
        assert!(refused.stderr.contains(text), "{text}: {refused}");
    }
}

#[tokio::test]
async fn a_folder_with_our_own_files_is_granted_to_nobody() {
    let place = Workplace::new();
    let grants = json!({ "files": [{ "path": "all", "at": "/all" }] });
    place.write("workflow.json", python("result = 1", &grants));
    place.write("code.py", "result = 1");
    for path in [".", "data", "data/components"] {
        let config = format!(
            "[[grants]]\nagents = [\"*\"]\nfiles = [{{ name = \"all\", path = \"{path}\" }}]\n"
        );
        place.write("troupe.toml", config);
        let refused = place.troupe(["run", "workflow.json"]).end().await;
        let refused = refused.expect_code(1);
        for text in ["the [[grants]] at line 1", "is Troupe's own"] {
            assert!(refused.stderr.contains(text), "{text}: {refused}");
        }
        place.write("troupe.toml", "");
        std::fs::create_dir_all(place.path(path)).expect("a folder");
        let folder = format!("/all={path}");
        let refused = place
            .troupe(["exec", "code.py", "--folder", &folder])
            .end()
            .await;
        let refused = refused.expect_code(2);
        assert!(refused.stderr.contains("is Troupe's own"), "{refused}");
    }
}

#[tokio::test]
async fn the_disk_has_a_limit_that_a_workflow_may_lower_and_a_failure_tells_of_it() {
    let code = "
open('/tmp/large', 'wb').write(b'x' * 3_000_000)
";
    let place = Workplace::new();
    let mut document: Value = serde_json::from_str(&python(
        code,
        &json!({ "files": [{ "path": "scratch", "at": "/tmp" }] }),
    ))
    .expect("JSON");
    document["agents"][0]["limits"] = json!({ "disk_mb": 2 });
    place.write("workflow.json", document.to_string());
    let ended = place
        .troupe(["run", "workflow.json"])
        .end()
        .await
        .expect_code(1);
    assert!(ended.stderr.contains("raise `disk_mb`"), "{ended}");
    document["agents"][0]["limits"] = json!({ "disk_mb": 4 });
    place.write("workflow.json", document.to_string());
    let ended = place
        .troupe(["run", "workflow.json"])
        .end()
        .await
        .expect_code(0);
    assert!(!ended.stderr.contains("disk_mb"), "{ended}");
}

#[tokio::test]
async fn open_files_have_a_limit_that_a_workflow_may_lower_and_the_operator_sets() {
    let code = "
files = [open('/tmp/one', 'w') for _ in range(input['count'])]
result = len(files)
";
    let place = Workplace::new();
    let mut document: Value = serde_json::from_str(&python(
        code,
        &json!({ "files": [{ "path": "scratch", "at": "/tmp" }] }),
    ))
    .expect("JSON");
    let mut asked = |limits: Value, count: u32| {
        document["agents"][0]["limits"] = limits;
        document["steps"][0]["input"] = json!({ "count": count });
        document.to_string()
    };
    let of_operator = "or raise `open_files` in the operator's `[limits]`, which allow no more";
    for (operator, limits, count, refused) in [
        ("", json!({}), 100, None),
        ("", json!({}), 200, Some(of_operator)),
        (
            "",
            json!({ "open_files": 20 }),
            30,
            Some("or raise `open_files` in its `limits`"),
        ),
        ("[limits]\nopen_files = 300\n", json!({}), 250, None),
        (
            "[limits]\nopen_files = 300\n",
            json!({}),
            300,
            Some("close some first"),
        ),
        (
            "[limits]\nopen_files = 10\n",
            json!({ "open_files": 200 }),
            30,
            Some(of_operator),
        ),
    ] {
        place.write("troupe.toml", operator);
        place.write("workflow.json", asked(limits, count));
        let ended = place.troupe(["run", "workflow.json", "--json"]).end().await;
        let shown = ended.json();
        let used = step(&shown, "write")["usage"]["open_files"].as_u64();
        let error = shown["error"]["message"].as_str().unwrap_or_default();
        if let Some(says) = refused {
            assert!(error.ends_with(says), "{ended}");
        } else {
            assert!(used.is_some_and(|used| used >= u64::from(count)), "{ended}");
        }
    }
}

#[tokio::test]
async fn who_asks_why_is_told_for_each_agent() {
    let scene = Scene::sending(operator, |url| {
        json!({
            "hosts": [url, "https://elsewhere.example.com"], "llm": { "models": ["gpt-5-mini"] },
            "files": [{ "path": "reports", "at": "/in" }],
        })
    })
    .await;
    let ended = scene.call(&["policy", "explain", "workflow.json"], 0).await;
    let url = scene.loopback.base_url();
    for text in [
        "fetcher  (sha256:",
        "  granted   llm gpt-5-mini: the workflow; no [[grants]] narrows it\n            its component does not import this",
        &format!("  granted   hosts {url}: the [[grants]] at line "),
        "  withheld  hosts https://elsewhere.example.com: the host https://elsewhere.example.com is not granted",
        "  withheld  files reports at /in (ro): the folder `reports` is not granted to the agent `fetcher`; the operator grants it with [[grants]] agents = [\"fetcher\"], files = [",
        "  denied    env: its component imports wasi:cli/environment@0.2",
        "  limits    fuel 10000000000, memory_mb 512",
    ] {
        assert!(ended.stdout.contains(text), "{text}: {ended}");
    }
    let json = scene
        .call(
            &[
                "policy",
                "explain",
                "workflow.json",
                "--json",
                "--agent",
                "fetcher",
            ],
            0,
        )
        .await
        .json();
    assert_eq!(json["agents"][0]["grants"][1]["verdict"], "granted");
    let none = scene
        .call(
            &["policy", "explain", "workflow.json", "--agent", "nobody"],
            2,
        )
        .await;
    assert!(none.stderr.contains("no code agent `nobody`"), "{none}");
}

#[tokio::test]
async fn what_cannot_use_a_secret_is_said_and_nothing_of_what_can() {
    let unusable = " does not import this";
    let scene = Scene::sending(operator, workflow).await;
    let explained = scene.call(&["policy", "explain", "workflow.json"], 0).await;
    let url = scene.loopback.base_url();
    let secret = format!(
        "  granted   secrets TOKEN in `Authorization` of requests to {url}: the [[grants]]"
    );
    assert!(explained.stdout.contains(&secret), "{explained}");
    assert!(!explained.stdout.contains(unusable), "{explained}");

    let mut grants = workflow(url);
    grants["memory"] = true.into();
    let document = json!({
        "name": "Fetch",
        "agents": [{
            "id": "fetcher", "type": "code", "language": "python", "code": "result = 1", "grants": grants,
        }],
        "steps": [{ "agent": "fetcher", "action": "nothing", "input": {} }],
    });
    scene.place.write("source.json", document.to_string());
    let explained = scene.call(&["policy", "explain", "source.json"], 0).await;
    let lines: Vec<&str> = explained.stdout.lines().collect();
    let useless = |grant: &str| {
        let start = format!("  granted   {grant}");
        let at = lines.iter().position(|line| line.starts_with(&start));
        let next = at.and_then(|at| lines.get(at + 1)).expect("the grant");
        *next == "            its interpreter does not import this, and cannot use it"
    };
    assert!(useless("hosts") && useless("secrets"), "{explained}");
    assert!(!useless("memory"), "{explained}");
}

#[tokio::test]
async fn a_component_that_is_refused_is_one_fault_with_its_reason() {
    let place = Workplace::new();
    place.write("no.wasm", "no component");
    let document = json!({
        "name": "Refused",
        "agents": [{ "id": "reader", "type": "code", "component": "no.wasm" }],
        "steps": [{ "agent": "reader", "action": "read", "input": {} }],
    });
    place.write("workflow.json", document.to_string());
    for command in [
        ["run", "workflow.json"].as_slice(),
        &["policy", "explain", "workflow.json"],
    ] {
        let ended = place.troupe(command).end().await.expect_code(2);
        let faults = ended.stderr.matches("/agents/0/component: ").count();
        assert_eq!(faults, 1, "{ended}");
        assert!(
            ended.stderr.contains("not a WebAssembly component"),
            "{ended}"
        );
    }
}

#[tokio::test]
async fn an_operator_leaves_an_agent_fewer_models_than_its_workflow_grants() {
    let loopback = Loopback::start().await;
    loopback.always(Route::OpenAi, Reply::text("so it is"));
    let mut place = Workplace::new();
    place.connect(
        &loopback,
        "[[grants]]\nagents = [\"reporter\"]\nmodels = [\"other-*\"]\n",
    );
    place.write("agent.wasm", guest("interview"));
    let document = json!({
        "name": "Interview",
        "agents": [{
            "id": "reporter", "type": "code", "component": "agent.wasm",
            "grants": { "llm": { "models": ["gpt-5-mini"] } },
        }],
        "steps": [{ "id": "talk", "agent": "reporter", "action": "ask", "input": { "questions": [] } }],
        "config": { "max_retries": 1, "retry_delay_ms": 1, "budget_usd": 1 },
    });
    place.write("workflow.json", document.to_string());
    let ended = place.troupe(["run", "workflow.json", "--json"]).end().await;
    assert_eq!(loopback.requests().len(), 0, "{ended}");
    let events = place.events(&ended.id()).await;
    let denied = denied(&events);
    assert!(
        denied
            .iter()
            .any(|(capability, message)| capability == "llm"
                && message.contains("add \"gpt-5-mini\" to `models` of the [[grants]] at line ")),
        "{denied:?}"
    );
}
