//! Runs documents on the pure core: scripted answers in, a trace of what was started and recorded out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{BudgetVerdict, Command, Execution, ExecutionStatus, StartStep};
use crate::definition::Definition;
use crate::duration::Timestamp;
use crate::event::{CallKind, CallOutcome, Event, EventKind, StepUsage, Usage};
use crate::failure::{Code, Failure};
use crate::ids::ExecutionId;
use crate::money::MicroUsd;

/// What an agent answers, one per attempt; the last is repeated.
type Script = BTreeMap<&'static str, Vec<Result<Value, Failure>>>;

/// An execution with its journal, driven by hand.
struct World {
    execution: Execution,
    journal: Vec<Event>,
    now: Timestamp,
    trace: String,
}

impl World {
    fn new(document: &Value, inputs: Value) -> Self {
        let definition =
            Arc::new(Definition::compile(document).unwrap_or_else(|faults| panic!("{faults}")));
        definition
            .check_inputs(&inputs)
            .unwrap_or_else(|faults| panic!("{faults}"));
        let id = ExecutionId::from_parts(1, 7);
        let mut world = Self {
            execution: Execution::replay(id, Arc::clone(&definition), &[]).unwrap(),
            journal: Vec::new(),
            now: Timestamp::from_millis(1_000),
            trace: String::new(),
        };
        world.record(EventKind::ExecutionCreated {
            workflow: definition.name().to_owned(),
            digest: definition.digest().clone(),
            inputs,
            forked_from: None,
            kept: Vec::new(),
        });
        world
    }

    /// Appends, applies, and checks that replaying the whole journal leads to the same state.
    fn record(&mut self, kind: EventKind) {
        let event = Event { at: self.now, kind };
        let stored = serde_json::to_string(&event).unwrap();
        assert_eq!(
            serde_json::from_str::<Event>(&stored).unwrap(),
            event,
            "{stored}"
        );
        self.journal.push(event.clone());
        self.execution.apply(&event).unwrap();
        let replayed = Execution::replay(
            self.execution.id,
            Arc::clone(&self.execution.definition),
            &self.journal,
        )
        .unwrap();
        assert!(replayed == self.execution, "replay leads elsewhere");
        let progress = self.execution.progress();
        assert!(progress.completed <= progress.total, "{progress:?}");
    }

    /// Runs to the end, or until nothing more can happen.
    fn run(&mut self, script: &Script) {
        for _ in 0..1_000 {
            let commands = self.execution.decide(self.now);
            assert_eq!(
                described(&commands),
                described(&self.execution.decide(self.now)),
                "asking changes nothing"
            );
            let mut has_acted = false;
            let mut wake = None;
            let mut started = Vec::new();
            for command in commands {
                match command {
                    Command::Record(kind) => {
                        self.note(&kind);
                        self.record(kind);
                        has_acted = true;
                        break;
                    }
                    Command::Start(start) => {
                        let _ = writeln!(
                            self.trace,
                            "{} start {} #{} {} {}",
                            self.now.as_millis() - 1_000,
                            start.path,
                            start.attempt,
                            start.agent,
                            start.input
                        );
                        self.record(start.event());
                        started.push(*start);
                    }
                    Command::Cancel { path } => {
                        let kind = EventKind::StepCancelled { path };
                        self.note(&kind);
                        self.record(kind);
                        has_acted = true;
                    }
                    Command::WakeAt(time) => wake = Some(time),
                }
            }
            for start in started {
                has_acted = true;
                if !self.execution.failing.is_empty() {
                    break;
                }
                self.answer(start, script);
            }
            match (has_acted, wake) {
                (true, _) => {}
                (false, Some(time)) => self.now = time,
                (false, None) => return,
            }
        }
        panic!("it does not end:\n{}", self.trace);
    }

