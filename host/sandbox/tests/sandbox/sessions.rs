//! Sessions: what is kept from one program to the next, and what ends them.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use troupe_sandbox::{
    Call, CancelFlag, Component, FilesGrant, Grants, Limit, Limits, Outcome, Program, Report,
    Sandbox, SandboxError, ScratchGrant, Session, SessionEnd, SessionError, SessionTimes, TrapCode,
};

use crate::javascript::javascript;
use crate::python::python;
use crate::support::{self, call, limited, returned, sandbox};

/// A program that calls nothing.
fn program(filename: &str, source: &str) -> Program {
    Program {
        action: String::new(),
        ..support::program(filename, source)
    }
}

/// A session and the task in which it lives.
pub(crate) struct Opened {
    pub(crate) session: Session,
    task: JoinHandle<SessionEnd>,
}

/// Times that no test waits for.
pub(crate) const LONG: SessionTimes = SessionTimes {
    time_max: Duration::from_secs(600),
    idle_max: Duration::from_secs(600),
};

#[expect(
    clippy::disallowed_methods,
    reason = "the test waits for it itself, and has nothing to shut down"
)]
pub(crate) async fn open_in(
    sandbox: &Sandbox,
    (component, times): (&Component, SessionTimes),
    call: Call,
) -> Result<Opened, SessionError> {
    let (session, task) = sandbox.open_session(component, call, times).await?;
    let task = tokio::spawn(task);
    Ok(Opened { session, task })
}

pub(crate) async fn open(component: &Component, call: Call) -> Opened {
    let opened = open_in(sandbox(), (component, LONG), call).await;
    opened.expect("a session")
}

impl Opened {
    pub(crate) async fn try_run(&self, source: &str) -> Result<Report, SessionError> {
        self.program(program("<program>", source)).await
    }

    async fn program(&self, program: Program) -> Result<Report, SessionError> {
        self.session
            .execute(
                program,
                SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000),
            )
            .await
    }

    pub(crate) async fn run(&self, source: &str) -> Report {
        self.try_run(source).await.expect("the session is there")
    }

    /// The result of a program without an action.
    pub(crate) async fn result(&self, source: &str) -> Value {
        returned(self.run(source).await)
    }

    async fn raised(&self, source: &str) -> troupe_sandbox::Exception {
        match self.run(source).await.outcome {
            Outcome::Raised(exception) => exception,
            other => panic!("{other:?}"),
        }
    }

    async fn is_over(&self) -> SessionEnd {
        match self.try_run("1").await {
            Err(SessionError::Over(end)) => end,
            other => panic!("{other:?}"),
        }
    }

    /// Closes it, and waits until it has given all back.
    pub(crate) async fn close(self) -> SessionEnd {
        drop(self.session);
        self.task.await.expect("no panic")
    }
}

/// Circumstances in which there is a folder for what does not last.
fn with_scratch() -> Call {
    Call {
        grants: Grants {
            files: Some(FilesGrant {
                folders: Vec::new(),
                scratch: Some(ScratchGrant {
                    at: "/tmp".to_owned(),
                    bytes_max: 1 << 20,
                    entries_max: 100,
                }),
            }),
            ..Grants::none()
        },
        ..call()
    }
}

#[tokio::test]
async fn python_keeps_variables_functions_imports_and_files() {
    let opened = open(python().await, with_scratch()).await;
    assert_eq!(opened.result("import math\nx = 20").await, json!(null));
    let source =
        "def double(n):\n    return n * factor\nfactor = 2\nopen('/tmp/a', 'w').write('kept')";
    assert_eq!(opened.result(source).await, json!(4));
    assert_eq!(
        opened.result("double(x) + math.floor(2.5)").await,
        json!(42)
    );
    assert_eq!(opened.result("factor = 3\ndouble(x)").await, json!(60));
    assert_eq!(opened.result("open('/tmp/a').read()").await, json!("kept"));
    assert_eq!(
        opened.result("import sys\nsys.modules['__main__'].x").await,
        json!(20)
    );
    assert_eq!(opened.close().await, SessionEnd::Closed);
}

