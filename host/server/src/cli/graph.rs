//! `troupe graph`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use troupe_workflow::graph;

use super::{CliError, End, document, output};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Notation {
    Svg,
    Mermaid,
}

#[derive(Debug, Args)]
pub(super) struct GraphArgs {
    /// The workflow document
    file: PathBuf,
    /// How it is drawn
    #[arg(long, value_enum, default_value_t = Notation::Mermaid)]
    format: Notation,
}

pub(super) fn run(args: &GraphArgs) -> Result<End, CliError> {
    let (value, _) = document::checked(&args.file)?;
    output::text(&match args.format {
        Notation::Svg => graph::svg(&value),
        Notation::Mermaid => graph::mermaid(&value),
    });
    Ok(End::Done)
}
