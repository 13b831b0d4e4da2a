//! What holds for every document, whatever happens and in whatever order.
//!
//! proptest makes a document, a script of what everybody answers, and the order in which things happen; a failure
//! prints the smallest it found. More cases: `PROPTEST_CASES=12800 cargo test -p troupe-workflow --test properties`.

#[path = "properties/agents.rs"]
mod agents;
#[path = "properties/any.rs"]
mod any;
#[path = "properties/document.rs"]
mod document;
#[path = "properties/ledger.rs"]
mod ledger;
#[path = "properties/next.rs"]
mod next;
#[path = "properties/script.rs"]
mod script;
#[path = "properties/shape.rs"]
mod shape;
#[path = "properties/templates.rs"]
mod templates;
#[path = "properties/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use troupe_workflow::{Code, Event, EventKind, Execution, ExecutionStatus, StepPath};

use document::{Mood, Written, written};
use script::{Dice, Script};
use world::{Disturbances, World};

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn documents(mood: Mood) -> impl Strategy<Value = Written> {
    shape::shape().prop_map(move |shape| written(&shape, mood))
}

fn scripts(mood: Mood) -> impl Strategy<Value = Script> {
    (any::<u64>(), prop_oneof![Just(0_u64), 0_u64..40]).prop_map(move |(seed, failures)| Script {
        seed,
        failures,
        mood,
    })
}

fn disturbances() -> impl Strategy<Value = Disturbances> {
    let chance = || prop_oneof![Just(0_u64), 0_u64..80];
    let retries = prop_oneof![Just(0_u64), Just(700)];
    let all = (chance(), chance(), chance(), retries);
    all.prop_map(|(crashes, cancels, pauses, retries)| Disturbances {
        crashes,
        cancels,
        pauses,
        retries,
    })
}

/// The state that the events lead to, read from what would be stored.
fn replayed(execution: &Execution, events: &[Event]) -> Execution {
    let definition = Arc::clone(execution.definition());
    let replayed = Execution::replay(execution.id(), definition, events);
    replayed.expect("what was lived can be replayed")
}

#[test]
fn a_workflow_that_calls_itself_without_end_fails() {
    let call = json!({"id": "again", "workflow": "w", "inputs": {}});
    let written = Written {
        document: json!({
            "name": "root", "inputs": {}, "agents": [], "steps": [call],
            "workflows": {"w": {"name": "w", "agents": [], "steps": [call]}},
        }),
        caps: BTreeMap::new(),
        workflow_steps: BTreeMap::new(),
    };
    let script = Script {
        seed: 0,
        failures: 0,
        mood: Mood::Calm,
    };
    let world = World::new(&written, script, 0).run();
    let code = world.execution.failure().map(|(failure, _)| failure.code);
    assert_eq!(code, Some(Code::InputInvalid));
    let path = ["again"; 16].join(".");
    assert!(world.execution.step_at(&StepPath::new(path)).is_some());
}

proptest! {
    #![proptest_config(config())]

    /// The world checks each event: it is legal and stored as it is, asking changes nothing, progress does not fall,
    /// no budget is passed, and in the end there is an end or a rest. Here also: replay leads to the same state.
    #[test]
    fn whatever_happens_the_state_is_sound(
        written in documents(Mood::Any), script in scripts(Mood::Any), order: u64, disturbances in disturbances(),
    ) {
        let world = World::new(&written, script, order).disturbed(disturbances).run();
        check_replay(&world, order);
        check_closed(&world);
    }

    #[test]
    fn the_order_in_which_things_end_changes_nothing(
        written in documents(Mood::Calm), script in scripts(Mood::Calm), orders: [u64; 3],
    ) {
        let first = World::new(&written, script, orders[0]).run();
        prop_assert!(first.execution.status().is_terminal(), "people answer");
        if !is_independent(&first) {
            return Ok(());
        }
        for order in &orders[1..] {
            let other = World::new(&written, script, *order).run();
            prop_assert_eq!(outcome(&other.execution), outcome(&first.execution));
        }
    }

    #[test]
    fn a_fork_comes_to_the_same(
        written in documents(Mood::Calm), script in scripts(Mood::Calm), order: u64, other: u64,
    ) {
        let lived = World::new(&written, script, order).run();
        if is_independent(&lived) {
            check_fork(&written, &lived, other);
        }
    }

    #[test]
    fn interruptions_and_pauses_change_no_outcome(
        written in documents(Mood::Calm), script in scripts(Mood::Calm), orders: [u64; 2],
        (crashes, pauses) in (50_u64..500, 0_u64..300),
    ) {
        let lived = World::new(&written, script, orders[0]).run();
        if !is_independent(&lived) {
            return Ok(());
        }
        let disturbances = Disturbances { crashes, pauses, ..Disturbances::default() };
        let other = World::new(&written, script, orders[1]).disturbed(disturbances).run();
        prop_assert_eq!(outcome(&other.execution), outcome(&lived.execution));
    }
}

