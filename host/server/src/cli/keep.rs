//! `troupe delete` and `troupe prune`.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use troupe_journal::{AppendError, Journal};
use troupe_workflow::{ExecutionId, ExecutionStatus};

use super::{CliError, Common, End, output};
use crate::clock;
use crate::retention::{Old, before, remove};

/// Executions of one page.
const PAGE: u32 = 200;

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The executions; each must have ended
    #[arg(required = true)]
    executions: Vec<ExecutionId>,
}

#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// Those that ended longer ago: `30d`, `12h`, `90m`
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    older_than: Duration,
    /// Only those that ended so: `completed`, `failed` or `cancelled`; may be given several times [default: all three]
    #[arg(long, value_name = "STATUS", value_parser = parse_end)]
    status: Vec<ExecutionStatus>,
    /// Only list them
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn delete(common: &Common, args: DeleteArgs) -> Result<End, CliError> {
    let journal = common.journal().await?;
    for id in args.executions {
        match journal.delete(id).await {
            Ok(true) => output::line(&format!("{id}  deleted")),
            Ok(false) => return Err(CliError::Caller(anyhow!("there is no execution {id}"))),
            Err(error @ AppendError::NotEnded(_)) => return Err(CliError::Caller(error.into())),
            Err(error) => return Err(CliError::Host(error.into())),
        }
    }
    sweep(&*journal).await?;
    Ok(End::Done)
}

/// Removes what is left outside of the tables of what was deleted.
pub(super) async fn sweep(journal: &dyn Journal) -> Result<(), CliError> {
    if !journal.sweep().await.map_err(anyhow::Error::from)? {
        output::note(
            "the journal's log is in use, and may hold parts of what was deleted until it is written anew",
        );
    }
    Ok(())
}

pub(super) async fn prune(common: &Common, args: PruneArgs) -> Result<End, CliError> {
    let journal = common.journal().await?;
    let statuses = if args.status.is_empty() {
        ENDS.into()
    } else {
        args.status
    };
    let mut old = Old::new(statuses, before(clock::now(), args.older_than), PAGE);
    let mut count: u64 = 0;
    loop {
        let page = old.page(&*journal).await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            if args.dry_run {
                count += 1;
                let (id, status, name) = (row.id, row.status.as_str(), &row.workflow_name);
                output::line(&format!("{id}  {status:<9}  {name}"));
            } else {
                let deleted = remove(&*journal, row.id).await;
                count += u64::from(deleted.map_err(anyhow::Error::from)?);
            }
        }
    }
    if !args.dry_run && count > 0 {
        sweep(&*journal).await?;
    }
    let done = if args.dry_run {
        "would be deleted"
    } else {
        "deleted"
    };
    output::note(&format!("{done}: {count}"));
    Ok(End::Done)
}

const ENDS: [ExecutionStatus; 3] = [
    ExecutionStatus::Completed,
    ExecutionStatus::Failed,
    ExecutionStatus::Cancelled,
];

fn parse_end(word: &str) -> Result<ExecutionStatus, String> {
    ExecutionStatus::from_word(word)
        .filter(|status| status.is_terminal())
        .ok_or_else(|| "it is `completed`, `failed` or `cancelled`".to_owned())
}

fn parse_age(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit: `30d`, `12h`, `90m`, `45s`".to_owned();
    let mut number = text.to_owned();
    let seconds = match number.pop() {
        Some('d') => 24 * 60 * 60,
        Some('h') => 60 * 60,
        Some('m') => 60,
        Some('s') => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_unparsed| wrong())?;
    let seconds = number.checked_mul(seconds).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::{Duration, parse_age};

    #[test]
    fn ages_have_a_unit() {
        assert_eq!(parse_age("30d"), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(parse_age("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "d",
            "30",
            "-1d",
            "1.5h",
            "1 d",
            "99999999999999999999d",
            "30ä",
        ] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
