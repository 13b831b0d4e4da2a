//! Many hostile guests at once and one after the other: nothing of one reaches the next, and the good ones among them
//! are served.

use std::time::Duration;

use bytes::Bytes;
use troupe_sandbox::{Call, Component, Invocation, Outcome, Program, Report, Sandbox};

use super::holding::{self, Folders};
use super::interpreters::class;
use super::{body, returning, wasi};
use crate::support::{MEMORY, RUN, agent_wasm, config, invocation, limited, program, target};

/// A sandbox of its own.
pub(super) fn own_sandbox(calls_max: u32) -> Sandbox {
    let mut config = config(target().join("compiled"));
    config.calls_max = calls_max;
    Sandbox::new(config).expect("a sandbox")
}

/// What a hostile guest is asked.
pub(super) enum Asked {
    Agent(Invocation),
    Interpreter(Program),
}

/// What a hostile guest has more of than others, and whom it turns to.
pub(super) type Change = Box<dyn Fn(&mut Call) + Send + Sync>;

/// A guest that ends in its own bad way, each time in the same.
pub(super) struct Hostile {
    pub(super) name: &'static str,
    pub(super) component: Component,
    pub(super) asked: Asked,
    pub(super) change: Change,
    pub(super) ends: &'static str,
    /// Whether it got as far as it should before it ended, where it is alone.
    pub(super) is_far: fn(&Report) -> bool,
}

impl Hostile {
    pub(super) async fn call(&self, sandbox: &Sandbox) -> Report {
        let mut call = limited(|limits| {
            limits.fuel = 2_000_000;
            limits.memory_bytes_max = 64 << 20;
        });
        (self.change)(&mut call);
        let report = match &self.asked {
            Asked::Agent(invocation) => {
                let invocation = invocation.clone();
                sandbox.call_agent(&self.component, invocation, call).await
            }
            Asked::Interpreter(program) => {
                sandbox
                    .execute(&self.component, program.clone(), call)
                    .await
            }
        };
        let report = report.expect("the host is well");
        let class = class(&report.outcome);
        assert_eq!(class, self.ends, "{}: {:?}", self.name, report.outcome);
        report
    }

    /// The same where no other guest has what this one wants.
    pub(super) async fn call_alone(&self, sandbox: &Sandbox) -> Report {
        let report = self.call(sandbox).await;
        assert!((self.is_far)(&report), "{}: {report:?}", self.name);
        report
    }
}

pub(super) const GROW: &str =
    "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
const MANY_HANDLES: &str = "(loop (drop (call $timer (i64.const -1))) (br 0))";
const ENTROPY: &str = "(call $random (i64.const 1099511627776) (i32.const 8))";
const NO_POLLS: &str = "(loop (local.set $handle (call $timer (i64.const 0)))
    (call $block (local.get $handle)) (call $drop (local.get $handle)) (br 0))";
const WRITES: &str = "(local.set $handle (call $stdout))
    (loop (call $write (local.get $handle) (i32.const 64) (i32.const 1) (i32.const 24)) (br 0))";

/// Guests that end in different ways: sixteen that have nothing but themselves, and those that hold something of the
/// host's.
pub(super) async fn all(sandbox: &Sandbox, folders: &Folders) -> Vec<Hostile> {
    let mut all = holding::all(sandbox, folders).await;
    for (name, wasm, ends) in agents() {
        all.push(Hostile {
            name,
            component: sandbox.load(wasm).await.expect("a component"),
            asked: Asked::Agent(invocation("do", "null")),
            // A recursion as deep as the stack costs some, and so do thousands of handles.
            change: Box::new(|call| call.limits.fuel = 10_000_000),
            ends,
            is_far: |_| true,
        });
    }
    let sleep = wasi::agent("(call $block (call $timer (i64.const -1)))");
    all.push(Hostile {
        name: "sleep",
        component: sandbox.load(sleep).await.expect("a component"),
        asked: Asked::Agent(invocation("do", "null")),
        change: Box::new(|call| call.limits.time_max = Duration::from_millis(5)),
        ends: "limit_time",
        is_far: |_| true,
    });
    for (name, source, ends) in [
        ("python", "while True: pass", "limit_fuel"),
        ("python", "raise MemoryError", "MemoryError"),
        ("javascript", "for(;;);", "limit_fuel"),
        ("javascript", "return { get a() { throw 1 } }", "Error"),
    ] {
        let wasm = std::fs::read(target().join(format!("plugins/{name}.wasm")));
        let wasm = wasm.expect("the set-up built it");
        all.push(Hostile {
            name,
            component: sandbox.load(wasm.into()).await.expect("a component"),
            asked: Asked::Interpreter(program("agent", source)),
            change: Box::new(|call| call.limits.fuel = 20_000_000),
            ends,
            is_far: |_| true,
        });
    }
    all
}

