//! Schedules on a journal in memory, at given times: nothing here waits.

use std::time::Duration;

use troupe_journal::{Append, ExecutionRow, Listing, MemoryJournal, Order, SqliteJournal, Writer};
use troupe_workflow::{Definition, Event, EventKind, ExecutionStatus};

use super::*;
use crate::clock;
use crate::records;
use crate::run::Planned;
use crate::workflows;

/// When every schedule here begins: a minute of its own, in whose seconds the moments lie.
const START: i64 = 1_795_356_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(START + seconds * 1_000)
}

fn document() -> Value {
    json!({
        "name": "Nightly",
        "agents": [],
        "steps": [{ "wait": { "seconds": 1 } }, { "set": { "said": "{{ word }}" } }],
    })
}

async fn workflow(journal: &dyn Journal) -> String {
    let definition = Definition::compile(&document()).unwrap();
    let id = clock::new_id("wf");
    workflows::create(journal, &definition, Vec::new(), id)
        .await
        .unwrap()
        .id
}

/// A schedule for every ten seconds, with some of its fields.
async fn scheduled(journal: &dyn Journal, fields: Value) -> String {
    let mut form = json!({
        "workflow_id": workflow(journal).await,
        "every_s": 10,
        "inputs": { "word": "hello" },
    });
    form.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let schedule = Schedule::read(&form).unwrap();
    check(journal, &schedule).await.unwrap();
    let stored = StoredSchedule::new(clock::new_id("sched"), schedule, at(0));
    create(journal, &stored, Vec::new()).await.unwrap();
    stored.id
}

/// What a node does at a time. Answers how many schedules were due.
async fn look(journal: &dyn Journal, seconds: i64) -> usize {
    let now = at(seconds);
    let due = due(journal, now).await.unwrap();
    for record in &due {
        fire(journal, record, (now, Room::Free)).await.unwrap();
    }
    due.len()
}

async fn executions(journal: &dyn Journal) -> Vec<ExecutionRow> {
    let listing = Listing {
        order: Order::OldestFirst,
        limit: 100,
        ..Listing::default()
    };
    journal.list(listing).await.unwrap()
}

/// The moments for which executions were started, in seconds.
async fn started(journal: &dyn Journal) -> Vec<i64> {
    let rows = executions(journal).await;
    let planned = rows
        .iter()
        .map(|row| Planned::read(&row.settings).unwrap().at);
    let mut seconds: Vec<_> = planned
        .map(|moment| (moment.as_millis() - START) / 1_000)
        .collect();
    seconds.sort_unstable();
    seconds
}

/// Ends all executions.
async fn end_all(journal: &dyn Journal) {
    for row in executions(journal).await {
        if row.status.is_terminal() {
            continue;
        }
        let event = Event {
            at: at(0),
            kind: EventKind::CancelRequested,
        };
        let append = Append {
            execution: row.id,
            expected: row.version,
            writer: Writer::Outside,
            events: &[event],
            status: ExecutionStatus::Cancelled,
            snapshot: None,
            records: Vec::new(),
        };
        journal.append(append).await.unwrap();
    }
}

/// When somebody must look at a schedule.
async fn due_at(journal: &dyn Journal, id: &str) -> Option<Timestamp> {
    let record = journal.record(KIND, id.to_owned()).await.unwrap();
    record.unwrap().due_at
}

async fn missed(journal: &dyn Journal, id: &str) -> u64 {
    find::<StoredSchedule>(journal, id).await.unwrap().missed
}