#[tokio::test]
async fn the_result_is_that_of_this_program_and_no_earlier_ones() {
    let opened = open(python().await, call()).await;
    assert_eq!(opened.result("result = 5").await, json!(5));
    assert_eq!(opened.result("2 + 2").await, json!(4));
    assert_eq!(opened.result("result + 1").await, json!(6));
    assert_eq!(
        opened.result("result = 5").await,
        json!(5),
        "the same again"
    );
    assert_eq!(
        opened
            .result("def f():\n    result = 1\n    return 7\nf()")
            .await,
        json!(7)
    );
    assert_eq!(
        opened.result("def main(x): return 'called'\n8").await,
        json!(8)
    );
    let named = Program {
        input: "[1, 2]".to_owned(),
        action: "count".to_owned(),
        ..program("<program>", "pass")
    };
    let missing = opened.program(named.clone()).await.expect("a report");
    let Outcome::Raised(missing) = missing.outcome else {
        panic!("{missing:?}")
    };
    assert!(
        missing.message.contains("no function `count`"),
        "{missing:?}"
    );
    opened.result("def count(x): return len(x)").await;
    let counted = opened.program(named).await.expect("a report");
    assert_eq!(returned(counted), json!(2));
    assert_eq!(
        opened.result("import re\nre.compile('a')").await,
        json!("re.compile('a')")
    );
    assert_eq!(
        opened.result("import sys\nresult = 5\nsys.exit()").await,
        json!(5)
    );
    assert_eq!(opened.result("x = 1\nsys.exit()").await, json!(null));
}

#[tokio::test]
async fn an_exception_keeps_the_session_and_shows_the_lines_of_each_program() {
    let opened = open(python().await, call()).await;
    let first = Program {
        filename: "<first>".to_owned(),
        ..program("", "kept = 1\n\ndef fail():\n    raise ValueError('no')")
    };
    opened.program(first).await.expect("a report");
    let exception = opened.raised("kept = 2\nfail()").await;
    assert_eq!(exception.kind, "ValueError");
    assert_eq!(exception.line, Some(2));
    let trace = &exception.traceback;
    assert!(
        trace.contains("File \"<first>\", line 4, in fail"),
        "{trace}"
    );
    assert!(trace.contains("File \"<program>\", line 2"), "{trace}");
    assert!(trace.contains("raise ValueError('no')"), "{trace}");
    assert_eq!(opened.raised("def broken(:").await.kind, "SyntaxError");
    assert_eq!(opened.result("kept").await, json!(2));
}

#[tokio::test]
async fn javascript_keeps_what_is_declared_at_the_top_level() {
    let opened = open(javascript().await, call()).await;
    let source = "let a = 1, b;\nconst c = { n: 2 };\nvar d = 3;\ne = 4;\n\
        function add(x) { a += x; return a }\nclass Point { constructor() { this.x = 5 } }\n\
        const [f, { g }] = [6, { g: 7 }];";
    assert_eq!(opened.result(source).await, json!(null));
    let source = "[a, b === undefined, c.n, d, e, f, g, new Point().x]";
    assert_eq!(
        opened.result(source).await,
        json!([1, true, 2, 3, 4, 5 + 1, 7, 5])
    );
    assert_eq!(opened.result("add(10)").await, json!(11));
    assert_eq!(
        opened.result("a").await,
        json!(11),
        "one variable, not a copy"
    );
    assert_eq!(
        opened.result("let a = 'again'\nconst c = 1; [a, c]").await,
        json!(["again", 1])
    );
    assert_eq!(opened.result("let a; typeof a").await, json!("undefined"));
    let source = "for (let i = 0; i < 2; i++) { let inner = i }\n[typeof i, typeof inner]";
    assert_eq!(
        opened.result(source).await,
        json!(["undefined", "undefined"])
    );
    let source = "const text = `let x = ${[1].map((n) => { return n })}; // return`\ntext.length";
    assert_eq!(opened.result(source).await, json!(20));
    assert_eq!(opened.result("class A {}\n[1, 2].length").await, json!(2));
}

