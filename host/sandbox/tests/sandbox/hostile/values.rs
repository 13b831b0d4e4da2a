//! Guests that hand the host something else than they promised, or give it no room for what it hands to them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use troupe_sandbox::{Limit, Outcome, TrapCode};
use wit_component::StringEncoding;

use super::{body, good_call, outcome, returning, trap_code};
use crate::support::{
    MEMORY, RUN, call_tool, encoded_tool_wasm, limited, run_wat, sandbox, tool_wasm,
};

/// Calls the function `f` of a tool.
async fn call_f(wasm: Bytes, arguments: Value) -> Outcome {
    let component = sandbox().load(wasm).await.expect("a component");
    let small = limited(|limits| {
        limits.fuel = 100_000_000;
        limits.memory_bytes_max = 16 << 20;
    });
    let report = call_tool(&component, "f", arguments, small).await;
    assert!(report.usage.memory_bytes_peak <= 16 << 20);
    good_call().await;
    report.outcome
}

/// Hands a list to a function whose host has to ask this code for room.
async fn room(realloc: &str) -> Outcome {
    let module = format!(
        r#"(module (memory (export "memory") 1) (global $calls (mut i32) (i32.const 0))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
            (func (export "f") (param i32 i32) (result i32) (i32.load (local.get 0))))"#
    );
    let world = "world tool { export f: func(numbers: list<u32>) -> u32; }";
    call_f(tool_wasm(world, &module), json!({ "numbers": [7, 8] })).await
}

#[tokio::test]
async fn room_is_in_memory_and_aligned_or_the_guest_ends() {
    assert_eq!(
        room("(i32.const 4096)").await,
        Outcome::Returned("7".to_owned())
    );
    for place in [
        "4097",  // no place for a number
        "65532", // the second number lies behind the end
        "65536", // all of it does
        "-8",    // or at the end of all addresses
        "-2147483648",
    ] {
        let outcome = room(&format!("(i32.const {place})")).await;
        assert_eq!(trap_code(outcome), TrapCode::InvalidData, "{place}");
    }
}

#[tokio::test]
async fn whoever_is_asked_for_room_may_do_as_it_likes_within_its_limits() {
    assert_eq!(trap_code(room("unreachable").await), TrapCode::Unreachable);
    assert_eq!(
        room("(loop (br 0)) (i32.const 0)").await,
        Outcome::LimitHit(Limit::Fuel)
    );
    let grown = "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))";
    assert_eq!(room(grown).await, Outcome::Returned("7".to_owned()));
    let all = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    assert_eq!(room(all).await, Outcome::LimitHit(Limit::Memory));
    let deep = "(call 0 (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
        (drop (call 0 (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))";
    assert_eq!(trap_code(room(deep).await), TrapCode::StackOverflow);
}

#[tokio::test]
async fn whoever_is_asked_for_room_may_not_call_the_host() {
    let module = format!(
        r#"(module (import "troupe:agent/llm@0.1.0" "models" (func $models (param i32)))
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (call $models (i32.const 8)) (i32.const 4096))
            {RUN} (i32.const 0)))"#
    );
    let outcome = outcome(&module).await;
    assert!(matches!(outcome, Outcome::Trapped(_)), "{outcome:?}");
}

#[tokio::test]
async fn arguments_that_a_guest_has_no_room_for_end_it() {
    let module = format!(
        "(module {MEMORY} (func (export \"f\") (param i32 i32) (result i32) (local.get 1)))"
    );
    let world = "world tool { export f: func(text: string) -> u32; }";
    let wasm = tool_wasm(world, &module);
    let outcome = call_f(wasm.clone(), json!({ "text": "x".repeat(8 << 20) })).await;
    assert_eq!(trap_code(outcome), TrapCode::InvalidData);
    let outcome = call_f(wasm, json!({ "text": "x".repeat(60_000) })).await;
    assert_eq!(outcome, Outcome::Returned("60000".to_owned()));
}

/// What `f` gives that returns these bytes as a text, in this encoding; so many units long.
async fn text(encoding: StringEncoding, bytes: &str, units: u32) -> Outcome {
    let module = format!(
        r#"(module {MEMORY} (data (i32.const 64) "{bytes}")
            (func (export "f") (result i32)
                (i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const {units}))
                (i32.const 16)))"#
    );
    let world = "world tool { export f: func() -> string; }";
    call_f(encoded_tool_wasm(world, &module, encoding), json!({})).await
}

