//! `troupe component`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::{CliError, Common, End, output};
use crate::services::open_components;

#[derive(Debug, Subcommand)]
pub(super) enum ComponentCommand {
    /// Compile components ahead of time, so that their first use is quick
    Compile {
        /// Components (`.wasm`)
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub(super) async fn run(common: &Common, command: ComponentCommand) -> Result<End, CliError> {
    let ComponentCommand::Compile { files } = command;
    if let Some(reference) = files
        .iter()
        .filter_map(|file| file.to_str())
        .find(|file| file.contains("://"))
    {
        return Err(CliError::Caller(anyhow!(
            "{reference} is a registry's reference, and this command takes files: `troupe agent inspect` and the `component` of a workflow's agents take references"
        )));
    }
    let components = open_components(&common.config()?, &common.places()?)?;
    let count = u64::try_from(files.len()).unwrap_or(u64::MAX);
    let bar = ProgressBar::new(count).with_style(
        ProgressStyle::with_template("{spinner} compiling [{bar:24}] {pos}/{len} {msg}")
            .unwrap_or_else(|_fault| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(100));
    for path in files {
        let name = path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        bar.set_message(name.clone());
        let component = components.compile(&path).await.map_err(|error| {
            CliError::Caller(error.context(format!(
                "the component {} cannot be compiled",
                path.display()
            )))
        })?;
        bar.inc(1);
        bar.suspend(|| output::line(&format!("{name}  {}", component.digest())));
    }
    bar.finish_and_clear();
    Ok(End::Done)
}

/// Compiles the component on standard input, for a process that waits for it.
pub(super) fn compile_alone(memory_bytes_max: u64) -> ExitCode {
    match troupe_sandbox::compile(memory_bytes_max, std::io::stdin(), std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err((reason, code)) => {
            output::note(&reason);
            ExitCode::from(code)
        }
    }
}

/// Runs components for the process that started this one.
pub(super) fn work() -> ExitCode {
    match troupe_sandbox::work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            output::note(&reason);
            ExitCode::FAILURE
        }
    }
}
