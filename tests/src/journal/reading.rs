//! Rules of reading executions.

use serde_json::json;
use troupe_journal::{Append, Listing, NewExecution, Order, ReadError, WorkflowVersion};
use troupe_workflow::{ExecutionId, ExecutionStatus, Snapshot};

use super::samples::{at, by_owner, claim, document, from_outside, id, new, new_of, skipped};
use super::{Lab, Node, Rule, rule};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        rule(what_is_not_there_is_said_to_be_missing),
        rule(a_list_is_filtered_by_all_that_is_asked),
        rule(a_list_goes_on_where_a_page_ended),
        rule(events_are_read_in_pages),
        rule(everything_that_is_written_is_seen_by_all),
        rule(loading_beside_a_writer_fits_together),
        rule(processes_know_what_they_own),
    ]
}

async fn what_is_not_there_is_said_to_be_missing(lab: Lab) {
    let node = lab.open("a").await;
    let missing = id(1);
    let is_missing = |error| matches!(error, ReadError::NotFound(which) if which == missing);
    assert!(is_missing(node.find(missing).await.unwrap_err()));
    assert!(is_missing(node.load(missing).await.unwrap_err()));
    assert!(is_missing(node.events(missing, 0, 9).await.unwrap_err()));
    assert!(is_missing(node.all_events(missing).await.unwrap_err()));
    let digest = document("none").digest;
    let error = node.document(digest.clone()).await.unwrap_err();
    assert!(matches!(error, ReadError::NoDocument(which) if which == digest.to_string()));
    assert_eq!(
        node.list(Listing {
            limit: 9,
            ..Listing::default()
        })
        .await
        .unwrap(),
        []
    );
    assert_eq!(node.next_due().await.unwrap(), None);
    assert_eq!(node.queued(at(9), 9).await.unwrap(), 0);
}

async fn listed(node: &Node, listing: Listing) -> Vec<ExecutionId> {
    let rows = node.list(listing).await.unwrap();
    rows.into_iter().map(|row| row.id).collect()
}

/// Executions 1 to 6: the even ones of a stored workflow; 3 and 4 run, 5 is cancelled.
async fn some_executions(node: &Node) {
    for number in 1..=6 {
        let workflow = (number % 2 == 0).then(|| WorkflowVersion {
            id: "wf_1".to_owned(),
            version: 2,
        });
        let new = NewExecution {
            workflow,
            ..new(number)
        };
        let epoch = node.create(new).await.unwrap();
        let events = [skipped(100 + i64::try_from(number).unwrap())];
        let status = match number {
            3 | 4 => ExecutionStatus::Running,
            5 => ExecutionStatus::Cancelled,
            _ => continue,
        };
        let append = Append {
            status,
            ..by_owner(number, 1, epoch, &events)
        };
        node.append(append).await.unwrap();
    }
}

async fn a_list_is_filtered_by_all_that_is_asked(lab: Lab) {
    let node = lab.open("a").await;
    some_executions(&node).await;
    let all = Listing {
        limit: 100,
        ..Listing::default()
    };
    let ids = |numbers: &[u64]| numbers.iter().map(|number| id(*number)).collect::<Vec<_>>();
    assert_eq!(listed(&node, all.clone()).await, ids(&[6, 5, 4, 3, 2, 1]));
    let by_status = |statuses: &[ExecutionStatus]| Listing {
        statuses: statuses.to_vec(),
        ..all.clone()
    };
    let running = by_status(&[ExecutionStatus::Running]);
    assert_eq!(listed(&node, running).await, ids(&[4, 3]));
    let two = by_status(&[ExecutionStatus::Queued, ExecutionStatus::Cancelled]);
    assert_eq!(listed(&node, two.clone()).await, ids(&[6, 5, 2, 1]));
    let stored = Listing {
        workflow: Some("wf_1".to_owned()),
        ..all.clone()
    };
    assert_eq!(listed(&node, stored.clone()).await, ids(&[6, 4, 2]));
    let other = Listing {
        workflow: Some("wf_2".to_owned()),
        ..all.clone()
    };
    assert_eq!(listed(&node, other).await, []);
    let created = Listing {
        created_after: Some(at(2)),
        created_before: Some(at(6)),
        ..all.clone()
    };
    assert_eq!(listed(&node, created).await, ids(&[5, 4, 3]));
    let updated = Listing {
        updated_before: Some(at(104)),
        ..all.clone()
    };
    assert_eq!(listed(&node, updated).await, ids(&[6, 3, 2, 1]));
    let mixed = Listing {
        workflow: stored.workflow,
        created_before: Some(at(6)),
        updated_before: Some(at(50)),
        ..two
    };
    assert_eq!(listed(&node, mixed).await, ids(&[2]));
    let row = node
        .list(Listing { limit: 1, ..all })
        .await
        .unwrap()
        .remove(0);
    assert_eq!(row, node.find(id(6)).await.unwrap());
}

