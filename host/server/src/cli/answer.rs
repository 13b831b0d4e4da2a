//! `troupe approve`.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::Value;
use troupe_workflow::{Answer, ExecutionId};

use super::trace::Shown;
use super::{CliError, Common, End, output, recover};
use crate::config::user_name;
use crate::operations::{OwnDesk, Said};

#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// The execution
    execution: ExecutionId,
    /// The step that is asked about, where several are
    #[arg(long)]
    step: Option<String>,
    /// Reject instead of approving
    #[arg(long)]
    reject: bool,
    /// Who answers [default: the user at this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// What you want to say with it
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
    /// The form, filled in, as JSON
    #[arg(long, value_name = "JSON")]
    form: Option<String>,
    /// Record the answer, and leave it to `troupe recover` to go on
    #[arg(long)]
    only_record: bool,
    /// List at the end what the components of its steps asked of the host: on standard error, or with --json as `trace`
    #[arg(long)]
    trace: bool,
    /// Print the whole execution as JSON at the end
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, args: ApproveArgs) -> Result<End, CliError> {
    let answer = answer(&args).map_err(CliError::Caller)?;
    let journal = common.journal().await?;
    let id = args.execution;
    let by = answer.by.clone();
    let said = Said {
        step: args.step.clone(),
        answer,
    };
    let own = OwnDesk::new(Arc::clone(&journal));
    own.desk().answer(id, &said, Vec::new()).await?;
    output::note(&format!("{id}: the answer of {by} is recorded"));
    if args.only_record {
        return Ok(End::Done);
    }
    let shown = Shown::from(args.json).with_traces(args.trace.then(Arc::default));
    recover::go_on((common, journal), id, shown).await
}

fn answer(args: &ApproveArgs) -> anyhow::Result<Answer> {
    let by = args.by.clone().or_else(user_name);
    let data: Option<Value> = args
        .form
        .as_deref()
        .map(serde_json::from_str)
        .transpose()
        .context("--form is no JSON")?;
    Ok(Answer {
        by: by.ok_or_else(|| anyhow!("say who answers, with --by NAME"))?,
        approved: !args.reject,
        notes: args.notes.clone(),
        data,
    })
}
