//! `troupe workflow`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;
use troupe_journal::Journal;
use troupe_workflow::{Definition, Faults};

use super::{CliError, Common, End, document, output};
use crate::clock;
use crate::open;
use crate::records;
use crate::run::RunSettings;
use crate::services::Services;
use crate::workflows;

/// Workflows that a list shows: bounds what is read at once.
const LIST_MAX: u32 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum WorkflowCommand {
    /// Store a workflow document, with all that its files name
    Create {
        /// The workflow document
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List stored workflows, the oldest first
    List {
        /// Print JSON, one document a line
        #[arg(long)]
        json: bool,
    },
    /// Print the document of a stored workflow
    Show {
        /// The workflow, `wf_…`
        workflow: String,
        /// Another version than the newest
        #[arg(long)]
        version: Option<u32>,
    },
}

pub(super) async fn run(common: &Common, command: WorkflowCommand) -> Result<End, CliError> {
    match command {
        WorkflowCommand::Create { file, json } => {
            let (journal, definition) = read(common, &file).await?;
            let id = clock::new_id("wf");
            let stored = workflows::create(&*journal, &definition, Vec::new(), id).await?;
            if json {
                output::json(&json!({ "id": stored.id, "name": stored.name, "version": 1 }));
            } else {
                output::line(&stored.id);
            }
        }
        WorkflowCommand::List { json } => {
            let journal = common.journal().await?;
            for stored in
                records::list::<workflows::StoredWorkflow>(&*journal, None, LIST_MAX).await?
            {
                let version = stored.version();
                if json {
                    let view = json!({ "id": stored.id, "name": stored.name, "version": version });
                    output::line(&view.to_string());
                } else {
                    output::line(&format!(
                        "{}  version {version}  {}",
                        stored.id, stored.name
                    ));
                }
            }
        }
        WorkflowCommand::Show { workflow, version } => {
            let journal = common.journal().await?;
            let stored: workflows::StoredWorkflow = records::find(&*journal, &workflow).await?;
            let (definition, _) = workflows::definition(&*journal, &stored, version).await?;
            output::json(definition.document());
        }
    }
    Ok(End::Done)
}

/// Reads a document that is to be stored, and checks it and what it needs of this machine.
pub(super) async fn read(
    common: &Common,
    file: &Path,
) -> Result<(Arc<dyn Journal>, Definition), CliError> {
    let (config, places) = (common.config()?, common.places()?);
    let mut faults = Faults::default();
    let mut gathered = document::gather(file, &mut faults)?;
    let journal = open::journal(&config.server, &places).await?;
    let outside = RunSettings::default().outside();
    let services = Services::new(Arc::clone(&journal), &config, &places, &outside)?;
    gathered
        .add_components((&services.components, outside.reach), &mut faults)
        .await;
    let definition = document::compile(&gathered.document, faults)?;
    services
        .check(&definition)
        .await
        .map_err(|faults| document::invalid(&faults))?;
    document::warn(&definition);
    Ok((journal, definition))
}
