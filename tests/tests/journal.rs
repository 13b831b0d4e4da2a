//! Every journal keeps the same rules, and answers as the plainest one does.

use e2e::journal::{LabKind, compare_in_step, keeps_every_rule};
use e2e::postgres::Postgres;

/// Operations of one seed.
const OPERATIONS: u32 = 300;

async fn agrees_with_memory(kind: &LabKind) {
    for seed in 1..=4 {
        compare_in_step(kind, seed, OPERATIONS).await;
    }
}

fn postgres() -> LabKind {
    LabKind::Postgres(Postgres::shared().database())
}

#[tokio::test]
async fn the_journal_in_memory_keeps_every_rule() {
    keeps_every_rule(&LabKind::Memory).await;
}

#[tokio::test]
async fn the_journal_in_sqlite_keeps_every_rule() {
    keeps_every_rule(&LabKind::Sqlite).await;
}

#[tokio::test]
async fn the_journal_in_postgres_keeps_every_rule() {
    keeps_every_rule(&postgres()).await;
}

#[tokio::test]
async fn the_journal_in_sqlite_agrees_with_memory() {
    agrees_with_memory(&LabKind::Sqlite).await;
}

#[tokio::test]
async fn the_journal_in_postgres_agrees_with_memory() {
    agrees_with_memory(&postgres()).await;
}
