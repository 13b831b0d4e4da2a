//! A load of everything that waits, repeats and asks: executions of one workflow, what a user of the API does with them
//! whatever happens to the server meanwhile, and what must be true of them in the end.

mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use troupe_journal::Journal;
use troupe_workflow::ExecutionId;

pub use self::life::{LEASE_MS, Scene, is_full_sweep, kill_points, sweep};
use crate::loopback::{Loopback, Reply, Route};
use crate::server::{Client, EXECUTIONS, Request, Response, WORKFLOWS, of};
use crate::troupe::{Workplace, guest};

/// Calls of models in one execution that nothing disturbs: one for the plan, three in parallel branches, three in the
/// rounds of a loop, one of the sub-workflow, three of the component.
pub const CALLS: usize = 11;

/// Before a user asks again who was told that it did not work.
const PAUSE: Duration = Duration::from_millis(30);

/// The workflow of the load. `component` is the digest of the guest `interview`.
#[must_use]
pub fn document(component: &str) -> Value {
    let ask = |id: &str, input: &str| json!({ "id": id, "agent": "writer", "action": "write", "input": input });
    json!({
        "name": "Everything",
        "agents": [
            { "id": "writer", "type": "llm", "model": "gpt-5-mini", "max_tokens": 100 },
            { "id": "editor", "type": "human", "assignees": ["ann@example.com"] },
            { "id": "reporter", "type": "code", "component": component, "grants": { "llm": { "models": ["gpt-5-mini"] } } },
        ],
        "workflows": { "summary": {
            "name": "summary",
            "agents": [{ "id": "writer", "type": "llm", "model": "gpt-5-mini", "max_tokens": 100 }],
            "steps": [{ "id": "sum", "agent": "writer", "action": "sum", "input": "Sum up {{ text }}" }],
        } },
        "steps": [
            ask("plan", "Plan {{ topic }}"),
            { "parallel": [ask("left", "Left of {{ plan.output }}"), [ask("right", "Right of {{ topic }}"), ask("further", "Further {{ right.output }}")]] },
            { "id": "each", "loop": { "items": [1, 2, 3], "as": "n", "concurrency": 2, "steps": [ask("round", "Round {{ n }} of {{ topic }}")] } },
            { "id": "review", "agent": "editor", "action": "review", "input": "{{ plan.output }}" },
            { "id": "pause", "wait": { "seconds": 0.2 } },
            { "id": "sub", "workflow": "summary", "inputs": { "text": "{{ each.results }}" } },
            { "id": "talk", "agent": "reporter", "action": "ask", "input": { "questions": [] } },
            { "id": "end", "set": "{{ topic }} {{ review.approved }} {{ talk.second }}" },
        ],
        "config": { "max_retries": 0, "timeout_ms": 3_600_000, "budget_usd": 10 },
    })
}

/// Makes a place whose server can do the load, and returns its workflow.
///
/// # Panics
/// Where a file cannot be written, or the component is not built.
pub async fn prepare(place: &mut Workplace, loopback: &Loopback, config: &str) -> Value {
    loopback.always(Route::OpenAi, Reply::text("so it is"));
    place.connect(loopback, config);
    let file = place.write("interview.wasm", guest("interview"));
    let file = file.to_string_lossy().into_owned();
    let compiled = place
        .troupe(["component", "compile", &file])
        .end()
        .await
        .expect_code(0);
    let digest = compiled
        .stdout
        .split_whitespace()
        .last()
        .expect("a digest")
        .to_owned();
    let name = digest.trim_start_matches("sha256:");
    place.write(&format!("data/components/{name}.wasm"), guest("interview"));
    document(&digest)
}

/// What a user wants, and how far it came. All that is asked of the server is asked again, with the same key, until it
/// is answered: so whatever happens to the server, it is done once.
#[derive(Debug)]
pub struct User {
    document: Value,
    topics: Vec<String>,
    workflow: Mutex<Option<String>>,
    /// The executions that the server promised, by their topics.
    promised: Mutex<BTreeMap<String, String>>,
}

/// The server did not do what it was asked, and may later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later;

impl User {
    /// A user who wants so many executions.
    #[must_use]
    pub fn new(document: Value, count: usize) -> Self {
        Self {
            document,
            topics: (0..count).map(|number| format!("topic {number}")).collect(),
            workflow: Mutex::default(),
            promised: Mutex::default(),
        }
    }

