//! Calls in fresh instances: how long each takes, and how many there are in a second.

use serde_json::{Value, json};

use super::side::{Sides, batch};
use super::{SandboxBench, Times, ratio};

/// Turns in which the two sides are measured one after the other, so that a machine that changes its pace does so for
/// both.
const ROUNDS_MAX: usize = 10;

pub(super) async fn measure(
    bench: &SandboxBench<'_>,
    say: &mut impl FnMut(&str),
) -> anyhow::Result<Value> {
    let sides = Sides::start(&bench.config, bench.limits)?;
    let mut figures = Vec::new();
    for case in bench.subjects.cases() {
        let [sandbox, bare] = sides.load(case.wasm, case.ask).await?;
        for at_once in bench.options.at_once.iter().copied() {
            say(&format!("{}, {at_once} calls at once …", case.name));
            let at_once = at_once.max(1);
            let calls = (bench.options.calls / case.weight).max(at_once);
            let rounds = (calls / at_once).clamp(1, ROUNDS_MAX);
            let (mut of_sandbox, mut of_bare) = (Times::default(), Times::default());
            // The first calls find nothing in the caches of processor and allocator, and no slots in the pool.
            for side in [&bare, &sandbox] {
                batch(side, at_once, at_once.max(calls / ROUNDS_MAX)).await?;
            }
            for _ in 0..rounds {
                of_bare.add(batch(&bare, at_once, calls / rounds).await?);
                of_sandbox.add(batch(&sandbox, at_once, calls / rounds).await?);
            }
            figures.push(json!({
                "what": case.name,
                "at_once": at_once,
                "calls": of_sandbox.each.len(),
                "sandbox": of_sandbox.figures(),
                "bare": of_bare.figures(),
                "p50_times_bare": ratio(of_sandbox.p50(), of_bare.p50()),
            }));
        }
    }
    Ok(Value::Array(figures))
}
