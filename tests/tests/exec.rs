//! `troupe exec`: what code of any intention can do in the sandbox, and what it cannot. After each hostile program a
//! good one shows that nothing was left behind.

use e2e::troupe::{Ended, Workplace};
use serde_json::{Value, json};

/// Runs a source as a user would, and returns the JSON that was printed.
async fn exec(place: &Workplace, lang: &str, source: &str, options: &[&str]) -> (i32, Value) {
    let arguments = [&["exec", "-", "--lang", lang, "--json"], options].concat();
    let ended = place.troupe(arguments).input(source).end().await;
    let code = ended
        .status
        .code()
        .unwrap_or_else(|| panic!("it was ended by a signal: {ended}"));
    (code, ended.json())
}

/// Runs a source that has to give a result.
#[track_caller]
fn result((code, shown): (i32, Value)) -> Value {
    assert_eq!((code, &shown["error"]), (0, &Value::Null), "{shown:#}");
    shown["result"].clone()
}

/// A program that has to fail: its language and source, the options, and the codes that it may fail with. A guest that
/// is refused memory or stack may notice, and raise its language's own error.
type Hostile = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const HOSTILE: [Hostile; 14] = [
    (
        "python",
        "while True: pass",
        &["--fuel", "50000000"],
        &["limit_fuel"],
    ),
    (
        "python",
        "while True: pass",
        &["--timeout-ms", "300"],
        &["limit_time", "limit_fuel"],
    ),
    (
        "javascript",
        "while (true) {}",
        &["--fuel", "50000000"],
        &["limit_fuel"],
    ),
    (
        "javascript",
        "for (;;) ;",
        &["--timeout-ms", "300"],
        &["limit_time", "limit_fuel"],
    ),
    (
        "python",
        "x = bytearray(4 << 30)",
        &[],
        &["limit_memory", "guest_failed"],
    ),
    (
        "python",
        "x = []\nwhile True: x.append(bytes(1 << 20))",
        &[],
        &["limit_memory", "guest_failed"],
    ),
    (
        "javascript",
        "const x = []; while (true) x.push(new Uint8Array(1 << 20));",
        &[],
        &["limit_memory", "guest_failed"],
    ),
    (
        "javascript",
        "new ArrayBuffer(4 * 1024 ** 3)",
        &[],
        &["limit_memory", "guest_failed"],
    ),
    (
        "python",
        "def f(n): return f(n + 1) + 1\nf(0)",
        &[],
        &["guest_failed"],
    ),
    (
        "javascript",
        "function f(n) { return f(n + 1) + 1; }\nf(0);",
        &[],
        &["guest_trap"],
    ),
    (
        "python",
        "result = 'x' * (1 << 20)",
        &["--output-kb", "64"],
        &["limit_output"],
    ),
    (
        "javascript",
        "result = 'x'.repeat(1 << 20)",
        &["--output-kb", "64"],
        &["limit_output"],
    ),
    (
        "python",
        "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')",
        &["--timeout-ms", "500"],
        &["limit_time", "limit_fuel"],
    ),
    (
        "javascript",
        "/(a+)+$/.test('a'.repeat(60) + 'b')",
        &["--timeout-ms", "500"],
        &["limit_time", "limit_fuel"],
    ),
];

#[tokio::test]
async fn a_hostile_program_meets_its_limit_and_hurts_nobody() {
    let place = Workplace::new();
    for (lang, source, options, codes) in HOSTILE {
        let (code, shown) = exec(&place, lang, source, options).await;
        assert_eq!(code, 1, "{source}: {shown:#}");
        let error = &shown["error"];
        let found = error["code"].as_str().unwrap_or_default();
        assert!(codes.contains(&found), "{source}: {shown:#}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(
            message.len() > 10 && message.len() < 64 << 10,
            "{source}: {message}"
        );
        assert_eq!(
            result(exec(&place, lang, "result = 6 * 7", &[]).await),
            42,
            "after {source}"
        );
    }
}

