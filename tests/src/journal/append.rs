//! Rules of recording events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use troupe_journal::{Append, AppendError, Brought, Decide, RecordWrite};
use troupe_workflow::{Event, ExecutionStatus, Snapshot};

use super::samples::{
    at, body, by_owner, claim, claimed_ids, ending, free, from_outside, id, large, new, put,
    release, skipped,
};
use super::{Lab, Rule, rule};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        rule(appended_events_are_read_back_in_order),
        rule(whoever_has_not_seen_all_is_refused),
        rule(nothing_is_appended_to_what_is_not_there),
        rule(an_older_owner_is_fenced),
        rule(nobody_writes_as_an_owner_after_giving_it_back),
        rule(what_ended_has_no_owner),
        rule(what_others_write_makes_it_due_until_the_owner_writes),
        rule(what_others_end_is_not_due),
        rule(whoever_brings_something_does_not_lose_against_a_busy_owner),
        rule(what_is_brought_is_recorded_with_its_records_or_not_at_all),
        rule(records_are_written_with_the_events_or_not_at_all),
        rule(a_refused_append_does_not_spoil_those_beside_it),
        rule(of_many_that_append_at_once_one_does),
        rule(large_values_come_back_as_they_were),
        rule(a_snapshot_is_kept_with_the_events),
    ]
}

async fn appended_events_are_read_back_in_order(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let two = [skipped(2), skipped(3)];
    assert_eq!(node.append(by_owner(1, 1, epoch, &two)).await.unwrap(), 3);
    let four = [skipped(4)];
    assert_eq!(node.append(by_owner(1, 3, epoch, &four)).await.unwrap(), 4);
    let events = node.all_events(id(1)).await.unwrap();
    assert_eq!(events[1..], [skipped(2), skipped(3), skipped(4)]);
    let row = node.find(id(1)).await.unwrap();
    assert_eq!((row.version, row.status), (4, ExecutionStatus::Running));
    assert_eq!((row.created_at, row.updated_at), (at(1), at(4)));
    assert_eq!((row.owner.as_deref(), row.due_at), (Some("a"), None));
}

async fn whoever_has_not_seen_all_is_refused(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let events = [skipped(2)];
    node.append(by_owner(1, 1, epoch, &events)).await.unwrap();
    for expected in [0, 1, 3, u64::from(u32::MAX)] {
        for append in [
            by_owner(1, expected, epoch, &events),
            from_outside(1, expected, &events),
        ] {
            let refused = node.append(append).await;
            let is_conflict = matches!(
                refused,
                Err(AppendError::Conflict { expected: e, actual: 2 }) if e == expected
            );
            assert!(is_conflict, "{refused:?}");
        }
    }
    assert_eq!(node.all_events(id(1)).await.unwrap().len(), 2);
    assert_eq!(node.find(id(1)).await.unwrap().due_at, None);
}

async fn nothing_is_appended_to_what_is_not_there(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let events = [skipped(2)];
    for append in [by_owner(2, 0, epoch, &events), from_outside(2, 1, &events)] {
        let refused = node.append(append).await;
        assert!(
            matches!(refused, Err(AppendError::NotFound(which)) if which == id(2)),
            "{refused:?}"
        );
    }
}

async fn an_older_owner_is_fenced(lab: Lab) {
    let (old, other) = (lab.open("old").await, lab.open("other").await);
    let epoch = old.create(new(1)).await.unwrap();
    old.release(release(1, epoch, 1, Some(1))).await.unwrap();
    let taken = claim(&other, 1, 1).await.remove(0);
    assert_ne!(taken.epoch, epoch);
    let events = [skipped(2)];
    // Whether it has seen all or not: it is no longer its execution.
    for expected in [1, 7] {
        let refused = old.append(by_owner(1, expected, epoch, &events)).await;
        assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    }
    other
        .append(by_owner(1, 1, taken.epoch, &events))
        .await
        .unwrap();
    assert_eq!(old.find(id(1)).await.unwrap().version, 2);
}

