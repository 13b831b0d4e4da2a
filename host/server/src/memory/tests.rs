//! Operations on records, without an execution around them.

use serde_json::{Value, json};
use troupe_journal::{AppendError, MemoryJournal};

use super::*;

fn owner(workflow: &str, agent: &str) -> Owner {
    Owner {
        workflow: workflow.to_owned(),
        agent: agent.to_owned(),
    }
}

fn ours() -> Owner {
    owner("News", "reader")
}

async fn prepare(journal: &MemoryJournal, owner: Owner, request: MemoryRequest) -> Prepared {
    let operation = Operation { owner, request };
    operation.prepare(journal).await.unwrap()
}

/// Does an operation as the driver does, without an event.
async fn done(journal: &MemoryJournal, owner: Owner, request: MemoryRequest) -> Value {
    let prepared = prepare(journal, owner, request).await;
    if !prepared.records.is_empty() {
        journal.write(Vec::new(), prepared.records).await.unwrap();
    }
    match prepared.outcome {
        CallOutcome::Answered(value) => value,
        CallOutcome::Failed(failure) => json!(format!("{}: {failure}", failure.code)),
    }
}

fn get(key: &str) -> MemoryRequest {
    MemoryRequest::Get {
        key: key.to_owned(),
    }
}

fn set(key: &str, value: &str, expected_version: Option<u64>) -> MemoryRequest {
    MemoryRequest::Set {
        key: key.to_owned(),
        value: value.to_owned(),
        expected_version,
    }
}

fn delete(key: &str) -> MemoryRequest {
    MemoryRequest::Delete {
        key: key.to_owned(),
    }
}

fn keys(prefix: &str, after: Option<&str>) -> MemoryRequest {
    MemoryRequest::Keys {
        prefix: prefix.to_owned(),
        after: after.map(str::to_owned),
    }
}

async fn count(journal: &MemoryJournal) -> Option<(u64, u64)> {
    let kept = list(journal).await.unwrap();
    kept.iter()
        .find(|kept| kept.owner == ours())
        .map(|kept| (kept.keys, kept.bytes))
}