#[tokio::test]
async fn a_javascript_program_may_return_and_its_result_is_its_own() {
    let opened = open(javascript().await, call()).await;
    let source = "const seen = []\nfor (const n of input) {\n  try { if (n > 1) return { n, later: later() } } finally { seen.push(n) }\n}\n\
        function later() { return seen.length }";
    let first = Program {
        input: "[1, 2, 3]".to_owned(),
        ..program("<program>", source)
    };
    let report = opened.program(first).await.expect("a report");
    assert_eq!(returned(report), json!({ "n": 2, "later": 1 }));
    assert_eq!(opened.result("[seen, later()]").await, json!([[1, 2], 2]));
    assert_eq!(opened.result("result = 5").await, json!(5));
    assert_eq!(
        opened.result("let other = result + 1; other").await,
        json!(6)
    );
    assert_eq!(opened.result("result = 5").await, json!(5));
    assert_eq!(opened.result("return").await, json!(null));
    assert_eq!(opened.result("return 1, 2").await, json!(2));
    assert_eq!(opened.result("return result\n;1").await, json!(5));
    assert_eq!(
        opened.result("(() => 1)").await,
        json!("[function without a name]")
    );
    let called = Program {
        input: "4".to_owned(),
        action: "twice".to_owned(),
        ..program("<program>", "const twice = (x) => 2 * x")
    };
    assert_eq!(
        returned(opened.program(called).await.expect("a report")),
        json!(8)
    );
    assert_eq!(opened.result("twice(5)").await, json!(10));
}

#[tokio::test]
async fn a_javascript_exception_keeps_the_session_and_shows_the_lines_of_each_program() {
    let opened = open(javascript().await, call()).await;
    let first = Program {
        filename: "<first>".to_owned(),
        ..program(
            "",
            "let kept = 1\n\nfunction fail() {\n  throw new TypeError('no')\n}\nfunction main() {}",
        )
    };
    opened.program(first).await.expect("a report");
    let exception = opened.raised("kept = 2\n\nfail()").await;
    assert_eq!(
        (exception.kind.as_str(), exception.line),
        ("TypeError", Some(3))
    );
    let trace = &exception.traceback;
    assert!(trace.contains("at fail (<first>:4:"), "{trace}");
    assert!(trace.contains("at <program>:3"), "{trace}");
    let exception = opened.raised("1\nlet = = 2").await;
    assert_eq!(
        (exception.kind.as_str(), exception.line),
        ("SyntaxError", Some(2))
    );
    let exception = opened.raised("const got = 1\nJSON.parse('{')").await;
    assert_eq!(exception.kind, "SyntaxError");
    assert_eq!(opened.result("[kept, got]").await, json!([2, 1]));
}

#[tokio::test]
async fn a_limit_that_is_passed_ends_the_session_and_later_calls_say_so() {
    let limits = |limits: &mut Limits| {
        limits.time_max = Duration::from_millis(300);
        limits.fuel = u64::MAX;
    };
    let opened = open(javascript().await, limited(limits)).await;
    assert_eq!(opened.result("let x = 1; x").await, json!(1));
    let report = opened.run("for (;;) {}").await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Time));
    assert!(report.usage.duration >= Duration::from_millis(300));
    let end = opened.is_over().await;
    assert_eq!(end, SessionEnd::LimitHit(Limit::Time));
    assert_eq!(opened.session.end(), Some(&end));
    assert_eq!(end.code(), "limit_time");
    let text = end.to_string();
    assert!(
        text.starts_with("the session has ended and its state is gone: a program was stopped"),
        "{text}"
    );
    assert!(text.contains("open another"), "{text}");

    let opened = open(python().await, limited(|limits| limits.fuel = 300_000_000)).await;
    let report = opened.run("while True: pass").await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
    assert_eq!(opened.is_over().await, SessionEnd::LimitHit(Limit::Fuel));
}

