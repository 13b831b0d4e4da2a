//! What an operator does with what is kept: exports, imports, backups, checks, copies into another database, and
//! removes; with both databases, and beside a server that runs.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::time::Duration;

use e2e::postgres::Postgres;
use e2e::troupe::{Ended, Running, Workplace, text};
use serde_json::{Value, json};

/// Bounds every wait for a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// A workflow that needs nothing of the machine, and perhaps a person.
fn document(question: Option<Value>) -> Value {
    let mut steps = vec![json!({ "id": "said", "set": "{{ text }}!" })];
    steps.extend(question);
    steps.push(json!({ "id": "done", "set": "{{ said }}" }));
    json!({
        "name": "Note",
        "agents": [{ "id": "boss", "type": "human", "assignees": ["boss@example.com"] }],
        "steps": steps,
    })
}

struct Operator {
    place: Workplace,
}

impl Operator {
    fn new() -> Self {
        let place = Workplace::new();
        let question = json!({ "agent": "boss", "action": "approve", "input": "{{ text }}?" });
        place.write("plain.json", document(None).to_string());
        place.write("asking.json", document(Some(question)).to_string());
        Self { place }
    }

    fn in_postgres() -> Self {
        let mut operator = Self::new();
        let url = Postgres::shared().database();
        operator.place.set("TROUPE_DATABASE", &url);
        operator
    }

    async fn call(&self, arguments: &[&str], code: i32) -> Ended {
        self.place.troupe(arguments).end().await.expect_code(code)
    }

    async fn completed(&self, said: &str) -> String {
        let said = format!("text={said}");
        let ended = self.call(&["run", "plain.json", "-i", &said], 0).await;
        ended.id()
    }

    async fn waiting(&self, said: &str) -> String {
        let said = format!("text={said}");
        let ended = self.call(&["run", "asking.json", "-i", &said], 3).await;
        ended.id()
    }

    async fn verify(&self, arguments: &[&str], code: i32) -> String {
        let mut all = vec!["verify"];
        all.extend(arguments);
        self.call(&all, code).await.stdout
    }

    /// A server that works on this journal, once it does.
    async fn serve(&self) -> Running {
        let known = self.locks();
        let server = self
            .place
            .troupe(["serve", "--listen", "127.0.0.1:0"])
            .start();
        until(async || self.locks() > known).await;
        server
    }

