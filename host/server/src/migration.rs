//! Copies everything that is kept from one journal into another.
//!
//! What is there already is left as it is, so that a copy that was broken off goes on where it was.

use anyhow::{Context as _, bail};
use troupe_journal::{Append, AppendError, ExecutionRow, Journal, Listing, ReadError, Writer};
use troupe_workflow::{ExecutionId, ExecutionStatus};

use crate::clock;
use crate::salvage::archive_of;
use crate::verify::key_of;

/// What is read at once: bounds memory.
const PAGE: u32 = 200;
/// Records that say something of the processes of one journal, and nothing to those of another.
const KINDS_LEFT_OUT: [&str; 2] = [crate::upkeep::PROBE, crate::retention::KIND];

/// What a copy came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) executions: u64,
    /// Of these, those that were there already.
    pub(crate) there: u64,
    pub(crate) documents: u64,
    pub(crate) records: u64,
}

/// Copies everything, then compares both. `note` is told how far it has come.
///
/// # Errors
/// A process that works on executions in one of them, something that is there and differs, trouble with a database.
pub(crate) async fn run(
    from: &dyn Journal,
    to: &dyn Journal,
    note: &mut (dyn FnMut(String) + Send),
) -> anyhow::Result<Moved> {
    for (journal, name) in [(from, "source"), (to, "target")] {
        check_unowned(journal, name).await?;
    }
    let mut moved = Moved {
        documents: copy_documents(from, to).await?,
        records: copy_records(from, to).await?,
        ..Moved::default()
    };
    note(format!(
        "documents copied: {}; records: {}",
        moved.documents, moved.records
    ));
    let mut after = None;
    loop {
        let page = from.ids(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        for id in page {
            let id: ExecutionId = id.parse().context("the source is damaged")?;
            moved.executions += 1;
            moved.there += u64::from(copy_execution(from, to, id).await? == Copied::WasThere);
        }
        note(format!("executions copied: {}", moved.executions));
    }
    compare(from, to, &moved).await?;
    check_unowned(from, "source").await?;
    Ok(moved)
}

/// Refuses a journal in which a living process works on executions: it would change what is copied, or begin what is
/// only half there.
async fn check_unowned(journal: &dyn Journal, name: &str) -> anyhow::Result<()> {
    // Takes away what dead processes own.
    let beat = journal.beat(clock::machine_time()).await?;
    clock::set_offset(beat.clock_offset_ms);
    let statuses: Vec<_> = ExecutionStatus::ALL.into();
    let mut listing = Listing {
        statuses: statuses
            .into_iter()
            .filter(|status| !status.is_terminal())
            .collect(),
        limit: PAGE,
        ..Listing::default()
    };
    loop {
        let page = journal.list(listing.clone()).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        listing.after = Some(last.id);
        let owned = page
            .iter()
            .find_map(|row| Some((row.id, row.owner.as_ref()?)));
        if let Some((id, owner)) = owned {
            bail!(
                "a process ({owner}) works on executions of the {name}, {id} for instance: end all servers and commands that use it, and try again; one that was killed counts as living until its lease is over"
            );
        }
    }
}

async fn copy_documents(from: &dyn Journal, to: &dyn Journal) -> anyhow::Result<u64> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = from.documents(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(count);
        };
        after = Some(last.digest.clone());
        count += u64::try_from(page.len()).unwrap_or(u64::MAX);
        to.put_back(page, Vec::new()).await?;
    }
}

async fn copy_records(from: &dyn Journal, to: &dyn Journal) -> anyhow::Result<u64> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = from.all_records(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(count);
        };
        after = Some(key_of(last));
        let mut page = page.into_iter().collect::<Result<Vec<_>, _>>().context(
            "the source is damaged; what is whole of it can be had with `troupe verify --salvage`",
        )?;
        page.retain(|record| !KINDS_LEFT_OUT.contains(&record.kind.as_str()));
        count += u64::try_from(page.len()).unwrap_or(u64::MAX);
        to.put_back(Vec::new(), page).await?;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    Now,
    WasThere,
}