#[tokio::test]
async fn every_moment_starts_one_execution() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(
        &journal,
        json!({ "overlap": "allow", "config": { "max_retries": 1 } }),
    )
    .await;
    assert_eq!(due_at(&journal, &id).await, Some(at(10)));
    assert_eq!(look(&journal, 9).await, 0);
    for seconds in [10, 11, 20, 29, 30] {
        look(&journal, seconds).await;
    }
    assert_eq!(started(&journal).await, [10, 20, 30]);
    let rows = executions(&journal).await;
    let planned = Planned::read(&rows[0].settings).unwrap();
    assert_eq!(planned.schedule, id);
    let stored = journal.load(rows[0].id).await.unwrap();
    assert_eq!(stored.document["config"], json!({ "max_retries": 1 }));
    assert_eq!(stored.row.workflow.unwrap().version, 1);
    let view = find::<StoredSchedule>(&journal, &id)
        .await
        .unwrap()
        .to_json();
    assert_eq!(view["next_at"], json!(at(40).to_string()));
    assert_eq!(
        view["last_execution"]["planned_at"],
        json!(at(30).to_string())
    );
    assert_eq!(view["missed_count"], 0);
}

#[tokio::test]
async fn of_many_nodes_that_see_a_moment_one_starts_it() {
    let journal = MemoryJournal::new("a");
    scheduled(&journal, json!({ "overlap": "allow" })).await;
    let nodes = [journal.join("b"), journal.join("c")];
    for seconds in [10, 20] {
        let now = at(seconds);
        // All have read the same before the first of them writes.
        let seen = due(&journal, now).await.unwrap();
        for node in &nodes {
            fire(node, &seen[0], (now, Room::Free)).await.unwrap();
        }
        fire(&journal, &seen[0], (now, Room::Free)).await.unwrap();
    }
    assert_eq!(started(&journal).await, [10, 20]);
}

#[tokio::test]
async fn a_process_that_ends_on_the_way_has_done_all_or_nothing() {
    let journal = MemoryJournal::new("a");
    scheduled(&journal, json!({ "overlap": "allow" })).await;
    let other = journal.join("b");
    let seen = due(&journal, at(10)).await.unwrap();
    // It ends before it has written.
    drop(fire(&journal, &seen[0], (at(10), Room::Free)));
    assert_eq!(look(&other, 11).await, 1);
    // It ends after that, and another looks again.
    drop(other);
    assert_eq!(look(&journal, 12).await, 0);
    assert_eq!(started(&journal).await, [10]);
}

#[tokio::test]
async fn a_lost_answer_starts_nothing_twice() {
    for place in ["create:1:lost", "write:4:lost"] {
        let folder = tempfile::tempdir().unwrap();
        let point = std::sync::Arc::new(place.parse().unwrap());
        let journal = SqliteJournal::open(folder.path(), "a".to_owned(), Some(point)).unwrap();
        let id = scheduled(&journal, json!({ "overlap": "allow" })).await;
        for seconds in [10, 11, 20, 21] {
            look(&journal, seconds).await;
        }
        assert_eq!(started(&journal).await, [10, 20], "{place}");
        assert_eq!(missed(&journal, &id).await, 0);
    }
}

#[tokio::test]
async fn lost_answers_of_changes_are_found_again() {
    for number in 1..=5 {
        let folder = tempfile::tempdir().unwrap();
        let place = format!("write:{number}:lost");
        let point = std::sync::Arc::new(place.parse().unwrap());
        let journal = SqliteJournal::open(folder.path(), "a".to_owned(), Some(point)).unwrap();
        let id = scheduled(&journal, json!({})).await;
        let changed = patch(&journal, &id, &json!({ "every_s": 5 }), || at(1)).await;
        assert_eq!(changed.unwrap().planned, Some(at(6)), "{place}");
        delete(&journal, &id).await.unwrap();
        assert!(find::<StoredSchedule>(&journal, &id).await.is_err());
    }
}

#[tokio::test]
async fn with_skip_nothing_starts_beside_the_last() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({})).await;
    for seconds in [10, 20, 30] {
        look(&journal, seconds).await;
    }
    assert_eq!(started(&journal).await, [10]);
    assert_eq!(missed(&journal, &id).await, 2);
    end_all(&journal).await;
    look(&journal, 40).await;
    assert_eq!(started(&journal).await, [10, 40]);
    // One that was removed has ended.
    end_all(&journal).await;
    for row in executions(&journal).await {
        journal.delete(row.id).await.unwrap();
    }
    look(&journal, 50).await;
    assert_eq!(started(&journal).await, [50]);
}

