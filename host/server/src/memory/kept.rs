//! Agents' memories as an operator sees them: who keeps how much, and how it is forgotten.

use troupe_journal::{AppendError, Journal, ReadError, Record, RecordListing, RecordWrite};

use super::{KIND, Owner, PAGE, bytes_of, id_of, key_of, read_count, write_of};

/// Tries against agents that write at the same time.
const TRIES_MAX: u32 = 100;

/// What one agent keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) owner: Owner,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
}

/// All agents that keep something, by no order that means anything.
///
/// # Errors
/// The journal cannot be read.
pub(crate) async fn list(journal: &dyn Journal) -> Result<Vec<Kept>, ReadError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let listing = RecordListing {
            kind: KIND,
            due: None,
            after,
            limit: 1,
        };
        let Some(record) = journal.records(listing).await?.pop() else {
            return Ok(all);
        };
        let scope = match record.id.split_once('/') {
            // One whose count is damaged: its keys are passed over too.
            Some((scope, _key)) => scope.to_owned(),
            None => {
                let count = read_count(&record)?;
                all.push(Kept {
                    owner: count.owner,
                    keys: count.keys,
                    bytes: count.bytes,
                });
                record.id
            }
        };
        // The first character behind those of its keys' ids.
        after = Some(format!("{scope}0"));
    }
}

/// Forgets all that an agent keeps; answers how many keys there were.
///
/// # Errors
/// The journal cannot be read or written; what was forgotten before stays forgotten.
pub(crate) async fn clear(journal: &dyn Journal, owner: &Owner) -> anyhow::Result<u64> {
    let (scope, mut keys, mut tries) = (owner.scope(), 0, 0);
    loop {
        let listing = RecordListing {
            kind: KIND,
            due: None,
            after: Some(id_of(&scope, "")),
            limit: PAGE,
        };
        let page = journal.records(listing).await?.into_iter();
        let page: Vec<_> = page
            .take_while(|record| record.id.starts_with(&id_of(&scope, "")))
            .collect();
        let forgotten = page.len();
        let count = journal.record(KIND, scope.clone()).await?;
        if forgotten == 0 && count.is_none() {
            return Ok(keys);
        }
        let mut records = Vec::new();
        if let Some(record) = count {
            records.push(counted_without(&record, &page, &scope));
        }
        records.extend(page.into_iter().map(|record| RecordWrite {
            kind: KIND,
            id: record.id,
            expected: record.version,
            due_at: None,
            body: None,
        }));
        match journal.write(Vec::new(), records).await {
            Ok(()) => keys += u64::try_from(forgotten).unwrap_or(u64::MAX),
            // An agent changed something meanwhile, or nobody knows: it is looked at again.
            Err(AppendError::Record { .. } | AppendError::Unknown { .. }) if tries < TRIES_MAX => {
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The count without some of the keys. One that cannot be read is removed.
fn counted_without(count: &Record, forgotten: &[Record], scope: &str) -> RecordWrite {
    let removed = RecordWrite {
        kind: KIND,
        id: count.id.clone(),
        expected: count.version,
        due_at: None,
        body: None,
    };
    let Ok(mut left) = read_count(count) else {
        return removed;
    };
    if forgotten.is_empty() {
        return removed;
    }
    for record in forgotten {
        let key = key_of(scope, &record.id).unwrap_or_default();
        left.keys = left.keys.saturating_sub(1);
        left.bytes = left.bytes.saturating_sub(bytes_of(key, &record.body));
    }
    write_of(&left, scope.to_owned(), count.version)
}
