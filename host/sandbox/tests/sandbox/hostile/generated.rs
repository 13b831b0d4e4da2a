//! Core modules that nobody wrote: a generator makes any that WebAssembly allows, and they are called like others.

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use bytes::Bytes;
use serde_json::json;
use troupe_sandbox::{LoadError, Sandbox, SandboxError};
use wasm_smith::{Config, Module};

use super::bytes::random;
use super::interpreters::class;
use super::lifecycle::{call_good, good};
use crate::support::{self, limited};

const CASES: u32 = 500;
/// What each module is made of.
const SEED_BYTES: usize = 3 << 10;

/// What the random module imports and exports: the host's functions, memory with room, and what is called.
const SHAPE: &str = r#"(module
    (import "host" "inputs" (func (param i32)))
    (import "host" "random" (func (param i64 i32)))
    (import "host" "now" (func (result i64)))
    (import "host" "exit" (func (param i32)))
    (import "room" "memory" (memory 2))
    (func (export "number") (param i32 i64 f32 f64) (result i64) unreachable)
    (func (export "text") (param i32 i32) (result i32) unreachable))"#;

/// The component around it; its first section is put in place of the empty module.
const AROUND: &str = r#"(component
    (core module)
    (core module $room (memory (export "memory") 2)
        (data (i32.const 0) "\10\00\00\00\04\00\00\00") (data (i32.const 16) "text")
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
    (core instance $room (instantiate $room))
    (import "troupe:agent/context@0.1.0" (instance $context (export "inputs" (func (result string)))))
    (import "wasi:random/random@0.2.0"
        (instance $entropy (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
    (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
    (core func $inputs (canon lower (func $context "inputs")
        (memory (core memory $room "memory")) (realloc (core func $room "realloc"))))
    (core func $random (canon lower (func $entropy "get-random-bytes")
        (memory (core memory $room "memory")) (realloc (core func $room "realloc"))))
    (core func $now (canon lower (func $clock "now")))
    (core func $exit (canon lower (func $exit "exit")))
    (core instance $run (instantiate 0
        (with "room" (instance $room))
        (with "host" (instance (export "inputs" (func $inputs)) (export "random" (func $random))
            (export "now" (func $now)) (export "exit" (func $exit))))))
    (func (export "number") (param "a" s32) (param "b" u64) (param "c" f32) (param "d" f64) (result s64)
        (canon lift (core func $run "number")))
    (func (export "text") (param "text" string) (result string)
        (canon lift (core func $run "text") (memory (core memory $room "memory"))
            (realloc (core func $room "realloc")))))"#;

/// The component with this module in it.
fn around(module: &[u8]) -> Bytes {
    const HEADER: usize = 8;
    // A section of a core module, eight bytes long: an empty one.
    const EMPTY: &[u8] = b"\x01\x08\0asm\x01\0\0\0";
    let component = wat::parse_str(AROUND).expect("WebAssembly text");
    let rest = component[HEADER..].strip_prefix(EMPTY);
    let mut section = vec![1];
    let mut length = module.len();
    while length > 0x7f {
        section.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    section.push(u8::try_from(length).expect("seven bits"));
    let rest = rest.expect("the empty module comes first");
    [&component[..HEADER], &section, module, rest]
        .concat()
        .into()
}

/// What may be in it: mostly what the engine is set up for, and in one of eight cases anything.
fn config(case: u32) -> Config {
    let anything = case % 8 == 7;
    Config {
        module_shape: Some(wat::parse_str(SHAPE).expect("WebAssembly text")),
        allow_start_export: case.is_multiple_of(2),
        max_instructions: 200,
        max_funcs: 12,
        max_memories: if anything { 4 } else { 1 },
        max_tables: if anything { 3 } else { 1 },
        max_table_elements: if case % 5 == 4 { 1_000_000 } else { 1_000 },
        gc_enabled: anything,
        reference_types_enabled: anything,
        exceptions_enabled: anything,
        memory64_enabled: anything,
        relaxed_simd_enabled: anything,
        tail_call_enabled: anything,
        threads_enabled: anything,
        custom_page_sizes_enabled: anything,
        wide_arithmetic_enabled: anything,
        extended_const_enabled: anything,
        ..Config::default()
    }
}

fn module(case: u32) -> Vec<u8> {
    let bytes = random(case, SEED_BYTES);
    let module = Module::new(config(case), &mut Unstructured::new(&bytes));
    module.expect("bytes enough for a module").to_bytes()
}

/// How the calls of one module ended, or why there was none.
async fn run(sandbox: &Sandbox, module: &[u8]) -> Vec<String> {
    let component = match sandbox.load(around(module)).await {
        Ok(component) => component,
        Err(LoadError::Invalid(_)) => return vec!["refused".to_owned()],
        Err(error) => panic!("{error:?}"),
    };
    let mut ends = Vec::new();
    for (function, arguments) in [
        (
            "number",
            json!({ "a": -1, "b": "18446744073709551615", "c": 0.5, "d": -1e300 }),
        ),
        ("text", json!({ "text": "ä".repeat(100) })),
    ] {
        let function = component.function(function).expect("the function");
        let arguments = function.read_arguments(&arguments).expect("arguments");
        let call = limited(|limits| {
            limits.fuel = 1_000_000;
            limits.memory_bytes_max = 16 << 20;
            limits.output_bytes_max = 64 << 10;
        });
        let report = sandbox.call_function(&component, function, arguments, call);
        ends.push(match report.await {
            Ok(report) => {
                assert!(report.usage.memory_bytes_peak <= 16 << 20);
                class(&report.outcome)
            }
            // Its segments do not fit into its memory or table.
            Err(SandboxError::Instantiate(_)) => "not instantiated".to_owned(),
            Err(error) => panic!("{error:?}"),
        });
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_that_nobody_wrote_do_no_harm() {
    // Native code of each is written; not into the folder that other tests go on using.
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = support::config(folder.path());
    config.calls_max = 4;
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let good = good(&sandbox).await;
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for case in 0..CASES {
        let module = module(case);
        for end in run(&sandbox, &module).await {
            *ends.entry(end).or_default() += 1;
        }
        call_good(&sandbox, &good).await;
    }
    // They went far enough to try something.
    let count = |name: &str| ends.get(name).copied().unwrap_or_default();
    assert!(count("refused") < CASES / 4, "{ends:?}");
    assert!(count("returned") > CASES / 20, "{ends:?}");
    assert!(count("limit_fuel") > 0, "{ends:?}");
    assert!(count("trap unreachable") > 0, "{ends:?}");
}
