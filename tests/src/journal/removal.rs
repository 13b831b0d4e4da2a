//! Rules of removing executions, and of putting them back.

use troupe_journal::{Append, AppendError, Archive, Epoch, ExecutionRow, Record, RecordWrite};
use troupe_workflow::{ExecutionStatus, Snapshot};

use super::samples::{
    at, by_owner, claimed_ids, document, ending, from_outside, id, large, new, new_of, put, skipped,
};
use super::{Lab, Node, Rule, rule};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        rule(what_has_not_ended_is_not_deleted),
        rule(what_is_deleted_is_gone),
        rule(values_that_others_use_survive),
        rule(deleting_beside_others_that_use_the_same_values),
        rule(a_document_that_others_use_survives),
        rule(what_is_restored_is_as_it_was),
        rule(what_had_not_ended_is_due_when_it_is_restored),
        rule(nothing_is_restored_over_what_is_there),
        rule(what_is_put_back_is_as_it_was_elsewhere),
        rule(everything_is_listed_in_pages),
        rule(a_snapshot_is_read_alone),
    ]
}

async fn what_has_not_ended_is_not_deleted(lab: Lab) {
    let node = lab.open("a").await;
    node.create(new(1)).await.unwrap();
    let refused = node.delete(id(1)).await;
    assert!(
        matches!(refused, Err(AppendError::NotEnded(which)) if which == id(1)),
        "{refused:?}"
    );
    node.load(id(1)).await.unwrap();
    assert!(!node.delete(id(2)).await.unwrap());
}

/// An execution that ended with a large value.
async fn ended(node: &Node, number: u64, bytes: usize) {
    let epoch = node.create(new(number)).await.unwrap();
    end(node, number, epoch, bytes).await;
}

async fn end(node: &Node, number: u64, epoch: Epoch, bytes: usize) {
    let events = [skipped(2), large(3, bytes)];
    let append = ending(by_owner(number, 1, epoch, &events));
    node.append(append).await.unwrap();
}

async fn what_is_deleted_is_gone(lab: Lab) {
    let node = lab.open("a").await;
    ended(&node, 1, 20_000).await;
    assert!(node.delete(id(1)).await.unwrap());
    assert!(!node.delete(id(1)).await.unwrap());
    node.find(id(1)).await.unwrap_err();
    node.load(id(1)).await.unwrap_err();
    node.events(id(1), 0, 9).await.unwrap_err();
    // Its id is free again, and begins with nothing.
    ended(&node, 1, 20_000).await;
    assert_eq!(node.all_events(id(1)).await.unwrap().len(), 3);
}

async fn values_that_others_use_survive(lab: Lab) {
    let node = lab.open("a").await;
    for number in 1..=3 {
        ended(&node, number, 20_000).await;
    }
    assert!(node.delete(id(1)).await.unwrap());
    assert!(node.delete(id(3)).await.unwrap());
    let events = node.all_events(id(2)).await.unwrap();
    assert_eq!(events[2], large(3, 20_000));
    assert!(node.delete(id(2)).await.unwrap());
    ended(&node, 4, 20_000).await;
    assert_eq!(node.all_events(id(4)).await.unwrap()[2], large(3, 20_000));
}

async fn deleting_beside_others_that_use_the_same_values(lab: Lab) {
    let nodes = [lab.open("a").await, lab.open("b").await];
    ended(&nodes[0], 0, 20_000).await;
    for number in 1..25 {
        let epoch = nodes[1].create(new(number)).await.unwrap();
        let (deleted, ()) = tokio::join!(
            nodes[0].delete(id(number - 1)),
            end(&nodes[1], number, epoch, 20_000)
        );
        assert!(deleted.unwrap());
        let events = nodes[0].all_events(id(number)).await.unwrap();
        assert_eq!(events[2], large(3, 20_000));
        nodes[0].load(id(number)).await.unwrap();
    }
    for number in 25..40 {
        // The document, too: that of the one that is deleted is that of the one that is made.
        let (deleted, created) = tokio::join!(
            nodes[0].delete(id(number - 1)),
            nodes[1].create(new(number))
        );
        assert!(deleted.unwrap());
        end(&nodes[1], number, created.unwrap(), 20_000).await;
        nodes[0].load(id(number)).await.unwrap();
    }
}

async fn a_document_that_others_use_survives(lab: Lab) {
    let node = lab.open("a").await;
    let one = |number| new_of(number, "one", serde_json::json!({}));
    for number in [1, 2] {
        let epoch = node.create(one(number)).await.unwrap();
        end(&node, number, epoch, 10).await;
    }
    node.delete(id(1)).await.unwrap();
    assert_eq!(node.load(id(2)).await.unwrap().row.workflow_name, "one");
    // A stored workflow names it, in the executions' absence.
    let stored = document("stored");
    let record = RecordWrite {
        kind: "workflow",
        ..put("wf_1", 0, &format!("{{\"digest\":\"{}\"}}", stored.digest))
    };
    node.write(vec![stored.clone()], vec![record])
        .await
        .unwrap();
    let epoch = node
        .create(new_of(3, "stored", serde_json::json!({})))
        .await
        .unwrap();
    end(&node, 3, epoch, 10).await;
    node.delete(id(3)).await.unwrap();
    assert_eq!(node.document(stored.digest.clone()).await.unwrap(), stored);
}

async fn exported(node: &Node, number: u64) -> Archive {
    let row = node.find(id(number)).await.unwrap();
    Archive {
        document: node.document(row.digest.clone()).await.unwrap(),
        events: node.all_events(id(number)).await.unwrap(),
        row,
    }
}