async fn nobody_writes_as_an_owner_after_giving_it_back(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    node.release(release(1, epoch, 1, Some(9))).await.unwrap();
    let events = [skipped(2)];
    let refused = node.append(by_owner(1, 1, epoch, &events)).await;
    assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    // It would never have been due again.
    assert_eq!(node.find(id(1)).await.unwrap().due_at, Some(at(9)));
}

async fn what_ended_has_no_owner(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let events = [skipped(2)];
    node.append(ending(by_owner(1, 1, epoch, &events)))
        .await
        .unwrap();
    let row = node.find(id(1)).await.unwrap();
    assert_eq!(row.status, ExecutionStatus::Completed);
    assert_eq!((row.owner, row.due_at), (None, None));
    assert_eq!(node.owned().await.unwrap(), []);
    assert_eq!(claimed_ids(&node, i64::MAX, 9).await, []);
}

async fn what_others_write_makes_it_due_until_the_owner_writes(lab: Lab) {
    let (owner, person) = (lab.open("owner").await, lab.open("person").await);
    let epoch = owner.create(new(1)).await.unwrap();
    let said = [skipped(20), skipped(30)];
    person.append(from_outside(1, 1, &said)).await.unwrap();
    let row = owner.find(id(1)).await.unwrap();
    assert_eq!(
        (row.owner.as_deref(), row.due_at),
        (Some("owner"), Some(at(30)))
    );
    // Due to its owner, and nobody else.
    assert_eq!(claimed_ids(&person, i64::MAX, 9).await, []);
    assert_eq!(owner.written_by_others().await.unwrap(), [(id(1), 3)]);
    let seen = [skipped(40)];
    owner.append(by_owner(1, 3, epoch, &seen)).await.unwrap();
    assert_eq!(owner.written_by_others().await.unwrap(), []);
    assert_eq!(owner.find(id(1)).await.unwrap().due_at, None);
    // What nobody owns is due to all.
    owner.release(release(1, epoch, 4, None)).await.unwrap();
    assert_eq!(claimed_ids(&person, i64::MAX, 9).await, []);
    let said = [skipped(50)];
    person.append(from_outside(1, 4, &said)).await.unwrap();
    assert_eq!(claimed_ids(&person, 49, 9).await, []);
    assert_eq!(claimed_ids(&person, 50, 9).await, [id(1)]);
}

async fn what_others_end_is_not_due(lab: Lab) {
    let node = lab.open("a").await;
    node.create(free(1)).await.unwrap();
    let said = [skipped(2)];
    node.append(ending(from_outside(1, 1, &said)))
        .await
        .unwrap();
    let row = node.find(id(1)).await.unwrap();
    assert_eq!((row.owner, row.due_at), (None, None));
}

/// Says that one event is to be recorded, whatever there is.
fn brings(records: Vec<RecordWrite>) -> Arc<Decide> {
    Arc::new(move |_| {
        Some(Brought {
            events: vec![skipped(7)],
            status: ExecutionStatus::Running,
            records: records.clone(),
        })
    })
}

