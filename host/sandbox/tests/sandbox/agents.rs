//! Agents written in Rust: how calls end, what they use, and what a guest sees of its surroundings.

use std::time::Duration;

use serde_json::json;
use troupe_sandbox::{Call, CancelFlag, ComponentKind, Limit, Outcome, SandboxError, TrapCode};

use crate::support::{
    MEMORY, RUN, call, guest, invocation, limited, program, returned, run_guest, run_wat, sandbox,
};

#[tokio::test]
async fn an_agent_is_told_what_to_do_and_returns() {
    let call = limited(|limits| limits.time_max = Duration::from_millis(1_234));
    let report = run_guest("echo", invocation("summarize", r#"{"text":"é\n"}"#), call).await;
    assert!(
        report.usage.fuel > 0
            && report.usage.memory_bytes_peak > 0
            && !report.usage.duration.is_zero()
    );
    let told = json!({
        "action": "summarize", "input": {"text": "é\n"}, "execution": "exec_test", "workflow": "Test",
        "step": "step", "attempt": 1, "idempotency_key": "exec_test/step", "time_limit_ms": 1_234,
    });
    assert_eq!(returned(report), told);
}

#[tokio::test]
async fn the_same_call_uses_the_same_fuel() {
    let mut fuel = Vec::new();
    for _ in 0..3 {
        fuel.push(
            run_guest("surroundings", invocation("compute", "100000"), call())
                .await
                .usage
                .fuel,
        );
    }
    assert!(fuel.iter().all(|used| *used == fuel[0]), "{fuel:?}");
}

#[tokio::test]
async fn each_way_to_end_is_told_apart() {
    let end = async |action: &str| {
        run_guest("end", invocation(action, "0"), call())
            .await
            .outcome
    };

    let Outcome::Declined(failure) = end("decline").await else {
        panic!("not declined")
    };
    assert_eq!(
        (failure.message.as_str(), failure.transient),
        ("The invoice has no total.", false)
    );
    assert_eq!(failure.details.as_deref(), Some(r#"{"missing":["total"]}"#));
    assert!(
        matches!(end("decline for now").await, Outcome::Declined(failure) if failure.transient)
    );
    let Outcome::InvalidResult(why) = end("decline badly").await else {
        panic!("taken for JSON")
    };
    assert!(
        why.starts_with("the agent failed with \"Bad details follow.\""),
        "{why}"
    );

    assert!(
        matches!(end("panic").await, Outcome::Trapped(trap) if trap.code == TrapCode::Unreachable)
    );
    assert!(
        matches!(end("divide").await, Outcome::Trapped(trap) if trap.code == TrapCode::Unreachable)
    );
    assert!(
        matches!(end("recurse").await, Outcome::Trapped(trap) if trap.code == TrapCode::StackOverflow)
    );
    assert!(matches!(end("exit").await, Outcome::Exited(code) if code != 0));
    let Outcome::InvalidResult(why) = end("return no JSON").await else {
        panic!("taken for JSON")
    };
    assert_eq!(
        why,
        "the result is not a JSON document: EOF while parsing a value at line 1 column 9"
    );
    let Outcome::InvalidResult(why) = end("return a deep document").await else {
        panic!("taken")
    };
    assert_eq!(
        why,
        "the result: lists and objects are nested more than 127 levels deep"
    );
    assert_eq!(end("allocate").await, Outcome::LimitHit(Limit::Memory));
}

#[tokio::test]
async fn output_of_a_guest_that_traps_is_kept() {
    let report = run_guest("end", invocation("panic", ""), call()).await;
    assert_eq!(report.stdout.text, "before the end\n");
    assert!(
        report.stderr.text.contains("this guest panics"),
        "{}",
        report.stderr.text
    );
}

#[tokio::test]
async fn a_result_has_a_largest_size() {
    let limit = |limits: &mut troupe_sandbox::Limits| limits.output_bytes_max = 1_000;
    let report = run_guest("end", invocation("return much", "998"), limited(limit)).await;
    assert!(matches!(report.outcome, Outcome::Returned(json) if json.len() == 1_000));
    let report = run_guest("end", invocation("return much", "999"), limited(limit)).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Output));
    // Larger than what may cross the boundary at all: it is not even copied.
    let report = run_guest(
        "end",
        invocation("return much", "100000000"),
        limited(limit),
    )
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Output));
    assert_eq!(Limit::Output.code(), "limit_output");
}

#[tokio::test]
async fn a_guest_sees_nothing_of_the_host() {
    let seen = returned(run_guest("surroundings", invocation("look", ""), call()).await);
    assert_eq!(seen["arguments"], json!([]));
    assert_eq!(seen["environment"], json!([]));
    assert_eq!(seen["stdin"], json!("ok: \"\""));
    assert_eq!(seen["now_s"], json!(1_800_000_000));
    for denied in [
        "root", "passwd", "write", "connect", "listen", "udp", "resolve",
    ] {
        let answer = seen[denied].as_str().expect("a text");
        assert!(answer.starts_with("error: "), "{denied}: {answer}");
    }
}

#[tokio::test]
async fn random_follows_from_the_seed() {
    let random = async |seed: u8| {
        let call = troupe_sandbox::Call {
            seed: [seed; 32],
            ..call()
        };
        returned(run_guest("surroundings", invocation("look", ""), call).await)["random"].clone()
    };
    assert_eq!(random(1).await, random(1).await);
    assert_ne!(random(1).await, random(2).await);
}

