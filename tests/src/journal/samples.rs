//! Executions, events and records as the rules need them.

use serde_json::{Value, json};
use troupe_journal::{
    Append, Claim, Claimed, Document, Epoch, FirstOwner, NewExecution, RecordWrite, Release, Writer,
};
use troupe_workflow::{
    Event, EventKind, ExecutionId, ExecutionStatus, StepPath, Timestamp, WorkflowDigest,
};

use super::Node;

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// The n-th execution's id. They sort by their numbers.
pub fn id(number: u64) -> ExecutionId {
    ExecutionId::from_parts(number, u128::from(number))
}

/// A small event.
pub fn skipped(millis: i64) -> Event {
    Event {
        at: at(millis),
        kind: EventKind::StepSkipped {
            path: StepPath::new("s"),
        },
    }
}

/// An event with a value of about so many bytes.
pub fn large(millis: i64, bytes: usize) -> Event {
    let outputs = json!({ "text": "ü€\u{0}\\\"'".repeat(bytes / 8), "bytes": bytes });
    Event {
        at: at(millis),
        kind: EventKind::ExecutionCompleted { outputs },
    }
}

pub fn document(name: &str) -> Document {
    let text = json!({ "name": name }).to_string();
    Document {
        digest: WorkflowDigest::of(text.as_bytes()),
        name: name.to_owned(),
        text,
    }
}

/// An execution of workflow `w`, made at its number, whose creator works on it.
pub fn new(number: u64) -> NewExecution {
    new_of(number, "w", json!({}))
}

pub fn new_of(number: u64, workflow: &str, inputs: Value) -> NewExecution {
    let document = document(workflow);
    NewExecution {
        id: id(number),
        workflow: None,
        settings: json!({ "n": number }).to_string(),
        created: Event {
            at: at(i64::try_from(number).expect("a small number")),
            kind: EventKind::ExecutionCreated {
                workflow: workflow.to_owned(),
                digest: document.digest.clone(),
                inputs,
                forked_from: None,
                kept: Vec::new(),
            },
        },
        document,
        first_owner: FirstOwner::Creator,
        records: Vec::new(),
    }
}

/// The same, for whoever takes it.
pub fn free(number: u64) -> NewExecution {
    NewExecution {
        first_owner: FirstOwner::Anyone,
        ..new(number)
    }
}

/// An append by the owner, after which the execution runs.
pub fn by_owner(number: u64, expected: u64, epoch: Epoch, events: &[Event]) -> Append<'_> {
    Append {
        execution: id(number),
        expected,
        writer: Writer::Owner(epoch),
        events,
        status: ExecutionStatus::Running,
        snapshot: None,
        records: Vec::new(),
    }
}

/// An append by somebody else.
pub fn from_outside(number: u64, expected: u64, events: &[Event]) -> Append<'_> {
    Append {
        execution: id(number),
        expected,
        writer: Writer::Outside,
        events,
        status: ExecutionStatus::Running,
        snapshot: None,
        records: Vec::new(),
    }
}

/// What ends an execution.
pub fn ending(append: Append<'_>) -> Append<'_> {
    Append {
        status: ExecutionStatus::Completed,
        ..append
    }
}

pub fn release(number: u64, epoch: Epoch, version: u64, due_at: Option<i64>) -> Release {
    Release {
        execution: id(number),
        epoch,
        version,
        due_at: due_at.map(at),
        snapshot: None,
    }
}

pub fn put(id: &str, expected: u64, body: &str) -> RecordWrite {
    RecordWrite {
        kind: "thing",
        id: id.to_owned(),
        expected,
        due_at: None,
        body: Some(body.to_owned()),
    }
}

pub fn remove(id: &str, expected: u64) -> RecordWrite {
    RecordWrite {
        body: None,
        ..put(id, expected, "")
    }
}

pub async fn claim(node: &Node, now: i64, limit: u32) -> Vec<Claimed> {
    let claim = Claim {
        now: at(now),
        limit,
        except: Vec::new(),
    };
    node.claim(claim).await.unwrap()
}

pub async fn claimed_ids(node: &Node, now: i64, limit: u32) -> Vec<ExecutionId> {
    let claimed = claim(node, now, limit).await;
    claimed.into_iter().map(|claimed| claimed.id).collect()
}

/// The body of a record, if it is there.
pub async fn body(node: &Node, id: &str) -> Option<String> {
    let record = node.record("thing", id.to_owned()).await.unwrap();
    record.map(|record| record.body)
}
