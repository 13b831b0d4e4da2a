//! `troupe validate`.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, End, document, output};

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The workflow document
    file: PathBuf,
}

pub(super) fn run(args: &ValidateArgs) -> Result<End, CliError> {
    let (_, definition) = document::checked(&args.file)?;
    document::warn(&definition);
    output::line(&format!(
        "{}: no faults; {} agents, {} steps",
        definition.name(),
        definition.agents().count(),
        definition.weight()
    ));
    let inputs = definition.inferred_inputs();
    if !inputs.is_empty() {
        output::line(&format!(
            "inputs that its templates read: {}",
            inputs.join(", ")
        ));
    }
    Ok(End::Done)
}
