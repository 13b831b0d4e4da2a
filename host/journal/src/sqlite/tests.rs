//! What the journal in SQLite does with its file and its folder, beyond the rules of every journal.

use serde_json::json;
use tempfile::TempDir;
use troupe_workflow::{
    Event, EventKind, ExecutionId, ExecutionStatus, Snapshot, StepPath, Timestamp, WorkflowDigest,
};

use super::SqliteJournal;
use crate::{
    Append, AppendError, Document, Epoch, FailPoint, FirstOwner, Journal as _, NewExecution,
    OpenError, ReadError, Writer,
};

fn id(number: u128) -> ExecutionId {
    ExecutionId::from_parts(1, number)
}

fn skipped(millis: i64) -> Event {
    Event {
        at: Timestamp::from_millis(millis),
        kind: EventKind::StepSkipped {
            path: StepPath::new("s"),
        },
    }
}

fn new(id: ExecutionId) -> NewExecution {
    let text = json!({ "name": "w" }).to_string();
    let digest = WorkflowDigest::of(text.as_bytes());
    let created = EventKind::ExecutionCreated {
        workflow: "w".to_owned(),
        digest: digest.clone(),
        inputs: json!({ "text": "long ".repeat(4_000) }),
        forked_from: None,
        kept: Vec::new(),
    };
    NewExecution {
        id,
        document: Document {
            digest,
            name: "w".to_owned(),
            text,
        },
        workflow: None,
        settings: "{}".to_owned(),
        created: Event {
            at: Timestamp::from_millis(1),
            kind: created,
        },
        first_owner: FirstOwner::Creator,
        records: Vec::new(),
    }
}

fn append(id: ExecutionId, expected: u64, epoch: Epoch, events: &[Event]) -> Append<'_> {
    Append {
        execution: id,
        expected,
        writer: Writer::Owner(epoch),
        events,
        status: ExecutionStatus::Running,
        snapshot: None,
        records: Vec::new(),
    }
}

fn open(folder: &TempDir, node: &str) -> SqliteJournal {
    SqliteJournal::open(folder.path(), node.to_owned(), None).unwrap()
}

fn file(folder: &TempDir) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.path().join("journal.db")).unwrap()
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let epoch = journal.create(new(id(1))).await.unwrap();
    let events = [skipped(2), skipped(3)];
    journal
        .append(append(id(1), 1, epoch, &events))
        .await
        .unwrap();
    let stored = journal.load(id(1)).await.unwrap();
    drop(journal);
    let journal = open(&folder, "b");
    assert_eq!(journal.load(id(1)).await.unwrap(), stored);
    assert_eq!(stored.events[1..], events);
    assert_eq!(stored.row.owner.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_killed_owner_is_known_at_once_and_its_file_removed() {
    let folder = TempDir::new().unwrap();
    let first = open(&folder, "first");
    first.create(new(id(1))).await.unwrap();
    // What a killed process leaves: its file without its lock.
    std::fs::write(folder.path().join("nodes/dead.lock"), "").unwrap();
    file(&folder)
        .execute("UPDATE executions SET owner = 'dead'", [])
        .unwrap();
    first.take(id(1)).await.unwrap();
    assert!(!folder.path().join("nodes/dead.lock").exists());
}

#[test]
fn a_name_belongs_to_one_process() {
    let folder = TempDir::new().unwrap();
    let _first = open(&folder, "same");
    let second = SqliteJournal::open(folder.path(), "same".to_owned(), None);
    assert!(matches!(second, Err(OpenError::Folder { .. })));
}

#[tokio::test]
async fn damage_is_named() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let epoch = journal.create(new(id(1))).await.unwrap();
    let events = [skipped(2), skipped(3)];
    journal
        .append(append(id(1), 1, epoch, &events))
        .await
        .unwrap();
    let damaged = async |sql: &str| {
        file(&folder).execute(sql, []).unwrap();
        let error = journal.load(id(1)).await.unwrap_err();
        assert!(matches!(error, ReadError::Corrupt { .. }), "{error:?}");
        error.to_string()
    };
    let missing = damaged("DELETE FROM events WHERE position = 2").await;
    assert!(missing.contains("event 2 of exec_"), "{missing}");
    let moved = damaged("UPDATE events SET position = 2 WHERE position = 3").await;
    assert!(moved.contains("its checksum does not fit"), "{moved}");
    let blob = damaged("UPDATE blobs SET text = '{}'").await;
    assert!(blob.contains("is not what was stored"), "{blob}");
    let status = damaged("UPDATE executions SET status = 'odd'").await;
    assert!(status.contains("`odd` is no status"), "{status}");
}

