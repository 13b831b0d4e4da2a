//! What many executions and long histories cost.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use troupe_journal::Journal;
use troupe_workflow::Definition;

use super::resident::resident_bytes;
use super::{Bench, compile, millis, new_run, now};
use crate::clock;
use crate::run::create;

/// Executions that are made at the same time.
const MADE_AT_ONCE: usize = 128;

/// So many executions that wait: what each costs in memory, and how long it takes to wake all.
pub(super) async fn waiting(bench: &Bench, count: usize) -> anyhow::Result<Value> {
    let journal = bench.journal().await?;
    let running = bench.start(Arc::clone(&journal), 64);
    let wait = |until: &str| {
        compile(&json!({
            "name": "wait",
            "inputs": { "type": "object", "properties": { "until": { "type": "string" } } },
            "agents": [],
            "steps": [{ "id": "w", "wait": { "until": until } }],
        }))
    };
    // Long enough for all of them to be made; then they wake together.
    let seconds = 20 + count / 2_000;
    let until = clock::now().plus(Duration::from_secs(u64::try_from(seconds)?));
    let definition = wait(&until.to_string())?;
    let made = now();
    let before = resident_bytes();
    make(&*journal, &definition, count).await?;
    running.node.look_at(clock::new_execution_id());
    while running.watch.left() < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let made = made.elapsed();
    let resident = resident_bytes().saturating_sub(before);
    let left = until.since(clock::now());
    tokio::time::sleep(left).await;
    let woken = now();
    while running.watch.left() < 2 * count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let woken = woken.elapsed();
    running.stop().await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
    let each = resident as f64 / count.max(1) as f64;
    Ok(json!({
        "executions": count,
        "made_and_at_rest_after_ms": millis(made),
        "all_were_at_rest_before_they_woke": !left.is_zero(),
        "resident_bytes_each": each.round(),
        "all_ended_after_ms": millis(woken),
    }))
}

/// So many executions that nobody has begun to work on: how long until all have moved on.
pub(super) async fn restart(bench: &Bench, count: usize) -> anyhow::Result<Value> {
    let definition = {
        // Made by a process that is gone, as far as the journal can tell: it gave them back.
        let journal = bench.journal().await?;
        let running = bench.start(Arc::clone(&journal), 1);
        let steps = json!([{ "id": "a", "agent": "tool", "action": "go", "input": "x" }]);
        let definition = bench.definition(&running, steps).await?;
        running.stop().await?;
        make(&*journal, &definition, count).await?;
        definition
    };
    let journal = bench.journal().await?;
    let begun = now();
    let running = bench.start(journal, 64);
    let mut moved = None;
    while running.watch.left() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if moved.is_none() && running.journal.queued(clock::now(), 1).await? == 0 {
            moved = Some(begun.elapsed());
        }
    }
    let ended = begun.elapsed();
    running.stop().await?;
    let _ = definition;
    Ok(json!({
        "executions": count,
        "all_taken_up_after_ms": moved.map(millis),
        "all_ended_after_ms": millis(ended),
    }))
}

/// So many executions whose process has gone, each in the middle of its first step: how long until all have moved on.
pub(super) async fn restart_in_steps(bench: &Bench, count: usize) -> anyhow::Result<Value> {
    {
        let running = bench.start_stuck(bench.journal().await?, count);
        let steps = json!([
            { "id": "a", "agent": "tool", "action": "go", "input": "x" },
            { "id": "b", "agent": "tool", "action": "go", "input": "{{ a }}" },
        ]);
        let definition = bench.definition(&running, steps).await?;
        make(&*running.journal, &definition, count).await?;
        running.node.look();
        while running.watch.begun() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.crash().await?;
    }
    let begun = now();
    let running = bench.start(bench.journal().await?, 64);
    let (mut first, mut last) = (None, None);
    while running.watch.left() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let steps = running.watch.begun();
        if steps > 0 {
            first.get_or_insert_with(|| begun.elapsed());
        }
        // Each has two steps, of which the second begins when the first has ended.
        if steps >= 2 * count {
            last.get_or_insert_with(|| begun.elapsed());
        }
    }
    let ended = begun.elapsed();
    running.stop().await?;
    Ok(json!({
        "executions": count,
        "first_taken_up_after_ms": first.map(millis),
        "all_moved_on_after_ms": millis(last.unwrap_or(ended)),
        "all_ended_after_ms": millis(ended),
    }))
}

/// Cost of a step at different lengths of one execution's history.
pub(super) async fn history(bench: &Bench, steps: usize) -> anyhow::Result<Value> {
    let running = bench.start(bench.journal().await?, 1);
    let document = json!([{
        "id": "again",
        "loop": {
            "items": (0..steps).collect::<Vec<_>>(),
            "as": "item",
            "steps": [{ "id": "s", "agent": "tool", "action": "go", "input": "{{ item }}" }],
        },
    }]);
    let definition = bench.definition(&running, document).await?;
    running.watch.take_begun();
    running.run(&definition).await?;
    let begun = running.watch.take_begun();
    running.stop().await?;
    let mut figures = Vec::new();
    let mut length = 10;
    while length <= begun.len() {
        // The steps of the last tenth before this length, and at least five.
        let from = length - (length / 10).clamp(5, 1_000);
        let span = begun[length - 1].duration_since(begun[from]);
        let count = u32::try_from(length - 1 - from)?.max(1);
        figures.push(json!({ "steps_before": from, "step_ms": millis(span / count) }));
        length *= 10;
    }
    Ok(json!(figures))
}

/// The share of one processor that a node takes which has nothing to do, in percent.
pub(super) async fn idle(bench: &Bench) -> anyhow::Result<Value> {
    let running = bench.start(bench.journal().await?, 64);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, begun) = (processor_time(), now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = processor_time().saturating_sub(before).as_secs_f64();
    let share = used / begun.elapsed().as_secs_f64() * 100.0;
    running.stop().await?;
    Ok(json!({ "processor_percent": (share * 1e3).round() / 1e3 }))
}

async fn make(
    journal: &dyn Journal,
    definition: &Arc<Definition>,
    count: usize,
) -> anyhow::Result<()> {
    let creations =
        (0..count).map(|_| create(journal, clock::new_execution_id(), new_run(definition)));
    let mut creations = futures::stream::iter(creations).buffer_unordered(MADE_AT_ONCE);
    while let Some(created) = creations.next().await {
        created?;
    }
    Ok(())
}

/// Processor time that this process has used, as Linux counts it, in hundredths of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>().saturating_mul(10))
}
