//! Measures the sandbox on this machine: each figure beside that of a bare wasmtime loop with the same settings, in the
//! same run. It takes the settings of any sandbox, so that what another way of isolating calls costs is measured by the
//! same code.

mod calls;
mod compile;
mod memory;
mod meters;
mod processes;
mod side;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use troupe_sandbox::{Limits, SandboxConfig};

use subject::Subjects;

pub(crate) use subject::SubjectKind;

/// What is measured, and how often.
pub(crate) struct SandboxBenchOptions {
    /// The folder of the guests that the set-up builds for the tests.
    pub(crate) guests: PathBuf,
    /// The folders of the interpreters.
    pub(crate) plugins: Vec<PathBuf>,
    /// Components that are measured.
    pub(crate) of: Vec<SubjectKind>,
    /// Which measurements are made.
    pub(crate) parts: Vec<Part>,
    /// Calls of a component in each measurement; interpreters get fewer.
    pub(crate) calls: usize,
    /// How many calls are under way at once, for each measurement.
    pub(crate) at_once: Vec<usize>,
    /// Instances that are held at once.
    pub(crate) instances: u32,
    /// Size of the work by which the meters are measured, in percent of the usual.
    pub(crate) work_percent: u32,
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Calls in fresh instances
    Calls,
    /// Memory of live instances
    Memory,
    /// What fuel and epochs cost
    Meters,
    /// Compiling
    Compile,
    /// python3 and node as processes
    Processes,
}

impl Part {
    /// All, in the order in which they are made.
    pub(crate) const ALL: [Part; 5] = [
        Part::Calls,
        Part::Memory,
        Part::Meters,
        Part::Compile,
        Part::Processes,
    ];

    fn name(self) -> &'static str {
        match self {
            Part::Calls => "calls",
            Part::Memory => "memory",
            Part::Meters => "meters",
            Part::Compile => "compile",
            Part::Processes => "processes",
        }
    }
}

/// Where and with what is measured.
struct SandboxBench<'a> {
    config: SandboxConfig,
    limits: Limits,
    options: &'a SandboxBenchOptions,
    subjects: Subjects,
    /// For what is compiled for measurements alone.
    scratch: tempfile::TempDir,
}

/// Measures what the options name and answers the figures.
pub(crate) async fn run(
    config: SandboxConfig,
    limits: Limits,
    options: &SandboxBenchOptions,
    mut say: impl FnMut(&str),
) -> anyhow::Result<Value> {
    let bench = SandboxBench {
        config,
        limits,
        options,
        subjects: Subjects::read(options)?,
        scratch: tempfile::tempdir()?,
    };
    let mut figures = Map::new();
    let programs = bench.subjects.programs();
    figures.insert("programs".to_owned(), programs);
    for part in Part::ALL {
        if !options.parts.contains(&part) {
            continue;
        }
        let measured = match part {
            Part::Calls => calls::measure(&bench, &mut say).await?,
            Part::Memory => memory::measure(&bench, &mut say).await?,
            Part::Meters => meters::measure(&bench, &mut say).await?,
            Part::Compile => compile::measure(&bench, &mut say).await?,
            Part::Processes => processes::measure(&bench, &mut say).await?,
        };
        figures.insert(part.name().to_owned(), measured);
    }
    Ok(Value::Object(figures))
}

/// Times of the calls of one side.
#[derive(Default)]
struct Times {
    each: Vec<Duration>,
    /// How long all took together, several at once as they were.
    took: Duration,
}

impl Times {
    fn add(&mut self, other: Times) {
        self.each.extend(other.each);
        self.took += other.took;
    }

    fn p50(&mut self) -> Duration {
        self.percentile(500)
    }

    /// The value below which so many of a thousand lie.
    fn percentile(&mut self, per_mille: usize) -> Duration {
        self.each.sort();
        let index = self.each.len().saturating_sub(1) * per_mille / 1000;
        self.each.get(index).copied().unwrap_or_default()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
    /// Median, what one of a hundred exceeds, and how many there were in a second.
    fn figures(&mut self) -> Value {
        json!({
            "p50_us": micros(self.p50()),
            "p99_us": micros(self.percentile(990)),
            "calls_per_second": (self.each.len() as f64 / self.took.as_secs_f64()).round(),
        })
    }
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

/// How many times as long, with two digits after the point.
fn ratio(time: Duration, floor: Duration) -> f64 {
    (time.as_secs_f64() / floor.as_secs_f64() * 100.0).round() / 100.0
}