#[tokio::test]
async fn the_last_event_is_missed_too() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let epoch = journal.create(new(id(1))).await.unwrap();
    let events = [skipped(2)];
    journal
        .append(append(id(1), 1, epoch, &events))
        .await
        .unwrap();
    file(&folder)
        .execute("DELETE FROM events WHERE position = 2", [])
        .unwrap();
    let error = journal.load(id(1)).await.unwrap_err().to_string();
    assert!(error.contains("it is missing; there were 2"), "{error}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_as_good_as_none() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let epoch = journal.create(new(id(1))).await.unwrap();
    let events = [skipped(2)];
    let snapshot = Snapshot {
        version: 2,
        build: "b".to_owned(),
        state: "{}".to_owned(),
    };
    let kept = Append {
        snapshot: Some(snapshot),
        ..append(id(1), 1, epoch, &events)
    };
    journal.append(kept).await.unwrap();
    file(&folder)
        .execute("UPDATE snapshots SET state = '{ }'", [])
        .unwrap();
    let stored = journal.load(id(1)).await.unwrap();
    assert_eq!((stored.snapshot, stored.events.len()), (None, 2));
}

#[tokio::test]
async fn what_is_deleted_leaves_no_rows() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    for number in [1, 2] {
        let epoch = journal.create(new(id(number))).await.unwrap();
        let events = [skipped(2)];
        let end = Append {
            status: ExecutionStatus::Failed,
            ..append(id(number), 1, epoch, &events)
        };
        journal.append(end).await.unwrap();
    }
    let count = |table: &str| -> i64 {
        file(&folder)
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    assert_eq!((count("blobs"), count("blob_uses")), (1, 2));
    journal.delete(id(1)).await.unwrap();
    assert_eq!((count("blobs"), count("workflows")), (1, 1));
    journal.delete(id(2)).await.unwrap();
    for table in ["executions", "events", "blobs", "blob_uses", "workflows"] {
        assert_eq!(count(table), 0, "{table}");
    }
}

#[test]
fn a_newer_format_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder, "a"));
    file(&folder)
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let refused = SqliteJournal::open(folder.path(), "b".to_owned(), None);
    assert!(matches!(refused, Err(OpenError::Format { found: 99, .. })));
}

#[test]
fn a_new_file_that_another_process_holds_is_waited_for() {
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let folder = TempDir::new().unwrap();
        let other = file(&folder);
        other.execute_batch(lock).unwrap();
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| open(&folder, "a"));
            // It cannot have opened the file yet, and has not given up when the lock ends.
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(!opening.is_finished(), "{lock}");
            other.execute_batch("COMMIT").unwrap();
            opening.join().unwrap();
        });
    }
}

#[test]
fn many_processes_open_a_new_file_at_once() {
    let folder = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let folder = &folder;
            scope.spawn(move || open(folder, &format!("n{number}")));
        }
    });
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_what_was_written() {
    let folder = TempDir::new().unwrap();
    let fail_point: FailPoint = "append:2:lost".parse().unwrap();
    let journal = SqliteJournal::open(folder.path(), "a".to_owned(), Some(fail_point.into()));
    let journal = journal.unwrap();
    let epoch = journal.create(new(id(1))).await.unwrap();
    let events = [skipped(2)];
    for expected in [1, 2, 3] {
        let done = journal
            .append(append(id(1), expected, epoch, &events))
            .await;
        let is_lost = matches!(done, Err(AppendError::Unknown { .. }));
        assert_eq!(is_lost, expected == 2, "{done:?}");
    }
    assert_eq!(journal.find(id(1)).await.unwrap().version, 4);
}