async fn what_is_restored_is_as_it_was(lab: Lab) {
    let node = lab.open("a").await;
    ended(&node, 1, 20_000).await;
    let archive = exported(&node, 1).await;
    node.delete(id(1)).await.unwrap();
    node.restore(archive.clone()).await.unwrap();
    assert_eq!(exported(&node, 1).await, archive);
    assert_eq!(claimed_ids(&node, i64::MAX, 9).await, []);
    assert!(node.delete(id(1)).await.unwrap());
}

async fn what_had_not_ended_is_due_when_it_is_restored(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    let said = [skipped(8)];
    node.append(from_outside(1, 1, &said)).await.unwrap();
    let running = exported(&node, 1).await;
    assert_eq!(running.row.owner.as_deref(), Some("a"));
    // Elsewhere.
    node.append(ending(by_owner(1, 2, epoch, &said)))
        .await
        .unwrap();
    node.delete(id(1)).await.unwrap();
    node.restore(running.clone()).await.unwrap();
    let row = node.find(id(1)).await.unwrap();
    let expected = ExecutionRow {
        owner: None,
        due_at: Some(at(8)),
        ..running.row
    };
    assert_eq!(row, expected);
    assert_eq!(claimed_ids(&node, 8, 9).await, [id(1)]);
    assert_eq!(node.load(id(1)).await.unwrap().events, running.events);
}

async fn nothing_is_restored_over_what_is_there(lab: Lab) {
    let node = lab.open("a").await;
    ended(&node, 1, 20_000).await;
    let mut archive = exported(&node, 1).await;
    archive.events.pop();
    archive.row.version = 2;
    archive.row.status = ExecutionStatus::Running;
    let refused = node.restore(archive).await;
    assert!(
        matches!(refused, Err(AppendError::Exists(which)) if which == id(1)),
        "{refused:?}"
    );
    assert_eq!(node.find(id(1)).await.unwrap().version, 3);
    assert_eq!(node.all_events(id(1)).await.unwrap().len(), 3);
}

async fn what_is_put_back_is_as_it_was_elsewhere(lab: Lab) {
    let node = lab.open("a").await;
    let record = |id: &str, version, body: &str| Record {
        kind: "thing".to_owned(),
        id: id.to_owned(),
        version,
        due_at: Some(at(5)),
        body: body.to_owned(),
    };
    let one = document("one");
    let back = vec![record("x", 7, "1"), record("y", 1, "1")];
    node.put_back(vec![one.clone()], back.clone())
        .await
        .unwrap();
    assert_eq!(records_of(&node).await, back);
    assert_eq!(
        node.documents(None, 9).await.unwrap(),
        std::slice::from_ref(&one)
    );
    // What is there at this version, or a later one, stays.
    let again = vec![
        record("x", 7, "2"),
        record("x", 6, "3"),
        record("y", 2, "4"),
    ];
    node.put_back(vec![one], again).await.unwrap();
    let expected = [record("x", 7, "1"), record("y", 2, "4")];
    assert_eq!(records_of(&node).await, expected);
    node.write(vec![], vec![put("x", 7, "5")]).await.unwrap();
}

async fn records_of(node: &Node) -> Vec<Record> {
    let all = node.all_records(None, 9).await.unwrap();
    all.into_iter().map(Result::unwrap).collect()
}

async fn everything_is_listed_in_pages(lab: Lab) {
    let node = lab.open("a").await;
    let mut documents = Vec::new();
    for number in 1..=5 {
        let name = format!("w{number}");
        node.create(new_of(number, &name, serde_json::json!({})))
            .await
            .unwrap();
        documents.push(document(&name));
    }
    documents.sort_by(|one, other| one.digest.cmp(&other.digest));
    let ids: Vec<_> = (1..=5).map(|number| id(number).to_string()).collect();
    assert_eq!(node.ids(None, 3).await.unwrap(), ids[..3]);
    assert_eq!(node.ids(Some(ids[2].clone()), 3).await.unwrap(), ids[3..]);
    assert_eq!(node.documents(None, 2).await.unwrap(), documents[..2]);
    let after = Some(documents[1].digest.clone());
    assert_eq!(node.documents(after, 9).await.unwrap(), documents[2..]);
    let other = RecordWrite {
        kind: "another",
        ..put("z", 0, "1")
    };
    let writes = vec![put("b", 0, "1"), other, put("a", 0, "1")];
    node.write(vec![], writes).await.unwrap();
    let key = |record: Result<Record, _>| {
        let record = record.unwrap();
        (record.kind, record.id)
    };
    let page = node.all_records(None, 2).await.unwrap();
    let page: Vec<_> = page.into_iter().map(key).collect();
    let keys = [("another", "z"), ("thing", "a"), ("thing", "b")]
        .map(|(kind, id)| (kind.to_owned(), id.to_owned()));
    assert_eq!(page, keys[..2]);
    let rest = node.all_records(Some(keys[1].clone()), 2).await.unwrap();
    assert_eq!(rest.into_iter().map(key).collect::<Vec<_>>(), keys[2..]);
}

async fn a_snapshot_is_read_alone(lab: Lab) {
    let node = lab.open("a").await;
    let epoch = node.create(new(1)).await.unwrap();
    assert_eq!(node.snapshot(id(1)).await.unwrap(), None);
    assert_eq!(node.snapshot(id(2)).await.unwrap(), None);
    let snapshot = Snapshot {
        build: "b".to_owned(),
        version: 2,
        state: "{}".to_owned(),
    };
    let events = [skipped(2)];
    let append = Append {
        snapshot: Some(snapshot.clone()),
        ..by_owner(1, 1, epoch, &events)
    };
    node.append(append).await.unwrap();
    assert_eq!(node.snapshot(id(1)).await.unwrap(), Some(snapshot));
}
