//! `troupe convert`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CliError, End, document, output};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Notation {
    Json,
    Yaml,
}

#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// The workflow document
    file: PathBuf,
    /// What it is turned into [default: the one that it is not]
    #[arg(long, value_enum)]
    to: Option<Notation>,
}

pub(super) fn run(args: &ConvertArgs) -> Result<End, CliError> {
    let value = document::read(&args.file)?;
    let other = if document::is_yaml(&args.file) {
        Notation::Json
    } else {
        Notation::Yaml
    };
    match args.to.unwrap_or(other) {
        Notation::Json => output::json(&value),
        Notation::Yaml => output::text(&troupe_workflow::to_yaml(&value)),
    }
    Ok(End::Done)
}
