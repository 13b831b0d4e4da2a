//! Appends a second, of executions at once: `cargo run -p troupe-journal --example appends -- FOLDER [ADDRESS]`,
//! a folder for SQLite and the address of a PostgreSQL database.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use troupe_journal::{
    Append, Document, FirstOwner, Journal, NewExecution, PostgresJournal, SqliteJournal, Writer,
};
use troupe_workflow::{Event, EventKind, ExecutionId, ExecutionStatus, Timestamp, WorkflowDigest};

/// How long each number is counted.
const SPAN: Duration = Duration::from_secs(4);
const LEASE: Duration = Duration::from_hours(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("a folder is missing")?;
    let name = format!("appends-{}", std::process::id());
    let sqlite = SqliteJournal::open(Path::new(&folder), name.clone(), None)?;
    measure("sqlite", Arc::new(sqlite)).await?;
    if let Some(url) = arguments.next() {
        let postgres = PostgresJournal::connect(&url, name, LEASE, None).await?;
        measure("postgres", Arc::new(postgres)).await?;
    }
    Ok(())
}

async fn measure(name: &str, journal: Arc<dyn Journal>) -> Result<(), Box<dyn std::error::Error>> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    for at_once in [1, 16, 64] {
        let done = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let (journal, done) = (Arc::clone(&journal), Arc::clone(&done));
            let is_over = Arc::clone(&is_over);
            tasks.spawn(async move {
                let new = new(number);
                let id = new.id;
                let epoch = journal.create(new).await?;
                let events = [event()];
                let mut version = 1;
                while !is_over.load(Ordering::Relaxed) {
                    let append = Append {
                        execution: id,
                        expected: version,
                        writer: Writer::Owner(epoch),
                        events: &events,
                        status: ExecutionStatus::Running,
                        snapshot: None,
                        records: Vec::new(),
                    };
                    version = journal.append(append).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, troupe_journal::AppendError>(())
            });
        }
        tokio::time::sleep(SPAN).await;
        let rate = done.load(Ordering::Relaxed) / SPAN.as_secs();
        is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        report(&format!("{name}: {at_once} at once: {rate} appends/s"));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "its answer is what it prints")]
fn report(line: &str) {
    println!("{line}");
}

/// About 1 KiB.
fn event() -> Event {
    Event {
        at: Timestamp::from_millis(1),
        kind: EventKind::ExecutionCompleted {
            outputs: json!({ "text": "word ".repeat(190) }),
        },
    }
}

fn new(number: u64) -> NewExecution {
    let text = json!({ "name": "w" }).to_string();
    let digest = WorkflowDigest::of(text.as_bytes());
    let entropy = (u128::from(std::process::id()) << 32) | u128::from(number);
    NewExecution {
        id: ExecutionId::from_parts(number, entropy),
        document: Document {
            digest: digest.clone(),
            name: "w".to_owned(),
            text,
        },
        workflow: None,
        settings: "{}".to_owned(),
        created: Event {
            at: Timestamp::from_millis(1),
            kind: EventKind::ExecutionCreated {
                workflow: "w".to_owned(),
                digest,
                inputs: json!({}),
                forked_from: None,
                kept: Vec::new(),
            },
        },
        first_owner: FirstOwner::Creator,
        records: Vec::new(),
    }
}