#[tokio::test]
async fn with_queue_one_start_waits_for_the_end_of_the_last() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({ "overlap": "queue" })).await;
    for seconds in [10, 20, 21, 22] {
        look(&journal, seconds).await;
    }
    assert_eq!(started(&journal).await, [10]);
    let view = find::<StoredSchedule>(&journal, &id)
        .await
        .unwrap()
        .to_json();
    assert_eq!(view["queued_at"], json!(at(20).to_string()));
    // Another moment passes: only one start is kept.
    look(&journal, 30).await;
    assert_eq!(missed(&journal, &id).await, 1);
    end_all(&journal).await;
    let soon = due_at(&journal, &id).await.unwrap();
    assert!(soon <= at(32), "{soon}");
    look(&journal, 32).await;
    assert_eq!(started(&journal).await, [10, 20]);
    assert_eq!(
        find::<StoredSchedule>(&journal, &id).await.unwrap().queued,
        None
    );
}

#[tokio::test]
async fn a_queued_start_is_looked_for_ever_more_seldom() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({ "overlap": "queue", "every_s": 86_400 })).await;
    let day = 86_400;
    look(&journal, day).await;
    look(&journal, 2 * day).await;
    assert_eq!(due_at(&journal, &id).await, Some(at(2 * day + 1)));
    assert_eq!(look(&journal, 2 * day + 300).await, 1);
    assert_eq!(due_at(&journal, &id).await, Some(at(2 * day + 330)));
    assert_eq!(look(&journal, 2 * day + 36_000).await, 1);
    assert_eq!(due_at(&journal, &id).await, Some(at(2 * day + 36_060)));
    assert_eq!(missed(&journal, &id).await, 0);
}

#[tokio::test]
async fn what_passed_while_nobody_looked_starts_once_or_not_at_all() {
    for policy in ["once", "skip"] {
        let journal = MemoryJournal::new("a");
        let fields = json!({ "missed": policy, "overlap": "allow" });
        let often = scheduled(&journal, fields).await;
        // Its only moment passed more than a minute ago, the last of the others less.
        let seldom = scheduled(&journal, json!({ "missed": policy, "every_s": 70 })).await;
        look(&journal, 139).await;
        let moments = started(&journal).await;
        assert_eq!(missed(&journal, &often).await, 12);
        if policy == "once" {
            assert_eq!(moments, [70, 130]);
            assert_eq!(missed(&journal, &seldom).await, 0);
        } else {
            assert_eq!(moments, [130]);
            assert_eq!(missed(&journal, &seldom).await, 1);
        }
    }
}

#[tokio::test]
async fn a_pause_starts_nothing_and_misses_nothing() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({ "overlap": "allow" })).await;
    look(&journal, 10).await;
    let paused = patch(&journal, &id, &json!({ "paused": true }), || at(15)).await;
    assert_eq!(paused.unwrap().to_json()["next_at"], Value::Null);
    assert_eq!(due_at(&journal, &id).await, None);
    assert_eq!(look(&journal, 45).await, 0);
    let resumed = patch(&journal, &id, &json!({ "paused": false }), || at(47)).await;
    // Its moments are where they were.
    assert_eq!(resumed.unwrap().planned, Some(at(50)));
    look(&journal, 50).await;
    assert_eq!(started(&journal).await, [10, 50]);
    assert_eq!(missed(&journal, &id).await, 0);
    // A pause between two moments changes none.
    for (paused, seconds) in [(true, 51), (false, 52)] {
        let change = json!({ "paused": paused });
        patch(&journal, &id, &change, || at(seconds)).await.unwrap();
    }
    look(&journal, 60).await;
    assert_eq!(started(&journal).await, [10, 50, 60]);
}

