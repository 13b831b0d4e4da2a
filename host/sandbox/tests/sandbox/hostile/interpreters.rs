//! Python and JavaScript source that tries to get out of its interpreter, to break it, or to break what carries values
//! in and out of it. Each ends as one of the classes that stand beside it, and the next program runs.

use serde_json::json;
use troupe_sandbox::{Call, Outcome, Report};

use crate::support::{limited, program};
use crate::{javascript, python};

/// How a call ended, in a few words.
pub(super) fn class(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Returned(_) => "returned".to_owned(),
        Outcome::Declined(_) => "declined".to_owned(),
        Outcome::Raised(exception) => exception.kind.clone(),
        Outcome::InvalidResult(_) => "invalid result".to_owned(),
        Outcome::Exited(_) => "exited".to_owned(),
        Outcome::Trapped(trap) => format!("trap {}", trap.code.code()),
        Outcome::LimitHit(limit) => limit.code().to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
    }
}

/// What these programs may use: enough to start an interpreter and to do a little.
fn small() -> Call {
    limited(|limits| {
        limits.fuel = 300_000_000;
        limits.memory_bytes_max = 128 << 20;
    })
}

/// How a program ends whose bytecode reads whatever lies there: what that is differs with each build of the interpreter.
const ANY_END_OF_ITS_OWN: &str = "trap out_of_bounds | trap unreachable | trap other | an exception | exited | limit_fuel | returned";

/// What is wrong with how a program ended, if anything is.
fn fault(source: &str, report: &Report, expected: &str) -> Option<String> {
    let class = class(&report.outcome);
    let is_raised = matches!(report.outcome, Outcome::Raised(_));
    let is_expected = expected
        .split(" | ")
        .any(|one| one == class || (one == "an exception" && is_raised));
    (!is_expected).then(|| format!("expected {expected}: {source}\n{:?}\n", report.outcome))
}

