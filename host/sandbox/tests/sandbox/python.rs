//! Python source in the interpreter that ships with Troupe.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use troupe_sandbox::{
    Call, Component, ContextGrant, Exception, Grants, Limit, Outcome, Program, Report,
};

use crate::support::{artefact, call, limited, program, returned, sandbox};

pub(crate) async fn python() -> &'static Component {
    static PYTHON: OnceCell<Component> = OnceCell::const_new();
    PYTHON.get_or_init(|| artefact("plugins/python.wasm")).await
}

pub(crate) async fn execute(program: Program, call: Call) -> Report {
    sandbox()
        .execute(python().await, program, call)
        .await
        .expect("the host is well")
}

pub(crate) async fn run(source: &str) -> Report {
    execute(program("agent.py", source), call()).await
}

pub(crate) async fn result(source: &str) -> Value {
    returned(run(source).await)
}

pub(crate) async fn exception(source: &str) -> Exception {
    match run(source).await.outcome {
        Outcome::Raised(exception) => exception,
        other => panic!("{source}: {other:?}"),
    }
}

#[tokio::test]
async fn the_result_is_the_variable_or_the_function_or_the_last_expression() {
    assert_eq!(result("result = 1\n2").await, json!(1));
    assert_eq!(
        result("def main(x): return [x, 'called']\n3").await,
        json!([null, "called"])
    );
    assert_eq!(
        result("async def main(x): return 'awaited'").await,
        json!("awaited")
    );
    assert_eq!(result("x = 20\nx + 22").await, json!(42));
    assert_eq!(result("x = 20").await, json!(null));
    assert_eq!(result("").await, json!(null));
    assert_eq!(result("from math import floor as main\n5").await, json!(5));
}