#[tokio::test]
async fn a_trap_and_the_programs_own_end_end_the_session() {
    let opened = open(javascript().await, call()).await;
    let report = opened
        .run("function deep() { return 1 + deep() }\ndeep()")
        .await;
    let Outcome::Trapped(trap) = &report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!(trap.code, TrapCode::StackOverflow);
    assert!(matches!(opened.is_over().await, SessionEnd::Stopped(_)));

    let opened = open(python().await, call()).await;
    let report = opened.run("import os\nos._exit(0)").await;
    assert_eq!(report.outcome, Outcome::Exited(0));
    let end = opened.is_over().await;
    assert!(end.to_string().contains("exit code 0"), "{end}");
}

#[tokio::test]
async fn each_program_has_limits_and_a_record_of_its_own() {
    let limits = |limits: &mut Limits| {
        limits.fuel = 2_000_000_000;
        limits.output_bytes_max = 1_000;
        limits.time_max = Duration::from_secs(20);
    };
    let opened = open(python().await, limited(limits)).await;
    let work = "n = 0\nfor i in range(200_000): n += i\nprint('x' * 600)";
    let first = opened.run(work).await;
    assert_eq!(
        first.outcome,
        Outcome::Returned("null".to_owned()),
        "{first:?}"
    );
    // Together they are beyond every limit.
    for _ in 0..8 {
        let report = opened.run(work).await;
        assert_eq!(report.stdout.text, first.stdout.text);
        assert_eq!(report.usage.stdout_bytes, 601);
        assert!(report.usage.fuel > 200_000_000 && report.usage.fuel < 2_000_000_000);
        assert!(report.usage.duration < Duration::from_secs(5));
    }
    let small = opened.run("1").await;
    assert_eq!(small.stdout.text, "");
    assert!(small.usage.fuel < first.usage.fuel / 4, "{:?}", small.usage);
    assert!(
        small.usage.memory_bytes_peak > 10 << 20,
        "what the session holds"
    );
    // A result that is too large is refused, and the session goes on.
    let report = opened.run("kept = 7\n'x' * 2_000").await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Output));
    assert_eq!(opened.result("kept").await, json!(7));
}

#[tokio::test]
async fn what_may_be_written_is_the_whole_sessions() {
    let mut circumstances = with_scratch();
    circumstances.limits.disk_bytes_max = 100_000;
    let opened = open(python().await, circumstances).await;
    let write = "with open(f'/tmp/{input}', 'w') as f: f.write('x' * 60_000)";
    let with_input = |input: &str| Program {
        input: input.to_owned(),
        ..program("<program>", write)
    };
    let first = opened.program(with_input("1")).await.expect("a report");
    assert_eq!(first.usage.file_bytes_written, 60_000);
    assert!(matches!(first.outcome, Outcome::Returned(_)), "{first:?}");
    let second = opened.program(with_input("2")).await.expect("a report");
    assert!(matches!(second.outcome, Outcome::Raised(_)), "{second:?}");
    assert_eq!(second.denials.len(), 1);
    let third = opened.run("1").await;
    assert!(third.denials.is_empty(), "those of another program");
    assert_eq!(third.usage.file_bytes_written, 0);
}

#[tokio::test]
async fn memory_is_the_whole_sessions_too() {
    let opened = open(
        javascript().await,
        limited(|limits| limits.memory_bytes_max = 40 << 20),
    )
    .await;
    opened
        .result("let kept = new Uint8Array(20 << 20).length; let a = new Uint8Array(16 << 20)")
        .await;
    let report = opened.run("let b = new Uint8Array(30 << 20); 1").await;
    assert!(
        matches!(
            report.outcome,
            Outcome::Raised(_) | Outcome::LimitHit(Limit::Memory) | Outcome::Trapped(_)
        ),
        "{report:?}"
    );
}

