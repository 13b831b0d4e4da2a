//! A folder in which an operator works with a journal by the command line: executions that ended and that wait, and
//! what is done with them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::troupe::{Ended, Running, Workplace};

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

/// An operator, and the folder they work in.
#[derive(Debug)]
pub struct Operator {
    pub place: Workplace,
}

impl Default for Operator {
    fn default() -> Self {
        Self::new()
    }
}

impl Operator {
    /// One whose journal is a file, with the workflows `plain.json`, which ends at once; `asking.json`, which waits for a
    /// person; and `failing.json`, which fails at once.
    #[must_use]
    pub fn new() -> Self {
        let place = Workplace::new();
        let question = json!({ "agent": "boss", "action": "approve", "input": "{{ text }}?" });
        place.write("plain.json", document(None).to_string());
        place.write("asking.json", document(Some(question)).to_string());
        let failing = json!({
            "name": "Fails",
            "agents": [],
            "steps": [{ "id": "said", "set": "{{ text.nothing.there }}" }],
        });
        place.write("failing.json", failing.to_string());
        Self { place }
    }

    /// The same with a database of its own on the shared server.
    ///
    /// # Panics
    /// Where there is no PostgreSQL.
    #[must_use]
    pub fn in_postgres() -> Self {
        Self::new().with(&Postgres::shared().database())
    }

    /// The same with this database.
    #[must_use]
    pub fn with(mut self, database: &str) -> Self {
        self.place.set("TROUPE_DATABASE", database);
        self
    }

    /// A call of the binary that ends with this exit code.
    pub async fn call(&self, arguments: &[&str], code: i32) -> Ended {
        self.place.troupe(arguments).end().await.expect_code(code)
    }

    /// An execution that has completed.
    pub async fn completed(&self, said: &str) -> String {
        self.run("plain.json", said, 0).await
    }

    /// One that waits for a person.
    pub async fn waiting(&self, said: &str) -> String {
        self.run("asking.json", said, 3).await
    }

    /// One that has failed.
    pub async fn failed(&self, said: &str) -> String {
        self.run("failing.json", said, 1).await
    }

    /// One that was cancelled.
    pub async fn cancelled(&self, said: &str) -> String {
        let id = self.waiting(said).await;
        self.call(&["cancel", &id], 0).await;
        id
    }

    async fn run(&self, document: &str, said: &str, code: i32) -> String {
        let said = format!("text={said}");
        let ended = self.call(&["run", document, "-i", &said], code).await;
        ended.id()
    }

    /// What `troupe verify` says.
    pub async fn verify(&self, arguments: &[&str], code: i32) -> String {
        let mut all = vec!["verify"];
        all.extend(arguments);
        self.call(&all, code).await.stdout
    }

    /// A server that works on this journal in its file, once it does.
    pub async fn serve(&self) -> Running {
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

/// Waits until something is so.
///
/// # Panics
/// After a minute.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "it is not so after {PATIENCE:?}");
}

/// Long enough to be stored apart from its event.
#[must_use]
pub fn long(said: &str) -> String {
    format!("{said} ").repeat(3_000)
}
