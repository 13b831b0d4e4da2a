//! The `troupe` binary: reads the command line, joins the crates, and says how it ended.

mod agents;
mod call_gateway;
mod cli;
mod clock;
mod components;
mod config;
mod driver;
mod host_calls;
mod models;
mod run;
mod services;
mod sources;
mod tasks;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
