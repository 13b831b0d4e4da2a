//! What the scheduler costs per step: deciding, and applying all of a step's events, driven to the end.
//!
//! It prints nanoseconds per step and how many times that of ten steps it is: an execution of any size must stay
//! near 1. It measures and asserts no times: machines differ. `cargo bench -p troupe-workflow`.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use troupe_workflow::{
    Command, Definition, Event, EventKind, Execution, ExecutionId, ExecutionStatus, StepUsage,
    Timestamp,
};

/// The least of so many runs counts: the machine does other things too.
const RUNS: u32 = 5;

fn main() {
    // `cargo test --benches` only wants to know that it works.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let sizes = if is_measured {
        [1_000, 10_000]
    } else {
        [20, 30]
    };
    let [middle, large] = sizes;
    let mut cases = vec![
        ("10 steps in sequence".to_owned(), sequence(10)),
        (format!("{middle} steps in sequence"), sequence(middle)),
        (format!("{large} steps in sequence"), sequence(large)),
        (format!("loop of {middle} items, 50 at once"), items(middle)),
        ("64 blocks within each other".to_owned(), nested(64)),
        ("64 loops within each other".to_owned(), nested_loops(64)),
    ];
    for branches in [middle, large - 1] {
        cases.push((format!("{branches} parallel branches"), parallel(branches)));
    }
    println!(
        "{:<36} {:>8} {:>12} {:>7}",
        "", "steps", "ns per step", "ratio"
    );
    let mut of_ten = None;
    for (name, document) in cases {
        let definition = Definition::compile(&document).map(Arc::new);
        let definition = definition.unwrap_or_else(|faults| panic!("{name}: {faults}"));
        let runs = if is_measured { RUNS } else { 1 };
        let (steps, nanos) = (0..runs)
            .map(|_| measured(&definition))
            .min_by(|(_, one), (_, two)| one.total_cmp(two))
            .unwrap_or_default();
        let ratio = nanos / *of_ten.get_or_insert(nanos);
        println!("{name:<36} {steps:>8} {nanos:>12.0} {ratio:>7.2}");
    }
}

/// How many steps an execution has, and how many nanoseconds each took. Short ones are run again and again.
fn measured(definition: &Arc<Definition>) -> (usize, f64) {
    let (steps, once) = timed(definition);
    let times = 1 + 20_000_000 / (once.as_nanos() + 1);
    let mut all = once;
    for _ in 1..times {
        all += timed(definition).1;
    }
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let nanos = all.as_nanos() as f64 / times as f64 / steps as f64;
    (steps, nanos)
}

fn timed(definition: &Arc<Definition>) -> (usize, Duration) {
    #[expect(clippy::disallowed_methods, reason = "time is what is measured")]
    let begin = std::time::Instant::now();
    let execution = driven(definition);
    let took = begin.elapsed();
    assert_eq!(execution.status(), ExecutionStatus::Completed);
    (execution.progress().total, took)
}

/// An execution in which every attempt ends at once, the first that began first.
fn driven(definition: &Arc<Definition>) -> Execution {
    let id = ExecutionId::from_parts(1, 7);
    let empty = Execution::replay(id, Arc::clone(definition), &[]);
    let mut execution = empty.expect("nothing is always legal");
    let apply = |execution: &mut Execution, kind: EventKind| {
        let at = Timestamp::from_millis(1_000);
        let applied = execution.apply(&Event { at, kind });
        applied.expect("what was decided is legal");
    };
    apply(
        &mut execution,
        EventKind::ExecutionCreated {
            workflow: definition.name().to_owned(),
            digest: definition.digest().clone(),
            inputs: json!({}),
            forked_from: None,
            kept: Vec::new(),
        },
    );
    let mut running = std::collections::VecDeque::new();
    loop {
        let mut has_acted = false;
        for command in execution.decide(Timestamp::from_millis(1_000)) {
            match command {
                Command::Record(kind) => apply(&mut execution, kind),
                Command::Start(start) => {
                    apply(&mut execution, start.event());
                    running.push_back((start.path, start.attempt));
                }
                Command::Cancel { path } => {
                    apply(&mut execution, EventKind::StepCancelled { path });
                }
                Command::WakeAt(_) => continue,
            }
            has_acted = true;
        }
        if let Some((path, attempt)) = running.pop_front() {
            let kind = EventKind::StepCompleted {
                path,
                attempt,
                output: json!({"text": "an answer", "score": 1}),
                text: None,
                usage: StepUsage::default(),
            };
            apply(&mut execution, kind);
            has_acted = true;
        }
        if !has_acted {
            return execution;
        }
    }
}

fn document(steps: &Value) -> Value {
    json!({
        "name": "bench",
        "agents": [{"id": "a", "type": "llm", "model": "m"}],
        "steps": steps,
        "outputs": {"done": true},
    })
}

fn step(input: &str) -> Value {
    json!({"agent": "a", "action": "do", "input": input})
}

/// Each step reads the one before it.
fn sequence(steps: usize) -> Value {
    let first = step("begin");
    let others = std::iter::repeat_n(step("after {{ a.text }}"), steps - 1);
    document(&std::iter::once(first).chain(others).collect())
}

fn items(count: usize) -> Value {
    let inputs: Vec<usize> = (0..count).collect();
    document(&json!([
        {"id": "list", "set": inputs},
        {"loop": {
            "items": "{{ list }}", "as": "item", "concurrency": 50,
            "steps": [step("{{ item }}"), step("after {{ a.text }}")],
        }},
    ]))
}

fn parallel(branches: usize) -> Value {
    document(&json!([{"parallel": vec![step("begin"); branches]}]))
}

/// Blocks of three sorts, with a step after each.
fn nested(depth: usize) -> Value {
    let inner = (0..depth).fold(json!([step("begin")]), |inner, level| {
        let block = match level % 3 {
            0 => json!({"parallel": [inner]}),
            1 => json!({"condition": "true", "then": inner}),
            _ => json!({"loop": {"until": "true", "max_iterations": 2, "steps": inner}}),
        };
        json!([block, step("after")])
    });
    document(&inner)
}

fn nested_loops(depth: usize) -> Value {
    let inner = (0..depth).fold(json!([step("begin")]), |inner, _| {
        let block = json!({"loop": {"until": "true", "max_iterations": 2, "steps": inner}});
        json!([block, step("after")])
    });
    document(&inner)
}
