//! Days for each end, one turn a minute for all processes, and nothing that is still wanted.

use serde_json::json;
use troupe_journal::{Append, Document, FirstOwner, MemoryJournal, NewExecution, Writer};
use troupe_workflow::{Event, EventKind, StepPath, WorkflowDigest};

use super::*;

/// When the executions of these tests have their last event.
const ENDED: i64 = 1_764_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn days(number: i64) -> Timestamp {
    at(ENDED + number * DAY_MS)
}

/// An execution whose last event left it so. Ids sort by the time they were made.
async fn add(journal: &MemoryJournal, number: u64, status: ExecutionStatus) -> ExecutionId {
    let text = json!({ "name": "w" }).to_string();
    let digest = WorkflowDigest::of(text.as_bytes());
    let millis = u64::try_from(ENDED).unwrap() - 1_000 + number;
    let id = ExecutionId::from_parts(millis, u128::from(number));
    let created = EventKind::ExecutionCreated {
        workflow: "w".to_owned(),
        digest: digest.clone(),
        inputs: json!({}),
        forked_from: None,
        kept: Vec::new(),
    };
    let new = NewExecution {
        id,
        workflow: None,
        settings: "{}".to_owned(),
        created: Event {
            at: at(ENDED - 1),
            kind: created,
        },
        document: Document {
            digest,
            name: "w".to_owned(),
            text,
        },
        first_owner: FirstOwner::Anyone,
        records: Vec::new(),
    };
    journal.create(new).await.unwrap();
    let events = [Event {
        at: at(ENDED),
        kind: EventKind::StepSkipped {
            path: StepPath::new("s"),
        },
    }];
    let append = Append {
        execution: id,
        expected: 1,
        writer: Writer::Outside,
        events: &events,
        status,
        snapshot: None,
        records: Vec::new(),
    };
    journal.append(append).await.unwrap();
    id
}

/// One in each status.
async fn one_of_each(journal: &MemoryJournal) {
    for (number, status) in (0..).zip(ExecutionStatus::ALL) {
        add(journal, number, status).await;
    }
}

async fn left(journal: &MemoryJournal) -> Vec<ExecutionStatus> {
    let listing = Listing {
        limit: 1_000,
        order: Order::OldestFirst,
        ..Listing::default()
    };
    let rows = journal.list(listing).await.unwrap();
    rows.into_iter().map(|row| row.status).collect()
}

fn kept(completed: Option<u32>, failed: Option<u32>, cancelled: Option<u32>) -> RetentionSection {
    RetentionSection {
        completed_days: completed,
        failed_days: failed,
        cancelled_days: cancelled,
        ..RetentionSection::default()
    }
}

#[tokio::test]
async fn each_end_has_days_of_its_own_and_what_is_wanted_stays() {
    let ends = [
        ExecutionStatus::Completed,
        ExecutionStatus::Failed,
        ExecutionStatus::Cancelled,
    ];
    for (retention, now, gone) in [
        (kept(None, None, None), days(9_999), &[][..]),
        (kept(Some(30), Some(90), Some(60)), days(30), &[]),
        (kept(Some(30), Some(90), Some(60)), days(31), &ends[..1]),
        (kept(None, Some(90), None), days(90), &[]),
        (kept(None, Some(90), None), days(91), &ends[1..2]),
        (kept(None, None, Some(60)), days(61), &ends[2..]),
        (kept(Some(0), Some(0), Some(0)), at(ENDED + 1), &ends),
        (kept(Some(0), Some(0), Some(0)), at(ENDED), &[]),
        (
            kept(Some(u32::MAX), Some(0), None),
            days(9_999),
            &ends[1..2],
        ),
    ] {
        let journal = MemoryJournal::new("a");
        one_of_each(&journal).await;
        let removed = run(&journal, &retention, now).await.unwrap();
        assert_eq!(removed, u64::try_from(gone.len()).unwrap(), "{retention:?}");
        let mut expected = ExecutionStatus::ALL.to_vec();
        expected.retain(|status| !gone.contains(status));
        assert_eq!(left(&journal).await, expected, "{retention:?}");
    }
}

#[tokio::test]
async fn one_process_of_all_has_its_turn_once_a_minute() {
    let one = MemoryJournal::new("a");
    let other = one.join("b");
    let retention = kept(Some(1), None, None);
    for number in 0..250 {
        add(&one, number, ExecutionStatus::Completed).await;
    }
    let now = days(2);
    let both = tokio::join!(run(&one, &retention, now), run(&other, &retention, now));
    let removed = (both.0.unwrap(), both.1.unwrap());
    assert!(removed == (250, 0) || removed == (0, 250), "{removed:?}");
    add(&one, 900, ExecutionStatus::Completed).await;
    let soon = now.plus(EVERY.saturating_sub(Duration::from_millis(1)));
    assert_eq!(run(&other, &retention, soon).await.unwrap(), 0);
    let later = now.plus(EVERY);
    assert_eq!(run(&other, &retention, later).await.unwrap(), 1);
}

#[tokio::test]
async fn what_was_retried_since_it_was_listed_is_no_error() {
    let journal = MemoryJournal::new("a");
    let id = add(&journal, 1, ExecutionStatus::WaitingApproval).await;
    assert!(!remove(&journal, id).await.unwrap());
    let ended = add(&journal, 2, ExecutionStatus::Failed).await;
    assert!(remove(&journal, ended).await.unwrap());
    assert!(!remove(&journal, ended).await.unwrap());
    assert_eq!(left(&journal).await, [ExecutionStatus::WaitingApproval]);
}
