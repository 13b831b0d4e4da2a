//! What the tests share: one sandbox, the built artefacts, and calls with sensible circumstances.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::Value;
use troupe_sandbox::{
    Call, CancelFlag, Component, DenyAll, Grants, Invocation, Limits, Outcome, Program, Report,
    Sandbox, SandboxConfig,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

/// The target folder of this build, from the place of this very program: `…/target/debug/deps/x`.
pub(crate) fn target() -> PathBuf {
    let program = std::env::current_exe().expect("the test's own path");
    program
        .ancestors()
        .nth(3)
        .expect("a target folder")
        .to_owned()
}

/// One sandbox for all tests; compiled components stay in the target folder between runs.
pub(crate) fn sandbox() -> &'static Sandbox {
    static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
        let mut config = config(target().join("compiled"));
        config.calls_max = 32;
        Sandbox::new(config).expect("a sandbox")
    });
    &SANDBOX
}

/// Settings with which guests run where these tests want them to.
pub(crate) fn config(cache_dir: impl Into<PathBuf>) -> SandboxConfig {
    SandboxConfig {
        isolation: crate::isolation(),
        ..SandboxConfig::new(cache_dir)
    }
}

/// Loads a component that the set-up built.
pub(crate) async fn artefact(path: &str) -> Component {
    let path = target().join(path);
    let wasm = std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{} cannot be read ({error}); build it with `cargo xtask setup`",
            path.display()
        )
    });
    sandbox()
        .load(Bytes::from(wasm))
        .await
        .expect("a component that this sandbox takes")
}

/// Loads a test guest by its name.
pub(crate) async fn guest(name: &str) -> Component {
    artefact(&format!("guests/wasm32-wasip2/guest/examples/{name}.wasm")).await
}

/// The head of the function `run` in WebAssembly text: local 2 and 3 are pointer and length of the input.
pub(crate) const RUN: &str = r#"(func (export "troupe:agent/guest@0.1.0#run")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32)"#;

/// A memory and the function that the host calls for room in it, for values smaller than 60 KiB.
pub(crate) const MEMORY: &str = r#"(memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))"#;

/// Makes a component of the world `agent` from a core module's text.
pub(crate) fn agent_wasm(module: &str) -> Bytes {
    let mut resolve = Resolve::default();
    let wit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let (package, _) = resolve.push_dir(wit).expect("our interfaces");
    let world = resolve
        .select_world(&[package], Some("agent"))
        .expect("the world of agents");
    component_of(module, (&resolve, world), StringEncoding::UTF8)
}

/// Makes a component of the world `tool`, given as WIT, from a core module's text.
pub(crate) fn tool_wasm(world: &str, module: &str) -> Bytes {
    encoded_tool_wasm(world, module, StringEncoding::UTF8)
}

/// The same of a module whose texts have this encoding.
pub(crate) fn encoded_tool_wasm(world: &str, module: &str, encoding: StringEncoding) -> Bytes {
    let mut resolve = Resolve::default();
    let wit = format!("package test:tool; {world}");
    let package = resolve.push_str("tool.wit", &wit).expect("WIT");
    let world = resolve
        .select_world(&[package], Some("tool"))
        .expect("the world");
    component_of(module, (&resolve, world), encoding)
}

fn component_of(
    module: &str,
    (resolve, world): (&Resolve, WorldId),
    encoding: StringEncoding,
) -> Bytes {
    let mut core = wat::parse_str(module).expect("WebAssembly text");
    embed_component_metadata(&mut core, resolve, world, encoding).expect("room for metadata");
    let encoder = ComponentEncoder::default()
        .module(&core)
        .expect("a core module");
    Bytes::from(encoder.validate(true).encode().expect("a component"))
}

/// Calls a function of a component with JSON.
pub(crate) async fn call_tool(
    component: &Component,
    function: &str,
    arguments: Value,
    call: Call,
) -> Report {
    let function = component.function(function).expect("the function");
    let arguments = function.read_arguments(&arguments).expect("arguments");
    sandbox()
        .call_function(component, function, arguments, call)
        .await
        .expect("the host is well")
}

/// Calls an agent that is given as a core module's text.
pub(crate) async fn run_wat(module: &str, call: Call) -> Report {
    let component = sandbox()
        .load(agent_wasm(module))
        .await
        .expect("a component that this sandbox takes");
    sandbox()
        .call_agent(&component, invocation("do", "null"), call)
        .await
        .expect("the host is well")
}

/// Calls a test guest.
pub(crate) async fn run_guest(name: &str, invocation: Invocation, call: Call) -> Report {
    sandbox()
        .call_agent(&guest(name).await, invocation, call)
        .await
        .expect("the host is well")
}

/// Circumstances of a call that grants nothing.
pub(crate) fn call() -> Call {
    Call {
        agent: "tester".to_owned(),
        grants: Grants::none(),
        limits: Limits {
            time_max: Duration::from_secs(20),
            ..Limits::STANDARD
        },
        host: Arc::new(DenyAll),
        seed: [7; 32],
        started_at: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        cancel: CancelFlag::new(),
    }
}

/// Circumstances with these limits.
pub(crate) fn limited(change: impl FnOnce(&mut Limits)) -> Call {
    let mut call = call();
    change(&mut call.limits);
    call
}

/// What an agent is asked when only the action and the input matter.
pub(crate) fn invocation(action: &str, input: &str) -> Invocation {
    Invocation {
        action: action.to_owned(),
        input: input.to_owned(),
        execution: "exec_test".to_owned(),
        workflow: "Test".to_owned(),
        step: "step".to_owned(),
        attempt: 1,
        idempotency_key: "exec_test/step".to_owned(),
    }
}

/// A program without an input.
pub(crate) fn program(filename: &str, source: &str) -> Program {
    Program {
        source: source.to_owned(),
        filename: filename.to_owned(),
        input: "null".to_owned(),
        action: "main".to_owned(),
        stdin: bytes::Bytes::new(),
    }
}

/// The result of a call that returned.
pub(crate) fn returned(report: Report) -> Value {
    match report.outcome {
        Outcome::Returned(json) => serde_json::from_str(&json).expect("JSON"),
        other => panic!(
            "{other:?}\nstdout: {}\nstderr: {}",
            report.stdout.text, report.stderr.text
        ),
    }
}
