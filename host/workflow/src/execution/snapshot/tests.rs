//! Snapshots that are used, and those that are not.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Execution, Snapshot, SnapshotError};
use crate::definition::Definition;
use crate::duration::Timestamp;
use crate::event::{Event, EventKind, StepUsage};
use crate::ids::{ExecutionId, StepPath};

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn id() -> ExecutionId {
    ExecutionId::from_parts(1, 7)
}

fn compiled(document: &Value) -> Arc<Definition> {
    Arc::new(Definition::compile(document).unwrap())
}

/// A document with every kind of block.
fn blocks() -> Arc<Definition> {
    let ask = |id: &str| json!({"id": id, "agent": "ask", "action": "do", "input": "x"});
    compiled(&json!({
        "name": "blocks",
        "agents": [
            {"id": "ask", "type": "llm", "model": "m"},
            {"id": "boss", "type": "human", "assignees": ["ann"], "timeout_hours": 1},
        ],
        "steps": [
            {"id": "nothing", "set": 1},
            {"id": "all", "parallel": [
                {"id": "each", "loop": {"items": [1, null], "as": "item", "concurrency": 2, "steps": [ask("in_each")]}},
                {"id": "again", "loop": {"while": "true", "max_iterations": 3, "steps": [ask("in_again")]}},
                {"id": "sub", "workflow": "inner"},
                {"id": "way", "condition": "true", "then": [ask("in_way")]},
                {"id": "pause", "wait": {"seconds": 60}},
                {"id": "review", "agent": "boss", "action": "approve", "input": "x"},
            ]},
        ],
        "workflows": {"inner": {"name": "inner", "agents": [{"id": "ask", "type": "llm", "model": "m"}], "steps": [ask("in_sub")]}},
    }))
}

/// An execution brought to where it waits for its attempts.
fn begun(definition: &Arc<Definition>) -> Execution {
    let mut execution = Execution::replay(id(), Arc::clone(definition), &[]).unwrap();
    let created = EventKind::ExecutionCreated {
        workflow: definition.name().to_owned(),
        digest: definition.digest().clone(),
        inputs: json!({}),
        forked_from: None,
        kept: Vec::new(),
    };
    apply(&mut execution, created);
    go_on(&mut execution);
    execution
}

fn apply(execution: &mut Execution, kind: EventKind) {
    execution.apply(&Event { at: NOW, kind }).unwrap();
}

fn go_on(execution: &mut Execution) {
    use super::super::Command;
    loop {
        let mut has_acted = false;
        for command in execution.decide(NOW) {
            match command {
                Command::Record(kind) => apply(execution, kind),
                Command::Start(start) => apply(execution, start.event()),
                Command::Cancel { path } => apply(execution, EventKind::StepCancelled { path }),
                Command::WakeAt(_) => continue,
            }
            has_acted = true;
        }
        if !has_acted {
            return;
        }
    }
}

fn completed(path: &str) -> EventKind {
    EventKind::StepCompleted {
        path: StepPath::new(path),
        attempt: 1,
        output: Value::Null,
        text: None,
        usage: StepUsage::default(),
    }
}

#[test]
fn a_snapshot_leads_to_the_same_state_and_goes_on_alike() {
    let definition = blocks();
    let mut lived = begun(&definition);
    let snapshot = lived.snapshot().unwrap();
    let mut restored = Execution::restore(id(), Arc::clone(&definition), &snapshot).unwrap();
    assert!(restored == lived);
    assert_eq!(lived.size_hint(), 13, "one for each step and block");
    for path in ["in_way", "each[1].in_each", "sub.in_sub"] {
        for execution in [&mut lived, &mut restored] {
            apply(execution, completed(path));
            go_on(execution);
        }
        assert!(restored == lived, "{path}");
    }
    // A value that is null is there.
    let snapshot = lived.snapshot().unwrap();
    let restored = Execution::restore(id(), definition, &snapshot).unwrap();
    let step = restored.step_at(&StepPath::new("in_way")).unwrap();
    assert_eq!(step.state.unwrap().output, Some(Value::Null));
}