    /// Ends a started step as the script says.
    fn answer(&mut self, start: StartStep, script: &Script) {
        let answers = &script[start.agent.as_str()];
        let position = usize::try_from(start.attempt).unwrap() - 1;
        let (path, attempt, usage) = (start.path, start.attempt, StepUsage::default());
        let kind = match answers.get(position).or(answers.last()).unwrap().clone() {
            Ok(output) => EventKind::StepCompleted {
                path,
                attempt,
                output,
                text: None,
                usage,
            },
            Err(failure) => EventKind::StepFailed {
                path,
                attempt,
                failure,
                usage,
            },
        };
        self.note(&kind);
        self.record(kind);
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the trace shows what these tests are about, and all else as it is"
    )]
    fn note(&mut self, kind: &EventKind) {
        let line = match kind {
            EventKind::StepCompleted { path, output, .. } => format!("{path} = {output}"),
            EventKind::StepFailed { path, failure, .. } => {
                format!("{path} failed: {}: {failure}", failure.code)
            }
            EventKind::StepSkipped { path } => format!("{path} skipped"),
            EventKind::StepCancelled { path } => format!("{path} cancelled"),
            EventKind::ExecutionCompleted { outputs } => format!("completed {outputs}"),
            EventKind::ExecutionFailed { failure, .. } => {
                format!("failed {}: {failure}", failure.code)
            }
            other => format!("{other:?}"),
        };
        let _ = writeln!(self.trace, "{line}");
    }
}

/// Commands as far as they can be compared.
fn described(commands: &[Command]) -> Vec<String> {
    commands
        .iter()
        .map(|command| match command {
            Command::Start(start) => format!("{:?} {}", start.event(), start.idempotency_key),
            Command::Record(kind) => format!("{kind:?}"),
            Command::Cancel { path } => format!("cancel {path}"),
            Command::WakeAt(time) => format!("wake at {time}"),
        })
        .collect()
}

fn llm(id: &str) -> Value {
    json!({ "id": id, "type": "llm", "model": "m" })
}

fn step(agent: &str, input: &str) -> Value {
    json!({ "agent": agent, "action": "do", "input": input })
}

fn document(agents: &[&str], steps: Value, config: Value) -> Value {
    let agents: Vec<Value> = agents.iter().map(|id| llm(id)).collect();
    json!({ "name": "test", "agents": agents, "steps": steps, "config": config })
}

fn failure(code: Code) -> Result<Value, Failure> {
    Err(Failure::new(code, "it broke"))
}

fn check(document: &Value, inputs: Value, script: Script, expected: Expect) {
    let mut world = World::new(document, inputs);
    world.run(&script);
    expected.assert_eq(&world.trace);
}

