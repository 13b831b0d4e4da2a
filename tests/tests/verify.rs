//! Looking a journal through: nothing is changed by it, what is damaged is named, and what is whole can be saved.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::time::Duration;

use e2e::operator::{Operator, long};
use e2e::postgres::Postgres;
use e2e::server::{Server, WORKFLOWS};
use e2e::troupe::{root, text};
use serde_json::{Value, json};
use troupe_journal::{Journal, PostgresJournal, Release, SqliteJournal};
use troupe_workflow::ExecutionId;

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

/// Everything of a database that a reader could change.
fn contents(url: &str) -> String {
    let tables = "SELECT string_agg(t.x, '|') FROM (SELECT e::text AS x FROM troupe.executions e UNION ALL
        SELECT n::text FROM troupe.nodes n UNION ALL SELECT r::text FROM troupe.records r UNION ALL
        SELECT f::text FROM troupe.format f UNION ALL
        SELECT c.relname || c.relfilenode FROM pg_class c WHERE c.relkind IN ('r', 'i') ORDER BY 1) t";
    Postgres::shared().sql(url, tables)
}

#[tokio::test]
async fn looking_through_a_database_changes_nothing() {
    let url = Postgres::shared().database();
    let operator = Operator::new().with(&url);
    // There is nothing, and nothing is made.
    let said = operator.verify(&[], 1).await;
    assert!(
        said.contains("there is no journal in postgres://"),
        "{said}"
    );
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'troupe'";
    assert_eq!(Postgres::shared().sql(&url, schemas), "0");
    operator.completed("a").await;
    operator.waiting("b").await;
    let before = contents(&url);
    let said = operator.verify(&[], 0).await;
    assert!(said.contains("whole executions: 2 of 2"), "{said}");
    operator.verify(&["--salvage", "saved"], 0).await;
    assert_eq!(contents(&url), before);
    // A table that is missing is a finding.
    Postgres::shared().sql(&url, "DROP TABLE troupe.records");
    let said = operator.verify(&[], 1).await;
    assert!(said.contains("table records: "), "{said}");
    let there = "SELECT to_regclass('troupe.records') IS NULL";
    assert_eq!(Postgres::shared().sql(&url, there), "t");
}

#[tokio::test]
async fn an_older_database_is_said_to_be_one_and_left_so() {
    let url = Postgres::shared().database();
    let dump = root().join("tests/golden/postgres-format-1.sql");
    Postgres::shared().load(&url, &dump);
    let operator = Operator::new().with(&url);
    let said = operator.verify(&[], 1).await;
    assert!(said.contains("has the older format 1"), "{said}");
    let format = "SELECT format FROM troupe.format";
    assert_eq!(Postgres::shared().sql(&url, format), "1");
    Postgres::shared().sql(&url, "UPDATE troupe.format SET format = 99");
    let said = operator.verify(&[], 1).await;
    assert!(said.contains("has format 99"), "{said}");
}

#[tokio::test]
async fn damaged_settings_and_records_of_a_database_are_named() {
    let url = Postgres::shared().database();
    let operator = Operator::new().with(&url);
    let document: Value =
        serde_json::from_str(&std::fs::read_to_string(operator.place.path("plain.json")).unwrap())
            .unwrap();
    let server = Server::start(operator.place.serve()).await;
    let good = server.create(&document).await;
    let bad = server.create(&document).await;
    let inputs = json!({ "text": "a" });
    let (kept, lost) = (
        server.run(&good, &inputs).await,
        server.run(&good, &inputs).await,
    );
    for id in [&kept, &lost] {
        server.wait_for(id, "completed").await;
    }
    let sql = |statement: &str| Postgres::shared().sql(&url, statement);
    sql(&format!(
        "UPDATE troupe.records SET body = replace(body, '\"Note\"', '\"Mote\"') WHERE id = '{bad}'"
    ));
    sql(&format!(
        "UPDATE troupe.executions SET settings = settings || ' ' WHERE id = '{lost}'"
    ));
    // What is damaged is not read as something else, and what is not goes on.
    let answer = server.get(&format!("{WORKFLOWS}/{bad}")).await;
    assert_eq!(answer.status, 500, "{answer}");
    server.get(&format!("{WORKFLOWS}/{good}")).await.expect(200);
    let listed = server.get(WORKFLOWS).await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed:#}");
    let listed = operator.place.list().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    operator.call(&["show", &lost], 1).await;
    drop(server);
    let said = operator.verify(&["--salvage", "saved"], 1).await;
    for expected in [
        format!("the row of {lost}: its checksum does not fit"),
        format!("table records, workflow {bad}: its checksum does not fit"),
        "whole executions: 1 of 2".to_owned(),
    ] {
        assert!(said.contains(&expected), "{expected}: {said}");
    }
    let file = text(operator.place.path("saved/journal.db"));
    let said = operator.verify(&[&file], 0).await;
    assert!(
        said.contains("whole executions: 1 of 1; documents: 1;"),
        "{said}"
    );
}

