//! What metering costs guests that compute: the same work in engines with fuel, with epochs, with both, and with neither.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_sandbox::{Metering, Sandbox, SandboxConfig};

use super::side::{Side, Sides, bare, bare_loop, batch};
use super::subject::{Arguments, Ask, SubjectKind};
use super::{SandboxBench, Times, micros, ratio};

/// How often each engine does the work. The fastest counts: what makes it slower is the machine's other work.
const ROUNDS: usize = 7;
/// Rounds of the loop in Rust for one percent of the work: the whole takes some tenths of a second.
const RUST_ROUNDS: u32 = 1_000_000;
/// The same in the interpreters.
const JAVASCRIPT_ROUNDS: u32 = 10_000;
const PYTHON_ROUNDS: u32 = 5_000;

const JAVASCRIPT: &str =
    "let x = 1; for (let i = 0; i < input; i++) x = (x * 31 + i) % 1000003; const result = x;";
const PYTHON: &str = "x = 1
for i in range(input):
    x = (x * 31 + i) % 1000003
result = x";

pub(super) async fn measure(
    bench: &SandboxBench<'_>,
    say: &mut impl FnMut(&str),
) -> anyhow::Result<Value> {
    let mut figures = Vec::new();
    let percent = bench.options.work_percent;
    for subject in bench.subjects.all() {
        let program = |source, rounds: u32| Ask::Program(source, rounds.saturating_mul(percent));
        let (name, wasm, ask) = match subject.kind {
            SubjectKind::Empty | SubjectKind::Agent => continue,
            SubjectKind::Tool => {
                let rounds = Arguments::Rounds(RUST_ROUNDS.saturating_mul(percent));
                let wasm = bench.subjects.guest("work")?;
                ("rust", wasm, Ask::Function("compute", rounds))
            }
            SubjectKind::JavaScript => (
                "javascript",
                subject.wasm.clone(),
                program(JAVASCRIPT, JAVASCRIPT_ROUNDS),
            ),
            SubjectKind::Python => (
                "python",
                subject.wasm.clone(),
                program(PYTHON, PYTHON_ROUNDS),
            ),
        };
        say(&format!(
            "{name} that computes, with and without meters; it is compiled for each …"
        ));
        figures.push(compare(bench, name, &wasm, ask).await?);
    }
    Ok(Value::Array(figures))
}

async fn compare(
    bench: &SandboxBench<'_>,
    name: &str,
    wasm: &bytes::Bytes,
    ask: Ask,
) -> anyhow::Result<Value> {
    let config = SandboxConfig {
        calls_max: 1,
        ..bench.config.clone()
    };
    let sides = Sides::start(&config, bench.limits)?;
    let [sandbox, both] = sides.load(wasm, ask).await?;
    // What no sandbox runs is not left in its folder.
    let scratch = SandboxConfig {
        cache_dir: bench.scratch.path().join("meters"),
        ..config.clone()
    };
    let work = ask.work(&Sandbox::new(config)?.load(wasm.clone()).await?)?;
    let mut alone = Vec::new();
    for metering in [Metering::Nothing, Metering::Fuel, Metering::Epochs] {
        let floor = bare_loop(&scratch, metering, bench.limits)?;
        alone.push(bare(&floor, wasm, work.clone())?);
    }
    let all: Vec<Arc<Side>> = alone.into_iter().chain([both, sandbox]).collect();
    let mut times: Vec<Times> = all.iter().map(|_| Times::default()).collect();
    for side in &all {
        batch(side, 1, 1).await?;
    }
    for _ in 0..ROUNDS {
        for (side, times) in all.iter().zip(&mut times) {
            times.add(batch(side, 1, 1).await?);
        }
    }
    let fastest: Vec<_> = times.iter_mut().map(|times| times.percentile(0)).collect();
    let times_nothing = |index: usize| ratio(fastest[index], fastest[0]);
    Ok(json!({
        "what": name,
        "unmetered_us": micros(fastest[0]),
        "fuel_times_unmetered": times_nothing(1),
        "epochs_times_unmetered": times_nothing(2),
        "both_times_unmetered": times_nothing(3),
        "sandbox_times_unmetered": times_nothing(4),
    }))
}