#[test]
fn steps_in_sequence_read_what_came_before() {
    check(
        &document(
            &["classifier", "processor"],
            json!([
                step("classifier", " {{ text }} "),
                step("processor", "It is {{ classifier.output }}: {{ text }}")
            ]),
            json!({}),
        ),
        json!({ "text": "hi" }),
        BTreeMap::from([
            ("classifier", vec![Ok(json!("a greeting"))]),
            ("processor", vec![Ok(json!({"n": 1}))]),
        ]),
        expect![[r#"
            0 start step_1 #1 classifier "hi"
            step_1 = "a greeting"
            0 start step_2 #1 processor "It is a greeting: hi"
            step_2 = {"n":1}
            completed {"classifier":"a greeting","processor":{"n":1}}
        "#]],
    );
}

#[test]
fn parallel_branches_start_together_and_are_joined() {
    check(
        &document(
            &["a", "b", "c", "d"],
            json!([
                { "parallel": [step("a", "1"), [step("b", "2"), step("c", "{{ b }}")]] },
                step("d", "{{ a }} {{ c }}"),
            ]),
            json!({}),
        ),
        json!({}),
        BTreeMap::from([
            ("a", vec![Ok(json!("A"))]),
            ("b", vec![Ok(json!("B"))]),
            ("c", vec![Ok(json!("C"))]),
            ("d", vec![Ok(json!("D"))]),
        ]),
        expect![[r#"
            0 start step_2 #1 a "1"
            0 start step_3 #1 b "2"
            step_2 = "A"
            step_3 = "B"
            0 start step_4 #1 c "B"
            step_4 = "C"
            0 start step_5 #1 d "A C"
            step_5 = "D"
            completed {"a":"A","b":"B","c":"C","d":"D"}
        "#]],
    );
}

#[test]
fn parallel_respects_its_concurrency_and_nests() {
    check(
        &document(
            &["a"],
            json!([{ "max_concurrency": 1, "parallel": [
                step("a", "1"),
                { "parallel": [step("a", "2"), step("a", "3")] },
                step("a", "4"),
            ] }]),
            json!({}),
        ),
        json!({}),
        BTreeMap::from([("a", vec![Ok(json!("A"))])]),
        expect![[r#"
            0 start step_2 #1 a "1"
            step_2 = "A"
            0 start step_4 #1 a "2"
            0 start step_5 #1 a "3"
            step_4 = "A"
            step_5 = "A"
            0 start step_6 #1 a "4"
            step_6 = "A"
            completed {"a":"A"}
        "#]],
    );
}

#[test]
fn a_failure_that_nothing_handles_cancels_the_others() {
    check(
        &document(
            &["a", "b"],
            json!([{ "parallel": [step("a", "1"), step("b", "2")] }, step("a", "3")]),
            json!({ "on_error": "stop" }),
        ),
        json!({}),
        BTreeMap::from([
            ("a", vec![failure(Code::Unavailable)]),
            ("b", vec![Ok(json!(1))]),
        ]),
        expect![[r#"
            0 start step_2 #1 a "1"
            0 start step_3 #1 b "2"
            step_2 failed: unavailable: it broke
            step_3 cancelled
            failed unavailable: it broke
        "#]],
    );
}

#[test]
fn retries_wait_twice_as_long_each_time_and_obey_retry_after() {
    let asked = Failure::new(Code::RateLimited, "slow down").retry_after_ms(Some(7_000));
    check(
        &document(
            &["a"],
            json!([step("a", "1")]),
            json!({ "max_retries": 3, "retry_delay_ms": 1000 }),
        ),
        json!({}),
        BTreeMap::from([(
            "a",
            vec![
                failure(Code::Unavailable),
                failure(Code::GuestTrap),
                Err(asked),
                Ok(json!("ok")),
            ],
        )]),
        expect![[r#"
            0 start step_1 #1 a "1"
            step_1 failed: unavailable: it broke
            992 start step_1 #2 a "1"
            step_1 failed: guest_trap: it broke
            2778 start step_1 #3 a "1"
            step_1 failed: rate_limited: slow down
            9778 start step_1 #4 a "1"
            step_1 = "ok"
            completed {"a":"ok"}
        "#]],
    );
}

#[test]
fn what_trying_again_cannot_help_is_not_tried_again() {
    for code in [
        Code::Denied,
        Code::OutputInvalid,
        Code::LimitFuel,
        Code::GuestFailed,
    ] {
        let mut world = World::new(
            &document(&["a"], json!([step("a", "1")]), json!({})),
            json!({}),
        );
        world.run(&BTreeMap::from([("a", vec![failure(code)])]));
        assert_eq!(world.execution.status(), ExecutionStatus::Failed);
        assert_eq!(
            world.execution.steps()[0].state.unwrap().attempts,
            1,
            "{code}"
        );
    }
}

#[test]
fn a_step_may_go_on_without_its_output() {
    check(
        &document(
            &["a", "b"],
            json!([
                { "id": "first", "agent": "a", "action": "do", "input": "1", "on_error": {"retry": 1, "fallback": "continue"} },
                { "agent": "b", "action": "do", "input": "{{ first.status }} {{ first | default('nothing') }} {{ first.error.code }}" },
            ]),
            json!({ "retry_delay_ms": 0 }),
        ),
        json!({}),
        BTreeMap::from([
            ("a", vec![failure(Code::GuestFailed)]),
            ("b", vec![Ok(json!(1))]),
        ]),
        expect![[r#"
            0 start first #1 a "1"
            first failed: guest_failed: it broke
            0 start first #2 a "1"
            first failed: guest_failed: it broke
            0 start step_2 #1 b "failed nothing guest_failed"
            step_2 = 1
            completed {"b":1}
        "#]],
    );
}

#[test]
fn a_fallback_takes_the_steps_place() {
    check(
        &document(
            &["api", "handler", "next"],
            json!([
                { "agent": "api", "action": "call", "input": "x", "on_error": { "retry": 0, "fallback": {
                    "agent": "handler", "action": "handle", "input": "Error: {{ error }} ({{ error.code }}, {{ error.attempts }})" } } },
                step("next", "{{ api }}"),
            ]),
            json!({}),
        ),
        json!({}),
        BTreeMap::from([
            ("api", vec![failure(Code::Denied)]),
            ("handler", vec![Ok(json!("handled"))]),
            ("next", vec![Ok(json!("done"))]),
        ]),
        expect![[r#"
            0 start step_1 #1 api "x"
            step_1 failed: denied: it broke
            0 start step_1 #2 handler "Error: it broke (denied, 1)"
            step_1 = "handled"
            0 start step_2 #1 next "handled"
            step_2 = "done"
            completed {"api":"handled","next":"done"}
        "#]],
    );
}

#[test]
fn a_guard_skips_and_fails_closed() {
    let guarded = |condition: &str| {
        document(
            &["a", "b"],
            json!([
                step("a", "1"),
                { "agent": "b", "action": "do", "input": "2", "condition": condition },
            ]),
            json!({}),
        )
    };
    let script = || {
        BTreeMap::from([
            ("a", vec![Ok(json!({"go": false, "word": "no"}))]),
            ("b", vec![Ok(json!(1))]),
        ])
    };
    check(
        &guarded("{{ a.go }}"),
        json!({}),
        script(),
        expect![[r#"
        0 start step_1 #1 a "1"
        step_1 = {"go":false,"word":"no"}
        step_2 skipped
        completed {"a":{"go":false,"word":"no"}}
    "#]],
    );
    check(
        &guarded("{{ a.word }}"),
        json!({}),
        script(),
        expect![[r#"
        0 start step_1 #1 a "1"
        step_1 = {"go":false,"word":"no"}
        step_2 failed: condition_type: `condition`: `a.word` is the text "no", a condition needs true or false; compare it, for example `a.word == …`
        failed condition_type: `condition`: `a.word` is the text "no", a condition needs true or false; compare it, for example `a.word == …`
    "#]],
    );
}

#[test]
fn a_missing_field_names_those_there_are() {
    check(
        &document(
            &["a", "b"],
            json!([step("a", "1"), step("b", "{{ a.queries }}")]),
            json!({}),
        ),
        json!({}),
        BTreeMap::from([("a", vec![Ok(json!({"query": 1}))])]),
        expect![[r#"
            0 start step_1 #1 a "1"
            step_1 = {"query":1}
            step_2 failed: template_failed: `input`: `a` has no field `queries`; it has `query`
            failed template_failed: `input`: `a` has no field `queries`; it has `query`
        "#]],
    );
}

#[test]
fn set_steps_and_outputs_are_made_of_templates() {
    let mut document = document(
        &["a"],
        json!([step("a", "1"), { "id": "made", "set": { "all": ["{{ a }}", "{{ n + 1 }}"] } }]),
        json!({}),
    );
    document["outputs"] = json!({ "answer": "{{ made.all[1] }}", "text": "n is {{ n }}" });
    check(
        &document,
        json!({ "n": 41 }),
        BTreeMap::from([("a", vec![Ok(json!(true))])]),
        expect![[r#"
            0 start step_1 #1 a "1"
            step_1 = true
            made = {"all":[true,42]}
            completed {"answer":42,"text":"n is 41"}
        "#]],
    );
}

#[test]
fn an_execution_has_a_deadline() {
    check(
        &document(
            &["a"],
            json!([step("a", "1")]),
            json!({ "timeout_ms": 1500, "max_retries": 9 }),
        ),
        json!({}),
        BTreeMap::from([("a", vec![failure(Code::Unavailable)])]),
        expect![[r#"
            0 start step_1 #1 a "1"
            step_1 failed: unavailable: it broke
            992 start step_1 #2 a "1"
            step_1 failed: unavailable: it broke
            TimeLimitReached
            failed timed_out: the execution took longer than its 1500 ms; raise `config.timeout_ms`
        "#]],
    );
}

#[test]
fn an_interrupted_step_starts_again_with_the_answers_it_got() {
    let document = document(&["a"], json!([step("a", "1")]), json!({ "budget_usd": 1 }));
    let mut world = World::new(&document, json!({}));
    let Some(Command::Start(start)) = world.execution.decide(world.now).into_iter().next() else {
        panic!("a step starts");
    };
    world.record(start.event());
    let call_started = |call: u32, attempt: u32| EventKind::CallStarted {
        path: start.path.clone(),
        attempt,
        call,
        kind: CallKind::Model,
        target: "m".to_owned(),
        request: format!("hash {call}"),
        reserved: MicroUsd::new(300_000),
        reserved_tokens: 0,
        position: None,
    };
    let call_ended = |call: u32, attempt: u32| EventKind::CallEnded {
        path: start.path.clone(),
        attempt,
        call,
        outcome: CallOutcome::Answered(json!(call)),
        usage: Usage {
            input_tokens: 10,
            cached_input_tokens: 0,
            output_tokens: 1,
        },
        cost: MicroUsd::new(100_000),
    };
    world.record(call_started(0, 1));
    world.record(call_ended(0, 1));
    world.record(call_started(1, 1));
    world.record(EventKind::StepInterrupted {
        path: start.path.clone(),
        attempt: 1,
    });
    let Some(Command::Start(again)) = world.execution.decide(world.now).into_iter().next() else {
        panic!("it starts again");
    };
    assert_eq!(
        (again.attempt, again.idempotency_key.as_str()),
        (2, start.idempotency_key.as_str())
    );
    assert_eq!(again.recorded.len(), 2);
    assert_eq!(
        again.recorded[0].outcome,
        Some(CallOutcome::Answered(json!(0)))
    );
    assert_eq!(again.recorded[1].outcome, None);
    // The call whose end nobody knows stays charged at its worst case.
    world.record(again.event());
    world.record(call_started(1, 2));
    world.record(call_ended(1, 2));
    assert_eq!(world.execution.cost(), MicroUsd::new(500_000));
    let verdict = |micro_usd: u64| {
        let asked = MicroUsd::new(micro_usd);
        world.execution.check_reserve(&start.path, asked, 0)
    };
    assert_eq!(
        world.execution.money_left(&start.path),
        Some(MicroUsd::new(500_000))
    );
    assert_eq!(verdict(500_000), BudgetVerdict::Allowed);
    assert!(matches!(verdict(500_001), BudgetVerdict::Refused(_)));
}

#[test]
fn a_step_that_may_not_be_repeated_pauses_the_execution() {
    let mut document = document(&["a"], json!([step("a", "1")]), json!({}));
    document["agents"][0]["idempotent"] = json!(false);
    let mut world = World::new(&document, json!({}));
    let Some(Command::Start(start)) = world.execution.decide(world.now).into_iter().next() else {
        panic!("a step starts");
    };
    world.record(start.event());
    world.record(EventKind::StepInterrupted {
        path: start.path.clone(),
        attempt: 1,
    });
    assert_eq!(world.execution.status(), ExecutionStatus::Paused);
    assert!(
        world
            .execution
            .decide(Timestamp::from_millis(i64::MAX))
            .is_empty()
    );
    assert_eq!(
        world.execution.in_doubt(),
        std::slice::from_ref(&start.path)
    );
    // The time since then was nobody's work: it does not count.
    world.now = Timestamp::from_millis(86_400_000);
    world.record(EventKind::ExecutionRecovered);
    world.record(EventKind::StepResumed { path: start.path });
    world.run(&BTreeMap::from([("a", vec![Ok(json!("done"))])]));
    assert_eq!(world.execution.status(), ExecutionStatus::Completed);
}

#[test]
fn events_that_do_not_fit_are_refused() {
    let document = document(&["a"], json!([step("a", "1")]), json!({}));
    let mut world = World::new(&document, json!({}));
    let refused = |kind: EventKind| {
        let mut execution = world.execution.clone();
        execution
            .apply(&Event {
                at: world.now,
                kind,
            })
            .unwrap_err()
            .to_string()
    };
    let path = crate::ids::StepPath::new("step_1");
    let nowhere = crate::ids::StepPath::new("nowhere");
    let started = |path: &crate::ids::StepPath, attempt| EventKind::StepStarted {
        path: path.clone(),
        attempt,
        agent: "a".to_owned(),
        input: Value::Null,
        fuel: None,
    };
    let refusals = [
        refused(started(&nowhere, 1)),
        refused(started(&path, 2)),
        refused(EventKind::StepCancelled { path: path.clone() }),
        refused(EventKind::ExecutionCompleted {
            outputs: Value::Null,
        }),
        refused(EventKind::StepInterrupted { path, attempt: 3 }),
    ];
    expect![[r#"
        event 2 does not fit: there is no step `nowhere` that was reached
        event 2 does not fit: attempt 2 of `step_1` follows attempt 0
        event 2 does not fit: the step `step_1` does not run
        event 2 does not fit: there are steps that have not ended
        event 2 does not fit: attempt 3 of `step_1` does not run"#]]
    .assert_eq(&refusals.join("\n"));
    world.run(&BTreeMap::from([("a", vec![Ok(json!(1))])]));
    assert!(
        world
            .execution
            .apply(&Event {
                at: world.now,
                kind: started(&nowhere, 1)
            })
            .is_err()
    );
}

#[test]
fn answers_outlive_a_services_failure_but_not_a_guests() {
    for (code, kept) in [(Code::RateLimited, 1), (Code::GuestTrap, 0)] {
        let document = document(
            &["a"],
            json!([step("a", "1")]),
            json!({ "retry_delay_ms": 0 }),
        );
        let mut world = World::new(&document, json!({}));
        let Some(Command::Start(start)) = world.execution.decide(world.now).into_iter().next()
        else {
            panic!("a step starts");
        };
        let path = start.path.clone();
        world.record(start.event());
        for call in 0..2 {
            world.record(EventKind::CallStarted {
                path: path.clone(),
                attempt: 1,
                call,
                kind: CallKind::Model,
                target: "m".to_owned(),
                request: format!("hash {call}"),
                reserved: MicroUsd::ZERO,
                reserved_tokens: 0,
                position: None,
            });
        }
        world.record(EventKind::CallEnded {
            path: path.clone(),
            attempt: 1,
            call: 0,
            outcome: CallOutcome::Answered(json!("an answer")),
            usage: Usage::default(),
            cost: MicroUsd::ZERO,
        });
        let failure = Failure::new(code, "it broke");
        let usage = StepUsage::default();
        world.record(EventKind::StepFailed {
            path,
            attempt: 1,
            failure,
            usage,
        });
        let Some(Command::Start(again)) = world.execution.decide(world.now).into_iter().next()
        else {
            panic!("it starts again");
        };
        assert_eq!(again.recorded.len(), kept, "{code}");
    }
}

#[test]
fn a_fallback_has_its_own_key_and_its_own_say_about_repetition() {
    let mut document = document(
        &["api", "pay"],
        json!([{ "agent": "api", "action": "call", "input": "x", "on_error": {
            "retry": 0, "fallback": { "agent": "pay", "action": "pay", "input": "y" } } }]),
        json!({}),
    );
    document["agents"][1]["idempotent"] = json!(false);
    let mut world = World::new(&document, json!({}));
    let mut keys = Vec::new();
    for _ in 0..2 {
        let Some(Command::Start(start)) = world.execution.decide(world.now).into_iter().next()
        else {
            panic!("a step starts");
        };
        world.record(start.event());
        keys.push(start.idempotency_key.clone());
        let (path, attempt) = (start.path.clone(), start.attempt);
        let usage = StepUsage::default();
        let failure = Failure::new(Code::Denied, "no");
        world.record(if attempt == 1 {
            EventKind::StepFailed {
                path,
                attempt,
                failure,
                usage,
            }
        } else {
            EventKind::StepInterrupted { path, attempt }
        });
    }
    assert!(keys[1].ends_with("/fallback") && keys[0] != keys[1]);
    assert_eq!(world.execution.status(), ExecutionStatus::Paused);
}

#[test]
fn a_step_that_waits_for_its_retry_ends_with_the_execution() {
    let mut world = World::new(
        &document(
            &["a", "b"],
            json!([{ "parallel": [step("a", "1"), step("b", "2")] }]),
            json!({}),
        ),
        json!({}),
    );
    world.run(&BTreeMap::from([
        ("a", vec![failure(Code::Unavailable)]),
        ("b", vec![failure(Code::Denied)]),
    ]));
    let statuses: Vec<_> = world
        .execution
        .steps()
        .iter()
        .map(|step| step.status)
        .collect();
    assert_eq!(
        statuses,
        [crate::StepStatus::Cancelled, crate::StepStatus::Failed]
    );
}

mod outside;
mod question;
mod share;