/// The agents among them, with how they end.
fn agents() -> [(&'static str, Bytes, &'static str); 11] {
    let run = |code: &str| agent_wasm(&body(code));
    let recursion = "(func $r (call $r) (call $r))";
    let recursion = format!("(module {MEMORY} {recursion} {RUN} (call $r) (i32.const 0)))");
    let start = "(func $s (loop (br 0))) (start $s)";
    let start = format!("(module {MEMORY} {start} {RUN} (i32.const 0)))");
    let lie = returning(u32::MAX, "");
    let grow = format!("{GROW} unreachable");
    [
        ("loop", run("(loop (br 0)) (i32.const 0)"), "limit_fuel"),
        ("start", agent_wasm(&start), "limit_fuel"),
        ("trap", run("unreachable"), "trap unreachable"),
        ("recursion", agent_wasm(&recursion), "trap stack_overflow"),
        (
            "wild",
            run("(i32.load (i32.const -4))"),
            "trap out_of_bounds",
        ),
        ("memory", run(&grow), "limit_memory"),
        ("lie", agent_wasm(&lie), "trap invalid_data"),
        ("handles", wasi::agent(MANY_HANDLES), "trap invalid_data"),
        ("polls", wasi::agent(NO_POLLS), "limit_fuel"),
        ("entropy", wasi::agent(ENTROPY), "trap invalid_data"),
        ("writes", wasi::agent(WRITES), "limit_fuel"),
    ]
}

/// A guest that means well.
pub(super) async fn good(sandbox: &Sandbox) -> Component {
    let component = sandbox.load(agent_wasm(&returning(4, ""))).await;
    component.expect("a component")
}

pub(super) async fn call_good(sandbox: &Sandbox, component: &Component) {
    let report = sandbox
        .call_agent(component, invocation("do", "null"), crate::support::call())
        .await
        .expect("the host is well");
    assert_eq!(report.outcome, Outcome::Returned("null".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_end_as_themselves_and_good_ones_among_them_are_served() {
    let sandbox = own_sandbox(32);
    let folders = Folders::new();
    let (hostile, good) = (all(&sandbox, &folders).await, good(&sandbox).await);
    let calls = (0..1_000).map(async |number: usize| {
        // One of each round means well.
        match hostile.get(number % (hostile.len() + 1)) {
            Some(hostile) => drop(hostile.call(&sandbox).await),
            None => call_good(&sandbox, &good).await,
        }
    });
    futures::future::join_all(calls).await;
    call_good(&sandbox, &good).await;
}

#[tokio::test]
async fn the_same_bad_end_uses_the_same_fuel() {
    let sandbox = own_sandbox(1);
    let folders = Folders::new();
    for hostile in all(&sandbox, &folders).await {
        // How far these come is a matter of time.
        if ["limit_time", "cancelled"].contains(&hostile.ends) {
            continue;
        }
        let (one, other) = (
            hostile.call_alone(&sandbox).await,
            hostile.call_alone(&sandbox).await,
        );
        assert_eq!(one.usage.fuel, other.usage.fuel, "{}", hostile.name);
        assert_eq!(one.outcome, other.outcome, "{}", hostile.name);
    }
}

/// It counts its calls in memory, in a global and in a table, and returns the sum where the input is long, and traps
/// where it is short.
fn counting() -> String {
    let counted = "(i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const 1)))
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 65) (i32.add (i32.const 48) (global.get $calls)))
        (i32.store8 (i32.const 66) (i32.add (i32.const 48) (table.size $t)))
        (drop (table.grow $t (ref.null func) (i32.const 1)))
        (drop (memory.grow (i32.const 1)))
        (i32.store8 (i32.const 67) (i32.add (i32.const 48) (memory.size)))
        (if (i32.lt_u (local.get 3) (i32.const 3)) (then unreachable))";
    returning(
        4,
        "(global $calls (mut i32) (i32.const 0)) (table $t 1 funcref)",
    )
    .replace("\"null\"", "\"0000\"")
    .replace(
        "(i32.store8 (i32.const 16)",
        &format!("{counted} (i32.store8 (i32.const 16)"),
    )
}

#[tokio::test]
async fn whatever_a_call_left_behind_is_gone() {
    let sandbox = own_sandbox(1);
    let component = sandbox.load(agent_wasm(&counting())).await;
    let component = component.expect("a component");
    for (input, ends) in [
        ("null", "returned"),
        ("1", "trap unreachable"),
        ("null", "returned"),
    ] {
        let report = sandbox
            .call_agent(&component, invocation("do", input), crate::support::call())
            .await
            .expect("the host is well");
        assert_eq!(class(&report.outcome), ends, "{:?}", report.outcome);
        if let Outcome::Returned(counts) = report.outcome {
            assert_eq!(counts, "1112");
        }
    }
}
