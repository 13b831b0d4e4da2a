//! Guests that wait for ever, ask for ever, or hold whatever can be held.

use std::time::Duration;

use bytes::Bytes;
use troupe_sandbox::{Limit, Limits, Outcome, Report, TrapCode};

use super::{good_call, trap_code, wasi};
use crate::support::{invocation, limited, sandbox};

async fn report(code: &str, change: impl FnOnce(&mut Limits)) -> Report {
    report_of(wasi::agent(code), change).await
}

async fn report_of(wasm: Bytes, change: impl FnOnce(&mut Limits)) -> Report {
    let component = sandbox().load(wasm).await;
    let component = component.expect("a component");
    let call = limited(|limits| {
        limits.fuel = 100_000_000;
        change(limits);
    });
    let report = sandbox()
        .call_agent(&component, invocation("do", "null"), call)
        .await
        .expect("the host is well");
    good_call().await;
    report
}

async fn outcome(code: &str) -> Outcome {
    report(code, |_| ()).await.outcome
}

/// It does this for ever.
fn endless(code: &str) -> String {
    format!("(loop {code} (br 0))")
}

/// A timer that is due after so many nanoseconds.
fn timer(nanoseconds: i64) -> String {
    format!("(local.set $handle (call $timer (i64.const {nanoseconds})))")
}

const POLLED: &str = "(i32.store (i32.const 128) (local.get $handle))
    (call $poll (i32.const 128) (i32.const 1) (i32.const 8))";

#[tokio::test]
async fn a_guest_that_can_do_all_this_returns() {
    let all = format!(
        "{} (call $block (local.get $handle)) (drop (call $ready (local.get $handle))) {POLLED}
        (call $drop (local.get $handle)) (drop (call $now)) (call $random (i64.const 65536) (i32.const 8))
        (call $check_write (call $stdout) (i32.const 8)) (drop (call $fields))",
        timer(1_000)
    );
    assert_eq!(outcome(&all).await, Outcome::Returned("null".to_owned()));
}

