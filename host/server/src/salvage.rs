//! Copies what of a journal is whole.

use troupe_journal::{Archive, Document, Journal, ReadError, Record};
use troupe_workflow::ExecutionId;

use crate::verify::{Found, PAGE, Seen, key_of, name_of, run};

/// All of one execution, which is whole.
///
/// # Errors
/// What the journal says.
pub(crate) async fn archive_of(
    journal: &dyn Journal,
    id: ExecutionId,
) -> Result<Archive, ReadError> {
    let row = journal.find(id).await?;
    let document = journal.document(row.digest.clone()).await?;
    let mut events = journal.all_events(id).await?;
    // What was added since is not in the row.
    events.truncate(usize::try_from(row.version).unwrap_or(usize::MAX));
    Ok(Archive {
        row,
        document,
        events,
    })
}

/// Copies everything of a journal that is whole into another one.
///
/// # Errors
/// What the other journal says.
pub(crate) async fn save(from: &dyn Journal, to: &dyn Journal) -> anyhow::Result<Seen> {
    let (mut whole, mut documents, mut records) = (Vec::new(), Vec::new(), Vec::new());
    run(from, &mut |found| match found {
        Found::Whole(id) => whole.push(id),
        Found::Document(document) => documents.push(document.digest),
        Found::Record(record) => records.push((record.kind, record.id)),
        Found::Fault(_) | Found::Progress(_) => {}
    })
    .await;
    let mut saved = Seen::default();
    for digest in documents {
        let document = named(from.document(digest).await?);
        to.put_back(vec![document], Vec::new()).await?;
        saved.documents += 1;
    }
    let mut after = None;
    loop {
        // A page that cannot be read has ended the look, too.
        let page = from
            .all_records(after.clone(), PAGE)
            .await
            .unwrap_or_default();
        let last = page.last().map(key_of);
        if last.is_none() || last == after {
            break;
        }
        after = last;
        let is_right = |record: &Record| {
            let key = (record.kind.clone(), record.id.clone());
            records.binary_search(&key).is_ok()
        };
        let page: Vec<_> = page.into_iter().flatten().filter(is_right).collect();
        saved.records += u64::try_from(page.len()).unwrap_or(u64::MAX);
        to.put_back(Vec::new(), page).await?;
    }
    for id in whole {
        let mut archive = archive_of(from, id).await?;
        archive.document = named(archive.document);
        to.restore(archive).await?;
        saved.whole += 1;
    }
    saved.executions = saved.whole;
    Ok(saved)
}

/// A document under the name that it says itself: the one beside it has no checksum.
fn named(document: Document) -> Document {
    Document {
        name: name_of(&document).unwrap_or(document.name),
        ..document
    }
}