#[tokio::test]
async fn the_clock_goes_on_from_program_to_program() {
    let opened = open(python().await, call()).await;
    let later = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let source = program("<program>", "import time\nint(time.time())");
    for seconds in [1_800_000_100, 1_800_000_200] {
        let report = opened.session.execute(source.clone(), later(seconds)).await;
        assert_eq!(returned(report.expect("a report")), json!(seconds));
    }
    let report = opened.session.execute(source, later(1_800_000_150)).await;
    assert_eq!(
        returned(report.expect("a report")),
        json!(1_800_000_200),
        "never back"
    );
}

#[tokio::test]
async fn random_numbers_go_on_from_program_to_program() {
    for (component, source) in [
        (javascript().await, "Math.random()"),
        (python().await, "import random\nrandom.random()"),
    ] {
        let opened = open(component, call()).await;
        let (one, other) = (opened.result(source).await, opened.result(source).await);
        assert_ne!(one, other);
        let again = open(component, call()).await;
        assert_eq!(again.result(source).await, one, "they follow from the seed");
    }
}

#[tokio::test]
async fn two_sessions_do_not_see_each_other() {
    let component = python().await;
    let (one, other) = (
        open(component, with_scratch()).await,
        open(component, with_scratch()).await,
    );
    one.result("x = 1\nimport json\njson.mark = 1\nopen('/tmp/a', 'w').close()")
        .await;
    assert_eq!(other.raised("x").await.kind, "NameError");
    let source = "import json, os\n[hasattr(json, 'mark'), os.listdir('/tmp')]";
    assert_eq!(other.result(source).await, json!([false, []]));
    assert_eq!(one.result("x").await, json!(1));
}

#[tokio::test]
async fn one_shot_programs_still_begin_with_nothing() {
    let opened = open(javascript().await, call()).await;
    opened.result("globalThis.mark = 1").await;
    assert_eq!(
        crate::javascript::result("return typeof mark").await,
        json!("undefined")
    );
    assert_eq!(
        crate::javascript::result("let y = 1; return y").await,
        json!(1)
    );
}