#[test]
fn a_snapshot_of_something_else_is_not_used() {
    let definition = blocks();
    let good = begun(&definition).snapshot().unwrap();
    let restore = |snapshot: &Snapshot| {
        Execution::restore(id(), Arc::clone(&definition), snapshot).map(|_| ())
    };
    assert_eq!(restore(&good), Ok(()));
    let build = "another".to_owned();
    let other = Snapshot {
        build,
        ..good.clone()
    };
    assert_eq!(restore(&other), Err(SnapshotError::OtherBuild));
    let other = Snapshot {
        version: good.version + 1,
        ..good.clone()
    };
    assert_eq!(restore(&other), Err(SnapshotError::NotItsOwn));
    let another = Execution::restore(
        ExecutionId::from_parts(2, 7),
        Arc::clone(&definition),
        &good,
    );
    assert_eq!(another.map(|_| ()), Err(SnapshotError::NotItsOwn));
    let document = json!({"name": "other", "agents": [], "steps": [{"set": 1}]});
    let another = Execution::restore(id(), compiled(&document), &good);
    assert_eq!(another.map(|_| ()), Err(SnapshotError::NotItsOwn));
    let state = good.state[..good.state.len() / 2].to_owned();
    let cut = Snapshot { state, ..good };
    assert!(matches!(restore(&cut), Err(SnapshotError::Damaged(_))));
}

/// Every number of a snapshot is replaced by others, one at a time: what is not refused can be asked everything.
#[test]
fn no_number_of_a_snapshot_leads_outside() {
    let definition = blocks();
    let good = begun(&definition).snapshot().unwrap();
    let bytes = good.state.as_bytes();
    let mut refused = 0;
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        for other in [
            "0",
            "1",
            "3",
            "7",
            "999",
            "4294967295",
            "18446744073709551615",
        ] {
            if length == 0 {
                break;
            }
            let state = format!("{}{other}{}", &good.state[..at], &good.state[at + length..]);
            let damaged = Snapshot {
                state,
                ..good.clone()
            };
            match Execution::restore(id(), Arc::clone(&definition), &damaged) {
                Ok(execution) => ask_everything(execution),
                Err(_) => refused += 1,
            }
        }
        at += length.max(1);
    }
    assert!(refused > 100, "{refused}");
}

fn ask_everything(mut execution: Execution) {
    let _ = (
        execution.to_json(),
        execution.status(),
        execution.size_hint(),
    );
    let _ = execution.wake_at(NOW);
    for _ in 0..20 {
        for command in execution.decide(NOW.plus(Duration::from_secs(7_200))) {
            use super::super::Command;
            let kind = match command {
                Command::Record(kind) => kind,
                Command::Start(start) => start.event(),
                Command::Cancel { path } => EventKind::StepCancelled { path },
                Command::WakeAt(_) => continue,
            };
            // It may not fit, but it is not to lead outside.
            let _ = execution.apply(&Event { at: NOW, kind });
        }
        for (path, attempt) in execution.running() {
            let kind = EventKind::StepInterrupted { path, attempt };
            let _ = execution.apply(&Event { at: NOW, kind });
        }
    }
    let _ = execution.snapshot();
}

#[test]
fn it_says_when_it_is_to_be_looked_at_again() {
    let wake = |steps: Value| {
        let agents = json!([
            {"id": "boss", "type": "human", "assignees": ["ann"]},
            {"id": "head", "type": "human", "assignees": ["ann"], "timeout_hours": 1},
        ]);
        let document = json!({"name": "t", "agents": agents, "steps": steps});
        begun(&compiled(&document)).wake_at(NOW)
    };
    let ask = |agent: &str| json!({"agent": agent, "action": "approve", "input": "x"});
    assert_eq!(wake(json!([ask("boss")])), None, "only people move it on");
    let hour = NOW.plus(Duration::from_secs(3_600));
    assert_eq!(wake(json!([ask("head")])), Some(hour));
    let minute = NOW.plus(Duration::from_secs(60));
    let both = json!([{"parallel": [ask("head"), {"wait": {"seconds": 60}}]}]);
    assert_eq!(wake(both), Some(minute));
    assert_eq!(wake(json!([{"set": 1}])), None, "it has ended");
    let running = begun(&blocks());
    assert_eq!(
        running.wake_at(NOW),
        Some(NOW),
        "attempts run that nobody drives"
    );
}
