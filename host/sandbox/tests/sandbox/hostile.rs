//! Guests that mean harm, as WebAssembly text: each ends as itself, and the host is well afterwards.

mod bytes;
mod generated;
mod holding;
mod interpreters;
pub(crate) mod leaks;
mod lifecycle;
mod values;
mod waiting;
mod wasi;

use std::time::Duration;

use troupe_sandbox::{Limit, Outcome, Sandbox, TrapCode};

use crate::support::{MEMORY, RUN, agent_wasm, call, config, invocation, limited, run_wat, target};

/// A guest whose `run` is this.
fn body(code: &str) -> String {
    format!("(module {MEMORY} {RUN} {code}))")
}

/// A guest that returns the text at address 64 of this length: valid JSON where it is 4 (`null`).
pub(crate) fn returning(length: u32, more: &str) -> String {
    format!(
        r#"(module {MEMORY} (data (i32.const 64) "null") {more} {RUN}
            (i32.store8 (i32.const 16) (i32.const 0))
            (i32.store (i32.const 20) (i32.const 64))
            (i32.store (i32.const 24) (i32.const {length}))
            (i32.const 16)))"#
    )
}

async fn outcome(module: &str) -> Outcome {
    let small = limited(|limits| {
        limits.fuel = 100_000_000;
        limits.memory_bytes_max = 16 << 20;
    });
    let report = run_wat(module, small).await;
    assert!(report.usage.memory_bytes_peak <= 16 << 20);
    good_call().await;
    report.outcome
}

/// Whatever happened before: the next guest is served.
async fn good_call() {
    let next = run_wat(&returning(4, ""), call()).await;
    assert_eq!(next.outcome, Outcome::Returned("null".to_owned()));
}

fn trap_code(outcome: Outcome) -> TrapCode {
    match outcome {
        Outcome::Trapped(trap) => trap.code,
        other => panic!("{other:?} is no trap"),
    }
}

#[tokio::test]
async fn an_endless_loop_ends_by_fuel() {
    assert_eq!(
        outcome(&body("(loop (br 0)) (i32.const 0)")).await,
        Outcome::LimitHit(Limit::Fuel)
    );
}

#[tokio::test]
async fn an_endless_loop_ends_by_time_where_fuel_does_not_stop_it() {
    let patient = limited(|limits| {
        limits.fuel = u64::MAX;
        limits.time_max = Duration::from_millis(100);
    });
    let report = run_wat(&body("(loop (br 0)) (i32.const 0)"), patient).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Time));
    assert!(report.usage.duration >= Duration::from_millis(100));
    // What it computed until then is known: a loop of two operations takes a nanosecond or so.
    assert!(report.usage.fuel >= 10_000_000, "{}", report.usage.fuel);
    assert!(
        report.usage.duration < Duration::from_secs(2),
        "{:?}",
        report.usage.duration
    );
}

#[tokio::test]
async fn an_endless_loop_in_the_start_function_ends_too() {
    let module =
        format!("(module {MEMORY} (func $s (loop (br 0))) (start $s) {RUN} (i32.const 0)))");
    assert_eq!(outcome(&module).await, Outcome::LimitHit(Limit::Fuel));
}

#[tokio::test]
async fn an_endless_loop_while_the_host_asks_for_room_ends_too() {
    let module = format!(
        r#"(module (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) (i32.const 0))
            {RUN} (i32.const 0)))"#
    );
    assert_eq!(outcome(&module).await, Outcome::LimitHit(Limit::Fuel));
}

#[tokio::test]
async fn large_copies_are_paid_for_by_the_byte() {
    let copies = "(memory.grow (i32.const 100)) drop
        (loop (memory.copy (i32.const 65536) (i32.const 131072) (i32.const 4194304)) (br 0)) (i32.const 0)";
    assert_eq!(outcome(&body(copies)).await, Outcome::LimitHit(Limit::Fuel));
}