/// An execution that waits for a person, after so many events that its state is kept.
async fn waiting_with_a_snapshot(operator: &Operator) -> String {
    let document = json!({
        "name": "Long",
        "agents": [{ "id": "boss", "type": "human", "assignees": ["boss@example.com"] }],
        "steps": [
            { "id": "said", "set": "{{ text }}!" },
            { "id": "each", "loop": {
                "items": "{{ items }}",
                "as": "item",
                "steps": [{ "id": "pause", "wait": { "seconds": 0 } }],
            } },
            { "agent": "boss", "action": "approve", "input": "{{ text }}?" },
        ],
    });
    operator.place.write("long.json", document.to_string());
    let items = format!("items:={}", json!((0..150).collect::<Vec<_>>()));
    let arguments = ["run", "long.json", "-i", "text=the very same", "-i", &items];
    operator.call(&arguments, 3).await.id()
}

/// Puts a snapshot in the place of the one that is there, as whole as it was.
async fn alter_snapshot(journal: &dyn Journal, id: &str) {
    let id: ExecutionId = id.parse().unwrap();
    let mut snapshot = journal.snapshot(id).await.unwrap().unwrap();
    let altered = snapshot.state.replace("the very same", "something else");
    assert!(altered != snapshot.state);
    snapshot.state = altered;
    let epoch = journal.take(id).await.unwrap().epoch;
    let version = journal.find(id).await.unwrap().version;
    let release = Release {
        execution: id,
        epoch,
        version,
        due_at: None,
        snapshot: Some(snapshot),
    };
    assert!(journal.release(release).await.unwrap());
}

async fn a_snapshot_that_is_no_replay_is_named(operator: &Operator, id: &str) {
    let said = operator.verify(&[], 1).await;
    let expected = format!("the snapshot of {id}: it is not what the first ");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("whole executions: 1 of 1"), "{said}");
    // Without it the execution is whole.
    operator.verify(&["--salvage", "saved"], 1).await;
    let file = text(operator.place.path("saved/journal.db"));
    operator.verify(&[&file], 0).await;
}

#[tokio::test]
async fn a_snapshot_that_is_no_replay_is_named_in_sqlite() {
    let operator = Operator::new();
    let id = waiting_with_a_snapshot(&operator).await;
    let data = operator.place.path("data");
    let journal = SqliteJournal::open(&data, "liar".to_owned(), None).unwrap();
    alter_snapshot(&journal, &id).await;
    drop(journal);
    a_snapshot_that_is_no_replay_is_named(&operator, &id).await;
}

#[tokio::test]
async fn a_snapshot_that_is_no_replay_is_named_in_postgres() {
    let url = Postgres::shared().database();
    let operator = Operator::new().with(&url);
    let id = waiting_with_a_snapshot(&operator).await;
    let lease = Duration::from_secs(60);
    let journal = PostgresJournal::connect(&url, "liar".to_owned(), lease, None).await;
    alter_snapshot(&journal.unwrap(), &id).await;
    a_snapshot_that_is_no_replay_is_named(&operator, &id).await;
}

/// The pages of a SQLite file that are leaves of indexes, or of tables that are ordered like ones, with their places.
fn leaves(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    /// What their first byte says.
    const LEAF: u8 = 10;
    let size = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let pages = bytes.chunks(size).enumerate();
    pages
        .filter(|(_, page)| page[0] == LEAF)
        .map(|(number, page)| (number * size, page))
        .collect()
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
}

/// A damaged index loses nothing: it is made again from its table.
#[tokio::test]
async fn what_a_damaged_index_hides_is_saved() {
    let operator = Operator::new();
    let mut ids = Vec::new();
    for said in ["a", &long("b"), "c"] {
        ids.push(operator.completed(said).await);
    }
    ids.push(operator.waiting("d").await);
    operator.call(&["backup", "copy.db"], 0).await;
    let bytes = std::fs::read(operator.place.path("copy.db")).unwrap();
    let status = format!("completed{}", ids[1]);
    let (by_status, at) = leaves(&bytes)
        .into_iter()
        .find_map(|(place, page)| Some((place, find(page, &status)?)))
        .unwrap();
    let (by_id, _) = leaves(&bytes)
        .into_iter()
        .find(|(_, page)| {
            find(page, &ids[0]).is_some()
                && find(page, "completed").is_none()
                && find(page, "{").is_none()
        })
        .unwrap();
    for (number, (place, byte)) in [
        // Another id, another status, no page of an index at all.
        (by_status + at + status.len() - 1, b'!'),
        (by_status + at, b'X'),
        (by_status, 0xff),
        (by_id, 0xff),
        (by_id + 4, 0xff),
    ]
    .into_iter()
    .enumerate()
    {
        let mut damaged = bytes.clone();
        assert_ne!(damaged[place], byte);
        damaged[place] = byte;
        operator.place.write("damaged.db", damaged);
        let folder = format!("saved-{number}");
        let said = operator
            .verify(&["damaged.db", "--salvage", &folder], 1)
            .await;
        assert!(said.contains("file: "), "{number}: {said}");
        let saved = text(operator.place.path(&format!("{folder}/journal.db")));
        let said = operator.verify(&[&saved], 0).await;
        assert!(
            said.contains("whole executions: 4 of 4"),
            "{number}: {said}"
        );
    }
}
