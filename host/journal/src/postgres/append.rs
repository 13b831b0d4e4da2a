//! Appends of many executions as few statements.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Executor, PgConnection};
use troupe_workflow::{ExecutionId, Snapshot, Timestamp};

use super::fault::Fault;
use super::write::{EventColumns, hint};
use super::{read, record};
use crate::checksum;
use crate::encode::Blob;
use crate::error::AppendError;
use crate::execution::{Decide, Writer};
use crate::prepared::Prepared;

/// What became of an append.
pub(super) type Outcome = Result<u64, AppendError>;

/// Does appends, each to another execution, in one transaction: those that are refused leave nothing, and the others
/// are done.
pub(super) async fn append_all(
    connection: &mut PgConnection,
    appends: &[&Prepared],
) -> Result<Vec<Outcome>, Fault<AppendError>> {
    let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
    let (alone, together): (Vec<_>, Vec<_>) = appends
        .iter()
        .enumerate()
        .partition(|(_, append)| !append.records.is_empty());
    let plain: Vec<_> = together.iter().map(|(_, append)| **append).collect();
    let done = append_plain(connection, &plain).await?;
    outcomes.extend(together.iter().map(|(index, _)| *index).zip(done));
    for (index, append) in alone {
        outcomes.insert(index, append_with_records(connection, append).await?);
    }
    let is_from_outside = |(index, outcome): (&usize, &Outcome)| {
        outcome.is_ok() && appends[*index].writer == Writer::Outside
    };
    if outcomes.iter().any(is_from_outside) {
        hint(connection).await?;
    }
    Ok(outcomes.into_values().collect())
}

/// Records what somebody from outside brings, with the execution's row held from before its events are read.
pub(super) async fn bring(
    connection: &mut PgConnection,
    id: ExecutionId,
    known: u64,
    decide: &Decide,
) -> Result<Option<u64>, Fault<AppendError>> {
    sqlx::query("SELECT 1 FROM executions WHERE id = $1 FOR NO KEY UPDATE")
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(Fault::Refused(AppendError::NotFound(id)))?;
    // A statement of its own: it sees what was committed while this waited for the row.
    let events = read::events(connection, id, (known, u32::MAX))
        .await
        .map_err(|fault| fault.refusing(AppendError::unread))?;
    let version = known.saturating_add(u64::try_from(events.len()).unwrap_or(u64::MAX));
    let Some(brought) = decide(events) else {
        return Ok(None);
    };
    let encode = |error| Fault::Refused(AppendError::Encode(error));
    let prepared = Prepared::brought(id, version, brought).map_err(encode)?;
    let outcome = append_all(connection, &[&prepared]).await?.pop();
    let version = outcome.unwrap_or(Err(AppendError::Closed));
    version.map(Some).map_err(Fault::Refused)
}

/// An append whose records can refuse it when its events are written already: it is undone alone.
async fn append_with_records(
    connection: &mut PgConnection,
    append: &Prepared,
) -> Result<Outcome, Fault<AppendError>> {
    connection.execute("SAVEPOINT one").await?;
    let mut outcome = append_plain(connection, &[append])
        .await?
        .pop()
        .unwrap_or(Err(AppendError::Closed));
    if outcome.is_ok() {
        match record::write(connection, &append.records).await {
            Ok(()) => {}
            Err(Fault::Refused(error)) => outcome = Err(error),
            Err(fault) => return Err(fault),
        }
    }
    let end = match outcome {
        Ok(_) => "RELEASE SAVEPOINT one",
        Err(_) => "ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one",
    };
    connection.execute(sqlx::raw_sql(end)).await?;
    Ok(outcome)
}