    /// Goes on until all executions have ended, or the server is gone: then it is to be called again with a client of
    /// the next one. True: all have ended.
    pub async fn work(&self, client: &Client) -> bool {
        loop {
            match self.step(client).await {
                Ok(true) => return true,
                Ok(false) => {}
                // Somebody who is turned away waits; somebody who finds nobody goes.
                Err(Later) if client.send(Request::get("/healthz")).await.is_err() => return false,
                Err(Later) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks for all that is missing, and answers all that is asked. True: nothing is left.
    ///
    /// # Errors
    /// A server that is not there, or has no room.
    pub async fn step(&self, client: &Client) -> Result<bool, Later> {
        let workflow = self.workflow(client).await?;
        for topic in &self.topics {
            self.begin(client, &workflow, topic).await?;
        }
        let mut left = self.promised();
        let mut cursor = String::new();
        loop {
            let query = format!("{EXECUTIONS}?limit=100{cursor}");
            let list = done(client.send(Request::get(&query)).await, 200)?;
            for row in list["data"].as_array().into_iter().flatten() {
                let id = row["id"].as_str().unwrap_or_default();
                match row["status"].as_str() {
                    Some("completed") => left.retain(|_, other| other != id),
                    Some("waiting_approval") => self.approve(client, id).await?,
                    Some("failed" | "cancelled" | "paused") => {
                        panic!("{id} came to a bad end: {row:#}")
                    }
                    _ => {}
                }
            }
            match list["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(left.is_empty()),
            }
        }
    }

    async fn workflow(&self, client: &Client) -> Result<String, Later> {
        if let Some(workflow) = locked(&self.workflow).clone() {
            return Ok(workflow);
        }
        let create = Request::post(WORKFLOWS, &self.document).key("the workflow");
        let created = done(client.send(create).await, 201)?;
        let id = created["id"].as_str().expect("an id").to_owned();
        *locked(&self.workflow) = Some(id.clone());
        Ok(id)
    }

    async fn begin(&self, client: &Client, workflow: &str, topic: &str) -> Result<(), Later> {
        if locked(&self.promised).contains_key(topic) {
            return Ok(());
        }
        let body = json!({ "inputs": { "topic": topic } });
        let run = Request::post(&format!("{WORKFLOWS}/{workflow}/run"), &body).key(topic);
        let begun = done(client.send(run).await, 202)?;
        let id = begun["id"].as_str().expect("an id").to_owned();
        locked(&self.promised).insert(topic.to_owned(), id);
        Ok(())
    }

    async fn approve(&self, client: &Client, id: &str) -> Result<(), Later> {
        let answer = json!({ "approved": true, "approved_by": "ann" });
        let approve = Request::post(&of(id, "/approve"), &answer).key(&format!("answer {id}"));
        done(client.send(approve).await, 200).map(|_execution| ())
    }

    /// The executions that the server promised, by their topics.
    #[must_use]
    pub fn promised(&self) -> BTreeMap<String, String> {
        locked(&self.promised).clone()
    }

    /// Checks what the journal holds when everything has ended, and what was asked of the services. `ends` is how often
    /// a process ended that may have had calls under way.
    ///
    /// # Panics
    /// Where something was lost, or happened twice.
    pub async fn check(&self, journal: &dyn Journal, loopback: &Loopback, ends: usize) {
        let promised = self.promised();
        let known: BTreeSet<&str> = promised.values().map(String::as_str).collect();
        assert_eq!(promised.len(), self.topics.len());
        assert_eq!(
            known.len(),
            self.topics.len(),
            "two promises are kept by one execution"
        );
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        for request in loopback.requests_to(Route::OpenAi) {
            *asked
                .entry(request.header("idempotency-key").to_owned())
                .or_default() += 1;
        }
        for (key, count) in &asked {
            let id = key.split('/').next().unwrap_or_default();
            assert!(
                known.contains(id),
                "{key} is of an execution that nobody was promised"
            );
            assert!(*count <= ends + 1, "{key} was asked {count} times");
        }
        for (topic, id) in &promised {
            let events = journal.all_events(parse(id)).await.expect("its events");
            let events: Vec<Value> = events
                .iter()
                .map(|event| serde_json::to_value(event).expect("JSON"))
                .collect();
            let of_this = format!("{id}/");
            let asked = asked
                .iter()
                .filter(|(key, _)| key.starts_with(&of_this))
                .map(|(_, count)| count)
                .sum();
            check_events(&events, asked, &format!("{topic}, {id}"));
        }
    }
}

fn parse(id: &str) -> ExecutionId {
    id.parse().expect("an id of the server's")
}

/// What one execution's record must say.
fn check_events(events: &[Value], asked: usize, about: &str) {
    let of_kind = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    let times = |kind| of_kind(kind).count();
    assert_eq!(
        (times("execution_created"), times("execution_completed")),
        (1, 1),
        "{about}"
    );
    assert_eq!(times("approval_given"), 1, "{about}: {events:#?}");
    let completed: Vec<&Value> = of_kind("step_completed")
        .map(|event| &event["path"])
        .collect();
    let paths: BTreeSet<String> = completed.iter().map(|path| path.to_string()).collect();
    assert_eq!(
        paths.len(),
        completed.len(),
        "{about}: a step was completed twice: {completed:?}"
    );
    let (begun, answered) = calls(events, about);
    assert_eq!(answered, CALLS, "{about}");
    assert!(
        (CALLS..=begun).contains(&asked),
        "{about}: {asked} requests came for {begun} recorded calls"
    );
}

/// How many calls of models began by a record, and how many were answered; none of them after its like was answered.
fn calls(events: &[Value], about: &str) -> (usize, usize) {
    let mut answered: BTreeSet<String> = BTreeSet::new();
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    let mut begun = 0;
    for event in events {
        let call = format!("{} {}", event["path"], event["call"]);
        if event["type"] == "call_started" && event["kind"] == "model" {
            begun += 1;
            let request = format!(
                "{} {} {}",
                event["path"], event["request"], event["position"]
            );
            assert!(
                !answered.contains(&request),
                "{about}: {request} was answered, and asked again"
            );
            open.insert(call, request);
        } else if event["type"] == "call_ended"
            && let Some(request) = open.remove(&call)
        {
            assert!(
                answered.insert(request),
                "{about}: {call} was answered twice"
            );
        }
    }
    (begun, answered.len())
}

/// What was answered, if it was what was hoped for.
fn done(answer: std::io::Result<Response>, status: u16) -> Result<Value, Later> {
    match answer {
        Ok(response) if response.status == status => Ok(response.body),
        // A server that knows that it cannot do it now says so.
        Ok(response) if response.status == 503 => Err(Later),
        Ok(response) => panic!("the server says: {response}"),
        Err(_gone) => Err(Later),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