#[tokio::test]
async fn a_change_keeps_the_rest_and_a_changed_timing_begins_anew() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({ "overlap": "allow" })).await;
    let change = json!({ "inputs": { "word": "bye" }, "overlap": null });
    let changed = patch(&journal, &id, &change, || at(3)).await.unwrap();
    assert_eq!(changed.planned, Some(at(10)));
    assert_eq!(changed.schedule.overlap, troupe_workflow::Overlap::Skip);
    assert_eq!(changed.to_json()["updated_at"], json!(at(3).to_string()));
    // Due, and changed before anybody looked: it is started with what it is now.
    let change = json!({ "inputs": { "word": "late" } });
    patch(&journal, &id, &change, || at(11)).await.unwrap();
    look(&journal, 12).await;
    let rows = executions(&journal).await;
    let events = journal.all_events(rows[0].id).await.unwrap();
    let EventKind::ExecutionCreated { inputs, .. } = &events[0].kind else {
        panic!("{events:?}");
    };
    assert_eq!(inputs, &json!({ "word": "late" }));
    let changed = patch(&journal, &id, &json!({ "every_s": 7 }), || at(13))
        .await
        .unwrap();
    assert_eq!(changed.planned, Some(at(20)));
    // One of the two timings takes the other's place.
    let change = json!({ "cron": "*/5 * * * *" });
    let changed = patch(&journal, &id, &change, || at(14)).await.unwrap();
    let view = changed.to_json();
    assert_eq!(
        (&view["cron"], view.get("every_s")),
        (&json!("*/5 * * * *"), None)
    );
    // A clock that is behind starts no moment again.
    look(&journal, 300).await;
    let last = find::<StoredSchedule>(&journal, &id)
        .await
        .unwrap()
        .last
        .unwrap()
        .planned_at;
    let before = Timestamp::from_millis(last.as_millis() - 50);
    let change = json!({ "cron": "*/1 * * * *" });
    let changed = patch(&journal, &id, &change, || before).await.unwrap();
    assert!(changed.planned > Some(last));
}

#[tokio::test]
async fn changes_that_are_wrong_are_refused_with_their_places() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({})).await;
    for (change, place) in [
        (json!({ "cron": "nonsense" }), "/cron"),
        (json!({ "cron": "@daily", "every_s": 5 }), "/every_s"),
        (json!({ "every_s": null }), ""),
        (json!({ "inputs": {} }), "/inputs"),
        (json!({ "inputs": { "wrd": 1, "word": 2 } }), "/inputs/wrd"),
        (
            json!({ "config": { "max_retrys": 1 } }),
            "/config/max_retrys",
        ),
        (json!({ "workflow_id": "wf_none" }), "/workflow_id"),
        (json!({ "nonsense": null }), "/nonsense"),
        (json!([]), ""),
    ] {
        let refused = patch(&journal, &id, &change, || at(1)).await;
        let Err(OperationError::Faults(faults)) = refused else {
            panic!("{change}: {refused:?}");
        };
        assert_eq!(faults.iter().next().unwrap().pointer, place, "{faults}");
    }
    let unknown = patch(&journal, "sched_none", &json!({}), || at(1)).await;
    assert!(matches!(unknown, Err(OperationError::NotFound { .. })));
}

