//! Measures durable execution on this machine: the same node, journal and sandbox as in `troupe serve`, beside what the
//! disk itself can do in the same run. Calls of the sandbox by themselves are measured in `sandbox`.

mod floor;
mod load;
mod resident;
pub(crate) mod sandbox;
mod scale;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use troupe_journal::{FirstOwner, Journal};
use troupe_workflow::Definition;

use crate::config::{Places, RetentionSection, ServerConfig};
use crate::node::{Node, NodeParts, Taps};
use crate::run::{NewRun, RunSettings};
use crate::services::ServicesBySettings;
use crate::{clock, open};
use watch::Watch;

/// What is measured.
pub(crate) struct BenchOptions {
    /// The component that each step calls.
    pub(crate) component: PathBuf,
    /// Executions of each measurement of throughput, for each one at once.
    pub(crate) rounds: usize,
    /// Executions that wait, and executions in flight at a restart.
    pub(crate) many: usize,
    /// Steps of the longest history.
    pub(crate) history: usize,
}

/// Measures everything and answers the figures.
pub(crate) async fn run(
    config: ServerConfig,
    places: &Places,
    options: &BenchOptions,
    mut say: impl FnMut(&str),
) -> anyhow::Result<Value> {
    let folder = Folder::make(&places.data)?;
    let places = Places {
        data: folder.0.clone(),
        ..places.clone()
    };
    say("the disk alone …");
    let floor = floor::measure(&folder.0)?;
    let bench = Bench {
        config,
        places,
        component: options.component.clone(),
    };
    let mut loads = Vec::new();
    for at_once in [1, 16, 64] {
        say(&format!("10 steps each, {at_once} executions at once …"));
        loads.push(load::steps(&bench, at_once, options.rounds.max(1) * at_once).await?);
    }
    say("50 branches and their join …");
    let fan_out = load::fan_out(&bench, 20).await?;
    say(&format!("{} executions that wait …", options.many));
    let waiting = scale::waiting(&bench, options.many).await?;
    say(&format!(
        "a restart with {} executions that nobody works on …",
        options.many
    ));
    let restart = scale::restart(&bench, options.many).await?;
    say(&format!(
        "a restart with {} executions in the middle of a step …",
        options.many
    ));
    let interrupted = scale::restart_in_steps(&bench, options.many).await?;
    say(&format!("histories up to {} steps …", options.history));
    let history = scale::history(&bench, options.history).await?;
    say("a node with nothing to do …");
    let idle = scale::idle(&bench).await?;
    Ok(json!({
        "floor": floor,
        "ten_steps": loads,
        "fan_out_50": fan_out,
        "waiting": waiting,
        "restart": restart,
        "restart_in_steps": interrupted,
        "history": history,
        "idle": idle,
    }))
}

/// Where and with what is measured.
struct Bench {
    config: ServerConfig,
    places: Places,
    component: PathBuf,
}

/// A node at work, and what watches it.
struct Running {
    node: Arc<Node>,
    journal: Arc<dyn Journal>,
    watch: Arc<Watch>,
    working: tokio::task::JoinHandle<()>,
}

impl Bench {
    async fn journal(&self) -> anyhow::Result<Arc<dyn Journal>> {
        open::journal(&self.config.server, &self.places).await
    }

    /// Starts a node with so many places.
    fn start(&self, journal: Arc<dyn Journal>, concurrency: usize) -> Running {
        self.start_to(watch::taps, journal, concurrency)
    }

    /// Starts a node whose steps begin and never end.
    fn start_stuck(&self, journal: Arc<dyn Journal>, concurrency: usize) -> Running {
        self.start_to(watch::stuck, journal, concurrency)
    }

    fn start_to(
        &self,
        taps: fn(&Arc<Watch>) -> Taps,
        journal: Arc<dyn Journal>,
        concurrency: usize,
    ) -> Running {
        let watch = Arc::new(Watch::default());
        let services = ServicesBySettings::new(
            Arc::clone(&journal),
            self.config.clone(),
            self.places.clone(),
        );
        let node = Node::new(NodeParts {
            journal: Arc::clone(&journal),
            services,
            concurrency,
            of_one_workflow: concurrency,
            queue_max: u32::MAX,
            grace: Duration::from_secs(30),
            retention: RetentionSection::default(),
            taps: Some(taps(&watch)),
        });
        let working = crate::tasks::spawn("node", Arc::clone(&node).run());
        Running {
            node,
            journal,
            watch,
            working,
        }
    }

    /// A workflow of `steps` whose code is the component.
    async fn definition(&self, running: &Running, steps: Value) -> anyhow::Result<Arc<Definition>> {
        let services = running.node.services.get(&RunSettings::default())?;
        let digest = services.components.add(&self.component).await?;
        let document = json!({
            "name": "bench",
            "agents": [{ "id": "tool", "type": "code", "component": digest.to_string() }],
            "steps": steps,
        });
        compile(&document)
    }
}

fn compile(document: &Value) -> anyhow::Result<Arc<Definition>> {
    let definition = Definition::compile(document)
        .map_err(|faults| anyhow::anyhow!("the workflow of the measurement: {faults}"))?;
    Ok(Arc::new(definition))
}

impl Running {
    /// Runs an execution to its end.
    async fn run(&self, definition: &Arc<Definition>) -> anyhow::Result<Duration> {
        let begun = now();
        let id = clock::new_execution_id();
        let ended = self.watch.end_of(id);
        self.node.create(id, new_run(definition)).await?;
        ended.await.context("the node ended")?;
        Ok(begun.elapsed())
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.node.drain();
        self.working.await.context("the node")?;
        Ok(())
    }

    /// Ends it as a crash does: what it owns is not given back, and its steps are in the middle.
    async fn crash(self) -> anyhow::Result<()> {
        /// Longer than anything takes that is under way in the journal.
        const LONGEST: Duration = Duration::from_secs(60);
        let Self {
            node,
            journal,
            watch,
            working,
        } = self;
        working.abort();
        let _ = working.await;
        let left = Arc::downgrade(&journal);
        drop((node, journal, watch));
        // It is dead to others when nothing of it holds its journal any more.
        let begun = now();
        while left.strong_count() > 0 {
            anyhow::ensure!(begun.elapsed() < LONGEST, "the node does not end");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

fn new_run(definition: &Arc<Definition>) -> NewRun {
    NewRun {
        definition: Arc::clone(definition),
        inputs: json!({}),
        settings: RunSettings::default(),
        workflow: None,
        forked_from: None,
        kept: Vec::new(),
        planned: None,
        first_owner: FirstOwner::Anyone,
        records: Vec::new(),
    }
}

/// A text of one kibibyte, which each step is given and gives back.
fn payload() -> String {
    "x".repeat(1 << 10)
}

/// The time now, for measuring.
#[expect(
    clippy::disallowed_methods,
    reason = "it measures, and decides nothing"
)]
fn now() -> Instant {
    Instant::now()
}

/// The value below which so many of a thousand lie, in milliseconds.
fn percentile(sorted: &[Duration], per_mille: usize) -> f64 {
    let index = (sorted.len().saturating_sub(1)) * per_mille / 1000;
    sorted.get(index).map_or(0.0, |time| millis(*time))
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A folder that is gone when the measurement is.
struct Folder(PathBuf);

impl Folder {
    fn make(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(clock::new_id("bench"));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("the folder {} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