#[tokio::test]
async fn a_session_ends_after_its_time_whether_it_is_used_or_not() {
    let times = |time, idle| SessionTimes {
        time_max: Duration::from_millis(time),
        idle_max: Duration::from_millis(idle),
    };
    let component = javascript().await;
    let idle = open_in(sandbox(), (component, times(60_000, 100)), call()).await;
    let idle = idle.expect("a session");
    let end = idle.task.await.expect("no panic");
    assert_eq!(end, SessionEnd::Idle(Duration::from_millis(100)));
    let later = idle
        .session
        .execute(program("a", "1"), SystemTime::UNIX_EPOCH)
        .await;
    let error = later.expect_err("it has ended").to_string();
    assert!(error.contains("it had no program for 100 ms"), "{error}");

    let used = open_in(sandbox(), (component, times(700, 500)), call()).await;
    let used = used.expect("a session");
    let mut programs = 0;
    let end = loop {
        match used.try_run("1").await {
            Ok(_) => programs += 1,
            Err(SessionError::Over(end)) => break end,
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(programs > 2, "{programs} programs");
    assert_eq!(end, SessionEnd::TimeOver(Duration::from_millis(700)));
}

#[tokio::test]
async fn the_time_of_a_session_ends_a_program_that_runs() {
    let times = SessionTimes {
        time_max: Duration::from_millis(400),
        ..LONG
    };
    let patient = limited(|limits| {
        limits.fuel = u64::MAX;
        limits.time_max = Duration::from_secs(600);
    });
    let opened = open_in(sandbox(), (javascript().await, times), patient).await;
    let opened = opened.expect("a session");
    let error = opened
        .try_run("for (;;) {}")
        .await
        .expect_err("its time is over");
    assert!(
        matches!(error, SessionError::Over(SessionEnd::TimeOver(_))),
        "{error:?}"
    );
    assert!(matches!(opened.close().await, SessionEnd::TimeOver(_)));
}

#[tokio::test]
async fn a_flag_and_whoever_gives_up_a_program_end_the_session() {
    let cancel = CancelFlag::new();
    let patient = Call {
        cancel: cancel.clone(),
        ..limited(|limits| {
            limits.fuel = u64::MAX;
            limits.time_max = Duration::from_secs(600);
        })
    };
    let opened = open(javascript().await, patient.clone()).await;
    let running = opened.try_run("for (;;) {}");
    let given_up = tokio::time::timeout(Duration::from_millis(100), running).await;
    assert!(given_up.is_err());
    assert_eq!(opened.is_over().await, SessionEnd::GivenUp);

    let (idle, busy) = (
        open(javascript().await, patient.clone()).await,
        open(javascript().await, patient).await,
    );
    let raise = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    };
    let (report, ()) = tokio::join!(busy.run("for (;;) {}"), raise);
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert_eq!(busy.close().await, SessionEnd::Cancelled);
    assert_eq!(idle.close().await, SessionEnd::Cancelled);
}

/// A sandbox in which guests have so much memory together.
fn small_sandbox(guest_memory_bytes_max: u64) -> Sandbox {
    let mut config = support::config(support::target().join("compiled"));
    config.calls_max = 8;
    config.guest_memory_bytes_max = guest_memory_bytes_max;
    Sandbox::new(config).expect("a sandbox")
}

async fn javascript_in(sandbox: &Sandbox) -> Component {
    let wasm = std::fs::read(support::target().join("plugins/javascript.wasm")).expect("built");
    sandbox.load(wasm.into()).await.expect("a component")
}

#[tokio::test]
async fn a_session_holds_memory_of_all_guests_until_it_is_closed() {
    let sandbox = small_sandbox(64 << 20);
    let component = javascript_in(&sandbox).await;
    let opened = open_in(&sandbox, (&component, LONG), call()).await;
    let opened = opened.expect("a session");
    let allocate = "globalThis.kept = new Uint8Array(40 << 20); return kept.length";
    assert_eq!(opened.result(allocate).await, json!(40 << 20));
    let call_beside = || sandbox.execute(&component, program("a", allocate), call());
    let waits = tokio::time::timeout(Duration::from_millis(300), call_beside()).await;
    assert!(waits.is_err(), "there is no room beside the session");
    assert_eq!(opened.close().await, SessionEnd::Closed);
    let report = tokio::time::timeout(Duration::from_secs(20), call_beside()).await;
    assert_eq!(
        returned(report.expect("room").expect("a report")),
        json!(40 << 20)
    );
}

#[tokio::test]
async fn a_hundred_sessions_leave_nothing_behind() {
    // Room for one at a time; each would leave a tenth of it.
    let sandbox = small_sandbox(24 << 20);
    let component = javascript_in(&sandbox).await;
    for number in 0..100 {
        let opened = open_in(&sandbox, (&component, LONG), call()).await;
        let opened = opened.expect("a session");
        let source = format!("globalThis.kept = new Uint8Array(12 << 20); {number}");
        let ran = tokio::time::timeout(Duration::from_secs(20), opened.result(&source));
        assert_eq!(ran.await.expect("room"), json!(number));
        assert_eq!(opened.close().await, SessionEnd::Closed);
    }
    assert!(sandbox.worker_ids().is_empty(), "no process is left");
}

#[tokio::test]
async fn there_are_so_many_sessions_at_once_and_no_more() {
    let sandbox = small_sandbox(1 << 30);
    let component = javascript_in(&sandbox).await;
    let open = || open_in(&sandbox, (&component, LONG), call());
    let (one, _other) = (
        open().await.expect("a session"),
        open().await.expect("a session"),
    );
    match open().await {
        Err(SessionError::Host(error @ SandboxError::Busy { .. })) => {
            assert!(
                error.to_string().contains("as many sessions are open"),
                "{error}"
            );
        }
        other => panic!("{:?}", other.map(|opened| opened.session)),
    }
    one.close().await;
    open().await.expect("there is a place again");
}

#[tokio::test]
async fn who_keeps_no_state_or_cannot_even_begin_has_no_session() {
    let guest = support::guest("echo").await;
    let refused = open_in(sandbox(), (&guest, LONG), call()).await;
    assert!(matches!(
        refused.map(|opened| opened.session),
        Err(SessionError::Host(SandboxError::WrongKind { .. }))
    ));
    let tight = limited(|limits| limits.memory_bytes_max = 1 << 20);
    let refused = open_in(sandbox(), (javascript().await, LONG), tight).await;
    assert!(matches!(
        refused.map(|opened| opened.session),
        Err(SessionError::Over(SessionEnd::LimitHit(Limit::Memory)))
    ));
}

#[tokio::test]
async fn a_text_of_megabytes_in_a_javascript_program_is_read() {
    let opened = open(javascript().await, call()).await;
    let long = "x\\n ".repeat(400_000);
    for source in [
        format!("const long = \"{long}\"; long.length"),
        format!("let other = `{long}`; return other.length"),
        format!("/* {long} */ let third = 1_200_000; third"),
    ] {
        assert_eq!(opened.result(&source).await, json!(1_200_000));
    }
}

#[tokio::test]
async fn javascript_that_is_easily_misread_does_the_same_in_a_session() {
    let opened = open(javascript().await, call()).await;
    for source in [
        "const a = { let: 1, return: 2, class: 3, const: 4 }; return [a.let, a.return, a.class, a.const]",
        "const r = /[/]\\/return let x = 1;/.test('//return let x = 1;'); return r",
        "let n = 8, g = 2; return n / 2 / g",
        "let a = 1\n;[a] = [5]\nreturn a",
        "const f = function () { return 1 }\nconst g = () => { return 2 }\nreturn f() + g()",
        "const o = { get x() { return 1 }, m() { return 2 }, if() { return 3 }, ['c' + 1]() { return 4 } }\nreturn [o.x, o.m(), o.if(), o.c1()]",
        "class A { static s() { return 1 } catch(f) { return f } for() { return 3 } }\nreturn [A.s(), new A().catch(2), new A().for()]",
        "let s = ''\nfor (const c of ['a', 'b']) { if (c) s += c; else return 0 }\nreturn s",
        "switch (2) { case 1: return 1; case 2: { let x = 4; return x } default: return 3 }",
        "const t = `a${ `b${ (() => { return '}' })() }` }c`; return t",
        "const x = 1 // return 2\n/* let y */ return x",
        "let a = 5, b = a++\n, c = a\nreturn [a, b, c]",
        "const { a, b: { c = 3 } = {}, ...rest } = { a: 1, d: 4 }; return [a, c, rest.d]",
        "let let1 = 1, $return = 2, _class = 3; return let1 + $return + _class",
        "if (false) return 1\nelse return { a: [1, 2], b: `x` }",
        "do { return 1 } while (false)",
        "const f = async () => { return 1 }; return typeof f",
        "function* g() { yield 1; return 2 }\nreturn [...g()]",
        "const f = (a = { b: 1 }, [c] = [2]) => { return a.b + c }; return f()",
        "let x\n= 3\nreturn x",
        "return (\n1 + 1\n)",
        "return [1, 2, 3]\n  .map((n) => { return n * 2 })\n  .filter((n) => n > 2)",
        "const last = [1]\nlet i = 0\nreturn last\n[i]",
        "label: for (;;) { for (;;) { break label } }\nreturn 'out'",
        "try { null.x } catch { return 'caught' } finally { let y = 1 }",
        "let a = 1; { let a = 2; { const a = 3 } } return a",
        "const a = 'it\\'s', b = \"\\\"let\\\"\"; return a + b",
        "const n = 1_000.5e1 + .5 + 0xff + 10n.toString().length; return n",
        "var a = 3\nvar b = a\n++a\nreturn [a, b]",
        "const a = [1, 2].map(n => n + 1), b = a.map(function (n) { return n })\nreturn b",
    ] {
        let expected = crate::javascript::result(source).await;
        assert_eq!(opened.result(source).await, expected, "{source}");
        // Again, where all of its names are there already.
        assert_eq!(opened.result(source).await, expected, "again: {source}");
    }
}

#[tokio::test]
async fn thousands_of_programs_take_no_more_memory_and_show_their_own_lines() {
    for (component, programs) in [(javascript().await, 6_000), (python().await, 1_000)] {
        let opened = open(component, call()).await;
        opened.run("x = 0").await;
        let before = opened.run("x += 1").await.usage;
        assert!((1..=64).contains(&before.instances), "{before:?}");
        for _ in 0..programs {
            opened.run("x += 1").await;
        }
        let after = opened.run("x += 1").await.usage;
        let grown = after.memory_bytes_peak - before.memory_bytes_peak;
        assert!(grown < 4 << 20, "{grown} bytes");
        assert!(after.fuel < 50_000_000, "{after:?}");
        let exception = opened.raised("x = x\n\nnowhere()").await;
        assert_eq!(exception.line, Some(3), "{exception:?}");
        assert!(exception.traceback.contains("<program>"), "{exception:?}");
        assert_eq!(opened.result("x").await, json!(programs + 2));
    }
}

#[tokio::test]
async fn whoever_breaks_the_interpreter_breaks_an_own_session_and_no_other() {
    let javascript_breaks = [
        "globalThis.eval = null; Function.prototype.constructor = null; RegExp.prototype.test = () => true; 1",
        "Object.defineProperty(globalThis, 'input', { get() { throw 1 }, configurable: false }); 1",
        "Object.defineProperty(globalThis, 'result', { get() { for (;;) {} } }); 1",
        "Array.prototype.sort = String.prototype.slice = String.prototype.charCodeAt = () => { throw 2 }; 1",
        "Object.defineProperty(Object.prototype, 'frame', { get() { throw 3 } }); 1",
        "Object.freeze(globalThis); 1",
        "delete globalThis.Math; delete globalThis.JSON; 1",
    ];
    let python_breaks = [
        "import sys, builtins\nsys.modules.clear()\nbuiltins.__dict__.clear()",
        "import sys\nsys.setrecursionlimit(60)",
        "import sys\nsys.modules['__main__'] = None\ndel sys.modules['json']",
        "import ast, dis, json\nast.parse = dis.get_instructions = json.loads = None\nresult = 1",
        "import sys\nsys.settrace(lambda *a: 1 / 0)",
        "globals().clear()",
        "class R(str):\n    def __eq__(self, o): raise ValueError\nresult = R()",
    ];
    let all = javascript_breaks.map(|source| (true, source));
    for (is_javascript, source) in all.into_iter().chain(python_breaks.map(|it| (false, it))) {
        let component = match is_javascript {
            true => javascript().await,
            false => python().await,
        };
        let limits = |limits: &mut Limits| limits.fuel = 2_000_000_000;
        let opened = open(component, limited(limits)).await;
        opened.run("let1 = 1").await;
        for source in [source, "2", source, "throw"] {
            match opened.try_run(source).await {
                Ok(_) | Err(SessionError::Over(_)) => {}
                Err(SessionError::Host(error)) => panic!("{source}: {error}"),
            }
        }
        let other = open(component, call()).await;
        assert_eq!(other.result("1 + 1").await, json!(2), "{source}");
    }
}