async fn python_ends(programs: &[(&str, &str)]) {
    let mut faults = Vec::new();
    for (source, expected) in programs {
        let report = python::execute(program("agent.py", source), small()).await;
        faults.extend(fault(source, &report, expected));
        assert_eq!(python::result("1 + 1").await, json!(2), "after {source}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn javascript_ends(programs: &[(&str, &str)]) {
    let mut faults = Vec::new();
    for (source, expected) in programs {
        let report = javascript::execute(program("agent.js", source), small()).await;
        faults.extend(fault(source, &report, expected));
        let next = javascript::result("return [1 + 1, typeof {}.toJSON, {}]").await;
        assert_eq!(next, json!([2, "undefined", {}]), "after {source}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn python_finds_no_way_out() {
    python_ends(&[
        // Through the classes that are loaded to the module that has what they were made of.
        (
            "wrap = [c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]
wrap.__init__.__globals__['system']('ls')",
            "IndexError | KeyError",
        ),
        (
            "os = [c for c in object.__subclasses__() if c.__module__ == 'os'][0].__init__.__globals__
os['listdir']('/')",
            "FileNotFoundError",
        ),
        ("import os\nos.system('ls')", "AttributeError"),
        ("import os\nos.fork()", "AttributeError"),
        ("import os\nos.execv('/bin/sh', ['sh'])", "AttributeError"),
        ("import os\nos.kill(1, 9)", "AttributeError"),
        ("import posix\nposix.open('/etc/passwd', 0)", "FileNotFoundError"),
        ("import posix\nposix.open('/proc/self/mem', 2)", "FileNotFoundError"),
        ("import subprocess\nsubprocess.Popen('ls', shell=True)", "OSError"),
        ("import socket\nsocket.create_server(('127.0.0.1', 0))", "PermissionError | OSError"),
        ("import ctypes", "ModuleNotFoundError"),
        ("import importlib\nimportlib.import_module('_ctypes')", "ModuleNotFoundError"),
        ("import mmap", "ModuleNotFoundError"),
        (
            "import importlib.machinery, importlib.util
loader = importlib.machinery.ExtensionFileLoader('x', '/lib/x.so')
importlib.util.module_from_spec(importlib.util.spec_from_loader('x', loader))",
            "ImportError | AttributeError | FileNotFoundError",
        ),
        ("import pickle\npickle.loads(b\"cos\\nsystem\\n(S'ls'\\ntR.\")", "AttributeError"),
        ("import pickle\npickle.loads(b\"cbuiltins\\neval\\n(S'1 / 0'\\ntR.\")", "ZeroDivisionError"),
        ("import marshal\nmarshal.loads(b'c' * 100)", "EOFError | ValueError | TypeError"),
        ("import multiprocessing\nmultiprocessing.Process(target=print).start()", "OSError | AttributeError | ImportError | ValueError | ModuleNotFoundError"),
        ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
        ("input()", "EOFError | TypeError"),
    ])
    .await;
}

#[tokio::test]
async fn python_breaks_nothing_but_itself() {
    python_ends(&[
        // Bytecode that no compiler makes: it reaches where it likes, within its own memory.
        (
            "def f(): pass
f.__code__ = f.__code__.replace(co_code=bytes([116, 255] * 64), co_stacksize=1)
f()",
            ANY_END_OF_ITS_OWN,
        ),
        (
            "def f(): pass
f.__code__ = f.__code__.replace(co_code=bytes(range(256)) * 4, co_stacksize=0)
f()",
            ANY_END_OF_ITS_OWN,
        ),
        (
            "def f(): pass
f.__code__ = f.__code__.replace(co_consts=(), co_names=(), co_code=bytes([100, 200, 83, 0]))
f()",
            ANY_END_OF_ITS_OWN,
        ),
        ("import os\nos.abort()", "trap unreachable | exited | AttributeError"),
        ("import faulthandler\nfaulthandler._sigsegv()", "trap out_of_bounds | trap unreachable | AttributeError | ModuleNotFoundError | exited"),
        ("import signal\nsignal.raise_signal(signal.SIGSEGV)", "trap unreachable | exited | AttributeError | ModuleNotFoundError | ValueError | OSError"),
        ("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): f()\nf()", "RecursionError | trap stack_overflow | MemoryError | limit_fuel"),
        ("import gc\nresult = len(gc.get_objects()) > 1000", "returned"),
        ("import gc\n[o.clear() for o in gc.get_objects() if type(o) is dict]", "returned | RuntimeError | SystemError | NameError | KeyError | TypeError | AttributeError | ImportError | Exception | trap unreachable | trap out_of_bounds | exited"),
        // What carries the result out is changed under its feet.
        ("import sys\nsys.modules.clear()\nresult = 1", "returned | KeyError | ImportError | RuntimeError | ModuleNotFoundError"),
        ("import builtins\nfor name in list(vars(builtins)): delattr(builtins, name)", "NameError | TypeError | AttributeError | Exception | trap unreachable"),
        ("import json\njson.dumps = lambda *a, **k: '{'\nresult = 1", "returned | invalid result"),
        ("class L(list):\n    def __iter__(self):\n        while True: yield self\nresult = L([1])", "returned | ValueError | MemoryError | limit_fuel"),
        ("class D(dict):\n    def items(self):\n        while True: pass\nresult = D(a=1)", "returned | limit_fuel"),
        ("class S(str):\n    def __str__(self): raise SystemError('no')\nresult = S('x')", "returned | SystemError"),
        ("class E(BaseException):\n    @property\n    def __class__(self): raise E\nraise E", "E"),
        ("import sys\nsys.stdout = sys.stderr = None\nraise ValueError", "ValueError"),
        ("import sys\nsys.excepthook = 1\nsys.stdout.close()\nprint(1)", "ValueError"),
    ])
    .await;
}

#[tokio::test]
async fn python_that_never_ends_is_ended() {
    python_ends(&[
        ("while True: pass", "limit_fuel"),
        ("9**9**9", "limit_fuel"),
        ("10 ** (10 ** 9)", "limit_fuel | MemoryError"),
        ("1 << (1 << 40)", "MemoryError | OverflowError"),
        ("import re\nre.match(r'(a*)*b', 'a' * 40)", "limit_fuel"),
        ("import os\nwhile True: os.urandom(65536)", "limit_fuel"),
        ("while True: print('x' * 1000)", "limit_fuel"),
        ("import time\nwhile True: time.sleep(0)", "limit_fuel"),
        (
            "def g():\n    while True: yield\nlist(g())",
            "MemoryError | limit_fuel",
        ),
        (
            "class A:\n    def __del__(self): A()\nA()\nresult = 1",
            "returned | limit_fuel | RecursionError | trap stack_overflow",
        ),
        (
            "import atexit\ndef f():\n    while True: pass\natexit.register(f)\nresult = 1",
            "returned | limit_fuel",
        ),
        (
            "try:\n    while True: pass\nexcept BaseException:\n    pass",
            "limit_fuel",
        ),
        (
            "import asyncio\nasync def main(_):\n    while True: await asyncio.sleep(0)",
            "limit_fuel",
        ),
    ])
    .await;
}

#[tokio::test]
async fn javascript_that_never_ends_is_ended() {
    javascript_ends(&[
        ("for(;;);", "limit_fuel"),
        ("try { for(;;); } finally { return 1 }", "limit_fuel"),
        ("return { get a() { for(;;); } }", "limit_fuel"),
        ("return { toJSON() { for(;;); } }", "limit_fuel"),
        (
            "return new Proxy({}, { ownKeys() { for(;;); } })",
            "limit_fuel",
        ),
        (
            "return new Proxy({a: 1}, { get() { for(;;); } })",
            "limit_fuel",
        ),
        ("throw { get message() { for(;;); } }", "limit_fuel | Error"),
        (
            "throw { get stack() { for(;;); }, toString() { for(;;); } }",
            "limit_fuel",
        ),
        ("console.log({ toJSON() { for(;;); } })", "limit_fuel"),
        ("return /(a*)*b/.test('a'.repeat(40))", "limit_fuel"),
        (
            "return String(9n ** 9n ** 9n)",
            "limit_fuel | RangeError | InternalError",
        ),
        (
            "let a = 'x'; for(;;) a += a",
            "InternalError | RangeError | limit_fuel",
        ),
        (
            "function* g() { for(;;) yield 1 }\nreturn [...g()]",
            "InternalError | limit_fuel",
        ),
        (
            "(function f() { Promise.resolve().then(f) })()",
            "returned | limit_fuel",
        ),
        ("for(;;) console.log('x'.repeat(1000))", "limit_fuel"),
        ("for(;;) Math.random()", "limit_fuel"),
        (
            "while (true) try { (function f() { f() })() } catch {}",
            "limit_fuel | trap stack_overflow",
        ),
        (
            "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
            "TypeError | ReferenceError",
        ),
        (
            "return new Array(2 ** 32 - 1).join('x')",
            "InternalError | RangeError | limit_fuel",
        ),
    ])
    .await;
}

#[tokio::test]
async fn javascript_finds_no_way_out() {
    javascript_ends(&[
        ("return [].constructor.constructor('return process')()", "ReferenceError"),
        ("return (function () { return this })().constructor.constructor('return require')()", "ReferenceError"),
        ("return eval('process')", "ReferenceError"),
        ("return std.loadFile('/etc/passwd')", "ReferenceError"),
        ("import('os')", "returned | SyntaxError | ReferenceError | TypeError"),
        ("return import('os')", "TypeError | Error | SyntaxError | ReferenceError"),
        ("new Worker('x')", "ReferenceError"),
        ("fetch('http://169.254.169.254/')", "ReferenceError"),
        ("return Object.getOwnPropertyNames(globalThis).filter((name) => /wit|cqjs|troupe|host/i.test(name)).length || 'none'", "returned"),
    ])
    .await;
}

#[tokio::test]
async fn javascript_breaks_nothing_but_itself() {
    javascript_ends(&[
        // What carries the result out meets what a prototype was changed to.
        ("Object.prototype.toJSON = () => 'polluted'; return {a: 1}", "returned"),
        ("Object.defineProperty(Object.prototype, 'kind', {get() { for(;;); }}); return {a: 1}", "returned | limit_fuel"),
        ("JSON.stringify = () => '{'; JSON.parse = null; return {a: 1}", "returned"),
        ("Array.prototype[Symbol.iterator] = null; Array.prototype.push = null; return [1]", "returned | TypeError"),
        ("Object.keys = () => ['x']; Array.isArray = () => true; return {a: 1}", "returned | TypeError"),
        ("Error.prototype.toString = () => { throw 1 }; Error.prepareStackTrace = () => { throw 2 }; null.x", "TypeError"),
        ("for (const name of Object.getOwnPropertyNames(globalThis)) try { delete globalThis[name] } catch {}\nreturn 1", "returned | ReferenceError | TypeError | trap unreachable"),
        ("Function.prototype.call = Function.prototype.apply = null; return {a: [1, {b: 2}]}", "returned | TypeError"),
        // A value without an end, and one that lies about how much of it there is.
        ("const endless = () => ({ get a() { return endless() } }); return endless()", "TypeError | Error | RangeError"),
        ("return new Proxy([], { get: (_, key) => key === 'length' ? 2 ** 32 - 1 : 0 })", "limit_fuel | limit_memory | InternalError | RangeError | limit_output"),
        ("return new Proxy({}, { ownKeys: () => ['a'], getOwnPropertyDescriptor: () => ({ value: 1, enumerable: true, configurable: true }) })", "returned"),
        ("return { get a() { delete this.b; return 1 }, b: 2 }", "returned | TypeError"),
        ("const a = [1, 2, 3]; Object.defineProperty(a, 0, { get() { a.length = 0; return 1 } }); return a", "returned | TypeError"),
        ("const b = new Uint8Array(8); return { a: b, get c() { return b.buffer.transfer ? b.buffer.transfer(0) : 1 }, d: b }", "returned | TypeError"),
        ("const r = Proxy.revocable({}, {}); r.revoke(); return r.proxy", "TypeError"),
        ("console.log = null; console.error = null; return 1", "returned"),
    ])
    .await;
}
