//! The journal on a real file.

use serde_json::json;
use tempfile::TempDir;
use troupe_workflow::{Event, EventKind, ExecutionId, ExecutionStatus, Timestamp, WorkflowDigest};

use crate::{Append, AppendError, Epoch, Journal, NewExecution, OpenError, ReadError, Writer};

fn id(number: u128) -> ExecutionId {
    ExecutionId::from_parts(1, number)
}

fn event(number: i64, kind: EventKind) -> Event {
    Event {
        at: Timestamp::from_millis(number),
        kind,
    }
}

fn skipped(number: i64) -> Event {
    event(
        number,
        EventKind::StepSkipped {
            path: troupe_workflow::StepPath::new("s"),
        },
    )
}

fn new(id: ExecutionId) -> NewExecution {
    let document = json!({ "name": "w" }).to_string();
    let digest = WorkflowDigest::of(document.as_bytes());
    let created = EventKind::ExecutionCreated {
        workflow: "w".to_owned(),
        digest: digest.clone(),
        inputs: json!({}),
        forked_from: None,
        kept: Vec::new(),
    };
    NewExecution {
        id,
        workflow: digest,
        workflow_name: "w".to_owned(),
        document,
        settings: "{}".to_owned(),
        created: event(1, created),
    }
}

fn append(id: ExecutionId, expected: u64, epoch: Epoch, events: Vec<Event>) -> Append {
    Append {
        execution: id,
        expected,
        writer: Writer::Owner(epoch),
        status: ExecutionStatus::Running,
        events,
    }
}

fn open(folder: &TempDir, node: &str) -> Journal {
    Journal::open(folder.path(), node.to_owned(), None).unwrap()
}

#[tokio::test]
async fn events_are_read_back_in_order_also_after_reopening() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let epoch = journal.create(new(id(1))).await.unwrap();
    let version = journal
        .append(append(id(1), 1, epoch, vec![skipped(2), skipped(3)]))
        .await
        .unwrap();
    assert_eq!(version, 3);
    drop(journal);
    let journal = open(&folder, "b");
    let events = journal.events(id(1), 0).await.unwrap();
    assert_eq!(events.len(), 3);
    assert_eq!(events[1..], [skipped(2), skipped(3)]);
    assert_eq!(journal.events(id(1), 2).await.unwrap(), [skipped(3)]);
    assert_eq!(
        journal.workflow(id(1)).await.unwrap().document,
        json!({ "name": "w" })
    );
    assert!(matches!(
        journal.find(id(9)).await,
        Err(ReadError::NotFound(_))
    ));
}

#[tokio::test]
async fn whoever_has_not_seen_all_is_refused() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let epoch = journal.create(new(id(1))).await.unwrap();
    journal
        .append(append(id(1), 1, epoch, vec![skipped(2)]))
        .await
        .unwrap();
    let late = journal
        .append(append(id(1), 1, epoch, vec![skipped(3)]))
        .await;
    assert!(
        matches!(
            late,
            Err(AppendError::Conflict {
                expected: 1,
                actual: 2
            })
        ),
        "{late:?}"
    );
    let nobody = journal
        .append(append(id(2), 0, epoch, vec![skipped(3)]))
        .await;
    assert!(matches!(nobody, Err(AppendError::NotFound(_))));
    assert_eq!(journal.events(id(1), 0).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_refused_append_does_not_spoil_those_that_share_its_commit() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let mut appends = Vec::new();
    for number in 0..50 {
        let epoch = journal.create(new(id(number))).await.unwrap();
        let expected = if number % 2 == 0 { 1 } else { 7 };
        appends.push(journal.append(append(id(number), expected, epoch, vec![skipped(2)])));
    }
    let mut recorded = 0;
    for result in futures_like_join(appends).await {
        recorded += usize::from(result.is_ok());
    }
    assert_eq!(recorded, 25);
    for number in 0..50 {
        let expected = if number % 2 == 0 { 2 } else { 1 };
        assert_eq!(journal.find(id(number)).await.unwrap().version, expected);
    }
}

/// All at once, on one task.
async fn futures_like_join<T: Send + 'static>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut results = Vec::new();
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        pinned.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pinned.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results
}