#[tokio::test]
async fn memory_that_does_not_grow_any_more_is_for_the_guest_to_handle() {
    let grow = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    let module = returning(4, "").replace(
        "(i32.store8 (i32.const 16)",
        &format!("{grow} (i32.store8 (i32.const 16)"),
    );
    assert_eq!(outcome(&module).await, Outcome::Returned("null".to_owned()));
    assert_eq!(
        outcome(&body(&format!("{grow} unreachable"))).await,
        Outcome::LimitHit(Limit::Memory)
    );
}

#[tokio::test]
async fn a_trap_long_after_a_refused_allocation_is_a_trap() {
    let module = body(
        "(drop (memory.grow (i32.const 60000))) (drop (memory.grow (i32.const 1))) unreachable",
    );
    let Outcome::Trapped(trap) = outcome(&module).await else {
        panic!("no trap")
    };
    assert_eq!(trap.code, TrapCode::Unreachable);
    assert!(trap.message.contains("more memory than it may have"));
}

#[tokio::test]
async fn all_guests_together_have_a_ceiling_and_wait_for_their_share() {
    let mut config = config(target().join("compiled"));
    config.calls_max = 32;
    config.guest_memory_bytes_max = 64 << 20;
    let sandbox = Sandbox::new(config).expect("a sandbox");
    // It takes 40 MiB and works for a while: no two of them fit at once.
    let busy = "(drop (memory.grow (i32.const 640))) (loop (local.set 0 (i32.add (local.get 0) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get 0) (i32.const 3000000))))";
    let module = returning(4, "").replace(
        "(i32.store8 (i32.const 16)",
        &format!("{busy} (i32.store8 (i32.const 16)"),
    );
    let component = sandbox.load(agent_wasm(&module)).await.expect("a guest");
    let calls = (0..12).map(|_| sandbox.call_agent(&component, invocation("do", "null"), call()));
    for report in futures::future::join_all(calls).await {
        let report = report.expect("the host is well");
        assert_eq!(report.outcome, Outcome::Returned("null".to_owned()));
    }
    let larger = limited(|limits| limits.memory_bytes_max = 1 << 30);
    let module =
        body("(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable");
    let component = sandbox.load(agent_wasm(&module)).await.expect("a guest");
    let report = sandbox
        .call_agent(&component, invocation("do", "null"), larger)
        .await
        .expect("the host is well");
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Memory));
    assert!(report.usage.memory_bytes_peak <= 64 << 20);
}

#[tokio::test]
async fn a_memory_that_is_too_large_from_the_beginning_is_refused() {
    let module = body("(i32.const 0)").replace(
        "(memory (export \"memory\") 1)",
        "(memory (export \"memory\") 1000)",
    );
    assert_eq!(outcome(&module).await, Outcome::LimitHit(Limit::Memory));
}

#[tokio::test]
async fn a_table_counts_as_memory() {
    let module = format!("(module {MEMORY} (table 1 funcref) {RUN}
        (loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable))");
    let report = run_wat(
        &module,
        limited(|limits| limits.memory_bytes_max = 256 << 10),
    )
    .await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Memory));
    assert!(
        report.usage.memory_bytes_peak > 240 << 10,
        "{}",
        report.usage.memory_bytes_peak
    );
}

#[tokio::test]
async fn endless_recursion_overflows_the_stack() {
    let module =
        format!("(module {MEMORY} (func $r (call $r) (call $r)) {RUN} (call $r) (i32.const 0)))");
    assert_eq!(trap_code(outcome(&module).await), TrapCode::StackOverflow);
}