async fn copy_execution(
    from: &dyn Journal,
    to: &dyn Journal,
    id: ExecutionId,
) -> anyhow::Result<Copied> {
    let there = match to.find(id).await {
        Ok(there) => there,
        Err(ReadError::NotFound(_)) => {
            let archive = archive_of(from, id).await?;
            return match to.restore(archive).await {
                Ok(()) => Ok(Copied::Now),
                // The answer was lost, and it is done; whether it is right is compared at the end.
                Err(AppendError::Unknown { .. }) if to.find(id).await.is_ok() => Ok(Copied::Now),
                Err(error) => {
                    Err(anyhow::Error::from(error).context(format!("{id} was not copied")))
                }
            };
        }
        Err(error) => return Err(error.into()),
    };
    let row = from.find(id).await?;
    check_same_beginning(from, to, (&row, &there)).await?;
    if there.version == row.version {
        check_same_row(&row, &there)?;
        return Ok(Copied::WasThere);
    }
    // It went on in the source after it was copied.
    let events = from
        .events(
            id,
            there.version,
            u32::try_from(row.version - there.version).unwrap_or(u32::MAX),
        )
        .await?;
    to.append(Append {
        execution: id,
        expected: there.version,
        writer: Writer::Outside,
        events: &events,
        status: row.status,
        snapshot: None,
        records: Vec::new(),
    })
    .await?;
    Ok(Copied::Now)
}

/// Whether the target has no other events than the source.
async fn check_same_beginning(
    from: &dyn Journal,
    to: &dyn Journal,
    (row, there): (&ExecutionRow, &ExecutionRow),
) -> anyhow::Result<()> {
    let (id, mut read) = (row.id, 0);
    while read < there.version && there.version <= row.version {
        let left = u32::try_from(there.version - read).unwrap_or(u32::MAX);
        let limit = left.min(PAGE);
        let events = from.events(id, read, limit).await?;
        if events.is_empty() || events != to.events(id, read, limit).await? {
            break;
        }
        read += u64::from(limit);
    }
    if read < there.version {
        bail!(
            "{id} is in the target already, and went on otherwise there than in the source: nothing of it was changed"
        );
    }
    Ok(())
}

fn check_same_row(row: &ExecutionRow, there: &ExecutionRow) -> anyhow::Result<()> {
    // Who works on it, and when somebody is to look at it, is each journal's own.
    let kept = |row: &ExecutionRow| ExecutionRow {
        owner: None,
        due_at: None,
        ..row.clone()
    };
    if kept(row) != kept(there) {
        bail!("{} is in the target otherwise than in the source", row.id);
    }
    Ok(())
}

/// Whether everything of the source is in the target, and nothing was added to the source meanwhile.
async fn compare(from: &dyn Journal, to: &dyn Journal, moved: &Moved) -> anyhow::Result<()> {
    let (mut executions, mut after) = (0, None);
    loop {
        let page = from.ids(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        for id in page {
            let id: ExecutionId = id.parse().context("the source is damaged")?;
            executions += 1;
            check_same_row(&from.find(id).await?, &to.find(id).await?)?;
        }
    }
    let records = compare_records(from, to).await?;
    if (executions, records) != (moved.executions, moved.records) {
        bail!(
            "the source has {executions} executions and {records} records, and {} and {} were copied: somebody writes to it; end that, and try again",
            moved.executions,
            moved.records
        );
    }
    Ok(())
}

/// Goes through the records of both, which are in the same order; answers how many of the source there are.
async fn compare_records(from: &dyn Journal, to: &dyn Journal) -> anyhow::Result<u64> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = from.all_records(after.clone(), PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(count);
        };
        let end = key_of(last);
        let page: Vec<_> = page.into_iter().collect::<Result<_, _>>()?;
        let mut there = Vec::new();
        let mut seen = after;
        // The target may have more.
        while seen.as_ref().is_none_or(|seen| *seen < end) {
            let more = to.all_records(seen.clone(), PAGE).await?;
            let Some(last) = more.last() else { break };
            seen = Some(key_of(last));
            there.extend(
                more.into_iter()
                    .flatten()
                    .filter(|record| page.contains(record)),
            );
        }
        for record in &page {
            if KINDS_LEFT_OUT.contains(&record.kind.as_str()) {
                continue;
            }
            count += 1;
            if !there.contains(record) {
                let (kind, id) = (&record.kind, &record.id);
                bail!("the {kind} {id} is in the target otherwise than in the source");
            }
        }
        after = Some(end);
    }
}
