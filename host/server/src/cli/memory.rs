//! `troupe memory`.

use clap::Subcommand;
use serde_json::json;

use super::{CliError, Common, End, output};
use crate::memory::{self, Owner};

#[derive(Debug, Subcommand)]
pub(super) enum MemoryCommand {
    /// List the agents that remember something, with how much
    List {
        /// Print JSON, one document a line
        #[arg(long)]
        json: bool,
    },
    /// Forget all that an agent remembers
    Clear {
        /// The name of the agent's workflow
        workflow: String,
        /// The agent's id
        agent: String,
    },
}

pub(super) async fn run(common: &Common, command: MemoryCommand) -> Result<End, CliError> {
    let journal = common.journal().await?;
    match command {
        MemoryCommand::List { json } => {
            let mut all = memory::list(&*journal).await?;
            all.sort_by(|one, other| {
                let name =
                    |kept: &memory::Kept| (kept.owner.workflow.clone(), kept.owner.agent.clone());
                name(one).cmp(&name(other))
            });
            for kept in all {
                let memory::Kept { owner, keys, bytes } = kept;
                let Owner { workflow, agent } = owner;
                if json {
                    let view = json!({ "workflow": workflow, "agent": agent, "keys": keys, "bytes": bytes });
                    output::line(&view.to_string());
                } else {
                    let name = output::one_line(&format!("{workflow}/{agent}"));
                    output::line(&format!("{name}  {keys} keys, {bytes} bytes"));
                }
            }
        }
        MemoryCommand::Clear { workflow, agent } => {
            let owner = Owner { workflow, agent };
            let keys = memory::clear(&*journal, &owner).await?;
            if keys == 0 {
                let name = format!("{}/{}", owner.workflow, owner.agent);
                return Err(CliError::Caller(anyhow::anyhow!(
                    "the agent {name} remembers nothing; `troupe memory list` shows which do"
                )));
            }
            output::line(&format!("{keys} keys forgotten"));
            super::keep::sweep(&*journal).await?;
        }
    }
    Ok(End::Done)
}