/// Appends without their records.
async fn append_plain(
    connection: &mut PgConnection,
    appends: &[&Prepared],
) -> Result<Vec<Outcome>, Fault<AppendError>> {
    if appends.is_empty() {
        return Ok(Vec::new());
    }
    let keys = advance(connection, appends).await?;
    let accepted = || keys.iter().map(|(id, key)| (*key, appends[*id]));
    if accepted().any(|(_, append)| !append.rows.is_empty()) {
        let mut columns = EventColumns::of(accepted().flat_map(|(_, append)| &append.rows));
        let executions: Vec<i64> = accepted()
            .flat_map(|(key, append)| std::iter::repeat_n(key, append.rows.len()))
            .collect();
        sqlx::query(
            "INSERT INTO events (execution, position, body, payloads, checksum)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])",
        )
        .bind(executions)
        .bind(std::mem::take(&mut columns.positions))
        .bind(columns.bodies)
        .bind(columns.payloads)
        .bind(columns.checksums)
        .execute(&mut *connection)
        .await?;
    }
    let uses: Vec<_> = accepted()
        .flat_map(|(key, append)| append.blobs.iter().map(move |blob| BlobUse { key, blob }))
        .collect();
    write_blobs(connection, uses).await?;
    let snapshots: Vec<_> = accepted()
        .filter_map(|(key, append)| Some((key, append.snapshot.as_ref()?)))
        .collect();
    write_snapshots(connection, &snapshots).await?;
    let mut reasons = refusals(connection, appends, &keys).await?;
    Ok((0..appends.len())
        .map(|index| match reasons.remove(&index) {
            Some(refused) => Err(refused),
            None => Ok(appends[index].version()),
        })
        .collect())
}

/// Brings the rows of executions to where their events will be, of those whose writer has seen all and, where it is
/// an owner, still is it. Answers their keys.
async fn advance(
    connection: &mut PgConnection,
    appends: &[&Prepared],
) -> Result<BTreeMap<usize, i64>, Fault<AppendError>> {
    fn column<T>(appends: &[&Prepared], value: impl Fn(&Prepared) -> T) -> Vec<T> {
        appends.iter().map(|append| value(append)).collect()
    }
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "UPDATE executions e SET version = t.version, updated_at = t.at, status = t.status, due_at = t.due_at,
            owner = CASE WHEN t.ends THEN NULL ELSE e.owner END
         FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[],
                $8::boolean[]) WITH ORDINALITY
            AS t (id, expected, epoch, version, at, status, due_at, ends, number)
         WHERE e.id = t.id AND e.version = t.expected AND (t.epoch IS NULL OR (e.epoch = t.epoch AND e.owner IS NOT NULL))
         RETURNING t.number, e.key",
    )
    .bind(column(appends, |append| append.execution.to_string()))
    .bind(column(appends, |append| signed(append.expected)))
    .bind(column(appends, |append| match append.writer {
        Writer::Owner(epoch) => Some(epoch.0),
        Writer::Outside => None,
    }))
    .bind(column(appends, |append| signed(append.version())))
    .bind(column(appends, |append| append.at.as_millis()))
    .bind(column(appends, |append| append.status.as_str()))
    .bind(column(appends, |append| append.due_at().map(Timestamp::as_millis)))
    .bind(column(appends, |append| append.status.is_terminal()))
    .fetch_all(connection)
    .await?;
    // They are counted from 1.
    let number = |number: i64| usize::try_from(number - 1).unwrap_or(usize::MAX);
    let keys: BTreeMap<usize, i64> = rows
        .into_iter()
        .map(|(row, key)| (number(row), key))
        .collect();
    Ok(keys)
}

/// Why those that were not accepted were not.
async fn refusals(
    connection: &mut PgConnection,
    appends: &[&Prepared],
    accepted: &BTreeMap<usize, i64>,
) -> Result<BTreeMap<usize, AppendError>, Fault<AppendError>> {
    let refused: Vec<usize> = (0..appends.len())
        .filter(|index| !accepted.contains_key(index))
        .collect();
    if refused.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<String> = refused
        .iter()
        .map(|index| appends[*index].execution.to_string())
        .collect();
    let rows: Vec<(String, i64, i64, Option<String>)> =
        sqlx::query_as("SELECT id, version, epoch, owner FROM executions WHERE id = ANY($1)")
            .bind(&ids)
            .fetch_all(connection)
            .await?;
    let mut found = BTreeMap::new();
    for (id, version, epoch, owner) in rows {
        found.insert(id, (version, epoch, owner));
    }
    let reason = |index: usize, id: &str| {
        let append = appends[index];
        let Some((version, epoch, owner)) = found.get(id) else {
            return AppendError::NotFound(append.execution);
        };
        match append.writer {
            Writer::Owner(own) if own.0 != *epoch || owner.is_none() => AppendError::Fenced,
            Writer::Owner(_) | Writer::Outside => AppendError::Conflict {
                expected: append.expected,
                actual: u64::try_from(*version).unwrap_or(0),
            },
        }
    };
    let reasons = refused.iter().zip(&ids);
    Ok(reasons
        .map(|(index, id)| (*index, reason(*index, id)))
        .collect())
}