/// Where no failure can change what happens, a fork comes to what it was forked from, and what is kept is not done
/// again.
fn check_fork(written: &Written, lived: &World, order: u64) {
    let mut dice = Dice::of(order, "fork");
    let steps = lived.execution.steps();
    let reached: Vec<StepPath> = steps
        .iter()
        .filter(|step| step.state.is_some())
        .map(|step| step.path.clone())
        .collect();
    let Some(from) = dice.choose(&reached) else {
        return;
    };
    let forked = World::forked(written, lived, from, order).run();
    assert_eq!(forked.execution.status(), lived.execution.status());
    assert_eq!(
        forked.execution.outputs(),
        lived.execution.outputs(),
        "{from}"
    );
    // What is inside a block that is kept as a whole is not entered.
    let known: BTreeSet<String> = outcome(&lived.execution).into_iter().skip(1).collect();
    for line in outcome(&forked.execution).into_iter().skip(1) {
        assert!(known.contains(&line), "from {from} it came to {line}");
    }
    let mut kept = BTreeSet::new();
    for event in &forked.journal {
        match &event.kind {
            EventKind::StepKept { path } => drop(kept.insert(path)),
            EventKind::StepStarted { path, .. } | EventKind::ApprovalRequested { path, .. } => {
                assert!(!kept.contains(path), "{path} was kept, and is done again");
            }
            _ => {}
        }
    }
    assert!(!kept.contains(from), "{from} is to be done again");
}

/// Replaying a part of the journal and living on from there leads to where living all of it did.
fn check_replay(world: &World, order: u64) {
    let journal = &world.journal;
    assert!(
        replayed(&world.execution, journal) == world.execution,
        "replay leads elsewhere"
    );
    let mut dice = Dice::of(order, "prefixes");
    let mut lived = replayed(&world.execution, &[]);
    let rare = 1 + u64::try_from(journal.len()).unwrap_or(u64::MAX) / 10;
    for (index, event) in journal.iter().enumerate() {
        assert_eq!(lived.apply(event), Ok(()));
        if dice.roll(rare) == 0 {
            let prefix = replayed(&world.execution, &journal[..=index]);
            assert!(prefix == lived, "replay of {index} events leads elsewhere");
        }
    }
}

/// After its end an execution takes no event but the end of a call.
fn check_closed(world: &World) {
    if !world.execution.status().is_terminal() {
        return;
    }
    assert!(
        world
            .execution
            .decide(world.execution.last_event_at())
            .is_empty()
    );
    for event in &world.journal {
        let is_late = matches!(
            event.kind,
            EventKind::CallEnded { .. } | EventKind::ExecutionRetried { .. }
        );
        if !is_late {
            assert!(world.execution.clone().apply(event).is_err(), "{event:?}");
        }
    }
}

/// Whether no failure could stop something that another order would have let happen.
fn is_independent(world: &World) -> bool {
    let mut workflows = BTreeSet::new();
    world.execution.status() == ExecutionStatus::Completed
        && world.journal.iter().all(|event| match &event.kind {
            EventKind::WorkflowStarted { path, .. } => {
                workflows.insert(path);
                true
            }
            EventKind::StepFailed { path, .. } => !workflows.contains(path),
            _ => true,
        })
}

/// All that can be seen of an execution but times and tries.
fn outcome(execution: &Execution) -> Vec<String> {
    let mut lines = vec![format!(
        "{:?} {:?} {:?} {:?}",
        execution.status(),
        execution.outputs(),
        execution.failure(),
        execution.progress()
    )];
    lines.extend(execution.steps().into_iter().map(|step| {
        let failure = step.state.and_then(|state| state.failure.as_ref());
        format!(
            "{} {} {:?} {:?} {failure:?}",
            step.path,
            step.id,
            step.status,
            step.output()
        )
    }));
    lines
}
