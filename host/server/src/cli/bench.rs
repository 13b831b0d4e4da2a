//! `troupe bench`.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, Common, End, output};
use crate::bench::{self, BenchOptions};

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// The agent component that each step calls
    #[arg(long, value_name = "FILE")]
    component: PathBuf,
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

pub(super) async fn run(common: &Common, args: &BenchArgs) -> Result<End, CliError> {
    let options = BenchOptions {
        component: args.component.clone(),
        rounds: args.rounds,
        many: args.many,
        history: args.history,
    };
    let (config, places) = (common.config()?, common.places()?);
    let figures = bench::run(config, &places, &options, output::note).await?;
    output::json(&figures);
    Ok(End::Done)
}