#[tokio::test]
async fn the_input_is_a_value_and_never_source() {
    let input = json!({"text": "\"; raise SystemExit #", "n": 12_345_678_901_234_567_890_u64});
    let source = "result = [input['text'], input['n'] + 1]";
    let program = Program {
        input: input.to_string(),
        ..program("agent.py", source)
    };
    let report = execute(program, call()).await;
    assert_eq!(
        report.outcome,
        Outcome::Returned(r#"["\"; raise SystemExit #",12345678901234567891]"#.to_owned())
    );
}

#[tokio::test]
async fn the_standard_library_is_there() {
    let source = "
import json, re, datetime, statistics, csv, decimal, hashlib, sqlite3, zlib, io, difflib, xml.etree.ElementTree
import smtplib, wave, plistlib, mailbox, imaplib, pydoc, concurrent.futures, multiprocessing, unittest.mock
import http.server, email.mime.multipart, encodings.cp437, logging.handlers, xml.sax.saxutils
db = sqlite3.connect(':memory:')
db.execute('create table t (n integer)')
db.executemany('insert into t values (?)', [(1,), (2,)])
result = {
    'json': json.loads('[1]'), 're': re.findall(r'\\d+', 'a1b22'), 'mean': statistics.mean([1, 2, 3]),
    'csv': list(csv.reader(io.StringIO('a,b'))), 'sum': str(decimal.Decimal('0.1') + decimal.Decimal('0.2')),
    'sha': hashlib.sha256(b'').hexdigest()[:8], 'md5': hashlib.md5(b'').hexdigest()[:8],
    'sql': db.execute('select sum(n) from t').fetchone()[0], 'zlib': zlib.decompress(zlib.compress(b'x')).decode(),
    'date': str(datetime.date(2026, 11, 22) + datetime.timedelta(days=10)),
}";
    let expected = json!({
        "json": [1], "re": ["1", "22"], "mean": 2, "csv": [["a", "b"]], "sum": "0.3", "sha": "e3b0c442",
        "md5": "d41d8cd9", "sql": 3, "zlib": "x", "date": "2026-12-02",
    });
    assert_eq!(result(source).await, expected);
}

#[tokio::test]
async fn an_exception_has_the_authors_line_and_frames_only() {
    let source = "import json\n\ndef parse(text):\n    return json.loads(text)\n\nparse('{')\n";
    let decoding = exception(source).await;
    assert_eq!(
        (decoding.kind.as_str(), decoding.line),
        ("JSONDecodeError", Some(4))
    );
    assert_eq!(
        decoding.traceback,
        "Traceback (most recent call last):\n  File \"agent.py\", line 6, in <module>\n    parse('{')\n    \
         ~~~~~^^^^^\n  File \"agent.py\", line 4, in parse\n    return json.loads(text)\n           \
         ~~~~~~~~~~^^^^^^\n\
         json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
    );
    let syntax = exception("x = 1\n y = 2\n").await;
    assert_eq!(
        (syntax.kind.as_str(), syntax.line),
        ("IndentationError", Some(2))
    );
    let cause =
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('no') from e\n";
    let caused = exception(cause).await;
    assert_eq!((caused.message.as_str(), caused.line), ("no", Some(4)));
    assert!(
        caused.traceback.contains("line 2, in <module>"),
        "{}",
        caused.traceback
    );
    let silent = exception("class E(Exception):\n    def __str__(self): raise E\nraise E").await;
    assert_eq!(
        silent.message,
        "the exception cannot be shown: its own `__str__` fails"
    );
}

#[tokio::test]
async fn the_program_may_end_itself() {
    assert_eq!(result("import sys\nresult = 5\nsys.exit()").await, json!(5));
    assert_eq!(result("raise SystemExit(0)").await, json!(null));
    let exit = exception("import sys\nsys.exit('no data')").await;
    assert_eq!((exit.kind.as_str(), exit.line), ("SystemExit", Some(2)));
    assert_eq!(
        exit.message,
        "the program ended itself with the exit code 'no data'"
    );
    assert!(
        matches!(run("import os\nos._exit(3)").await.outcome, Outcome::Exited(code) if code != 0)
    );
}

#[tokio::test]
async fn values_become_json_or_the_error_names_their_place() {
    let source = "
import dataclasses, datetime, decimal, enum, uuid, collections
@dataclasses.dataclass
class Point:
    x: int
    inner: list
class Color(enum.Enum):
    RED = 'red'
result = [Point(1, [Point(2, [])]), datetime.datetime(2026, 1, 2, 3, 4, 5), datetime.date(2026, 1, 2), decimal.Decimal('1.10'),
    {3, 1, 2}, (1, None), Color.RED, 2**64 - 1, {1: 'a', None: 'b'}, range(2), datetime.timedelta(minutes=1), {'k': 1}.keys(),
    collections.Counter('aab'), uuid.UUID(int=0)]";
    let expected = json!([
        {"x": 1, "inner": [{"x": 2, "inner": []}]}, "2026-01-02T03:04:05", "2026-01-02", "1.10", [1, 2, 3],
        [1, null], "red", u64::MAX, {"1": "a", "null": "b"}, [0, 1], 60.0, ["k"], {"a": 2, "b": 1},
        "00000000-0000-0000-0000-000000000000",
    ]);
    assert_eq!(result(source).await, expected);
    let digits = run("result = [2**64 - 1, -2**63]").await;
    assert_eq!(
        digits.outcome,
        Outcome::Returned("[18446744073709551615,-9223372036854775808]".to_owned()),
        "every digit is kept"
    );
    for (source, kind, message) in [
        (
            "result = {'items': [1, object()]}",
            "TypeError",
            "result.items[1] is of the type object, which has no JSON form",
        ),
        (
            "result = {'a b': b'x'}",
            "TypeError",
            "result['a b'] is of the type bytes, which has no JSON form; decode it, or encode it with base64",
        ),
        (
            "result = [1, float('nan')]",
            "ValueError",
            "result[1] is nan, which JSON cannot express",
        ),
        (
            "result = []\nresult.append(result)",
            "ValueError",
            "result[0] contains itself",
        ),
        (
            "result = '\\ud800'",
            "ValueError",
            "result holds half a character (a lone surrogate), which no text can",
        ),
        (
            "result = {'n': [2**64]}",
            "ValueError",
            "result.n[0] is an integer of more than 64 bits, which would lose digits; use str()",
        ),
        (
            "result = {(1, 2): 3}",
            "TypeError",
            "result has a key of the type tuple; keys must be strings",
        ),
    ] {
        let exception = exception(source).await;
        assert_eq!(
            (exception.kind.as_str(), exception.message.as_str()),
            (kind, message),
            "{source}"
        );
    }
}

#[tokio::test]
async fn the_context_is_read_when_it_is_looked_at() {
    let call = || Call {
        grants: Grants {
            context: Some(ContextGrant),
            ..Grants::none()
        },
        ..call()
    };
    let report = execute(
        program("agent.py", "context.inputs, list(context.outputs)"),
        call(),
    )
    .await;
    assert_eq!(returned(report), json!([{}, []]));
    let unread = execute(program("agent.py", "repr(context)"), call()).await;
    assert_eq!(unread.usage.host_calls, 0);
    let denied = exception("context.output('plan')").await;
    assert_eq!(
        (denied.kind.as_str(), denied.line),
        ("PermissionError", Some(1))
    );
    assert!(
        denied
            .message
            .starts_with("the agent `tester` may not use outputs of other steps"),
        "{}",
        denied.message
    );
}

#[tokio::test]
async fn what_is_printed_is_kept_also_when_an_exception_follows() {
    let source =
        "import sys\nprint('out', end='')\nprint('err', file=sys.stderr)\nraise ValueError";
    let report = run(source).await;
    assert!(matches!(report.outcome, Outcome::Raised(_)));
    assert_eq!(
        (report.stdout.text.as_str(), report.stderr.text.as_str()),
        ("out", "err\n")
    );
    let stopped = "print('before')\nwhile True: pass";
    let report = execute(
        program("agent.py", stopped),
        limited(|limits| limits.fuel = 200_000_000),
    )
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
    assert_eq!(report.stdout.text, "before\n");
}

#[tokio::test]
async fn random_differs_between_calls_and_time_is_the_calls() {
    let source = "
import random, uuid, secrets, os, time, datetime
result = [random.random(), str(uuid.uuid4()), secrets.token_hex(8), os.urandom(4).hex(), int(time.time())]";
    let random = async |seed: u8| {
        returned(
            execute(
                program("agent.py", source),
                Call {
                    seed: [seed; 32],
                    ..call()
                },
            )
            .await,
        )
    };
    let (one, other) = (random(1).await, random(2).await);
    assert_eq!(one, random(1).await);
    for index in 0..4 {
        assert_ne!(one[index], other[index], "number {index}");
    }
    assert_eq!(one[4], json!(1_800_000_000));
}

#[tokio::test]
async fn there_is_nothing_of_the_host() {
    let source = "
import os, sys, socket, subprocess, urllib.request, threading
def attempt(action):
    try: return repr(action())
    except BaseException as error: return type(error).__name__
result = {
    'environ': dict(os.environ), 'argv': sys.argv, 'path': sys.path,
    'names': [name for name in globals() if not name.startswith('__')],
    'passwd': attempt(lambda: open('/etc/passwd')), 'root': attempt(lambda: os.listdir('/')),
    'write': attempt(lambda: open('/tmp/x', 'w')), 'socket': attempt(lambda: socket.socket()),
    'resolve': attempt(lambda: socket.create_connection(('example.com', 80))),
    'http': attempt(lambda: urllib.request.urlopen('http://example.com')),
    'process': attempt(lambda: subprocess.run(['ls'])), 'thread': attempt(lambda: threading.Thread(target=print).start()),
    'ctypes': attempt(lambda: __import__('ctypes')),
}";
    let expected = json!({
        "environ": {}, "argv": [], "path": [],
        "names": ["input", "context", "os", "sys", "socket", "subprocess", "urllib", "threading", "attempt"],
        "passwd": "FileNotFoundError", "root": "FileNotFoundError", "write": "FileNotFoundError",
        "socket": "PermissionError", "resolve": "PermissionError", "http": "URLError", "process": "OSError",
        "thread": "RuntimeError", "ctypes": "ModuleNotFoundError",
    });
    assert_eq!(result(source).await, expected);
}

#[tokio::test]
async fn coroutines_timers_and_tasks_work_and_a_deadlock_is_told() {
    let source = "
import asyncio
async def wait(seconds):
    await asyncio.sleep(seconds)
    return seconds
async def main(_):
    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait(seconds)) for seconds in (0.02, 0.01)]
    return [task.result() for task in tasks]";
    assert_eq!(result(source).await, json!([0.02, 0.01]));
    let deadlock =
        exception("import asyncio\nasync def main(_): await asyncio.Event().wait()").await;
    assert_eq!(
        deadlock.message,
        "every task waits and nothing is left that could wake one: a deadlock"
    );
}

