//! What was stored once is read for ever: files of earlier days, and what they mean.
//!
//! A golden file is never written again. `MAKE_GOLDEN=1` makes those that are missing, and adds the lines of new events
//! to `events.jsonl`.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use e2e::golden::{KINDS, events, word};
use e2e::journal::samples::{at, by_owner, id, large, new, put};
use e2e::postgres::Postgres;
use e2e::troupe::{Workplace, root, text};
use futures::future::join_all;
use troupe_journal::{
    Append, Journal, OpenError, PostgresJournal, Record, RecordWrite, SqliteJournal,
};
use troupe_workflow::{Event, ExecutionStatus, Snapshot};

fn golden(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

fn makes() -> bool {
    std::env::var_os("MAKE_GOLDEN").is_some()
}

/// The lines of `events.jsonl`; missing ones are said, or made.
fn lines() -> Vec<String> {
    // Tests run at the same time; one of them makes what is missing.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap();
    let path = golden("events.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for event in events() {
        let line = serde_json::to_string(&event).unwrap();
        if !lines.contains(&line) {
            assert!(makes(), "this is not in events.jsonl:\n{line}");
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path);
            writeln!(file.unwrap(), "{line}").unwrap();
            lines.push(line);
        }
    }
    lines
}

#[test]
fn every_kind_of_event_has_a_golden_line() {
    let words: BTreeSet<_> = events().iter().map(|event| word(&event.kind)).collect();
    assert_eq!(words.len(), KINDS, "{words:?}");
    let stored: BTreeSet<String> = lines()
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(stored, words.into_iter().map(str::to_owned).collect());
}