/// A value that an execution has stored apart.
pub(super) struct BlobUse<'a> {
    /// The execution's.
    pub(super) key: i64,
    pub(super) blob: &'a Blob,
}

/// Stores values, each once, in the order of their digests: of two transactions one waits for the other.
pub(super) async fn write_blobs(
    connection: &mut PgConnection,
    uses: Vec<BlobUse<'_>>,
) -> Result<(), Fault<AppendError>> {
    /// Bytes of one statement, but for a value that is longer: bounds what is held for it, here and at the server.
    const BYTES_MAX: usize = 8 << 20;
    if uses.is_empty() {
        return Ok(());
    }
    let blobs: BTreeMap<&str, &str> = uses
        .iter()
        .map(|used| (used.blob.digest.as_str(), used.blob.text.as_str()))
        .collect();
    let (mut digests, mut texts, mut bytes) = (Vec::new(), Vec::new(), 0);
    let last = blobs.len() - 1;
    for (number, (digest, text)) in blobs.into_iter().enumerate() {
        digests.push(digest);
        texts.push(text);
        bytes += text.len();
        if bytes >= BYTES_MAX || number == last {
            sqlx::query(
                "INSERT INTO blobs (digest, text) SELECT * FROM unnest($1::text[], $2::text[])
                 ON CONFLICT (digest) DO NOTHING",
            )
            .bind(std::mem::take(&mut digests))
            .bind(std::mem::take(&mut texts))
            .execute(&mut *connection)
            .await?;
            bytes = 0;
        }
    }
    let uses: BTreeSet<(&str, i64)> = uses
        .iter()
        .map(|used| (used.blob.digest.as_str(), used.key))
        .collect();
    let (digests, keys): (Vec<_>, Vec<_>) = uses.into_iter().unzip();
    sqlx::query(
        "INSERT INTO blob_uses (digest, execution) SELECT * FROM unnest($1::text[], $2::bigint[])
         ON CONFLICT DO NOTHING",
    )
    .bind(digests)
    .bind(keys)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps states of executions, by their keys.
pub(super) async fn write_snapshots(
    connection: &mut PgConnection,
    snapshots: &[(i64, &Snapshot)],
) -> Result<(), Fault<AppendError>> {
    fn column<'a, T>(
        snapshots: &[(i64, &'a Snapshot)],
        value: impl Fn(&'a Snapshot) -> T,
    ) -> Vec<T> {
        snapshots
            .iter()
            .map(|(_, snapshot)| value(snapshot))
            .collect()
    }
    if snapshots.is_empty() {
        return Ok(());
    }
    let keys: Vec<i64> = snapshots.iter().map(|(key, _)| *key).collect();
    sqlx::query(
        "INSERT INTO snapshots (execution, version, build, state, checksum)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
         ON CONFLICT (execution) DO UPDATE SET version = excluded.version, build = excluded.build,
            state = excluded.state, checksum = excluded.checksum",
    )
    .bind(keys)
    .bind(column(snapshots, |snapshot| {
        i64::try_from(snapshot.version).unwrap_or(i64::MAX)
    }))
    .bind(column(snapshots, |snapshot| snapshot.build.as_str()))
    .bind(column(snapshots, |snapshot| snapshot.state.as_str()))
    .bind(column(snapshots, |snapshot| {
        i64::from(checksum::of_text(&snapshot.state))
    }))
    .execute(connection)
    .await?;
    Ok(())
}
