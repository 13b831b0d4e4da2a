//! Components that ask people: the step waits, goes on with the answer, and belongs to one run all the time.

use serde_json::{Value, json};

use super::super::{AnswerError, Command, ExecutionStatus, StartStep};
use super::{World, document};
use crate::duration::Timestamp;
use crate::event::{Answer, CallKind, CallOutcome, EventKind, Question, StepUsage, Usage};
use crate::failure::{Code, Failure};
use crate::ids::StepPath;
use crate::money::MicroUsd;

fn world() -> World {
    let mut document = document(&[], json!([]), json!({ "timeout_ms": 5_000 }));
    document["agents"] = json!([{
        "id": "a", "type": "code", "language": "python", "code": "result = 1",
        "on_error": { "retry": 1, "delay_ms": 0 },
    }]);
    document["steps"] = json!([{ "id": "s", "agent": "a", "action": "x", "input": 1 }]);
    World::new(&document, json!({}))
}

fn path() -> StepPath {
    StepPath::new("s")
}

/// Starts what is to be started, as the driver does.
fn start(world: &mut World) -> StartStep {
    let commands = world.execution.decide(world.now);
    let found = commands.into_iter().find_map(|command| match command {
        Command::Start(start) => Some(*start),
        Command::Record(_) | Command::Cancel { .. } | Command::WakeAt(_) => None,
    });
    let mut start = found.expect("a step starts");
    world.record(start.event());
    start.series = world.execution.series(&start.path);
    start
}

fn asked(attempt: u32, call: u32, deadline: Option<Timestamp>) -> EventKind {
    EventKind::QuestionAsked {
        path: path(),
        attempt,
        call,
        position: call,
        request: format!("hash {call}"),
        question: Box::new(Question {
            assignees: vec!["ann".to_owned()],
            message: "May I?".to_owned(),
            context: None,
            form: Some(json!({ "type": "object", "required": ["words"] })),
            deadline,
        }),
        usage: StepUsage {
            fuel: 5,
            ..StepUsage::default()
        },
    }
}

fn answer(by: &str, data: Option<Value>) -> Answer {
    Answer {
        by: by.to_owned(),
        approved: true,
        notes: None,
        data,
    }
}

#[test]
fn an_answer_is_the_outcome_of_the_call() {
    let mut world = world();
    let began = start(&mut world).series.expect("it has begun");
    assert_eq!((began.attempt, began.began_at), (1, world.now));
    world.now = world.now.plus(std::time::Duration::from_secs(1));
    world.record(asked(1, 0, None));
    assert_eq!(world.execution.status(), ExecutionStatus::WaitingApproval);
    assert!(world.execution.waits_for_people());
    let [waiting] = world.execution.waiting_approvals().try_into().expect("one");
    assert_eq!(waiting.approval.input, json!("May I?"));
    assert_eq!((waiting.required, waiting.form.is_some()), (1, true));
    // A week counts for no time limit.
    world.now = world
        .now
        .plus(std::time::Duration::from_secs(7 * 24 * 3600));
    let refused = world.execution.answer(None, answer("ann", None), world.now);
    assert!(
        matches!(refused, Err(AnswerError::Invalid { .. })),
        "{refused:?}"
    );
    let data = Some(json!({ "words": 3 }));
    let given = world.execution.answer(None, answer("ann", data), world.now);
    world.record(given.expect("it fits the form"));
    assert_eq!(world.execution.status(), ExecutionStatus::Running);
    let again = start(&mut world);
    assert_eq!((again.attempt, again.series), (2, Some(began)));
    let [call] = again.recorded.try_into().expect("one call");
    assert_eq!((call.kind, call.position), (CallKind::Human, Some(0)));
    assert_eq!(call.ended_at, Some(world.now));
    let Some(CallOutcome::Answered(value)) = call.outcome else {
        panic!("{:?}", call.outcome);
    };
    assert_eq!(
        (&value["approved"], &value["data"]["words"]),
        (&json!(true), &json!(3))
    );
    let nobody = world.execution.answer(None, answer("bob", None), world.now);
    assert!(matches!(nobody, Err(AnswerError::NobodyAsked { .. })));
    // Asked again, and interrupted after the answer: still the same run.
    world.record(asked(2, 1, None));
    let given = world.execution.answer(
        Some("s"),
        answer("ann", Some(json!({ "words": 1 }))),
        world.now,
    );
    world.record(given.expect("a second question may be answered by the same person"));
    start(&mut world);
    world.record(EventKind::StepInterrupted {
        path: path(),
        attempt: 3,
    });
    let last = start(&mut world);
    assert_eq!(
        (last.attempt, last.series, last.recorded.len()),
        (4, Some(began), 2)
    );
    world.record(EventKind::StepFailed {
        path: path(),
        attempt: 4,
        failure: Failure::new(Code::TimedOut, "slow"),
        usage: StepUsage::default(),
    });
    // A try after a failure is another run, which knows nothing of this one.
    let anew = start(&mut world);
    assert_eq!(anew.series.map(|series| series.attempt), Some(5));
    assert!(anew.recorded.is_empty());
}