#[tokio::test]
async fn a_result_that_is_not_there_is_invalid() {
    for code in [
        "(i32.const -4)", // a result outside of memory
        "(i32.const 3)",  // not aligned
    ] {
        assert_eq!(
            trap_code(outcome(&body(code)).await),
            TrapCode::InvalidData,
            "{code}"
        );
    }
    // A text that reaches beyond the memory, and one of 4 GiB.
    assert_eq!(
        trap_code(outcome(&returning(70_000, "")).await),
        TrapCode::InvalidData
    );
    assert_eq!(
        trap_code(outcome(&returning(u32::MAX, "")).await),
        TrapCode::InvalidData
    );
}

#[tokio::test]
async fn a_result_that_is_no_text_is_invalid() {
    let module = returning(4, "").replace("\"null\"", "\"\\ff\\fe\\fd\\fc\"");
    assert_eq!(trap_code(outcome(&module).await), TrapCode::InvalidData);
}

#[tokio::test]
async fn a_case_that_does_not_exist_is_invalid() {
    let module = returning(4, "").replace(
        "(i32.const 16) (i32.const 0)",
        "(i32.const 16) (i32.const 9)",
    );
    assert_eq!(trap_code(outcome(&module).await), TrapCode::InvalidData);
}

#[tokio::test]
async fn room_that_is_not_in_memory_is_invalid() {
    let module = body("(i32.const 0)").replace("(i32.const 4096)", "(i32.const -65536)");
    assert_eq!(trap_code(outcome(&module).await), TrapCode::InvalidData);
}

#[tokio::test]
async fn a_wild_pointer_is_told_from_a_deep_recursion() {
    assert_eq!(
        trap_code(outcome(&body("(i32.load (i32.const -4))")).await),
        TrapCode::OutOfBounds
    );
}

#[tokio::test]
async fn asking_what_is_ready_for_ever_is_paid_for() {
    // WASI itself is not in the world of this module, so the guest floods a function of ours instead.
    let flood = |interface: &str, name: &str| {
        format!(
            r#"(module (import "troupe:agent/{interface}@0.1.0" "{name}" (func $ask (param i32))) {MEMORY} {RUN}
            (loop (call $ask (i32.const 8)) (br 0)) (i32.const 0)))"#
        )
    };
    let outcome_of = async |interface, name| outcome(&flood(interface, name)).await;
    assert_eq!(
        outcome_of("llm", "models").await,
        Outcome::LimitHit(Limit::Fuel)
    );
    // What is left is recorded with each look.
    assert_eq!(
        outcome_of("budget", "left").await,
        Outcome::LimitHit(Limit::HostCalls)
    );
}

#[tokio::test]
async fn a_request_that_lies_about_its_length_is_invalid() {
    let module = format!(
        r#"(module (import "troupe:agent/context@0.1.0" "output" (func $output (param i32 i32 i32))) {MEMORY} {RUN}
            (call $output (i32.const 0) (i32.const 2000000000) (i32.const 8)) (i32.const 0)))"#
    );
    assert_eq!(trap_code(outcome(&module).await), TrapCode::InvalidData);
}

#[tokio::test]
async fn a_list_that_repeats_one_text_a_million_times_is_too_much() {
    // 8,000 texts of 60,000 bytes each, all the same one: 480 MB that a guest of 64 KiB asks the host to copy.
    let module = format!(
        r#"(module (import "troupe:agent/search@0.1.0" "search" (func $search (param i32 i32 i32 i32 i32 i32 i32)))
            (memory (export "memory") 3)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
            {RUN} (local $i i32)
            (loop
                (i32.store (i32.add (i32.const 65536) (i32.mul (local.get $i) (i32.const 8))) (i32.const 0))
                (i32.store (i32.add (i32.const 65540) (i32.mul (local.get $i) (i32.const 8))) (i32.const 60000))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $i) (i32.const 8000))))
            (call $search (i32.const 0) (i32.const 1) (i32.const 65536) (i32.const 8000) (i32.const 0) (i32.const 0) (i32.const 8))
            (i32.const 0)))"#
    );
    assert_eq!(trap_code(outcome(&module).await), TrapCode::InvalidData);
}