async fn a_list_goes_on_where_a_page_ended(lab: Lab) {
    let node = lab.open("a").await;
    some_executions(&node).await;
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let mut page = Listing {
            limit: 4,
            order,
            ..Listing::default()
        };
        let mut seen = listed(&node, page.clone()).await;
        assert_eq!(seen.len(), 4);
        page.after = seen.last().copied();
        seen.extend(listed(&node, page.clone()).await);
        let mut expected: Vec<_> = (1..=6).map(id).collect();
        if order == Order::NewestFirst {
            expected.reverse();
        }
        assert_eq!(seen, expected);
        page.after = seen.last().copied();
        assert_eq!(listed(&node, page).await, []);
    }
}

async fn events_are_read_in_pages(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let events: Vec<_> = (0..1_500).map(skipped).collect();
    node.append(by_owner(1, 1, epoch, &events)).await.unwrap();
    assert_eq!(node.events(id(1), 1, 3).await.unwrap(), events[..3]);
    assert_eq!(node.events(id(1), 1_499, 9).await.unwrap(), events[1_498..]);
    assert_eq!(node.events(id(1), 1_501, 9).await.unwrap(), []);
    assert_eq!(node.events(id(1), 9_999, 9).await.unwrap(), []);
    assert_eq!(node.events(id(1), 0, 0).await.unwrap(), []);
    assert_eq!(node.all_events(id(1)).await.unwrap()[1..], events);
    assert_eq!(node.load(id(1)).await.unwrap().events.len(), 1_501);
}

async fn everything_that_is_written_is_seen_by_all(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    let input = json!({ "q": "ä", "n": 1.5e300, "big": 9_007_199_254_740_993_i64 });
    let epoch = a.create(new_of(1, "w", input)).await.unwrap();
    for version in 1..20 {
        let events = [skipped(i64::try_from(version).unwrap())];
        a.append(by_owner(1, version, epoch, &events))
            .await
            .unwrap();
        assert_eq!(b.load(id(1)).await.unwrap(), a.load(id(1)).await.unwrap());
        assert_eq!(b.find(id(1)).await.unwrap().version, version + 1);
        let key = version.to_string();
        let record = super::samples::put(&key, 0, &key);
        a.write(vec![], vec![record]).await.unwrap();
        assert_eq!(super::samples::body(&b, &key).await, Some(key));
    }
}

async fn loading_beside_a_writer_fits_together(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    let epoch = a.create(new(1)).await.unwrap();
    let writing = async {
        for version in 1..80 {
            let events = [skipped(5)];
            let snapshot = (version % 7 == 0).then(|| Snapshot {
                version: version + 1,
                build: "b".to_owned(),
                state: "{}".to_owned(),
            });
            let append = Append {
                snapshot,
                ..by_owner(1, version, epoch, &events)
            };
            a.append(append).await.unwrap();
        }
    };
    let reading = async {
        loop {
            let stored = b.load(id(1)).await.unwrap();
            let before = stored.snapshot.map_or(0, |snapshot| snapshot.version);
            let count = u64::try_from(stored.events.len()).unwrap();
            assert_eq!(before + count, stored.row.version);
            if stored.row.version == 80 {
                break;
            }
        }
    };
    tokio::join!(writing, reading);
}

async fn processes_know_what_they_own(lab: Lab) {
    let (a, b) = (lab.open("a").await, lab.open("b").await);
    assert_eq!((a.node(), b.node()), ("a", "b"));
    let first = a.create(new(1)).await.unwrap();
    let second = a.create(new(2)).await.unwrap();
    b.create(new(3)).await.unwrap();
    let mut owned = a.owned().await.unwrap();
    owned.sort();
    assert_eq!(owned, [(id(1), first), (id(2), second)]);
    a.release(super::samples::release(1, first, 1, Some(1)))
        .await
        .unwrap();
    assert_eq!(a.owned().await.unwrap(), [(id(2), second)]);
    let claimed = claim(&b, 1, 9).await;
    assert_eq!(claimed[0].id, id(1));
    assert!(
        b.owned()
            .await
            .unwrap()
            .contains(&(id(1), claimed[0].epoch))
    );
    let said = [skipped(4)];
    a.append(from_outside(3, 1, &said)).await.unwrap();
    a.append(from_outside(2, 1, &said)).await.unwrap();
    assert_eq!(a.written_by_others().await.unwrap(), [(id(2), 2)]);
    assert_eq!(b.written_by_others().await.unwrap(), [(id(3), 2)]);
}
