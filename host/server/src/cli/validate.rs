//! `troupe validate`.

use std::path::PathBuf;

use clap::Args;
use troupe_workflow::Faults;

use super::{CliError, End, document, output};

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The workflow document
    file: PathBuf,
}

pub(super) fn run(args: &ValidateArgs) -> Result<End, CliError> {
    let mut document = document::read(&args.file)?;
    let mut faults = Faults::default();
    document::inline_files(&mut document, &args.file, &mut faults);
    document::check_components(&mut document, &args.file, &mut faults);
    let definition = document::compile(&document, faults)?;
    output::line(&format!(
        "{}: no faults; {} agents, {} steps",
        definition.name(),
        definition.agents().count(),
        definition.steps_total()
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
