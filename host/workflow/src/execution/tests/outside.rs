//! What people and other processes bring to an execution while nobody, or somebody else, drives it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{Command, ExecutionStatus, RaisedBudgets, StartStep};
use super::{World, document, llm, step};
use crate::duration::Timestamp;
use crate::event::{Answer, Event, EventKind};
use crate::failure::{Code, Failure};
use crate::ids::StepPath;
use crate::money::MicroUsd;

/// Records all that is decided; the steps that are started stay running.
fn settle(world: &mut World) -> Vec<StartStep> {
    let mut started = Vec::new();
    loop {
        let mut has_acted = false;
        for command in world.execution.decide(world.now) {
            match command {
                Command::Record(kind) => {
                    world.note(&kind);
                    world.record(kind);
                    has_acted = true;
                    break;
                }
                Command::Start(start) => {
                    world.record(start.event());
                    started.push(*start);
                    has_acted = true;
                }
                Command::Cancel { path } => {
                    world.record(EventKind::StepCancelled { path });
                    has_acted = true;
                }
                Command::WakeAt(_) => {}
            }
        }
        if !has_acted {
            return started;
        }
    }
}

/// The process that drove it has died, and another takes it up.
fn recover(world: &mut World) {
    world.record(EventKind::ExecutionRecovered);
    for (path, attempt) in world.execution.running() {
        world.record(EventKind::StepInterrupted { path, attempt });
    }
}

fn branches(agents: &[Value], config: Value) -> Value {
    let steps: Vec<Value> = agents
        .iter()
        .map(
            |agent| json!({ "id": agent["id"], "agent": agent["id"], "action": "x", "input": "1" }),
        )
        .collect();
    json!({ "name": "t", "agents": agents, "steps": [{ "parallel": steps }], "config": config })
}

#[test]
fn a_raised_budget_is_no_leave_to_repeat_a_step_in_doubt() {
    let mut pay = llm("pay");
    pay["idempotent"] = json!(false);
    let config = json!({ "budget_usd": 0.5, "on_budget_exceeded": "pause" });
    let mut world = World::new(&branches(&[llm("a"), pay], config), json!({}));
    settle(&mut world);
    world.record(EventKind::StepPaused {
        path: StepPath::new("a"),
        attempt: 1,
        reason: Failure::new(Code::BudgetExceeded, "too dear"),
        usage: None,
        raises: 0,
    });
    recover(&mut world);
    assert_eq!(world.execution.status(), ExecutionStatus::Paused);
    let raised = RaisedBudgets {
        usd: Some(MicroUsd::new(1_000_000)),
        ..RaisedBudgets::default()
    };
    for kind in world.execution.resume(&raised).unwrap() {
        world.record(kind);
    }
    let started = |world: &mut World| {
        let started = settle(world).into_iter();
        started
            .map(|start| start.path.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(started(&mut world), ["a"]);
    for kind in world.execution.resume(&RaisedBudgets::default()).unwrap() {
        world.record(kind);
    }
    assert_eq!(started(&mut world), ["pay"]);
}

#[test]
fn time_in_which_nobody_drove_it_does_not_count_though_somebody_answered() {
    let person = json!({ "id": "ann", "type": "human", "assignees": ["ann"] });
    let mut world = World::new(&branches(&[llm("a"), person], json!({})), json!({}));
    settle(&mut world);
    // Its process dies; an hour later a person answers, and then it is recovered.
    world.now = Timestamp::from_millis(3_600_000);
    let answer = Answer {
        by: "ann".to_owned(),
        approved: true,
        notes: None,
        data: None,
    };
    let kind = world.execution.answer(None, answer, world.now).unwrap();
    world.record(kind);
    world.now = Timestamp::from_millis(3_600_100);
    recover(&mut world);
    let started = settle(&mut world);
    assert_eq!(started.len(), 1, "{}", world.trace);
    // What it is given from then on is what was left.
    world.now = Timestamp::from_millis(3_600_100 + 300_000);
    settle(&mut world);
    assert_eq!(world.execution.status(), ExecutionStatus::Failed);
}

#[test]
fn loops_in_loops_end_before_the_memory_does() {
    let inner = json!({ "until": "false", "max_iterations": 100_000, "steps": [{ "set": 1 }] });
    let outer = json!({ "until": "false", "max_iterations": 100_000, "steps": [{ "loop": inner, "on_error": "continue" }] });
    let document = json!({ "name": "t", "agents": [], "steps": [{ "loop": outer }] });
    let mut execution = World::new(&document, json!({})).execution;
    while !execution.status().is_terminal() {
        for command in execution.decide(Timestamp::from_millis(1_000)) {
            if let Command::Record(kind) = command {
                let at = Timestamp::from_millis(1_000);
                execution.apply(&Event { at, kind }).unwrap();
            }
        }
    }
    let (failure, _) = execution.failure().unwrap();
    assert_eq!(failure.code, Code::MaxIterations);
    assert!(failure.message.contains("in all"), "{failure}");
}

#[test]
fn a_pause_that_was_decided_before_a_raise_is_tried_at_once() {
    let document = document(
        &["a"],
        json!([step("a", "1")]),
        json!({ "budget_usd": 0.5, "on_budget_exceeded": "pause" }),
    );
    let mut world = World::new(&document, json!({}));
    let Some(Command::Start(start)) = world.execution.decide(world.now).into_iter().next() else {
        panic!("a step starts");
    };
    world.record(start.event());
    world.record(EventKind::BudgetRaised {
        usd: Some(MicroUsd::new(9_000_000)),
        tokens: None,
        fuel: None,
    });
    world.record(EventKind::StepPaused {
        path: start.path.clone(),
        attempt: 1,
        reason: Failure::new(Code::BudgetExceeded, "it was too little"),
        usage: None,
        raises: 0,
    });
    assert_eq!(world.execution.status(), ExecutionStatus::Running);
    world.run(&BTreeMap::from([("a", vec![Ok(json!("done"))])]));
    assert_eq!(world.execution.status(), ExecutionStatus::Completed);
}
