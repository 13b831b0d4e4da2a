//! Programs that put the interpreters to the test: much output, errors that do not want to be described, clocks.

use serde_json::json;

use troupe_sandbox::Outcome;

use crate::support::{call, limited, program};
use crate::{javascript, python};

#[tokio::test]
async fn python_prints_much_at_once_and_nothing_is_lost() {
    let wide = limited(|limits| limits.output_bytes_max = 4 << 20);
    let source =
        "print('x' * 1_000_000)\nprint('\\n'.join(str(n) for n in range(30_000)))\nresult = 1";
    let report = python::execute(program("agent.py", source), wide).await;
    let lines: Vec<&str> = report.stdout.text.lines().collect();
    assert_eq!((lines[0].len(), lines.len()), (1_000_000, 30_001));
    assert_eq!(lines[30_000], "29999");
    let errors =
        python::run("import sys\nfor n in range(3): print('é' * 50_000, n, file=sys.stderr)").await;
    assert_eq!(errors.usage.stderr_bytes, 3 * 100_003);
    let closed = python::run("import sys\nprint('a', end='')\ndel sys.stdout\nresult = 1").await;
    assert_eq!(
        (closed.outcome, closed.stdout.text.as_str()),
        (Outcome::Returned("1".to_owned()), "a")
    );
}

#[tokio::test]
async fn fuel_is_the_same_every_time_and_printing_costs_it() {
    let fuel = async |lines: u32| {
        let source = format!("for n in range({lines}): print('x' * 999)");
        let report = python::execute(program("agent.py", &source), call()).await;
        assert_eq!(report.usage.stdout_bytes, u64::from(lines) * 1_000);
        report.usage.fuel
    };
    let (few, many) = (fuel(10).await, fuel(2_000).await);
    assert!(many - few >= 1_990 * 1_500, "{few} {many}");
    for _ in 0..5 {
        assert_eq!(fuel(2_000).await, many);
    }
}

#[tokio::test]
async fn a_python_error_that_does_not_want_to_be_described_is_the_authors_still() {
    let chain = "error = None
for n in range(5_000):
    following = ValueError(n)
    following.__context__ = error
    error = following
raise error";
    let chained = python::exception(chain).await;
    assert_eq!(
        (
            chained.kind.as_str(),
            chained.message.as_str(),
            chained.line
        ),
        ("ValueError", "4999", Some(6))
    );
    assert_eq!(chained.traceback.matches("ValueError: ").count(), 51);
    for (source, kind) in [
        (
            "class M(type):\n    @property\n    def __name__(self): raise ValueError\nclass E(Exception, metaclass=M): pass\nraise E",
            "E",
        ),
        (
            "class M(type):\n    __name__ = 5\nclass E(Exception, metaclass=M): pass\nraise E",
            "E",
        ),
        (
            "class E(Exception):\n    @property\n    def __notes__(self): raise ValueError\nraise E",
            "E",
        ),
        (
            "class E(Exception):\n    @property\n    def __class__(self): raise ValueError\nraise E",
            "E",
        ),
        (
            "raise SyntaxError('no', ('agent.py', 'x', 1, 'y'))",
            "SyntaxError",
        ),
        (
            "raise SyntaxError('no', ('agent.py', -5, 1, 'y'))",
            "SyntaxError",
        ),
        (
            "raise SyntaxError('no', ('agent.py', 2**70, 1, 'y'))",
            "SyntaxError",
        ),
        (
            "import sys\ndel sys.stdout, sys.stderr, sys.__stdout__\nraise ValueError",
            "ValueError",
        ),
        (
            "import sys\nsys.setrecursionlimit(10)\nraise ValueError",
            "ValueError",
        ),
        (
            "import builtins\nbuiltins.isinstance = builtins.len = builtins.str = None\nraise ValueError",
            "ValueError",
        ),
        (
            "class S(str):\n    def encode(self, *_): return 5\nclass E(Exception):\n    def __str__(self): return S('x')\nraise E",
            "E",
        ),
        (
            "raise ExceptionGroup('many', [ValueError(n) for n in range(1_000)])",
            "ExceptionGroup",
        ),
    ] {
        assert_eq!(python::exception(source).await.kind, kind, "{source}");
    }
}

#[tokio::test]
async fn a_javascript_error_is_described_whatever_was_replaced() {
    for (source, line) in [
        (
            "Math.min = () => -5; Math.max = () => -5; throw new TypeError('x')",
            Some(1),
        ),
        (
            "Array.prototype[Symbol.iterator] = null;\nthrow new TypeError('x')",
            Some(2),
        ),
        (
            "Array.prototype.push = String.prototype.split = RegExp.prototype.exec = null;\nthrow new TypeError('x')",
            Some(2),
        ),
        (
            "const { TypeError } = globalThis; delete globalThis.Error; delete globalThis.Number; delete globalThis.String;\nthrow new TypeError('x')",
            Some(2),
        ),
        (
            "const e = new TypeError('x'); Object.defineProperty(e, 'stack', {value: 'at <input>:99999999999999999999'}); throw e",
            Some(1),
        ),
        (
            "const e = new TypeError('x'); Object.defineProperty(e, 'stack', {get() { throw 1 }}); throw e",
            None,
        ),
    ] {
        let error = javascript::exception(source).await;
        assert_eq!(
            (error.kind.as_str(), error.message.as_str(), error.line),
            ("TypeError", "x", line),
            "{source}"
        );
    }
}

#[tokio::test]
async fn clocks_begin_with_the_call() {
    let python = "import time\nresult = [0 <= clock() < 20 for clock in (time.process_time, time.perf_counter, time.monotonic)]";
    assert_eq!(python::result(python).await, json!([true, true, true]));
    let javascript = "const now = performance.now();
        return [now >= 0 && now < 20000, Math.floor(performance.timeOrigin / 1000), performance.now() >= now]";
    assert_eq!(
        javascript::result(javascript).await,
        json!([true, 1_800_000_000, true])
    );
}