#[tokio::test]
async fn a_program_that_needs_too_much_is_stopped_and_the_next_one_runs() {
    let limits = limited(|limits| limits.fuel = 200_000_000);
    let report = execute(program("agent.py", "while True: pass"), limits).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
    let regex = "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')";
    let report = execute(
        program("agent.py", regex),
        limited(|limits| limits.fuel = 200_000_000),
    )
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
    let sleep = limited(|limits| limits.time_max = Duration::from_millis(100));
    let report = execute(program("agent.py", "import time\ntime.sleep(1e9)"), sleep).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Time));

    for source in [
        "b = bytearray(2_000_000_000)",
        // More than 32 bits can address, which Python itself calls an overflow.
        "b = bytearray(4 * 1024 ** 3)",
        "b = [0] * 1_000_000_000",
        "l = []\nwhile True: l.append('x' * 10_000_000)",
    ] {
        assert_eq!(exception(source).await.kind, "MemoryError", "{source}");
    }
    for source in [
        "def f(n): return f(n + 1)\nf(0)",
        "class A:\n    def __repr__(self): return repr(self)\nrepr(A())",
        "import json\njson.loads('[' * 100_000)",
    ] {
        assert_eq!(exception(source).await.kind, "RecursionError", "{source}");
    }
    assert_eq!(
        exception(&format!("{}{}", "(".repeat(5_000), ")".repeat(5_000)))
            .await
            .kind,
        "MemoryError"
    );
    assert_eq!(result("1 + 1").await, json!(2));
}

#[tokio::test]
async fn a_traceback_of_a_deep_recursion_is_short() {
    let two = exception("def f(n): return g(n)\ndef g(n):\n    return f(n)\nf(0)").await;
    assert!(
        two.traceback.contains("calls left out]"),
        "{}",
        two.traceback
    );
    assert!(
        two.traceback.lines().count() < 250,
        "{}",
        two.traceback.lines().count()
    );
    let one = exception("def f(n): return f(n)\nf(0)").await;
    assert!(
        one.traceback.contains("[Previous line repeated 99"),
        "{}",
        one.traceback
    );
    let chatty = exception("raise ValueError('x' * 1_000_000)").await;
    assert!(chatty.message.len() < 21_000 && chatty.traceback.len() < 21_000);
}