#[tokio::test]
async fn a_text_is_one_in_its_encoding_or_it_is_invalid() {
    let letter = Outcome::Returned("\"A\"".to_owned());
    assert_eq!(text(StringEncoding::UTF8, "A", 1).await, letter);
    assert_eq!(text(StringEncoding::UTF16, "A\\00", 1).await, letter);
    assert_eq!(text(StringEncoding::CompactUTF16, "A", 1).await, letter);
    for (encoding, bytes, units) in [
        (StringEncoding::UTF8, "\\ff", 1),
        (StringEncoding::UTF8, "\\c0\\80", 2), // a zero in two bytes
        (StringEncoding::UTF8, "\\ed\\a0\\80", 3), // half a character
        (StringEncoding::UTF8, "\\f4\\90\\80\\80", 4), // beyond the last character
        (StringEncoding::UTF8, "\\e2\\82", 2), // cut
        (StringEncoding::UTF16, "\\00\\d8", 1), // half a character
        (StringEncoding::UTF16, "\\00\\dc\\00\\d8", 2),
        (StringEncoding::UTF16, "A\\00", 0x7fff_ffff),
        (StringEncoding::UTF16, "A\\00", u32::MAX),
        (StringEncoding::CompactUTF16, "\\00\\d8", 0x8000_0001),
        (StringEncoding::CompactUTF16, "A", u32::MAX),
    ] {
        let outcome = text(encoding, bytes, units).await;
        let is_stopped = outcome == Outcome::LimitHit(Limit::Output)
            || trap_code(outcome.clone()) == TrapCode::InvalidData;
        assert!(is_stopped, "{encoding:?} {bytes} {units}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_case_that_its_type_does_not_have_is_invalid() {
    let zeros = "\\00".repeat(7);
    for (ty, data) in [
        ("e", "\\03".to_owned()),
        ("e", "\\ff".to_owned()),
        ("v", "\\02".to_owned()),
        ("v", format!("\\01{zeros}\\02")), // no case of the option in it
        ("v", format!("\\01{zeros}\\01\\05")), // nor of the one in that
        ("v", format!("\\00{zeros}\\00\\d8")), // half a character in it
        ("r", "\\02".to_owned()),
        ("list<e>", "\\40\\00\\00\\00\\04\\00\\00\\00".to_owned()),
    ] {
        let world = format!(
            "world tool {{
                enum e {{ a, b, c }}
                variant v {{ a(tuple<char, u64>), b(option<option<bool>>) }}
                record r {{ first: result<u8, u8>, second: u64 }}
                export f: func() -> tuple<{ty}, u64>;
            }}"
        );
        let module = format!(
            r#"(module {MEMORY} (data (i32.const 16) "{data}") (data (i32.const 64) "\01\02\03\04")
                (func (export "f") (result i32) (i32.const 16)))"#
        );
        let outcome = call_f(tool_wasm(&world, &module), json!({})).await;
        assert_eq!(trap_code(outcome), TrapCode::InvalidData, "{ty} {data}");
    }
}

#[tokio::test]
async fn flags_that_a_type_does_not_have_are_passed_over() {
    let world = "world tool { flags rights { read, write } export f: func() -> rights; }";
    let module = "(module (func (export \"f\") (result i32) (i32.const -1)))";
    assert_eq!(
        call_f(tool_wasm(world, module), json!({})).await,
        Outcome::Returned(r#"["read","write"]"#.to_owned())
    );
}

/// A guest that does this when the host has read its result.
fn afterwards(code: &str) -> String {
    let after =
        format!(r#"(func (export "cabi_post_troupe:agent/guest@0.1.0#run") (param i32) {code})"#);
    returning(4, &after)
}

#[tokio::test]
async fn cleaning_up_has_the_limits_of_everything_else() {
    assert_eq!(
        outcome(&afterwards("")).await,
        Outcome::Returned("null".to_owned())
    );
    assert_eq!(
        outcome(&afterwards("(loop (br 0))")).await,
        Outcome::LimitHit(Limit::Fuel)
    );
    assert_eq!(
        trap_code(outcome(&afterwards("unreachable")).await),
        TrapCode::Unreachable
    );
}

/// A tool that makes a resource of its own and drops it, which this code does.
fn dropping(code: &str) -> Bytes {
    let text = format!(
        r#"(component
            (core module $destructor (func (export "drop") (param i32) {code}))
            (core instance $destructor (instantiate $destructor))
            (type $thing (resource (rep i32) (dtor (core func $destructor "drop"))))
            (core func $new (canon resource.new $thing))
            (core func $drop (canon resource.drop $thing))
            (core module $tool
                (import "thing" "new" (func $new (param i32) (result i32)))
                (import "thing" "drop" (func $drop (param i32)))
                (func (export "f") (call $drop (call $new (i32.const 1)))))
            (core instance $tool (instantiate $tool (with "thing" (instance
                (export "new" (func $new)) (export "drop" (func $drop))))))
            (func (export "f") (canon lift (core func $tool "f"))))"#
    );
    Bytes::from(wat::parse_str(text).expect("WebAssembly text"))
}

#[tokio::test]
async fn a_destructor_has_the_limits_of_everything_else() {
    assert_eq!(
        call_f(dropping(""), json!({})).await,
        Outcome::Returned("null".to_owned())
    );
    assert_eq!(
        call_f(dropping("(loop (br 0))"), json!({})).await,
        Outcome::LimitHit(Limit::Fuel)
    );
    assert_eq!(
        trap_code(call_f(dropping("unreachable"), json!({})).await),
        TrapCode::Unreachable
    );
}

#[tokio::test]
async fn what_one_instruction_does_to_much_memory_is_bounded_by_time() {
    let fill = "(drop (memory.grow (i32.const 8000)))
        (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 500000000)) (br 0)) (i32.const 0)";
    let patient = limited(|limits| {
        limits.fuel = u64::MAX;
        limits.time_max = Duration::from_millis(100);
    });
    let report = run_wat(&body(fill), patient).await;
    assert_eq!(report.outcome, Outcome::LimitHit(Limit::Time));
    let took = report.usage.duration;
    assert!(took < Duration::from_secs(3), "{took:?}");
}