#[tokio::test]
async fn a_sleep_without_an_end_ends_by_time() {
    for wait in ["(call $block (local.get $handle))", POLLED] {
        let code = format!("{} {wait}", timer(-1));
        let report = report(&code, |limits| limits.time_max = Duration::from_millis(50)).await;
        assert_eq!(report.outcome, Outcome::LimitHit(Limit::Time));
        let took = report.usage.duration;
        assert!(took >= Duration::from_millis(50), "{took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test]
async fn waiting_for_nothing_again_and_again_is_paid_for() {
    for wait in [
        "(call $block (local.get $handle))",
        "(drop (call $ready (local.get $handle)))",
        POLLED,
    ] {
        let code = endless(&format!(
            "{} {wait} (call $drop (local.get $handle))",
            timer(0)
        ));
        assert_eq!(
            outcome(&code).await,
            Outcome::LimitHit(Limit::Fuel),
            "{wait}"
        );
    }
    let clock = endless("(drop (call $now))");
    assert_eq!(outcome(&clock).await, Outcome::LimitHit(Limit::Fuel));
}

/// Asks about one timer, named so many times in one list.
fn named(times: u32) -> String {
    let end = 128 + 4 * times;
    format!(
        "{} (local.set 0 (i32.const 128))
        (loop (i32.store (local.get 0) (local.get $handle)) (local.set 0 (i32.add (local.get 0) (i32.const 4)))
            (br_if 0 (i32.lt_u (local.get 0) (i32.const {end}))))
        (call $poll (i32.const 128) (i32.const {times}) (i32.const 8))",
        timer(0)
    )
}

#[tokio::test]
async fn one_timer_named_a_thousand_times_is_paid_for_each_time_and_ten_thousand_are_too_many() {
    let report = report(&named(1_000), |_| ()).await;
    assert_eq!(report.outcome, Outcome::Returned("null".to_owned()));
    assert!(report.usage.fuel > 1_000 * 2_000, "{}", report.usage.fuel);
    let outcome = outcome(&named(10_000)).await;
    assert_eq!(trap_code(outcome), TrapCode::InvalidData);
}

#[tokio::test]
async fn no_debt_is_lost_while_the_host_waits_for_room() {
    // It grows its memory, a call of the host within the one that asks; or works so long that ticks interrupt it.
    let work = "(loop (local.set 0 (i32.add (local.get 0) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get 0) (i32.const 1000000))))";
    for first in ["(drop (memory.grow (i32.const 0)))", work] {
        let wasm = wasi::agent_with_room(&named(1_000), first);
        let mut all = Vec::new();
        for _ in 0..3 {
            let report = report_of(wasm.clone(), |_| ()).await;
            assert_eq!(report.outcome, Outcome::Returned("null".to_owned()));
            all.push(report.usage.fuel);
        }
        assert!(all[0] > 1_000 * 2_000, "{first}: {all:?}");
        assert_eq!(all, [all[0]; 3], "{first}");
    }
}

#[tokio::test]
async fn waiting_for_no_timer_at_all_is_a_trap() {
    let code = "(call $poll (i32.const 128) (i32.const 0) (i32.const 8))";
    let outcome = outcome(code).await;
    assert!(matches!(outcome, Outcome::Trapped(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_handle_that_was_never_given_is_invalid() {
    for code in [
        "(call $block (i32.const 77))",
        "(call $drop (i32.const -1))",
        "(call $check_write (i32.const 0) (i32.const 8))",
    ] {
        assert_eq!(
            trap_code(outcome(code).await),
            TrapCode::InvalidData,
            "{code}"
        );
    }
    let twice = format!(
        "{} (call $drop (local.get $handle)) (call $drop (local.get $handle))",
        timer(0)
    );
    assert_eq!(trap_code(outcome(&twice).await), TrapCode::InvalidData);
    // A stream where a timer is wanted.
    let other = "(call $block (call $stdout))";
    assert_eq!(trap_code(outcome(other).await), TrapCode::InvalidData);
}

#[tokio::test]
async fn handles_are_given_up_to_a_number() {
    for code in [
        timer(-1),
        "(drop (call $stdout))".to_owned(),
        "(drop (call $fields))".to_owned(),
    ] {
        let report = report(&endless(&code), |limits| limits.fuel = 10_000_000_000).await;
        let fuel = report.usage.fuel;
        assert_eq!(trap_code(report.outcome), TrapCode::InvalidData, "{code}");
        assert!(
            fuel < 10_000_000,
            "{code}: it held more than it may: {fuel}"
        );
    }
}

#[tokio::test]
async fn entropy_comes_in_pieces_that_are_paid_for() {
    for bytes in ["1099511627776", "-1", "65537"] {
        let code = format!("(call $random (i64.const {bytes}) (i32.const 8))");
        assert_eq!(
            trap_code(outcome(&code).await),
            TrapCode::InvalidData,
            "{bytes}"
        );
    }
    let flood = endless("(call $random (i64.const 65536) (i32.const 8))");
    let report = report(&flood, |limits| {
        limits.time_max = Duration::from_millis(500);
    })
    .await;
    let ends = [Limit::Fuel, Limit::Time].map(Outcome::LimitHit);
    assert!(ends.contains(&report.outcome), "{:?}", report.outcome);
    assert!(report.usage.duration < Duration::from_secs(2));
}

#[tokio::test]
async fn writes_of_nothing_and_of_single_bytes_are_paid_for() {
    for length in [0, 1, 4_096] {
        let write = format!(
            "(call $check_write (local.get $handle) (i32.const 8))
            (call $write (local.get $handle) (i32.const 64) (i32.const {length}) (i32.const 24))"
        );
        let code = format!("(local.set $handle (call $stdout)) {}", endless(&write));
        let report = report(&code, |_| ()).await;
        assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel), "{length}");
        assert!(report.stdout.text.len() <= 2 << 20);
    }
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_paid_for() {
    for length in [0, 1, 60_000] {
        let line = format!(
            "(call $log (i32.const 1) (i32.const 64) (i32.const {length}) (i32.const 0) (i32.const 0) (i32.const 0))"
        );
        let report = report(&endless(&line), |limits| limits.log_bytes_max = 1_000).await;
        assert_eq!(report.outcome, Outcome::LimitHit(Limit::Fuel), "{length}");
        assert!(report.usage.log_bytes <= 1_000);
    }
}

#[tokio::test]
async fn arguments_of_64_megabytes_are_not_taken() {
    let code = "(drop (memory.grow (i32.const 1100)))
        (call $call_tool (i32.const 64) (i32.const 4) (i32.const 1048576) (i32.const 67108864) (i32.const 8))";
    let report = report(code, |limits| limits.memory_bytes_max = 128 << 20).await;
    assert!(report.usage.memory_bytes_peak > 64 << 20);
    assert_eq!(trap_code(report.outcome), TrapCode::InvalidData);
}
