//! Throughput: steps that each call a component in a fresh sandbox.

use serde_json::{Value, json};

use super::{Bench, millis, now, payload, percentile};

/// Steps of one execution.
const STEPS: usize = 10;

/// So many executions of ten steps, `at_once` of them at a time.
pub(super) async fn steps(
    bench: &Bench,
    at_once: usize,
    executions: usize,
) -> anyhow::Result<Value> {
    let running = bench.start(bench.journal().await?, at_once.max(1));
    let steps: Vec<Value> = (0..STEPS)
        .map(|number| json!({ "id": format!("s{number}"), "agent": "tool", "action": "go", "input": payload() }))
        .collect();
    let definition = bench.definition(&running, Value::Array(steps)).await?;
    running.run(&definition).await?;
    running.watch.take_steps();
    let begun = now();
    let mut times = Vec::with_capacity(executions);
    let clients = (0..at_once).map(|_| async {
        let mut times = Vec::new();
        for _ in 0..executions.div_ceil(at_once) {
            times.push(running.run(&definition).await?);
        }
        anyhow::Ok(times)
    });
    for client in futures::future::join_all(clients).await {
        times.extend(client?);
    }
    let took = begun.elapsed().as_secs_f64();
    times.sort();
    let step_times = running.watch.take_steps();
    running.stop().await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
    let per_second = (times.len() * STEPS) as f64 / took;
    Ok(json!({
        "at_once": at_once,
        "executions": times.len(),
        "steps_per_second": per_second.round(),
        "step_p50_ms": percentile(&step_times, 500),
        "step_p99_ms": percentile(&step_times, 990),
        "execution_p50_ms": percentile(&times, 500),
        "execution_p99_ms": percentile(&times, 990),
    }))
}

/// Fifty branches at once, and a step after them.
pub(super) async fn fan_out(bench: &Bench, executions: usize) -> anyhow::Result<Value> {
    let running = bench.start(bench.journal().await?, 1);
    let branches: Vec<Value> = (0..50)
        .map(|number| json!({ "id": format!("b{number}"), "agent": "tool", "action": "go", "input": payload() }))
        .collect();
    let steps = json!([
        { "id": "all", "parallel": branches },
        { "id": "join", "agent": "tool", "action": "go", "input": "{{ b0 }}" },
    ]);
    let definition = bench.definition(&running, steps).await?;
    running.run(&definition).await?;
    let mut times = Vec::with_capacity(executions);
    for _ in 0..executions {
        times.push(running.run(&definition).await?);
    }
    running.stop().await?;
    times.sort();
    Ok(json!({
        "execution_p50_ms": percentile(&times, 500),
        "execution_p99_ms": percentile(&times, 990),
        "longest_ms": times.last().map(|time| millis(*time)),
    }))
}