#[test]
fn a_deadline_is_an_answer_too() {
    let mut world = world();
    start(&mut world);
    let deadline = world.now.plus(std::time::Duration::from_secs(60));
    world.record(asked(1, 0, Some(deadline)));
    let wakes = world.execution.decide(world.now);
    assert!(
        matches!(wakes.as_slice(), [Command::WakeAt(at)] if *at == deadline),
        "{wakes:?}"
    );
    world.now = deadline;
    let late = world
        .execution
        .answer(None, answer("ann", Some(json!({ "words": 3 }))), world.now);
    assert!(matches!(late, Err(AnswerError::TooLate { .. })), "{late:?}");
    let commands = world.execution.decide(world.now);
    let [Command::Record(kind)] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    world.record(kind.clone());
    let again = start(&mut world);
    let Some(CallOutcome::Answered(value)) = &again.recorded[0].outcome else {
        panic!("it is answered");
    };
    assert_eq!(
        (&value["approved"], &value["timed_out"]),
        (&json!(false), &json!(true))
    );
}

#[test]
fn who_waits_for_an_answer_can_be_cancelled() {
    let mut world = world();
    start(&mut world);
    world.record(asked(1, 0, None));
    world.record(EventKind::CancelRequested);
    for command in world.execution.decide(world.now) {
        if let Command::Record(kind) = command {
            world.record(kind);
        }
    }
    assert_eq!(world.execution.status(), ExecutionStatus::Cancelled);
    assert!(world.execution.waiting_approvals().is_empty());
}

#[test]
fn a_question_stands_at_its_place_among_the_calls() {
    let mut world = world();
    start(&mut world);
    world.record(EventKind::CallStarted {
        path: path(),
        attempt: 1,
        call: 0,
        kind: CallKind::Budget,
        target: String::new(),
        request: "left".to_owned(),
        reserved: MicroUsd::ZERO,
        reserved_tokens: 0,
        position: Some(0),
    });
    world.record(EventKind::CallEnded {
        path: path(),
        attempt: 1,
        call: 0,
        outcome: CallOutcome::Answered(json!(7)),
        usage: Usage::default(),
        cost: MicroUsd::ZERO,
    });
    let mut copy = world.execution.clone();
    let event = |kind| crate::event::Event {
        at: world.now,
        kind,
    };
    assert!(copy.apply(&event(asked(1, 5, None))).is_err());
    let mut copy = world.execution.clone();
    assert!(copy.apply(&event(asked(2, 1, None))).is_err());
    world.record(asked(1, 1, None));
    let progress = world.execution.to_json();
    assert_eq!(progress["waiting_for"]["message"], "May I?");
    assert_eq!(progress["steps"][0]["usage"]["fuel"], 5);
}
