//! Memory of live instances: many guests of one component that wait for the host, and what the process has more with them
//! than without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use serde_json::{Value, json};
use troupe_sandbox::{HostCalls, HostFuture, SandboxConfig};

use super::super::now;
use super::super::resident::resident_bytes;
use super::SandboxBench;
use super::side::{Side, Sides};
use super::subject::{Ask, SubjectKind};
use crate::tasks::{self, AbortOnDrop};

/// Until so many guests wait; CPython needs milliseconds for each.
const LONGEST: Duration = Duration::from_secs(120);

pub(super) async fn measure(
    bench: &SandboxBench<'_>,
    say: &mut impl FnMut(&str),
) -> anyhow::Result<Value> {
    let mut figures = Vec::new();
    for subject in bench.subjects.all() {
        let count = bench.options.instances;
        let (wasm, ask) = match subject.kind {
            SubjectKind::Empty => (subject.wasm.clone(), Ask::WaitInEmpty),
            SubjectKind::Agent => (bench.subjects.guest("ask")?, Ask::WaitInAgent),
            // It knows no host that it could wait for; the agent stands for components in Rust.
            SubjectKind::Tool => continue,
            SubjectKind::JavaScript | SubjectKind::Python => (
                subject.wasm.clone(),
                Ask::Program("result = context.inputs", 0),
            ),
        };
        say(&format!(
            "{}, {count} instances that wait …",
            subject.kind.name()
        ));
        let [sandbox, bare] = instances(bench, &wasm, ask).await?;
        figures.push(json!({
            "what": subject.kind.name(),
            "instances": count,
            "sandbox_bytes_each": sandbox,
            "bare_bytes_each": bare,
        }));
    }
    Ok(Value::Array(figures))
}

/// Bytes of each instance, in the sandbox and in the bare loop. Both are new: what a pool keeps of earlier calls would
/// look like memory that instances need.
async fn instances(bench: &SandboxBench<'_>, wasm: &Bytes, ask: Ask) -> anyhow::Result<[usize; 2]> {
    let count = bench.options.instances;
    let config = SandboxConfig {
        calls_max: count,
        // They are counted, not refused.
        guest_memory_bytes_max: u64::MAX / 2,
        ..bench.config.clone()
    };
    let sides = Sides::start(&config, bench.limits)?;
    let host = Arc::new(Unanswered::default());
    let [sandbox, bare] = sides
        .load_with(wasm, ask, Arc::clone(&host) as Arc<dyn HostCalls>)
        .await?;
    let count = usize::try_from(count)?;
    let of_sandbox = hold(&sandbox, count, || host.waiting.load(Ordering::Relaxed)).await?;
    let of_bare = hold(&bare, count, || sides.waiting_in_floor()).await?;
    Ok([of_sandbox, of_bare])
}

async fn hold(
    side: &Arc<Side>,
    count: usize,
    waiting: impl Fn() -> usize,
) -> anyhow::Result<usize> {
    // One instance brings in what all share: code, and pages of the snapshot that are only read.
    end(begin(side, 1, &waiting).await?).await;
    let before = resident_bytes();
    let guests = begin(side, count, &waiting).await?;
    let resident = resident_bytes().saturating_sub(before);
    end(guests).await;
    Ok(resident / count.max(1))
}

type Guests = Vec<AbortOnDrop<anyhow::Result<()>>>;

/// Starts guests, and waits until all wait for the host.
async fn begin(
    side: &Arc<Side>,
    count: usize,
    waiting: &impl Fn() -> usize,
) -> anyhow::Result<Guests> {
    let (before, begun) = (waiting(), now());
    let guests: Guests = (0..count)
        .map(|_| {
            let side = Arc::clone(side);
            AbortOnDrop(tasks::spawn("bench", async move { side.call().await }))
        })
        .collect();
    while waiting() < before + count {
        ensure!(
            begun.elapsed() < LONGEST,
            "the instances do not come to wait"
        );
        ensure!(
            guests.iter().all(|guest| !guest.0.is_finished()),
            "an instance that should wait has ended"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(guests)
}

async fn end(guests: Guests) {
    for mut guest in guests {
        guest.0.abort();
        let _cancelled = (&mut guest.0).await;
    }
}

/// A world that never answers when it is asked for inputs, and has nothing else.
#[derive(Default)]
struct Unanswered {
    waiting: AtomicUsize,
}

impl HostCalls for Unanswered {
    fn context_inputs(&self) -> HostFuture<'_, String> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }
}