#[tokio::test]
async fn the_languages_own_errors_are_told_apart_from_limits() {
    let place = Workplace::new();
    for (lang, source, expected) in [
        ("python", "x = bytearray(1 << 30)", "MemoryError"),
        (
            "python",
            "def f(n): return f(n + 1) + 1\nf(0)",
            "RecursionError",
        ),
        (
            "javascript",
            "function f(n) { return f(n + 1) + 1; }\nf(0);",
            "its stack is exhausted",
        ),
        ("python", "raise SystemExit(3)", "3"),
        ("python", "1 / 0", "ZeroDivisionError: division by zero"),
        ("javascript", "null.x", "TypeError"),
        ("python", "def f(:\n", "SyntaxError"),
        ("javascript", "let let = ;", "SyntaxError"),
        ("python", "result = object()", "object"),
    ] {
        let (code, shown) = exec(&place, lang, source, &[]).await;
        assert_eq!(code, 1, "{source}: {shown:#}");
        let message = shown["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(expected), "{source}: {shown:#}");
    }
}

#[tokio::test]
async fn an_error_names_the_authors_own_line() {
    let place = Workplace::new();
    place.write("report.py", "import json\n\ndef total(rows):\n    return sum(row['amount'] for row in rows)\n\nresult = total(input)\n");
    let ended = place
        .troupe(["exec", "report.py", "--input", r#"[{"amount": 1}, {}]"#])
        .end()
        .await
        .expect_code(1);
    assert!(ended.stderr.contains("report.py\", line 4"), "{ended}");
    assert!(ended.stderr.contains("KeyError: 'amount'"), "{ended}");
    assert!(
        !ended.stderr.contains("troupe_python"),
        "the interpreter's own frames are nobody's business: {ended}"
    );
    place.write(
        "report.js",
        "const one = 1;\n\nfunction fail() {\n  throw new Error('no luck');\n}\nfail();\n",
    );
    let ended = place
        .troupe(["exec", "report.js"])
        .end()
        .await
        .expect_code(1);
    assert!(
        ended.stderr.contains("no luck") && ended.stderr.contains("report.js:4"),
        "{ended}"
    );
    for (file, line) in [("report.py", 4), ("report.js", 4)] {
        let ended = place
            .troupe(["exec", file, "--json", "--input", "[{}]"])
            .end()
            .await
            .expect_code(1);
        assert_eq!(ended.json()["error"]["line"], line, "{ended}");
    }
}

#[tokio::test]
async fn the_standard_library_is_there() {
    let place = Workplace::new();
    let source = r#"
import base64, collections, csv, dataclasses, datetime, decimal, difflib, fractions, functools, hashlib, heapq, html
import io, itertools, json, math, re, sqlite3, statistics, string, textwrap, typing, unicodedata, uuid, zlib

rows = list(csv.DictReader(io.StringIO("name,amount\na,1.10\nb,2.20\n")))
database = sqlite3.connect(":memory:")
database.execute("create table t (x)")
database.executemany("insert into t values (?)", [(1,), (2,), (3,)])
result = {
    "json": json.loads('{"a": [1, null]}'),
    "re": re.findall(r"\w+", "one two"),
    "datetime": str(datetime.date(2026, 2, 28) + datetime.timedelta(days=1)),
    "statistics": statistics.median([3, 1, 2]),
    "csv": rows[1]["name"],
    "decimal": str(sum(decimal.Decimal(row["amount"]) for row in rows)),
    "hashlib": hashlib.sha256(b"abc").hexdigest()[:8],
    "sqlite3": database.execute("select sum(x) from t").fetchone()[0],
    "zlib": len(zlib.decompress(zlib.compress(b"a" * 1000))),
    "unicodedata": unicodedata.name("é"),
}
"#;
    assert_eq!(
        result(exec(&place, "python", source, &[]).await),
        json!({
            "json": { "a": [1, null] }, "re": ["one", "two"], "datetime": "2026-03-01", "statistics": 2, "csv": "b",
            "decimal": "3.30", "hashlib": "ba7816bf", "sqlite3": 6, "zlib": 1000,
            "unicodedata": "LATIN SMALL LETTER E WITH ACUTE",
        })
    );
    let source = "result = { json: JSON.parse('[1]'), map: [...new Map([['a', 1]])], re: 'one two'.match(/\\w+/g), \
        date: new Date(Date.UTC(2026, 1, 29)).toISOString(), big: String(2n ** 70n) };";
    assert_eq!(
        result(exec(&place, "javascript", source, &[]).await),
        json!({ "json": [1], "map": [["a", 1]], "re": ["one", "two"], "date": "2026-03-01T00:00:00.000Z", "big": "1180591620717411303424" })
    );
}

#[tokio::test]
async fn the_machine_cannot_be_seen() {
    let place = Workplace::new();
    let call = |source: &'static str, lang: &'static str| {
        let arguments = ["exec", "-", "--lang", lang, "--json"];
        place
            .troupe(arguments)
            .variable("A_SECRET", "seen")
            .variable("OPENAI_API_KEY", "seen")
            .input(source)
    };
    let python = r#"
import os, socket, subprocess, sys, time, urllib.request

def attempt(deed):
    try:
        return repr(deed())
    except BaseException as error:
        return "refused: " + type(error).__name__

result = {
    "open": attempt(lambda: open("/etc/passwd").read()),
    "write": attempt(lambda: open("/etc/x", "w")),
    "temporary": os.listdir("/tmp"),
    "here": attempt(lambda: open("troupe.toml").read()),
    "list": attempt(lambda: os.listdir("/")),
    "socket": attempt(lambda: socket.create_connection(("127.0.0.1", 1), 1)),
    "name": attempt(lambda: socket.getaddrinfo("example.com", 80)),
    "url": attempt(lambda: urllib.request.urlopen("http://127.0.0.1:1/")),
    "subprocess": attempt(lambda: subprocess.run(["id"])),
    "system": attempt(lambda: os.system("id")),
    "fork": attempt(lambda: os.fork()),
    "environment": {name: value for name, value in os.environ.items() if value == "seen"},
    "arguments": len([argument for argument in sys.argv if "lang" in argument]),
}
"#;
    let shown = result_of(&call(python, "python").end().await);
    let fields = shown.as_object().expect("an object");
    for (name, value) in fields {
        match name.as_str() {
            "environment" => assert_eq!(*value, json!({})),
            // Its own, and empty.
            "temporary" => assert_eq!(*value, json!([])),
            "arguments" => assert_eq!(*value, json!(0)),
            _ => assert!(
                value
                    .as_str()
                    .is_some_and(|text| text.starts_with("refused: ")),
                "{name}: {value}"
            ),
        }
    }
    let javascript = "const there = ['require', 'process', 'Deno', 'fetch', 'XMLHttpRequest', 'std', 'os', 'module', 'scriptArgs']\
        .filter((name) => typeof globalThis[name] !== 'undefined');\nresult = there;";
    assert_eq!(
        result_of(&call(javascript, "javascript").end().await),
        json!([])
    );
}

#[track_caller]
fn result_of(ended: &Ended) -> Value {
    let shown = ended.json();
    assert_eq!(shown["error"], Value::Null, "{ended}");
    shown["result"].clone()
}

#[tokio::test]
async fn nothing_is_left_for_the_next_call_and_chance_differs() {
    let place = Workplace::new();
    let python = "import builtins, json, random, uuid\nseen = hasattr(json, 'mark')\njson.mark = builtins.mark = 1\n\
        result = [seen, random.random(), str(uuid.uuid4())]";
    let javascript = "const seen = 'mark' in globalThis || 'mark' in JSON;\nJSON.mark = globalThis.mark = 1;\n\
        result = [seen, Math.random()];";
    for (lang, source) in [("python", python), ("javascript", javascript)] {
        let first = result(exec(&place, lang, source, &[]).await);
        let second = result(exec(&place, lang, source, &[]).await);
        assert_eq!(
            (&first[0], &second[0]),
            (&json!(false), &json!(false)),
            "{lang}"
        );
        assert_ne!(first[1], second[1], "{lang}");
        if lang == "python" {
            assert_ne!(first[2], second[2]);
        }
    }
}

#[tokio::test]
async fn values_keep_their_types_both_ways() {
    let place = Workplace::new();
    for value in [
        "null",
        "true",
        "7",
        "-1.5",
        "\"text\"",
        "\"'; import os; \\\"\\n\"",
        "[1, [], {}]",
        "{\"b\": 1, \"a\": \"ü\"}",
        "9007199254740991",
        "\"\\u0000\"",
    ] {
        let expected: Value = serde_json::from_str(value).expect("a value");
        for lang in ["python", "javascript"] {
            let found = result(exec(&place, lang, "result = input", &["--input", value]).await);
            assert_eq!(found, expected, "{lang}");
        }
    }
    let found = result(
        exec(
            &place,
            "python",
            "result = type(input['when']).__name__",
            &["--input", r#"{"when": 1.0}"#],
        )
        .await,
    );
    assert_eq!(found, "float");
    let called = "def double(x):\n    return x * 2\n";
    assert_eq!(
        result(
            exec(
                &place,
                "python",
                called,
                &["--action", "double", "--input", "21"]
            )
            .await
        ),
        42
    );
    let called = "function double(x) { return x * 2; }";
    assert_eq!(
        result(
            exec(
                &place,
                "javascript",
                called,
                &["--action", "double", "--input", "21"]
            )
            .await
        ),
        42
    );
}

#[tokio::test]
async fn what_is_printed_is_shown_as_it_is() {
    let place = Workplace::new();
    place.write(
        "talk.py",
        "import sys\nprint('to out')\nprint('to err', file=sys.stderr)\nresult = {'a': 1}\n",
    );
    let ended = place.troupe(["exec", "talk.py"]).end().await.expect_code(0);
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("to out\n{\"a\":1}\n", "to err\n")
    );
    let ended = place
        .troupe(["exec", "talk.py", "--json"])
        .end()
        .await
        .expect_code(0);
    let shown = ended.json();
    let keys: Vec<&String> = shown.as_object().expect("an object").keys().collect();
    assert_eq!(
        keys,
        [
            "result",
            "stdout",
            "stderr",
            "stdout_left_out",
            "stderr_left_out",
            "error",
            "denied",
            "usage"
        ]
    );
    assert_eq!(
        (&shown["stdout"], &shown["stderr"]),
        (&json!("to out\n"), &json!("to err\n"))
    );
    for figure in ["fuel", "memory_bytes"] {
        assert!(
            shown["usage"][figure]
                .as_u64()
                .is_some_and(|figure| figure > 0),
            "{shown:#}"
        );
    }
    assert!(shown["usage"]["duration_ms"].is_u64(), "{shown:#}");
    for (figure, count) in [
        ("printed_bytes", 14),
        ("log_lines_dropped", 0),
        ("host_calls", 0),
        ("host_bytes", 0),
    ] {
        assert_eq!(shown["usage"][figure], count, "{figure}: {shown:#}");
    }
    place.write(
        "talk.js",
        "console.log('to out', { a: [1] });\nconsole.error('to err');\nresult = [1];\n",
    );
    let ended = place.troupe(["exec", "talk.js"]).end().await.expect_code(0);
    assert!(
        ended.stdout.starts_with("to out ") && ended.stdout.ends_with("\n[1]\n"),
        "{ended}"
    );
    assert_eq!(ended.stderr, "to err\n");
    // No result is no answer.
    let ended = place
        .troupe(["exec", "-", "--lang", "py"])
        .input("x = 1")
        .end()
        .await
        .expect_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_said_so() {
    let place = Workplace::new();
    let source = "for _ in range(100000): print('x' * 100)\nresult = 'done'";
    let (code, shown) = exec(&place, "python", source, &[]).await;
    let stdout = shown["stdout"].as_str().unwrap_or_default();
    assert!(stdout.len() < 9_000_000, "{} bytes were kept", stdout.len());
    assert_eq!(shown["usage"]["printed_bytes"], 10_100_000);
    assert_eq!(
        shown["stdout_left_out"],
        10_100_000 - (1 << 20),
        "what was kept is `output_kb`"
    );
    assert_eq!(shown["stderr_left_out"], 0);
    match code {
        0 => assert_eq!(shown["result"], "done"),
        _ => assert_eq!(shown["error"]["code"], "limit_output", "{}", shown["error"]),
    }
}

#[tokio::test]
async fn mistakes_of_the_caller_are_exit_code_2() {
    let place = Workplace::new();
    place.write("a.py", "result = 1");
    place.write("a.rb", "puts 1");
    place.write("latin1.py", b"x = '\xe9'");
    for (arguments, expected) in [
        (
            vec!["exec", "a.rb"],
            "add --lang python or --lang javascript",
        ),
        (
            vec!["exec", "a.rb", "--lang", "ruby"],
            "use python or javascript",
        ),
        (vec!["exec", "-"], "add --lang python or --lang javascript"),
        (
            vec!["exec", "nowhere.py"],
            "the source nowhere.py cannot be read",
        ),
        (
            vec!["exec", "latin1.py"],
            "the source latin1.py cannot be read",
        ),
        (vec!["exec", "a.py", "--input", "{x}"], "--input is no JSON"),
        (
            vec!["exec", "a.py", "--input", "hello"],
            "a text is written '\"like this\"'",
        ),
        (
            vec!["exec", "a.py", "--input", "[12345678901234567890123]"],
            "--input: 12345678901234567890123 is an integer of more than 64 bits, which would lose digits; write it as a text",
        ),
        (vec!["exec", "a.py", "--fuel", "many"], "--fuel"),
        (vec!["exec"], "Usage: troupe"),
    ] {
        let ended = place.troupe(&arguments).end().await.expect_code(2);
        assert!(ended.stderr.contains(expected), "{arguments:?}: {ended}");
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn a_missing_interpreter_is_said_with_the_way_out() {
    let place = Workplace::new();
    place.write("a.py", "result = 1");
    std::fs::create_dir(place.path("empty")).expect("a folder");
    let ended = place
        .troupe(["exec", "a.py", "--plugins", "empty"])
        .end()
        .await;
    assert_ne!(ended.status.code(), Some(0), "{ended}");
    assert!(
        ended.stderr.contains("cargo xtask setup") && ended.stderr.contains("--plugins"),
        "{ended}"
    );
}

#[tokio::test]
async fn the_operators_ceiling_holds() {
    let place = Workplace::new();
    place.write("troupe.toml", "[limits]\nfuel = 20000000\n");
    for (fuel, says) in [
        (
            "900000000000",
            "raise `fuel` in the operator's `[limits]`, which allow no more",
        ),
        ("10000000", "or raise --fuel"),
    ] {
        let (_, shown) = exec(&place, "python", "while True: pass", &["--fuel", fuel]).await;
        assert_eq!(shown["error"]["code"], "limit_fuel", "{shown:#}");
        let message = shown["error"]["message"].as_str().unwrap_or_default();
        assert!(message.ends_with(says), "{message}");
    }
    let source = "files = [open('/tmp/a', 'w') for _ in range(300)]";
    for (count, says) in [
        (
            "1000",
            "raise `open_files` in the operator's `[limits]`, which allow no more",
        ),
        ("100", "raise --open-files"),
    ] {
        let (_, shown) = exec(&place, "python", source, &["--open-files", count]).await;
        let denied = shown["denied"][0].as_str().unwrap_or_default();
        assert!(denied.ends_with(says), "{shown:#}");
    }
}

#[tokio::test]
async fn of_a_function_that_is_named_and_not_there_it_is_said() {
    let place = Workplace::new();
    let says = "the result is null: the source sets no other, and no function `nope` returned one";
    place.write("a.py", "def main(x):\n    return 1");
    for (options, is_said) in [
        (&["--action", "nope"][..], true),
        (&["--action", "main"], false),
        (&[], false),
    ] {
        let arguments = ["exec", "a.py"].iter().chain(options);
        let ended = place.troupe(arguments.copied()).end().await.expect_code(0);
        assert_eq!(ended.stderr.contains(says), is_said, "{ended}");
    }
}

#[tokio::test]
async fn what_was_asked_of_the_host_is_counted() {
    let place = Workplace::new();
    let source = "try:\n    context.output('earlier')\nexcept PermissionError:\n    result = 1";
    let (_, shown) = exec(&place, "python", source, &[]).await;
    assert_eq!(shown["usage"]["host_calls"], 1, "{shown:#}");
    let bytes = shown["usage"]["host_bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| bytes > 0), "{shown:#}");
}

#[tokio::test]
async fn a_mark_before_the_source_is_passed_over() {
    let place = Workplace::new();
    place.write("a.py", "\u{feff}result = 1");
    place.write("a.js", "\u{feff}return 1");
    for file in ["a.py", "a.js"] {
        let ended = place.troupe(["exec", file]).end().await.expect_code(0);
        assert_eq!(ended.stdout, "1\n", "{file}");
        let document = json!({
            "name": "Marked",
            "agents": [{ "id": "code", "type": "code", "file": file }],
            "steps": [{ "agent": "code", "action": "run", "input": {} }],
        });
        place.write("workflow.json", document.to_string());
        let ended = place.troupe(["run", "workflow.json"]).end().await;
        assert_eq!(ended.expect_code(0).stdout, "1\n", "{file}");
    }
}