async fn whoever_brings_something_does_not_lose_against_a_busy_owner(lab: Lab) {
    let (owner, person) = (lab.open("owner").await, lab.open("person").await);
    let epoch = owner.create(new(1)).await.unwrap();
    let stop = AtomicBool::new(false);
    let recording = async {
        let mut version = 1;
        while !stop.load(Ordering::Relaxed) {
            let events = [skipped(2)];
            match owner.append(by_owner(1, version, epoch, &events)).await {
                Ok(now) => version = now,
                Err(AppendError::Conflict { actual, .. }) => version = actual,
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    let bringing = async {
        for _ in 0..20 {
            let known = person.find(id(1)).await.unwrap().version;
            let seen = Arc::new(Mutex::new(Vec::new()));
            let decide = {
                let (seen, brings) = (Arc::clone(&seen), brings(Vec::new()));
                Arc::new(move |events: Vec<Event>| {
                    seen.lock().unwrap().clone_from(&events);
                    brings(events)
                })
            };
            let version = person.bring(id(1), known, decide).await.unwrap().unwrap();
            // It was told of all that lies between.
            let between = person.events(id(1), known, u32::MAX).await.unwrap();
            let seen = seen.lock().unwrap().clone();
            assert_eq!(version, known + u64::try_from(seen.len()).unwrap() + 1);
            assert_eq!(between[..seen.len()], seen);
            assert_eq!(between[seen.len()], skipped(7));
        }
        stop.store(true, Ordering::Relaxed);
    };
    futures::join!(recording, bringing);
    let events = owner.all_events(id(1)).await.unwrap();
    let brought = events.iter().filter(|event| **event == skipped(7));
    assert_eq!(brought.count(), 20);
    let row = owner.find(id(1)).await.unwrap();
    assert_eq!(row.version, u64::try_from(events.len()).unwrap());
    assert_eq!(row.owner.as_deref(), Some("owner"));
}

async fn what_is_brought_is_recorded_with_its_records_or_not_at_all(lab: Lab) {
    let node = lab.open("a").await;
    node.create(free(1)).await.unwrap();
    let nothing = node.bring(id(1), 1, Arc::new(|_| None)).await;
    assert_eq!(nothing.unwrap(), None);
    let brought = node.bring(id(1), 1, brings(vec![put("one", 0, "1")])).await;
    assert_eq!(brought.unwrap(), Some(2));
    assert_eq!(body(&node, "one").await.as_deref(), Some("1"));
    let row = node.find(id(1)).await.unwrap();
    assert_eq!(row.due_at, Some(at(7)));
    let refused = node.bring(id(1), 2, brings(vec![put("one", 0, "2")])).await;
    assert!(
        matches!(&refused, Err(AppendError::Record { id, .. }) if id == "one"),
        "{refused:?}"
    );
    assert_eq!(node.find(id(1)).await.unwrap(), row);
    let missing = node.bring(id(9), 0, brings(Vec::new())).await;
    assert!(
        matches!(missing, Err(AppendError::NotFound(_))),
        "{missing:?}"
    );
}

async fn records_are_written_with_the_events_or_not_at_all(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let events = [skipped(2)];
    let append = Append {
        records: vec![put("one", 0, "1"), put("two", 0, "2")],
        ..by_owner(1, 1, epoch, &events)
    };
    node.append(append).await.unwrap();
    assert_eq!(body(&node, "one").await.as_deref(), Some("1"));
    assert_eq!(body(&node, "two").await.as_deref(), Some("2"));
    // One record is not where it was expected.
    let append = Append {
        snapshot: Some(Snapshot {
            version: 3,
            build: "b".to_owned(),
            state: "{}".to_owned(),
        }),
        records: vec![put("one", 1, "11"), put("two", 7, "22")],
        ..ending(by_owner(1, 2, epoch, &events))
    };
    let refused = node.append(append).await;
    assert!(
        matches!(&refused, Err(AppendError::Record { id, .. }) if id == "two"),
        "{refused:?}"
    );
    let row = node.find(id(1)).await.unwrap();
    assert_eq!((row.version, row.owner.as_deref()), (2, Some("a")));
    assert_eq!(node.all_events(id(1)).await.unwrap().len(), 2);
    assert_eq!(node.load(id(1)).await.unwrap().snapshot, None);
    assert_eq!(body(&node, "one").await.as_deref(), Some("1"));
    // The events are refused: so are the records.
    let append = Append {
        records: vec![put("three", 0, "3")],
        ..by_owner(1, 1, epoch, &events)
    };
    let refused = node.append(append).await;
    assert!(
        matches!(refused, Err(AppendError::Conflict { .. })),
        "{refused:?}"
    );
    assert_eq!(body(&node, "three").await, None);
}

async fn a_refused_append_does_not_spoil_those_beside_it(lab: Lab) {
    let node = lab.open("a").await;
    let other = lab.open("b").await;
    let events = [skipped(2), skipped(3)];
    let mut appends = Vec::new();
    for number in 0..80 {
        let epoch = node.create(new(number)).await.unwrap();
        let append = match number % 4 {
            0 => by_owner(number, 1, epoch, &events),
            1 => by_owner(number, 7, epoch, &events),
            // All want the same new record: one gets it.
            2 => Append {
                records: vec![put("shared", 0, "1")],
                ..by_owner(number, 1, epoch, &events)
            },
            _ => {
                node.release(release(number, epoch, 1, Some(1)))
                    .await
                    .unwrap();
                claim(&other, 1, 1).await;
                by_owner(number, 1, epoch, &events)
            }
        };
        appends.push(append);
    }
    let results = join_all(appends.into_iter().map(|append| node.append(append))).await;
    let mut with_record = 0;
    for (number, result) in (0..).zip(results) {
        let is_written = match number % 4 {
            0 => matches!(result, Ok(3)),
            1 => matches!(result, Err(AppendError::Conflict { .. })),
            2 => {
                with_record += u32::from(result.is_ok());
                matches!(result, Ok(3) | Err(AppendError::Record { .. }))
            }
            _ => matches!(result, Err(AppendError::Fenced)),
        };
        assert!(is_written, "{number}: {result:?}");
        let expected = result.unwrap_or(1);
        let stored = node.load(id(number)).await.unwrap();
        assert_eq!(stored.row.version, expected);
        assert_eq!(u64::try_from(stored.events.len()).unwrap(), expected);
    }
    assert_eq!(with_record, 1);
}

async fn of_many_that_append_at_once_one_does(lab: Lab) {
    let nodes = [lab.open("a").await, lab.open("b").await];
    nodes[0].create(free(1)).await.unwrap();
    for version in 1..=15_u64 {
        let events: Vec<_> = (0..12).map(|number| [skipped(number)]).collect();
        let all = join_all(
            events
                .iter()
                .zip(nodes.iter().cycle())
                .map(|(events, node)| node.append(from_outside(1, version, events))),
        );
        let results = all.await;
        let written: Vec<_> = (0..)
            .zip(&results)
            .filter_map(|(number, result)| result.is_ok().then_some(number))
            .collect();
        assert_eq!(written.len(), 1, "{results:?}");
        for refused in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(matches!(refused, AppendError::Conflict { .. }), "{refused}");
        }
        let events = nodes[1].events(id(1), version, 9).await.unwrap();
        assert_eq!(events, [skipped(written[0])]);
    }
}

async fn large_values_come_back_as_they_were(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let events = [
        large(2, 100),
        large(3, 10_000),
        skipped(4),
        large(5, 3_000_000),
        large(6, 10_000),
    ];
    node.append(by_owner(1, 1, epoch, &events)).await.unwrap();
    assert_eq!(node.all_events(id(1)).await.unwrap()[1..], events);
    assert_eq!(node.events(id(1), 3, 2).await.unwrap(), events[2..4]);
    assert_eq!(node.load(id(1)).await.unwrap().events[1..], events);
    // The same values in another execution, and a large input.
    let mut other = new(2);
    other.created = large(2, 20_000);
    let created = other.created.clone();
    let epoch = node.create(other).await.unwrap();
    node.append(by_owner(2, 1, epoch, &events)).await.unwrap();
    let stored = node.all_events(id(2)).await.unwrap();
    assert_eq!(stored[0], created);
    assert_eq!(stored[1..], events);
}

async fn a_snapshot_is_kept_with_the_events(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let events = [skipped(2), skipped(3)];
    for (expected, state) in [(1, "{\"n\":1}"), (3, "{\"n\":2}")] {
        let snapshot = Snapshot {
            version: expected + 2,
            build: "b".to_owned(),
            state: state.to_owned(),
        };
        let append = Append {
            snapshot: Some(snapshot.clone()),
            ..by_owner(1, expected, epoch, &events)
        };
        node.append(append).await.unwrap();
        let stored = node.load(id(1)).await.unwrap();
        assert_eq!(stored.snapshot, Some(snapshot));
        assert_eq!(stored.events, []);
    }
    let tail = [skipped(9)];
    node.append(by_owner(1, 5, epoch, &tail)).await.unwrap();
    let stored = node.load(id(1)).await.unwrap();
    assert_eq!(stored.snapshot.map(|snapshot| snapshot.version), Some(5));
    assert_eq!(
        (stored.events.as_slice(), stored.row.version),
        (&tail[..], 6)
    );
    assert_eq!(node.all_events(id(1)).await.unwrap().len(), 6);
}