#[test]
fn stored_events_mean_what_they_meant() {
    for line in lines() {
        let event: Event = serde_json::from_str(&line).unwrap();
        assert!(events().contains(&event), "{line}\nis read as\n{event:?}");
        // What is read is written so again: nothing of it was lost.
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}

/// The records of the journal's golden file, one of every kind.
fn records() -> Vec<RecordWrite> {
    let record = |kind, body: &str| RecordWrite {
        kind,
        due_at: Some(at(7)),
        ..put("one", 0, body)
    };
    vec![
        record("idempotency", r#"{"request":"00","subject":"exec_01"}"#),
        record("probe", "{}"),
        record("upkeep", r#"{"next_at":1764000000000}"#),
        record("workflow", r#"{"name":"w","created_at":5,"versions":[]}"#),
    ]
}

fn snapshot() -> Snapshot {
    Snapshot {
        build: "an earlier one".to_owned(),
        version: 3,
        state: "{}".to_owned(),
    }
}

/// Makes the journal's golden file, in today's format.
async fn make_journal(path: &std::path::Path) {
    let folder = tempfile_folder();
    let journal = SqliteJournal::open(folder.path(), "maker".to_owned(), None).unwrap();
    let epoch = journal.create(new(1)).await.unwrap();
    let mut all = events();
    all.push(large(9, 20_000));
    journal
        .append(Append {
            snapshot: Some(snapshot()),
            records: records(),
            ..by_owner(1, 1, epoch, &all)
        })
        .await
        .unwrap();
    SqliteJournal::back_up(folder.path(), path).unwrap();
}

fn tempfile_folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Events of the journals of SQLite's formats 2 and 3 and of PostgreSQL's.
const EVENTS: usize = 54;

/// Whether a journal has what [`make_journal`] put into it: so many events.
async fn means_what_it_meant(journal: &dyn Journal, count: usize) {
    let row = journal.find(id(1)).await.unwrap();
    assert_eq!(row.status, ExecutionStatus::Running);
    assert_eq!((row.created_at, row.updated_at), (at(1), at(9)));
    assert_eq!(row.owner.as_deref(), Some("maker"));
    assert_eq!(row.settings, new(1).settings);
    let all = journal.all_events(id(1)).await.unwrap();
    assert_eq!(all.first(), Some(&new(1).created));
    assert_eq!(all.last(), Some(&large(9, 20_000)));
    // What was added to the samples since is not in it.
    let known = lines();
    for (event, line) in all[1..all.len() - 1].iter().zip(&known) {
        assert_eq!(serde_json::to_string(event).unwrap(), *line);
    }
    assert_eq!(all.len(), count);
    assert_eq!(journal.snapshot(id(1)).await.unwrap(), Some(snapshot()));
    let found = journal.all_records(None, 99).await.unwrap();
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    let expected: Vec<_> = records()
        .into_iter()
        .map(|record| Record {
            kind: record.kind.to_owned(),
            id: record.id,
            version: 1,
            due_at: record.due_at,
            body: record.body.unwrap(),
        })
        .collect();
    assert_eq!(found, expected);
    let documents = journal.documents(None, 9).await.unwrap();
    assert_eq!(documents, [new(1).document]);
}

async fn file_means_what_it_meant(name: &str, count: usize) {
    let folder = tempfile_folder();
    std::fs::copy(golden(name), folder.path().join("journal.db")).unwrap();
    for reader in ["first", "second"] {
        let journal = SqliteJournal::open(folder.path(), reader.to_owned(), None).unwrap();
        means_what_it_meant(&journal, count).await;
    }
}

#[tokio::test]
async fn the_journal_of_format_2_means_what_it_meant() {
    file_means_what_it_meant("journal-format-2.db", EVENTS).await;
}

#[tokio::test]
async fn the_journal_of_format_3_means_what_it_meant() {
    file_means_what_it_meant("journal-format-3.db", EVENTS).await;
}

#[tokio::test]
async fn the_journal_of_format_4_means_what_it_meant() {
    let path = golden("journal-format-4.db");
    if !path.exists() {
        assert!(makes(), "{} is missing", path.display());
        make_journal(&path).await;
    }
    file_means_what_it_meant("journal-format-4.db", 60).await;
}

const LEASE: Duration = Duration::from_hours(1);

/// A database of a golden dump, and its address. (The next one: `pg_dump --schema=troupe --no-owner --no-privileges
/// --inserts`, without the rows of `nodes`.)
fn database_of(name: &str) -> String {
    let url = Postgres::shared().database();
    Postgres::shared().load(&url, &golden(name));
    url
}

async fn database_means_what_it_meant(url: &str) {
    for reader in ["first", "second"] {
        let journal = PostgresJournal::connect(url, reader.to_owned(), LEASE, None).await;
        means_what_it_meant(&journal.unwrap(), EVENTS).await;
    }
}

#[tokio::test]
async fn the_database_of_format_1_means_what_it_meant() {
    let url = database_of("postgres-format-1.sql");
    // Whoever only reads changes nothing of it.
    let older = PostgresJournal::inspect(&url).await.err().unwrap();
    assert!(matches!(older, OpenError::Older { .. }), "{older}");
    database_means_what_it_meant(&url).await;
}

#[tokio::test]
async fn the_database_of_format_2_means_what_it_meant() {
    database_means_what_it_meant(&database_of("postgres-format-2.sql")).await;
}

/// What an earlier version writes has no checksums.
#[tokio::test]
async fn no_process_of_an_earlier_version_is_left_when_a_database_is_brought_up() {
    let server = Postgres::shared();
    let url = database_of("postgres-format-1.sql");
    let older = "INSERT INTO troupe.nodes (id, incarnation, alive_until) VALUES";
    server.sql(
        &url,
        &format!("{older} ('old', 1, clock_timestamp() + interval '1 s')"),
    );
    // It waits for the end of a lease.
    database_means_what_it_meant(&url).await;
    let late = server.try_sql(&url, &format!("{older} ('late', 1, clock_timestamp())"));
    assert!(late.unwrap_err().contains("format"));
}

#[tokio::test]
async fn many_processes_bring_a_database_up_at_once() {
    let url = database_of("postgres-format-1.sql");
    let names = (0..6).map(|number| format!("n{number}"));
    let opened = names.map(|name| PostgresJournal::connect(&url, name, LEASE, None));
    for journal in join_all(opened).await {
        means_what_it_meant(&journal.unwrap(), EVENTS).await;
    }
}

#[tokio::test]
async fn a_file_that_an_earlier_version_works_with_is_not_brought_up() {
    let place = Workplace::new();
    let bytes = std::fs::read(golden("journal-format-2.db")).unwrap();
    let file = place.write("data/journal.db", &bytes);
    let lock = std::fs::File::create(place.write("data/nodes/old.lock", "")).unwrap();
    lock.lock().unwrap();
    let refused = place.troupe(["show"]).end().await.expect_code(1);
    assert!(refused.stderr.contains("end them all"), "{refused}");
    // In the header only that it has a log from now on.
    let left = std::fs::read(&file).unwrap();
    assert!(left[60..64] == [0, 0, 0, 2] && left[100..] == bytes[100..]);
    drop(lock);
    assert_eq!(place.list().await.len(), 1);
}

/// Brings what an earlier version wrote to the present format, killed at the commit that does it, and then undisturbed.
async fn is_brought_up_in_spite_of(place: &Workplace) {
    // The first leaves the earlier format, and the second has it to bring up.
    for side in ["before", "after"] {
        let point = format!("upgrade:1:{side}");
        let killed = place
            .troupe(["show"])
            .variable("TROUPE_FAIL_POINT", &point)
            .end()
            .await;
        assert!(killed.was_killed(), "{point}: {killed}");
    }
    assert_eq!(place.list().await.len(), 1);
}

#[tokio::test]
async fn a_file_whose_upgrade_was_killed_is_whole_in_one_format_or_the_other() {
    let brought_up = async |name: &str| {
        let place = Workplace::new();
        let bytes = std::fs::read(golden(name)).unwrap();
        place.write("data/journal.db", bytes);
        is_brought_up_in_spite_of(&place).await;
        place
    };
    let place = brought_up("journal-format-1.db").await;
    assert_eq!(place.show(NOTE).await["inputs"]["text"], "hello");
    ends(&place, &["verify"], 0).await;
    for name in ["journal-format-2.db", "journal-format-3.db"] {
        let place = brought_up(name).await;
        let journal = SqliteJournal::open(&place.path("data"), "reader".to_owned(), None).unwrap();
        means_what_it_meant(&journal, EVENTS).await;
    }
}

#[tokio::test]
async fn a_database_whose_upgrade_was_killed_is_whole_in_one_format_or_the_other() {
    let mut place = Workplace::new();
    let url = database_of("postgres-format-1.sql");
    place.set("TROUPE_DATABASE", &url);
    is_brought_up_in_spite_of(&place).await;
    database_means_what_it_meant(&url).await;
}

/// The id of the execution in the golden files of the first formats.
const NOTE: &str = "exec_01M88BXVMK2RYNDZE9QHEMVX4X";

#[tokio::test]
async fn the_journal_of_format_1_means_what_it_meant() {
    let place = Workplace::new();
    let bytes = std::fs::read(golden("journal-format-1.db")).unwrap();
    place.write("data/journal.db", bytes);
    let journal = text(place.path("data/journal.db"));
    let older = place
        .troupe(["verify", &journal])
        .end()
        .await
        .expect_code(1);
    assert!(older.stdout.contains("older format 1"), "{older}");
    let shown = place.show(NOTE).await;
    assert_eq!(shown["status"], "completed", "{shown:#}");
    assert_eq!(shown["inputs"]["text"], "hello");
    assert_eq!(shown["workflow_name"], "Note");
    ends(&place, &["verify"], 0).await;
}

#[tokio::test]
async fn the_export_of_format_1_means_what_it_meant() {
    let place = Workplace::new();
    let file = text(golden("export-1.jsonl"));
    ends(&place, &["import", &file], 0).await;
    let shown = place.show(NOTE).await;
    assert_eq!(shown["status"], "completed", "{shown:#}");
    assert_eq!(shown["inputs"]["text"], "hello");
    ends(&place, &["verify"], 0).await;
    let again = place.troupe(["export", NOTE]).end().await.expect_code(0);
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (
        std::fs::read_to_string(golden("export-1.jsonl")).unwrap(),
        again.stdout,
    );
    let (old, new) = (lines(&old), lines(&new));
    // All but the header and the checksum over it.
    assert_eq!(old[..old.len() - 1], new[..new.len() - 1]);
}

async fn ends(place: &Workplace, arguments: &[&str], code: i32) {
    drop(place.troupe(arguments).end().await.expect_code(code));
}