#[tokio::test]
async fn one_that_is_removed_while_it_is_due_starts_nothing() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({})).await;
    let seen = due(&journal, at(10)).await.unwrap();
    delete(&journal, &id).await.unwrap();
    fire(&journal, &seen[0], (at(10), Room::Free))
        .await
        .unwrap();
    assert_eq!(executions(&journal).await.len(), 0);
    assert!(matches!(
        delete(&journal, &id).await,
        Err(OperationError::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_workflow_that_cannot_be_run_is_noted_and_the_next_moment_is_tried() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({ "overlap": "allow" })).await;
    let workflow = find::<StoredSchedule>(&journal, &id)
        .await
        .unwrap()
        .schedule
        .workflow_id;
    let record = journal
        .record("workflow", workflow.clone())
        .await
        .unwrap()
        .unwrap();
    let remove = RecordWrite {
        kind: "workflow",
        id: workflow.clone(),
        expected: 1,
        due_at: None,
        body: None,
    };
    journal
        .write(Vec::new(), vec![remove.clone()])
        .await
        .unwrap();
    look(&journal, 10).await;
    let view = find::<StoredSchedule>(&journal, &id)
        .await
        .unwrap()
        .to_json();
    let message = view["last_error"]["message"].as_str().unwrap();
    assert!(message.contains(&workflow), "{message}");
    assert_eq!(view["missed_count"], 1);
    assert_eq!(view["next_at"], json!(at(20).to_string()));
    // It can be paused all the same.
    patch(&journal, &id, &json!({ "overlap": "queue" }), || at(12))
        .await
        .unwrap();
    let again = RecordWrite {
        expected: 0,
        body: Some(record.body),
        ..remove
    };
    journal.write(Vec::new(), vec![again]).await.unwrap();
    look(&journal, 20).await;
    assert_eq!(started(&journal).await, [20]);
    assert_eq!(
        find::<StoredSchedule>(&journal, &id)
            .await
            .unwrap()
            .last_error,
        None
    );
}

#[tokio::test]
async fn without_room_a_start_is_put_off() {
    let journal = MemoryJournal::new("a");
    let id = scheduled(&journal, json!({})).await;
    let seen = due(&journal, at(10)).await.unwrap();
    fire(&journal, &seen[0], (at(10), Room::Full))
        .await
        .unwrap();
    assert_eq!(look(&journal, 12).await, 0);
    assert_eq!(look(&journal, 15).await, 1);
    assert_eq!(started(&journal).await, [10]);
    assert_eq!(missed(&journal, &id).await, 0);
}

#[tokio::test]
async fn one_that_cannot_be_read_is_set_aside() {
    let journal = MemoryJournal::new("a");
    let broken = RecordWrite {
        kind: KIND,
        id: "sched_0".to_owned(),
        expected: 0,
        due_at: Some(at(0)),
        body: Some("{}".to_owned()),
    };
    journal.write(Vec::new(), vec![broken]).await.unwrap();
    scheduled(&journal, json!({})).await;
    look(&journal, 10).await;
    assert_eq!(started(&journal).await, [10]);
    assert_eq!(look(&journal, 19).await, 0);
    delete(&journal, "sched_0").await.unwrap();
}

#[tokio::test]
async fn schedules_are_listed_in_pages() {
    let journal = MemoryJournal::new("a");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(scheduled(&journal, json!({})).await);
    }
    ids.sort();
    let ids_of = |found: Vec<StoredSchedule>| found.into_iter().map(|one| one.id);
    let first: Vec<_> = ids_of(records::list(&journal, None, 2).await.unwrap()).collect();
    assert_eq!(first, ids[..2]);
    let rest: Vec<_> = ids_of(
        records::list(&journal, first.last().cloned(), 2)
            .await
            .unwrap(),
    )
    .collect();
    assert_eq!(rest, ids[2..]);
}

#[test]
fn a_stored_schedule_is_read_back_as_it_was() {
    let schedule = Schedule::read(&json!({ "workflow_id": "wf_1", "cron": "0 7 * * *" })).unwrap();
    let stored = StoredSchedule {
        queued: Some(at(1)),
        missed: 3,
        last_error: Some(LastError {
            at: at(2),
            planned_at: at(1),
            message: "why".to_owned(),
        }),
        ..StoredSchedule::new("sched_1".to_owned(), schedule, at(0))
    };
    let write = stored.write(at(0)).unwrap();
    let record = Record {
        kind: KIND.to_owned(),
        id: write.id,
        version: 0,
        due_at: write.due_at,
        body: write.body.unwrap(),
    };
    assert_eq!(StoredSchedule::read(&record).unwrap(), stored);
    assert_eq!(record.due_at, Some(at(0).plus(Duration::from_secs(1))));
}
