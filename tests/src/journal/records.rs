//! Rules of records and documents.

use futures::future::join_all;
use troupe_journal::{AppendError, Listing, Record, RecordListing, RecordWrite};

use super::samples::{at, body, document, put, remove};
use super::{Lab, Node, Rule, rule};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        rule(a_record_counts_its_writes),
        rule(a_record_that_is_elsewhere_refuses_the_whole_write),
        rule(records_see_the_writes_before_them),
        rule(of_many_that_write_a_record_at_once_one_does),
        rule(records_are_listed_by_id_in_pages),
        rule(due_records_are_listed_by_time),
        rule(documents_are_kept_once),
        rule(what_no_database_stores_is_not_there),
        rule(a_zero_in_a_body_comes_back),
    ]
}

async fn a_record_counts_its_writes(lab: Lab) {
    let node = lab.open("a").await;
    assert_eq!(body(&node, "x").await, None);
    node.write(vec![], vec![put("x", 0, "1")]).await.unwrap();
    let second = RecordWrite {
        due_at: Some(at(7)),
        ..put("x", 1, "2")
    };
    node.write(vec![], vec![second]).await.unwrap();
    let expected = Record {
        kind: "thing".to_owned(),
        id: "x".to_owned(),
        version: 2,
        due_at: Some(at(7)),
        body: "2".to_owned(),
    };
    let found = node.record("thing", "x".to_owned()).await.unwrap();
    assert_eq!(found, Some(expected));
    assert_eq!(node.record("other", "x".to_owned()).await.unwrap(), None);
    node.write(vec![], vec![remove("x", 2)]).await.unwrap();
    assert_eq!(body(&node, "x").await, None);
    // It begins anew.
    node.write(vec![], vec![put("x", 0, "3")]).await.unwrap();
    let found = node.record("thing", "x".to_owned()).await.unwrap();
    assert_eq!(found.map(|record| record.version), Some(1));
}

async fn a_record_that_is_elsewhere_refuses_the_whole_write(lab: Lab) {
    let node = lab.open("a").await;
    node.write(vec![], vec![put("x", 0, "1")]).await.unwrap();
    for wrong in [
        put("x", 0, "2"),
        put("x", 2, "2"),
        put("none", 1, "2"),
        remove("x", 0),
        remove("x", 2),
        remove("none", 0),
        remove("none", 1),
    ] {
        let id = wrong.id.clone();
        let records = vec![put("before", 0, "1"), wrong, put("after", 0, "1")];
        let refused = node.write(vec![document("new")], records).await;
        assert!(
            matches!(&refused, Err(AppendError::Record { kind: "thing", id: which }) if *which == id),
            "{refused:?}"
        );
        assert_eq!(body(&node, "x").await.as_deref(), Some("1"));
        assert_eq!(body(&node, "before").await, None);
        assert_eq!(body(&node, "after").await, None);
        node.document(document("new").digest).await.unwrap_err();
    }
}

async fn records_see_the_writes_before_them(lab: Lab) {
    let node = lab.open("a").await;
    let records = vec![
        put("x", 0, "1"),
        put("x", 1, "2"),
        remove("x", 2),
        put("x", 0, "3"),
    ];
    node.write(vec![], records).await.unwrap();
    assert_eq!(body(&node, "x").await.as_deref(), Some("3"));
}

async fn of_many_that_write_a_record_at_once_one_does(lab: Lab) {
    let nodes = [lab.open("a").await, lab.open("b").await];
    for version in 0..10 {
        let all = nodes.iter().cycle().take(8);
        let results =
            join_all(all.map(|node| node.write(vec![], vec![put("x", version, "1")]))).await;
        let written = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(written, 1, "{results:?}");
    }
}

/// The ids of a page.
async fn page(node: &Node, due: Option<i64>, after: Option<&str>, limit: u32) -> Vec<String> {
    let listing = RecordListing {
        kind: "thing",
        due: due.map(at),
        after: after.map(str::to_owned),
        limit,
    };
    let records = node.records(listing).await.unwrap();
    records.into_iter().map(|record| record.id).collect()
}

async fn records_are_listed_by_id_in_pages(lab: Lab) {
    let node = lab.open("a").await;
    // By bytes, whatever the language of the machine is.
    let ids = ["A", "B", "_", "a", "a-b", "aB", "ab", "b", "ä"];
    let mut records: Vec<_> = ids.iter().rev().map(|id| put(id, 0, "1")).collect();
    records.push(RecordWrite {
        kind: "other",
        ..put("a", 0, "1")
    });
    node.write(vec![], records).await.unwrap();
    assert_eq!(page(&node, None, None, 100).await, ids);
    assert_eq!(page(&node, None, None, 3).await, ids[..3]);
    assert_eq!(page(&node, None, Some("_"), 3).await, ids[3..6]);
    assert_eq!(page(&node, None, Some("a-"), 2).await, ids[4..6]);
    assert_eq!(page(&node, None, Some("ä"), 3).await.len(), 0);
}

async fn due_records_are_listed_by_time(lab: Lab) {
    let node = lab.open("a").await;
    let mut records = vec![put("never", 0, "1")];
    for (id, due) in [("c", 5), ("b", 9), ("a", 5), ("d", 1), ("e", 10)] {
        records.push(RecordWrite {
            due_at: Some(at(due)),
            ..put(id, 0, "1")
        });
    }
    node.write(vec![], records).await.unwrap();
    assert_eq!(page(&node, Some(9), None, 9).await, ["d", "a", "c", "b"]);
    assert_eq!(page(&node, Some(9), None, 2).await, ["d", "a"]);
    assert_eq!(page(&node, Some(0), None, 9).await.len(), 0);
    assert_eq!(node.next_due().await.unwrap(), Some(at(1)));
}

async fn documents_are_kept_once(lab: Lab) {
    let node = lab.open("a").await;
    let (one, two) = (document("one"), document("two"));
    for _ in 0..2 {
        node.write(vec![one.clone(), two.clone()], vec![])
            .await
            .unwrap();
    }
    assert_eq!(node.document(one.digest.clone()).await.unwrap(), one);
    assert_eq!(node.document(two.digest.clone()).await.unwrap(), two);
}

async fn what_no_database_stores_is_not_there(lab: Lab) {
    let node = lab.open("a").await;
    node.write(vec![], vec![put("a", 0, "1"), put("b", 0, "1")])
        .await
        .unwrap();
    for id in ["\0", "a\0", "a\0b"] {
        assert_eq!(body(&node, id).await, None, "{id:?}");
    }
    assert_eq!(page(&node, None, Some("\0"), 9).await, ["a", "b"]);
    assert_eq!(page(&node, None, Some("a\0"), 9).await, ["b"]);
    let listing = Listing {
        workflow: Some("wf\0".to_owned()),
        limit: 9,
        ..Listing::default()
    };
    assert_eq!(node.list(listing).await.unwrap(), []);
    let all = node.all_records(Some(("thing".to_owned(), "a\0".to_owned())), 9);
    assert_eq!(all.await.unwrap().len(), 1);
}

/// In JSON it is an escape like any other.
async fn a_zero_in_a_body_comes_back(lab: Lab) {
    let node = lab.open("a").await;
    let text = serde_json::json!({ "\0": "\0" }).to_string();
    node.write(vec![], vec![put("x", 0, &text)]).await.unwrap();
    assert_eq!(body(&node, "x").await, Some(text));
}
