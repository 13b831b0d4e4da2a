//! `troupe bench`.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::{CliError, Common, End, output};
use crate::bench::sandbox::{Part, SandboxBenchOptions, SubjectKind};
use crate::bench::{self, BenchOptions};
use crate::limits::ceilings;
use crate::services::sandbox_config;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: Option<BenchCommand>,
    /// The agent component that each step calls
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Executions of each measurement of throughput, for each one at once
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Executions that wait, and that are in flight at a restart
    #[arg(long, default_value_t = 10_000)]
    many: usize,
    /// Steps of the longest history
    #[arg(long, default_value_t = 10_000)]
    history: usize,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure calls of the sandbox, beside a bare wasmtime loop
    Sandbox(SandboxArgs),
}

#[derive(Debug, Args)]
struct SandboxArgs {
    /// The folder of the tests' guests, which `cargo xtask setup` builds
    #[arg(long, value_name = "FOLDER")]
    guests: PathBuf,
    /// What is called [default: all]
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',')]
    of: Vec<SubjectKind>,
    /// What is measured [default: all]
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    parts: Vec<Part>,
    /// Calls in each measurement; of interpreters a part of it
    #[arg(long, default_value_t = 4_000)]
    calls: usize,
    /// How many calls are under way at once
    #[arg(
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "1,2,64,1000"
    )]
    at_once: Vec<usize>,
    /// Instances that are held at once, to see what memory they need
    #[arg(long, default_value_t = 200)]
    instances: u32,
    /// Size of the work by which fuel and epochs are measured, in percent
    #[arg(long, default_value_t = 100)]
    work: u32,
}

pub(super) async fn run(common: &Common, args: &BenchArgs) -> Result<End, CliError> {
    let figures = match &args.what {
        Some(BenchCommand::Sandbox(args)) => sandbox(common, args).await?,
        None => {
            let component = args.component.clone().ok_or_else(|| {
                CliError::Caller(anyhow!("name the component that each step calls: --component FILE; or measure the sandbox alone: `troupe bench sandbox`"))
            })?;
            let options = BenchOptions {
                component,
                rounds: args.rounds,
                many: args.many,
                history: args.history,
            };
            let (config, places) = (common.config()?, common.places()?);
            bench::run(config, &places, &options, output::note).await?
        }
    };
    output::json(&figures);
    Ok(End::Done)
}

async fn sandbox(common: &Common, args: &SandboxArgs) -> Result<serde_json::Value, CliError> {
    fn all_where_none<T: Clone>(named: &[T], all: &[T]) -> Vec<T> {
        let chosen = if named.is_empty() { all } else { named };
        chosen.to_vec()
    }
    let (config, places) = (common.config()?, common.places()?);
    let options = SandboxBenchOptions {
        guests: args.guests.clone(),
        plugins: places.plugins.clone(),
        of: all_where_none(&args.of, &SubjectKind::ALL),
        parts: all_where_none(&args.parts, &Part::ALL),
        calls: args.calls,
        at_once: args.at_once.clone(),
        instances: args.instances.max(1),
        work_percent: args.work,
    };
    let limits = ceilings(&config.limits);
    let settings = sandbox_config(&config, &places);
    Ok(bench::sandbox::run(settings, limits, &options, output::note).await?)
}
