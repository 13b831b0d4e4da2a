//! Looking a journal through: nothing is changed by it, what is damaged is named, and what is whole can be saved.

use e2e::operator::Operator;
use e2e::troupe::text;
use serde_json::json;

#[tokio::test]
async fn looking_through_a_journal_changes_nothing() {
    let operator = Operator::new();
    operator.completed("a").await;
    let waits = operator.waiting("b").await;
    let files = || {
        let mut files = operator.place.data_files();
        files.retain(|(path, _)| !text(path).ends_with("-shm"));
        files
    };
    let before = files();
    let said = operator.verify(&[], 0).await;
    assert!(said.contains("whole executions: 2 of 2"), "{said}");
    assert!(files() == before);
    // A process that was killed leaves a log, which stays where it is.
    let killed = operator.place.troupe(["approve", &waits, "--by", "boss"]);
    let killed = killed
        .variable("TROUPE_FAIL_POINT", "append:1:after")
        .end()
        .await;
    assert!(killed.was_killed(), "{killed}");
    let before = files();
    assert!(
        before
            .iter()
            .any(|(path, bytes)| text(path).ends_with("-wal") && !bytes.is_empty())
    );
    operator.verify(&[], 0).await;
    assert!(files() == before);
}

#[tokio::test]
async fn what_is_whole_is_saved() {
    let operator = Operator::new();
    let (good, bad) = (
        operator.completed("fine").await,
        operator.completed("spoilt").await,
    );
    operator.call(&["backup", "copy.db"], 0).await;
    let mut bytes = std::fs::read(operator.place.path("copy.db")).unwrap();
    let at = bytes
        .windows(6)
        .position(|window| window == b"spoilt")
        .unwrap();
    bytes[at] ^= 1;
    operator.place.write("copy.db", bytes);
    let said = operator.verify(&["copy.db", "--salvage", "saved"], 1).await;
    assert!(
        said.contains(&format!("of {bad}: its checksum does not fit")),
        "{said}"
    );
    assert!(said.contains("whole executions: 1 of 2"), "{said}");
    let saved = Operator::new();
    let journal = std::fs::read(operator.place.path("saved/journal.db")).unwrap();
    saved.place.write("data/journal.db", journal);
    let listed = saved.place.list().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["id"], json!(good));
    saved.verify(&[], 0).await;
    // Nothing is written over.
    operator
        .call(&["verify", "copy.db", "--salvage", "saved"], 2)
        .await;
}