    fn locks(&self) -> usize {
        let nodes = std::fs::read_dir(self.place.path("data/nodes"));
        nodes.map_or(0, Iterator::count)
    }
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

/// Long enough to be stored apart from its event.
fn long(said: &str) -> String {
    format!("{said} ").repeat(3_000)
}

async fn an_export_comes_back_as_it_was(operator: &Operator, other: &Operator) {
    let said = long("ü€");
    let done = operator.completed(&said).await;
    let waits = operator.waiting("why").await;
    operator
        .call(&["export", &done, &waits, "-o", "out.jsonl"], 0)
        .await;
    let events = operator.place.events(&done).await;
    // Where it is already, nothing changes.
    let refused = operator.call(&["import", "out.jsonl"], 2).await;
    assert!(refused.stderr.contains("already"), "{refused}");
    let file = text(operator.place.path("out.jsonl"));
    let imported = other.call(&["import", &file], 0).await;
    assert!(
        imported.stderr.contains(&format!("troupe resume {waits}")),
        "{imported}"
    );
    assert_eq!(other.place.events(&done).await, events);
    let shown = other.place.show(&waits).await;
    assert_eq!(shown["status"], "paused", "{shown:#}");
    other.verify(&[], 0).await;
    // On standard output, too, and the same of what has ended.
    let one = operator.call(&["export", &done], 0).await.stdout;
    let again = other.call(&["export", &done], 0).await.stdout;
    assert_eq!(one, again);
    other.call(&["resume", &waits], 3).await;
    other.call(&["approve", &waits, "--by", "boss"], 0).await;
    other.verify(&[], 0).await;
}

#[tokio::test]
async fn an_export_of_sqlite_comes_back_as_it_was() {
    an_export_comes_back_as_it_was(&Operator::new(), &Operator::new()).await;
}

#[tokio::test]
async fn an_export_of_sqlite_comes_back_in_postgres() {
    an_export_comes_back_as_it_was(&Operator::new(), &Operator::in_postgres()).await;
}

#[tokio::test]
async fn an_export_of_postgres_comes_back_in_sqlite() {
    an_export_comes_back_as_it_was(&Operator::in_postgres(), &Operator::new()).await;
}

#[tokio::test]
async fn what_is_imported_to_go_on_goes_on() {
    let operator = Operator::new();
    let waits = operator.waiting("why").await;
    operator
        .call(&["export", &waits, "-o", "out.jsonl"], 0)
        .await;
    let other = Operator::new();
    let file = text(operator.place.path("out.jsonl"));
    other.call(&["import", &file, "--resume"], 0).await;
    assert_eq!(
        other.place.events(&waits).await,
        operator.place.events(&waits).await
    );
    other.call(&["approve", &waits, "--by", "boss"], 0).await;
}

#[tokio::test]
async fn an_export_that_was_changed_is_refused_whole() {
    let operator = Operator::new();
    let id = operator.completed("hello").await;
    let export = operator.call(&["export", &id], 0).await.stdout;
    let lines: Vec<&str> = export.lines().collect();
    let without = |index: usize| {
        let mut left = lines.clone();
        left.remove(index);
        left.join("\n") + "\n"
    };
    let newer = export.replacen("\"format\":1", "\"format\":2", 1);
    for (changed, expected) in [
        (export.replace("hello", "hallo"), "checksum does not fit"),
        (without(3), ""),
        (without(lines.len() - 1), "ends in the middle"),
        (without(0), "no export of Troupe"),
        (export.clone() + "\n", "behind the end"),
        (newer, "reads up to format 1"),
        (String::new(), "no export of Troupe"),
        ("\u{0}".repeat(99), "no export of Troupe"),
    ] {
        let other = Operator::new();
        other.place.write("out.jsonl", changed);
        let refused = other.call(&["import", "out.jsonl"], 2).await;
        assert!(refused.stderr.contains(expected), "{expected}: {refused}");
        assert_eq!(other.place.list().await, [] as [Value; 0]);
    }
}

#[tokio::test]
async fn a_backup_is_made_beside_a_server_and_put_in_place() {
    let operator = Operator::new();
    let done = operator.completed(&long("a")).await;
    let _server = operator.serve().await;
    let writing = async {
        for number in 0..5 {
            operator.completed(&format!("{number}")).await;
        }
    };
    let backing_up = async {
        for number in 0..5 {
            let file = format!("backup-{number}.db");
            operator.call(&["backup", &file], 0).await;
            operator.verify(&[&file], 0).await;
        }
    };
    tokio::join!(writing, backing_up);
    operator.call(&["backup", "backup-0.db"], 2).await;
    operator
        .call(&["backup", "backup-0.db", "--replace"], 0)
        .await;
    let restored = Operator::new();
    let backup = std::fs::read(operator.place.path("backup-0.db")).unwrap();
    restored.place.write("data/journal.db", backup);
    assert_eq!(restored.place.list().await.len(), 6);
    assert_eq!(
        restored.place.events(&done).await,
        operator.place.events(&done).await
    );
    restored.verify(&[], 0).await;
    let left: Vec<_> = std::fs::read_dir(operator.place.path(""))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn for_postgres_the_servers_own_programs_are_named() {
    let refused = Operator::in_postgres().call(&["backup", "x.db"], 2).await;
    assert!(refused.stderr.contains("pg_dump"), "{refused}");
}

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

async fn migrated(from: &str, to: &str, place: &Operator) -> Ended {
    place
        .call(&["migrate", "--from", from, "--to", to], 0)
        .await
}

#[tokio::test]
async fn everything_goes_to_postgres_and_back() {
    let operator = Operator::new();
    let done = operator.completed(&long("a")).await;
    let waits = operator.waiting("b").await;
    let url = Postgres::shared().database();
    migrated("sqlite", &url, &operator).await;
    // Once more: all of it is there.
    let again = migrated("sqlite", &url, &operator).await;
    assert!(
        again.stdout.contains("executions: 2 (there before: 2)"),
        "{again}"
    );
    // What went on meanwhile is brought up.
    operator.call(&["approve", &waits, "--by", "boss"], 0).await;
    let third = migrated("sqlite", &url, &operator).await;
    assert!(
        third.stdout.contains("executions: 2 (there before: 1)"),
        "{third}"
    );
    operator.verify(&["--database", &url], 0).await;
    let other = Operator::new();
    migrated(&url, "sqlite", &other).await;
    for id in [&done, &waits] {
        assert_eq!(
            other.place.events(id).await,
            operator.place.events(id).await
        );
    }
    other.verify(&[], 0).await;
}

#[tokio::test]
async fn what_differs_in_the_target_is_not_touched() {
    let (operator, other) = (Operator::new(), Operator::new());
    let waits = operator.waiting("b").await;
    let url = Postgres::shared().database();
    migrated("sqlite", &url, &operator).await;
    operator.call(&["approve", &waits, "--by", "boss"], 0).await;
    other.call(&["--database", &url, "cancel", &waits], 0).await;
    let arguments = ["migrate", "--from", "sqlite", "--to", &url];
    let refused = operator.call(&arguments, 1).await;
    assert!(refused.stderr.contains("went on otherwise"), "{refused}");
    assert!(
        !refused.stderr.contains(Postgres::shared().password()),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_deleted_leaves_nothing_in_the_file() {
    let operator = Operator::new();
    let (one, two) = (
        operator.completed(&long("secretword")).await,
        operator.waiting("b").await,
    );
    let holds = |word: &str| {
        let files = operator.place.data_files();
        let mut files = files
            .into_iter()
            .filter(|(path, _)| !text(path).ends_with("-shm"));
        files.any(|(_, bytes)| {
            bytes
                .windows(word.len())
                .any(|window| window == word.as_bytes())
        })
    };
    assert!(holds("secretword"));
    operator.call(&["delete", &two], 2).await;
    operator.call(&["delete", &one], 0).await;
    assert!(!holds("secretword"));
    operator.call(&["delete", &one], 2).await;
    assert_eq!(operator.place.list().await.len(), 1);
}

async fn old_ones_are_pruned(operator: &Operator) {
    let done = operator.completed("a").await;
    operator.waiting("b").await;
    operator.call(&["prune", "--older-than", "1d"], 0).await;
    let listed = operator
        .call(&["prune", "--older-than", "0s", "--dry-run"], 0)
        .await;
    assert!(listed.stdout.contains(&done), "{listed}");
    operator
        .call(&["prune", "--older-than", "0s", "--status", "failed"], 0)
        .await;
    assert_eq!(operator.place.list().await.len(), 2);
    operator.call(&["prune", "--older-than", "0s"], 0).await;
    let left = operator.place.list().await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["status"], "waiting_approval");
    operator.call(&["prune", "--older-than", "soon"], 2).await;
    operator.verify(&[], 0).await;
}

#[tokio::test]
async fn old_ones_are_pruned_in_sqlite() {
    old_ones_are_pruned(&Operator::new()).await;
}

#[tokio::test]
async fn old_ones_are_pruned_in_postgres() {
    old_ones_are_pruned(&Operator::in_postgres()).await;
}

#[tokio::test]
async fn a_server_removes_what_was_kept_long_enough() {
    let operator = Operator::new();
    for number in 0..5 {
        operator.completed(&format!("{number}")).await;
    }
    let waits = operator.waiting("b").await;
    operator.place.write(
        "troupe.toml",
        "[retention]\ncompleted_days = 0\nbatch = 2\n",
    );
    let _server = operator.serve().await;
    until(async || operator.place.list().await.len() == 1).await;
    assert_eq!(operator.place.list().await[0]["id"], json!(waits));
    operator.verify(&[], 0).await;
}