#[tokio::test]
async fn sleeping_takes_time_that_is_limited() {
    let limit = |limits: &mut troupe_sandbox::Limits| limits.time_max = Duration::from_millis(200);
    let report = run_guest("surroundings", invocation("sleep", "50"), limited(limit)).await;
    assert!(
        report.usage.duration >= Duration::from_millis(50),
        "{:?}",
        report.usage.duration
    );
    assert_eq!(returned(report), json!(50));
    let report = run_guest(
        "surroundings",
        invocation("sleep", "18446744073709551615"),
        limited(limit),
    )
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Time));
}

#[tokio::test]
async fn a_flood_of_output_is_cut_counted_and_paid_for() {
    let limit = |limits: &mut troupe_sandbox::Limits| limits.output_bytes_max = 1_000;
    let report = run_guest("surroundings", invocation("print", "1000"), limited(limit)).await;
    assert_eq!(
        (report.usage.stdout_bytes, report.usage.stderr_bytes),
        (17_000, 17_000)
    );
    let kept = report.stdout.bytes_total + report.stderr.bytes_total
        - report.stdout.bytes_dropped
        - report.stderr.bytes_dropped;
    assert_eq!(kept, 1_000);
    assert!(
        report.stdout.text.ends_with("more bytes were not kept]\n"),
        "{}",
        report.stdout.text
    );
    assert!(report.usage.fuel > 34_000);
    assert_eq!(returned(report), json!(null));

    let few = limited(|limits| limits.fuel = 50_000_000);
    let report = run_guest("surroundings", invocation("print", "1000000000"), few).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel));
}

#[tokio::test]
async fn a_raised_flag_cancels_a_guest_that_computes_and_one_that_sleeps() {
    for action in ["compute", "sleep"] {
        let call = call();
        let flag = call.cancel.clone();
        let guest = guest("surroundings").await;
        let running = sandbox().call_agent(&guest, invocation(action, "100000000000"), call);
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            flag.cancel();
        };
        let (report, ()) = tokio::join!(running, cancel);
        let report = report.expect("the host is well");
        assert_eq!(report.outcome, Outcome::Cancelled, "{action}");
        assert!(report.usage.duration < Duration::from_secs(5), "{action}");
    }
}

#[tokio::test]
async fn a_call_that_was_cancelled_before_it_began_does_nothing() {
    let cancel = CancelFlag::new();
    cancel.cancel();
    assert!(cancel.is_cancelled());
    let report = run_guest(
        "echo",
        invocation("", ""),
        troupe_sandbox::Call { cancel, ..call() },
    )
    .await;
    assert_eq!((report.outcome, report.usage.fuel), (Outcome::Cancelled, 0));
}

#[tokio::test]
async fn a_component_is_called_as_what_it_is() {
    let echo = guest("echo").await;
    assert_eq!(echo.kind(), ComponentKind::Agent);
    let error = sandbox()
        .execute(&echo, program("x.py", "1"), call())
        .await
        .expect_err("no interpreter");
    assert!(matches!(error, SandboxError::WrongKind { .. }) && !error.is_retryable());
    assert!(
        error
            .to_string()
            .ends_with("is an agent, but an interpreter was called"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_wait_for_their_turn_and_all_return() {
    let echo = guest("echo").await;
    let calls = (0..200).map(|_| sandbox().call_agent(&echo, invocation("x", "1"), call()));
    for report in futures::future::join_all(calls).await {
        assert_eq!(
            returned(report.expect("the host is well"))["input"],
            json!(1)
        );
    }
}

/// The server runs calls as tasks of their own.
#[test]
fn a_call_can_move_between_threads() {
    fn check<T: Send>(_: T) {}
    let future = async {
        let echo = guest("echo").await;
        let report = sandbox()
            .call_agent(&echo, invocation("", ""), call())
            .await;
        report.is_ok()
            && sandbox()
                .execute(&echo, program("", ""), call())
                .await
                .is_ok()
    };
    check(future);
}

#[test]
fn every_guest_has_a_test() {
    let tests = [
        include_str!("agents.rs"),
        include_str!("capabilities.rs"),
        include_str!("clock.rs"),
        include_str!("commands.rs"),
        include_str!("files.rs"),
        include_str!("files/paths.rs"),
        include_str!("floor.rs"),
        include_str!("tools.rs"),
        include_str!("http.rs"),
    ]
    .concat();
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests/examples");
    for guest in std::fs::read_dir(guests).expect("the guests") {
        let path = guest.expect("a guest").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a name");
        let used = [format!("(\"{name}\""), format!("(\n        \"{name}\"")];
        assert!(
            used.iter().any(|used| tests.contains(used)),
            "the guest {name} has no test"
        );
    }
}

#[tokio::test]
async fn the_usage_says_how_many_instances_there_were() {
    let echo = async |call: Call| run_guest("echo", invocation("do", "1"), call).await;
    let report = echo(call()).await;
    let made = report.usage.instances;
    assert!(made > 1, "{report:?}");
    // Just so many are needed: the limit and the usage speak of the same.
    let report = echo(limited(|limits| limits.instances_max = made)).await;
    assert!(matches!(report.outcome, Outcome::Returned(_)), "{report:?}");
    assert_eq!(report.usage.instances, made);
    let report = echo(limited(|limits| limits.instances_max = made - 1)).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Instances));
    assert_eq!(report.usage.instances, made - 1);
    // Also of the first call of a component, and however it ends.
    for (end, fuel) in [
        ("unreachable", 1_000_000),
        ("(loop (br 0)) (i32.const 0)", 1_000),
    ] {
        let module = format!("(module {MEMORY} {RUN} {end}))");
        let report = run_wat(&module, limited(|limits| limits.fuel = fuel)).await;
        assert!(report.usage.instances > 0, "{report:?}");
    }
}
