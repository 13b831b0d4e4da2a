//! What an operator does with what is kept: exports, imports, backups and removes; with both databases, and beside a
//! server that runs.

use e2e::operator::{Operator, long};
use e2e::troupe::text;
use serde_json::Value;

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
