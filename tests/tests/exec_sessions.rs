//! `troupe exec --session`: lines of JSON in, lines of JSON out, and state between them.

use e2e::troupe::Workplace;
use serde_json::{Value, json};

const ISOLATED: &str = "[server]\nisolation = \"process\"\nworkers = 1\n";

fn answers(stdout: &str) -> Vec<Value> {
    let lines = stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// What comes of these lines, and the exit code.
async fn session(place: &Workplace, options: &[&str], lines: &[&str]) -> (Vec<Value>, i32) {
    let arguments = [&["exec", "--session"], options].concat();
    let call = place.troupe(arguments).input(&lines.join("\n"));
    let ended = call.end().await;
    let code = ended.status.code().expect("an exit code");
    (answers(&ended.stdout), code)
}

#[tokio::test]
async fn state_is_kept_from_line_to_line_in_process_and_in_a_worker() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("out")).expect("a folder");
    for config in ["", ISOLATED] {
        place.write("troupe.toml", config);
        let lines = [
            r#"{"code": "import json\nx = input['a']\ndef add(n): return n + x", "input": {"a": 40}}"#,
            "",
            r#"{"code": "print('said')\nadd(2)"}"#,
            r#"{"code": "open('/tmp/a', 'w').write('kept')\nopen('/out/b', 'w').write(NAME)\n1 / 0"}"#,
            r#"{"code": "import os\nopen('/tmp/a').read() + os.environ['NAME']"}"#,
            r#"{"code": "pass", "action": "add", "input": 5}"#,
        ];
        let options = [
            "--lang",
            "python",
            "--env",
            "NAME=value",
            "--folder",
            "/out=out:rw",
        ];
        let (shown, code) = session(&place, &options, &lines).await;
        assert_eq!(code, 0);
        let results: Vec<_> = shown
            .iter()
            .map(|answer| answer["result"].clone())
            .collect();
        let expected = [
            Value::Null,
            json!(42),
            Value::Null,
            json!("keptvalue"),
            json!(45),
        ];
        assert_eq!(results, expected, "{shown:?}");
        assert_eq!(shown[1]["stdout"], "said\n");
        assert_eq!(shown[3]["stdout"], "");
        assert_eq!(shown[2]["error"]["code"], "guest_failed");
        assert_eq!(
            shown[2]["error"]["line"], 2,
            "`NAME` is no variable of Python's"
        );
        assert!(shown.iter().all(|answer| answer["session_ended"].is_null()));
        assert!(
            shown[1]["usage"]["fuel"].as_u64()
                < shown[0]["usage"]["fuel"].as_u64().map(|fuel| fuel * 3)
        );
        // The same keys as `exec --json` has.
        place.write("a.py", "1");
        let single = place.troupe(["exec", "a.py", "--json"]).end().await.json();
        let keys = |value: &Value| {
            value
                .as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        let mut expected = keys(&single);
        expected.push("session_ended".to_owned());
        expected.sort();
        let mut found = keys(&shown[0]);
        found.sort();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_line_that_is_no_program_is_answered_and_the_session_goes_on() {
    let place = Workplace::new();
    let long = format!("{{\"code\": \"{}\"}}", "x".repeat(17 << 20));
    let lines = [
        r#"{"code": "let x = 1; x"}"#,
        "x + 1",
        r#"{"cod": "1"}"#,
        r#"{"code": 1}"#,
        r#"["code"]"#,
        r#"["1 + 1", null, null]"#,
        r#"{"code": "input", "input": 12345678901234567890123}"#,
        &long,
        r#"{"code": "x + 1"}"#,
    ];
    let (shown, code) = session(&place, &["--lang", "js"], &lines).await;
    assert_eq!((shown.len(), code), (lines.len(), 0));
    for wrong in &shown[1..8] {
        assert_eq!(wrong["error"]["code"], "invalid_line", "{wrong}");
        let message = wrong["error"]["message"].as_str().unwrap_or_default();
        assert!(
            message.contains("write {\"code\": \"…\"} in one line"),
            "{message}"
        );
    }
    for (position, says) in [
        (5, "it is no JSON object"),
        (
            6,
            "12345678901234567890123 is an integer of more than 64 bits",
        ),
        (7, "more than 16777216 bytes"),
    ] {
        let message = shown[position]["error"]["message"].as_str();
        assert!(
            message.unwrap_or_default().contains(says),
            "{says}: {}",
            shown[position]
        );
    }
    assert_eq!(
        (&shown[0]["result"], &shown[8]["result"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test]
async fn a_limit_ends_the_session_and_every_later_line_is_told_so() {
    let place = Workplace::new();
    for config in ["", ISOLATED] {
        place.write("troupe.toml", config);
        let lines = [
            r#"{"code": "let x = 1"}"#,
            r#"{"code": "for (;;) {}"}"#,
            r#"{"code": "x"}"#,
            "nonsense",
            r#"{"code": "x"}"#,
        ];
        let (shown, code) = session(&place, &["--lang", "js", "--timeout-ms", "300"], &lines).await;
        assert_eq!((shown.len(), code), (5, 1));
        assert_eq!(shown[1]["error"]["code"], "limit_time");
        let message = shown[1]["error"]["message"].as_str().unwrap_or_default();
        assert!(message.ends_with("raise --timeout-ms"), "{message}");
        assert_eq!(shown[1]["session_ended"], "limit_time");
        for later in [&shown[2], &shown[4]] {
            assert_eq!(later["error"]["code"], "session_ended");
            let message = later["error"]["message"].as_str().unwrap_or_default();
            assert!(
                message.starts_with(
                    "the session has ended and its state is gone: a program was stopped"
                ),
                "{message}"
            );
        }
        assert_eq!(shown[3]["error"]["code"], "invalid_line");
    }
}

#[tokio::test]
async fn a_session_ends_when_nobody_uses_it_and_after_its_time() {
    let place = Workplace::new();
    for (option, code) in [
        ("--idle-timeout-ms", "idle"),
        ("--session-timeout-ms", "time_over"),
    ] {
        let mut talk = place
            .troupe(["exec", "--session", "--lang", "js", option, "500"])
            .talk();
        let first = talk.ask(r#"{"code": "let x = 1; x"}"#).await;
        assert_eq!(first["result"], 1, "{first}");
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        let late = talk.ask(r#"{"code": "x"}"#).await;
        assert_eq!(late["session_ended"], code, "{late}");
        assert_eq!(late["error"]["code"], "session_ended");
        talk.fall_silent();
        let ended = talk.end().await.expect_code(1);
        assert!(ended.stderr.contains("its state is gone"), "{ended}");
    }
}

#[tokio::test]
async fn a_signal_ends_it_cleanly_also_while_a_program_runs() {
    let place = Workplace::new();
    for config in ["", ISOLATED] {
        place.write("troupe.toml", config);
        for signal in ["INT", "TERM"] {
            let mut talk = place.troupe(["exec", "--session", "--lang", "js"]).talk();
            assert_eq!(talk.ask(r#"{"code": "1"}"#).await["result"], 1);
            talk.say(r#"{"code": "for (;;) {}"}"#).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            talk.signal(signal).await;
            let ended = talk.end().await.expect_code(0);
            assert_eq!(ended.stdout, "", "{ended}");
        }
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_ends_the_session_and_the_host_lives() {
    let place = Workplace::new();
    place.write("troupe.toml", ISOLATED);
    let mut talk = place.troupe(["exec", "--session", "--lang", "js"]).talk();
    assert_eq!(talk.ask(r#"{"code": "let x = 1; x"}"#).await["result"], 1);
    let workers = children(talk.id());
    assert_eq!(workers.len(), 1, "its own and no other");
    let kill = tokio::process::Command::new("kill")
        .args(["-KILL", &workers[0].to_string()])
        .status();
    assert!(kill.await.expect("it can be started").success());
    let answer = talk.ask(r#"{"code": "x"}"#).await;
    assert_eq!(answer["error"]["code"], "session_ended", "{answer}");
    assert_eq!(answer["session_ended"], "failed");
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("signal: 9"), "{message}");
    talk.fall_silent();
    drop(talk.end().await.expect_code(1));
}

/// Processes whose parent is this one.
fn children(id: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|child| {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.is_some_and(|parent| parent.trim() == id.to_string())
    })
    .collect()
}

#[tokio::test]
async fn a_bundle_of_javascript_is_given_by_its_file() {
    let place = Workplace::new();
    place.write("greet.min.js", "!function(r,m){'object'==typeof exports?module.exports=m():r.greet=m()}(this,()=>n=>'hello '+n)");
    place.write(
        "sum.mjs",
        "const add = (a, b) => a + b;\nexport { add as default, add as plus };\n",
    );
    place.write("code.js", "import sum, { plus } from '@own/sum'\nconst greet = require('greet')\nreturn [sum(1, 2), plus(3, 4), greet(input)]");
    for config in ["", ISOLATED] {
        place.write("troupe.toml", config);
        let packages = ["--package", "greet.min.js", "--package", "@own/sum=sum.mjs"];
        let arguments = [
            &["exec", "code.js", "--json", "--input", "\"you\""],
            &packages[..],
        ]
        .concat();
        let ended = place.troupe(arguments).end().await.expect_code(0);
        assert_eq!(
            ended.json()["result"],
            json!([3, 7, "hello you"]),
            "{ended}"
        );
        let lines = [
            r#"{"code": "const greet = require('greet')"}"#,
            r#"{"code": "greet('again')"}"#,
        ];
        let options = [&["--lang", "js"], &packages[..]].concat();
        let (shown, _) = session(&place, &options, &lines).await;
        assert_eq!(shown[1]["result"], "hello again", "{shown:?}");
    }
    for (packages, says) in [
        (
            vec!["greet.css"],
            "a package for JavaScript is one file that ends in .js, .mjs or .cjs",
        ),
        (vec!["nowhere.js"], "the package nowhere.js cannot be read"),
        (vec!["../x=sum.mjs"], "is no name of a package"),
        (
            vec!["greet.min.js", "greet=sum.mjs"],
            "there are two packages of that name",
        ),
    ] {
        let packages = packages.iter().flat_map(|package| ["--package", package]);
        let arguments = ["exec", "code.js"].into_iter().chain(packages);
        let ended = place.troupe(arguments).end().await.expect_code(2);
        assert!(ended.stderr.contains(says), "{says}: {ended}");
    }
}

#[tokio::test]
async fn mistakes_of_the_caller_are_exit_code_2() {
    let place = Workplace::new();
    place.write("a.py", "1");
    for arguments in [
        vec!["exec", "--session"],
        vec!["exec", "a.py", "--session", "--lang", "python"],
        vec!["exec", "--session", "--lang", "python", "--input", "1"],
        vec!["exec", "--session", "--lang", "python", "--stdin", "a.py"],
        vec![
            "exec",
            "--session",
            "--lang",
            "python",
            "--idle-timeout-ms",
            "0",
        ],
        vec![
            "exec",
            "--session",
            "--lang",
            "python",
            "--session-timeout-ms",
            "86400001",
        ],
        vec!["exec", "--lang", "python"],
    ] {
        let ended = place.troupe(&arguments).end().await;
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {ended}");
    }
}