#[tokio::test]
async fn only_one_process_owns_an_execution_and_the_old_owner_is_fenced() {
    let folder = TempDir::new().unwrap();
    let first = open(&folder, "first");
    let second = open(&folder, "second");
    let old = first.create(new(id(1))).await.unwrap();
    let row = second.find(id(1)).await.unwrap();
    let refused = second.claim(&row).await;
    assert!(
        matches!(refused, Err(AppendError::Owned { .. })),
        "{refused:?}"
    );

    first.release(id(1), old).await.unwrap();
    let row = second.find(id(1)).await.unwrap();
    let epoch = second.claim(&row).await.unwrap();
    let fenced = first.append(append(id(1), 1, old, vec![skipped(2)])).await;
    assert!(matches!(fenced, Err(AppendError::Fenced)), "{fenced:?}");
    second
        .append(append(id(1), 1, epoch, vec![skipped(2)]))
        .await
        .unwrap();
    // Who claims from an owner that is no longer it loses the race.
    assert!(matches!(
        first.claim(&row).await,
        Err(AppendError::Owned { .. })
    ));
}

#[tokio::test]
async fn what_somebody_wrote_at_the_last_moment_stays_with_the_owner() {
    let folder = TempDir::new().unwrap();
    let owner = open(&folder, "owner");
    let person = open(&folder, "person");
    let epoch = owner.create(new(id(1))).await.unwrap();
    let answer = Append {
        writer: Writer::Outside,
        ..append(id(1), 1, epoch, vec![skipped(2)])
    };
    person.append(answer).await.unwrap();
    // The person sees a living owner, and leaves the rest to it.
    let row = person.find(id(1)).await.unwrap();
    assert!(matches!(
        person.claim(&row).await,
        Err(AppendError::Owned { .. })
    ));
    assert!(!owner.release_at(id(1), epoch, 1).await.unwrap());
    assert!(owner.find(id(1)).await.unwrap().owner.is_some());
    assert!(owner.release_at(id(1), epoch, 2).await.unwrap());
    assert_eq!(owner.find(id(1)).await.unwrap().owner, None);
    let row = person.find(id(1)).await.unwrap();
    person.claim(&row).await.unwrap();
    // Another's already: nothing is left to give back.
    assert!(owner.release_at(id(1), epoch, 2).await.unwrap());
}

#[tokio::test]
async fn a_dead_owner_is_known_at_once() {
    let folder = TempDir::new().unwrap();
    let first = open(&folder, "first");
    first.create(new(id(1))).await.unwrap();
    // What a killed process leaves: its file without its lock.
    std::fs::write(folder.path().join("nodes/dead.lock"), "").unwrap();
    let row = crate::ExecutionRow {
        owner: Some("dead".to_owned()),
        ..first.find(id(1)).await.unwrap()
    };
    rusqlite::Connection::open(folder.path().join("journal.db"))
        .unwrap()
        .execute("UPDATE executions SET owner = 'dead'", [])
        .unwrap();
    let second = open(&folder, "second");
    second.claim(&row).await.unwrap();
    assert!(!folder.path().join("nodes/dead.lock").exists());
}

#[tokio::test]
async fn an_execution_that_ended_is_no_longer_unfinished_nor_owned() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let epoch = journal.create(new(id(1))).await.unwrap();
    journal.create(new(id(2))).await.unwrap();
    let end = event(2, EventKind::ExecutionCompleted { outputs: json!({}) });
    journal
        .append(Append {
            status: ExecutionStatus::Completed,
            ..append(id(1), 1, epoch, vec![end])
        })
        .await
        .unwrap();
    let unfinished: Vec<_> = journal
        .unfinished(10)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(unfinished, [id(2)]);
    let ended = journal.find(id(1)).await.unwrap();
    assert_eq!((ended.status.as_str(), ended.owner), ("completed", None));
    assert_eq!(journal.list(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn damage_is_named_and_other_formats_are_refused() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder, "a");
    let epoch = journal.create(new(id(1))).await.unwrap();
    journal
        .append(append(id(1), 1, epoch, vec![skipped(2), skipped(3)]))
        .await
        .unwrap();
    let file = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    file.execute("DELETE FROM events WHERE position = 2", [])
        .unwrap();
    let error = journal.events(id(1), 0).await.unwrap_err().to_string();
    assert!(error.contains("event 2 is missing"), "{error}");
    file.execute(
        "UPDATE events SET position = 2, body = '{}' WHERE position = 3",
        [],
    )
    .unwrap();
    let error = journal.events(id(1), 0).await.unwrap_err().to_string();
    assert!(error.contains("event 2 of exec_"), "{error}");
    file.pragma_update(None, "user_version", 99).unwrap();
    let refused = Journal::open(folder.path(), "b".to_owned(), None);
    assert!(matches!(refused, Err(OpenError::Format { found: 99, .. })));
}

#[test]
fn a_new_file_that_another_process_holds_is_waited_for() {
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let folder = TempDir::new().unwrap();
        let other = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
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