#[tokio::test]
async fn a_value_is_stored_read_and_forgotten() {
    let journal = MemoryJournal::new("a");
    let ask = async |request| done(&journal, ours(), request).await;
    assert_eq!(ask(get("k")).await, json!({ "entry": null }));
    assert_eq!(ask(set("k", "[1]", None)).await, json!({ "stored": 1 }));
    assert_eq!(
        ask(set("k", r#"{"a":1.0}"#, None)).await,
        json!({ "stored": 2 })
    );
    let entry = json!({ "entry": { "value": "{\"a\":1.0}", "version": 2 } });
    assert_eq!(ask(get("k")).await, entry);
    assert_eq!(count(&journal).await, Some((1, 10)));
    assert_eq!(ask(delete("k")).await, json!("deleted"));
    assert_eq!(ask(delete("k")).await, json!("deleted"));
    assert_eq!(ask(get("k")).await, json!({ "entry": null }));
    // Nothing is left of it.
    assert!(journal.all_records(None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_version_that_is_another_changes_nothing() {
    let journal = MemoryJournal::new("a");
    let ask = async |request| done(&journal, ours(), request).await;
    assert_eq!(ask(set("k", "1", Some(1))).await, json!({ "conflict": 0 }));
    assert_eq!(ask(set("k", "1", Some(0))).await, json!({ "stored": 1 }));
    assert_eq!(ask(set("k", "2", Some(0))).await, json!({ "conflict": 1 }));
    assert_eq!(ask(set("k", "2", Some(1))).await, json!({ "stored": 2 }));
    let entry = json!({ "entry": { "value": "2", "version": 2 } });
    assert_eq!(ask(get("k")).await, entry);
}

#[tokio::test]
async fn what_was_changed_meanwhile_refuses_the_write() {
    let journal = MemoryJournal::new("a");
    done(&journal, ours(), set("k", "1", None)).await;
    for request in [set("k", "2", None), set("other", "2", None), delete("k")] {
        let prepared = prepare(&journal, ours(), request).await;
        done(&journal, ours(), set("k", "3", None)).await;
        let refused = journal.write(Vec::new(), prepared.records).await;
        assert!(
            matches!(refused, Err(AppendError::Record { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(count(&journal).await, Some((1, 2)));
}

#[tokio::test]
async fn nobody_sees_what_is_anothers() {
    let journal = MemoryJournal::new("a");
    let others = [
        owner("News", "writer"),
        owner("Other", "reader"),
        owner("News/reader", ""),
        owner("", "News/reader"),
        owner("News\",\"reader", "x"),
    ];
    done(&journal, ours(), set("k", "1", None)).await;
    for other in others.clone() {
        assert_eq!(
            done(&journal, other.clone(), get("k")).await,
            json!({ "entry": null })
        );
        assert_eq!(
            done(&journal, other.clone(), keys("", None)).await,
            json!({ "keys": [] })
        );
        done(&journal, other.clone(), delete("k")).await;
        done(&journal, other, set("k", "2", None)).await;
    }
    let entry = json!({ "entry": { "value": "1", "version": 1 } });
    assert_eq!(done(&journal, ours(), get("k")).await, entry);
    assert_eq!(list(&journal).await.unwrap().len(), 1 + others.len());
    assert_eq!(clear(&journal, &ours()).await.unwrap(), 1);
    assert_eq!(clear(&journal, &ours()).await.unwrap(), 0);
    assert_eq!(list(&journal).await.unwrap().len(), others.len());
}

#[tokio::test]
async fn keys_come_in_order_and_in_pages() {
    let journal = MemoryJournal::new("a");
    let ask = async |request| done(&journal, ours(), request).await;
    for key in ["b", "a/1", "a", "a/2", "ab", "c", "ä", "A"] {
        ask(set(key, "1", None)).await;
    }
    for (request, expected) in [
        (
            keys("", None),
            json!(["A", "a", "a/1", "a/2", "ab", "b", "c", "ä"]),
        ),
        (keys("", Some("a/2")), json!(["ab", "b", "c", "ä"])),
        (keys("a", None), json!(["a", "a/1", "a/2", "ab"])),
        (keys("a", Some("A")), json!(["a", "a/1", "a/2", "ab"])),
        (keys("a", Some("a")), json!(["a/1", "a/2", "ab"])),
        (keys("a/", Some("a/1")), json!(["a/2"])),
        (keys("a", Some("b")), json!([])),
        (keys("d", None), json!([])),
    ] {
        let name = format!("{request:?}");
        assert_eq!(ask(request).await, json!({ "keys": expected }), "{name}");
    }
    for number in 0..1_100 {
        ask(set(&format!("n{number:04}"), "1", None)).await;
    }
    let page = ask(keys("n", None)).await;
    let page = page["keys"].as_array().unwrap();
    assert_eq!((page.len(), &page[999]), (1_000, &json!("n0999")));
    let rest = ask(keys("n", Some("n0999"))).await;
    assert_eq!(rest["keys"].as_array().map(Vec::len), Some(100));
    assert_eq!(clear(&journal, &ours()).await.unwrap(), 1_108);
    assert!(journal.all_records(None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_agent_keeps_no_more_than_it_may() {
    for (keys, bytes, says) in [
        (KEYS_MAX, 7, "has 10000 keys, which is all it may have"),
        (
            7,
            BYTES_MAX - 5,
            "would have 16777217 bytes, it may have 16777216",
        ),
    ] {
        let journal = MemoryJournal::new("a");
        let ask = async |request| done(&journal, ours(), request).await;
        ask(set("old", "1", None)).await;
        let full = Count {
            owner: ours(),
            keys,
            bytes,
        };
        let record = write_of(&full, ours().scope(), 1);
        journal.write(Vec::new(), vec![record]).await.unwrap();
        let refused = ask(set("new", "123", None)).await;
        let text = refused.as_str().unwrap_or_default();
        assert!(
            text.starts_with("input_invalid: ") && text.contains(says),
            "{refused}"
        );
        assert_eq!(ask(get("new")).await, json!({ "entry": null }));
        // What is there may be replaced, and what is forgotten makes room.
        assert_eq!(ask(set("old", "2", None)).await, json!({ "stored": 2 }));
        assert_eq!(ask(delete("old")).await, json!("deleted"));
        assert_eq!(ask(set("new", "1", None)).await, json!({ "stored": 1 }));
    }
}

#[tokio::test]
async fn a_damaged_count_is_an_answer() {
    let journal = MemoryJournal::new("a");
    let damaged = RecordWrite {
        kind: KIND,
        id: ours().scope(),
        expected: 0,
        due_at: None,
        body: Some("{}".to_owned()),
    };
    journal.write(Vec::new(), vec![damaged]).await.unwrap();
    let told = done(&journal, ours(), set("k", "1", None)).await;
    let text = told.as_str().unwrap_or_default();
    assert!(
        text.starts_with("internal: the agent's memory is damaged"),
        "{told}"
    );
    assert_eq!(
        done(&journal, ours(), get("k")).await,
        json!({ "entry": null })
    );
    // Who clears it need not be able to read it.
    clear(&journal, &ours()).await.unwrap();
    assert!(journal.all_records(None, 9).await.unwrap().is_empty());
}
