//! One event of every kind, without and with the fields that may be missing, as they are meant.

use serde_json::json;
use troupe_workflow::{
    Answer, CallKind, CallOutcome, Code, Event, EventKind, ExecutionId, Failure, ForkedFrom, Kept,
    MicroUsd, Question, Side, StepPath, StepUsage, Timestamp, Usage, WorkflowDigest,
};

/// The word of a kind as it is stored. A new kind does not compile until it has one here, and an event in [`events`].
#[must_use]
pub fn word(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::ExecutionCreated { .. } => "execution_created",
        EventKind::StepStarted { .. } => "step_started",
        EventKind::CallStarted { .. } => "call_started",
        EventKind::CallEnded { .. } => "call_ended",
        EventKind::StepCompleted { .. } => "step_completed",
        EventKind::StepKept { .. } => "step_kept",
        EventKind::StepFailed { .. } => "step_failed",
        EventKind::StepInterrupted { .. } => "step_interrupted",
        EventKind::StepSkipped { .. } => "step_skipped",
        EventKind::StepCancelled { .. } => "step_cancelled",
        EventKind::ParallelStarted { .. } => "parallel_started",
        EventKind::BranchTaken { .. } => "branch_taken",
        EventKind::LoopStarted { .. } => "loop_started",
        EventKind::LoopDecided { .. } => "loop_decided",
        EventKind::WorkflowStarted { .. } => "workflow_started",
        EventKind::WaitStarted { .. } => "wait_started",
        EventKind::ApprovalRequested { .. } => "approval_requested",
        EventKind::QuestionAsked { .. } => "question_asked",
        EventKind::ApprovalGiven { .. } => "approval_given",
        EventKind::ApprovalEscalated { .. } => "approval_escalated",
        EventKind::StepPaused { .. } => "step_paused",
        EventKind::BudgetRaised { .. } => "budget_raised",
        EventKind::TimeLimitReached => "time_limit_reached",
        EventKind::CancelRequested => "cancel_requested",
        EventKind::ExecutionCancelled => "execution_cancelled",
        EventKind::PauseRequested { .. } => "pause_requested",
        EventKind::PauseEnded { .. } => "pause_ended",
        EventKind::ExecutionRecovered => "execution_recovered",
        EventKind::StepResumed { .. } => "step_resumed",
        EventKind::ExecutionRetried { .. } => "execution_retried",
        EventKind::ExecutionCompleted { .. } => "execution_completed",
        EventKind::ExecutionFailed { .. } => "execution_failed",
    }
}

/// How many kinds there are: as many as [`word`] has.
pub const KINDS: usize = 32;

/// The events, in an order of their own. What is added goes to the end.
#[must_use]
pub fn events() -> Vec<Event> {
    let mut kinds = of_steps();
    kinds.extend(of_calls());
    kinds.extend(of_blocks());
    kinds.extend(of_people());
    kinds.extend(of_executions());
    // What came later stands at the end: the lines before it keep their times.
    kinds.push(called(CallKind::Tool, "toolbox.add"));
    kinds.push(used_everything());
    kinds.push(called(CallKind::Http, "POST https://api.example.com"));
    kinds.push(wrote());
    kinds.push(called(CallKind::Denied, "files"));
    kinds.push(called(CallKind::Memory, "set seen"));
    kinds.push(made_instances());
    kinds.push(opened_files());
    kinds.push(wrote_much());
    let events = (1_764_000_000_000_i64..)
        .zip(kinds)
        .map(|(millis, kind)| Event {
            at: Timestamp::from_millis(millis),
            kind,
        });
    events.collect()
}

fn path() -> StepPath {
    StepPath::new("each[0].sub.plan")
}

fn digest() -> WorkflowDigest {
    WorkflowDigest::of(b"{\"name\":\"golden\"}")
}

fn failure() -> Failure {
    Failure::new(Code::Unavailable, "the service is down")
}

fn usage() -> StepUsage {
    StepUsage {
        fuel: 12_345,
        memory_bytes: 65_536,
        guest_ms: 7,
        ..StepUsage::default()
    }
}

fn execution() -> ExecutionId {
    ExecutionId::from_parts(1_764_000_000_000, 7)
}

fn at() -> Timestamp {
    Timestamp::from_millis(1_764_000_009_000)
}

fn of_steps() -> Vec<EventKind> {
    let (path, attempt) = (path(), 2);
    let started = |fuel| EventKind::StepStarted {
        path: path.clone(),
        attempt,
        agent: "planner".to_owned(),
        input: json!({ "n": 1.5, "text": "ü\u{0}\"" }),
        fuel,
    };
    let completed = |text: Option<&str>, usage| EventKind::StepCompleted {
        path: path.clone(),
        attempt,
        output: json!(["a", null, true]),
        text: text.map(str::to_owned),
        usage,
    };
    let paused = |usage, raises| EventKind::StepPaused {
        path: path.clone(),
        attempt,
        reason: failure(),
        usage,
        raises,
    };
    vec![
        started(None),
        started(Some(1_000_000)),
        completed(None, StepUsage::default()),
        completed(Some("said"), usage()),
        EventKind::StepKept { path: path.clone() },
        EventKind::StepFailed {
            path: path.clone(),
            attempt,
            failure: failure(),
            usage: usage(),
        },
        EventKind::StepInterrupted {
            path: path.clone(),
            attempt,
        },
        EventKind::StepSkipped { path: path.clone() },
        EventKind::StepCancelled { path: path.clone() },
        EventKind::StepResumed { path: path.clone() },
        paused(None, 0),
        paused(Some(usage()), 3),
    ]
}

fn used_everything() -> EventKind {
    EventKind::StepCompleted {
        path: path(),
        attempt: 2,
        output: json!(null),
        text: None,
        usage: StepUsage {
            output_bytes: 11,
            log_bytes: 5,
            host_calls: 2,
            host_bytes: 300,
            ..usage()
        },
    }
}

fn wrote() -> EventKind {
    EventKind::StepFailed {
        path: path(),
        attempt: 2,
        failure: failure(),
        usage: StepUsage {
            disk_bytes: 9,
            ..usage()
        },
    }
}

fn made_instances() -> EventKind {
    EventKind::StepCompleted {
        path: path(),
        attempt: 2,
        output: json!(null),
        text: None,
        usage: StepUsage {
            instances: 30,
            ..usage()
        },
    }
}

fn opened_files() -> EventKind {
    EventKind::StepCompleted {
        path: path(),
        attempt: 2,
        output: json!(null),
        text: None,
        usage: StepUsage {
            open_files: 3,
            ..usage()
        },
    }
}

fn wrote_much() -> EventKind {
    EventKind::StepCompleted {
        path: path(),
        attempt: 2,
        output: json!(null),
        text: None,
        usage: StepUsage {
            printed_bytes: 2_000_000,
            log_lines_dropped: 4,
            ..usage()
        },
    }
}

fn called(kind: CallKind, target: &str) -> EventKind {
    EventKind::CallStarted {
        path: path(),
        attempt: 1,
        call: 5,
        kind,
        target: target.to_owned(),
        request: "00ff".repeat(16),
        reserved: MicroUsd::new(0),
        reserved_tokens: 0,
        position: Some(0),
    }
}

fn of_calls() -> Vec<EventKind> {
    let started = |kind, reserved_tokens, position| EventKind::CallStarted {
        path: path(),
        attempt: 1,
        call: 4,
        kind,
        target: "gpt-5-mini".to_owned(),
        request: "00ff".repeat(16),
        reserved: MicroUsd::new(1_250_000),
        reserved_tokens,
        position,
    };
    let ended = |outcome, usage| EventKind::CallEnded {
        path: path(),
        attempt: 1,
        call: 4,
        outcome,
        usage,
        cost: MicroUsd::new(42),
    };
    let used = Usage {
        input_tokens: 100,
        cached_input_tokens: 20,
        output_tokens: 29,
    };
    let mut all: Vec<_> = [
        CallKind::Model,
        CallKind::Search,
        CallKind::Human,
        CallKind::Budget,
    ]
    .map(|kind| started(kind, 0, None))
    .into();
    all.push(started(CallKind::Model, 4_096, Some(3)));
    all.push(ended(CallOutcome::Answered(json!({ "text": "yes" })), used));
    all.push(ended(CallOutcome::Failed(failure()), Usage::default()));
    all
}

fn of_blocks() -> Vec<EventKind> {
    vec![
        EventKind::ParallelStarted { path: path() },
        EventKind::BranchTaken {
            path: path(),
            taken: Side::Then,
        },
        EventKind::BranchTaken {
            path: path(),
            taken: Side::Else,
        },
        EventKind::LoopStarted {
            path: path(),
            items: None,
        },
        EventKind::LoopStarted {
            path: path(),
            items: Some(vec![json!(1), json!("two")]),
        },
        EventKind::LoopDecided {
            path: path(),
            again: true,
        },
        EventKind::WorkflowStarted {
            path: path(),
            inputs: json!({ "topic": "bees" }),
        },
        EventKind::WaitStarted {
            path: path(),
            until: at(),
        },
    ]
}

fn of_people() -> Vec<EventKind> {
    let requested = |deadline| EventKind::ApprovalRequested {
        path: path(),
        attempt: 1,
        agent: "boss".to_owned(),
        input: json!("Publish?"),
        assignees: vec!["ann@example.com".to_owned()],
        deadline,
    };
    let asked = |question, usage| EventKind::QuestionAsked {
        path: path(),
        attempt: 1,
        call: 0,
        position: 2,
        request: "ab".repeat(32),
        question: Box::new(question),
        usage,
    };
    let plain = Question {
        assignees: vec!["ann@example.com".to_owned()],
        message: "Is it right?".to_owned(),
        context: None,
        form: None,
        deadline: None,
    };
    let full = Question {
        context: Some(json!({ "draft": 3 })),
        form: Some(json!({ "type": "object" })),
        deadline: Some(at()),
        ..plain.clone()
    };
    let given = |notes: Option<&str>, data| EventKind::ApprovalGiven {
        path: path(),
        answer: Answer {
            by: "ann".to_owned(),
            approved: true,
            notes: notes.map(str::to_owned),
            data,
        },
    };
    let escalated = |deadline| EventKind::ApprovalEscalated {
        path: path(),
        assignees: vec!["chief@example.com".to_owned()],
        deadline,
    };
    vec![
        requested(None),
        requested(Some(at())),
        asked(plain, StepUsage::default()),
        asked(full, usage()),
        given(None, None),
        given(Some("a quotation"), Some(json!({ "channel": "mail" }))),
        escalated(None),
        escalated(Some(at())),
    ]
}

fn of_executions() -> Vec<EventKind> {
    let created = |forked_from, kept| EventKind::ExecutionCreated {
        workflow: "golden".to_owned(),
        digest: digest(),
        inputs: json!({ "z": 1, "a": 2 }),
        forked_from,
        kept,
    };
    let from = ForkedFrom {
        execution: execution(),
        step: StepPath::new("plan"),
    };
    let kept = Kept {
        path: path(),
        agent: Some("planner".to_owned()),
        output: json!("kept"),
        text: Some("kept".to_owned()),
        attempts: 2,
        started_at: Some(at()),
        ended_at: Some(at()),
    };
    let kept_of_timer = Kept {
        agent: None,
        text: None,
        started_at: None,
        ended_at: None,
        ..kept.clone()
    };
    let raised = |usd, tokens, fuel| EventKind::BudgetRaised { usd, tokens, fuel };
    let by = || Some("ann".to_owned());
    let failed = |step| EventKind::ExecutionFailed {
        failure: failure(),
        step,
    };
    vec![
        created(None, Vec::new()),
        created(Some(from), vec![kept, kept_of_timer]),
        raised(None, None, None),
        raised(Some(MicroUsd::new(5)), Some(6), Some(7)),
        EventKind::TimeLimitReached,
        EventKind::CancelRequested,
        EventKind::ExecutionCancelled,
        EventKind::PauseRequested {
            by: None,
            reason: None,
        },
        EventKind::PauseRequested {
            by: by(),
            reason: Some("lunch".to_owned()),
        },
        EventKind::PauseEnded { by: None },
        EventKind::PauseEnded { by: by() },
        EventKind::ExecutionRecovered,
        EventKind::ExecutionRetried { by: None },
        EventKind::ExecutionRetried { by: by() },
        EventKind::ExecutionCompleted {
            outputs: json!({ "report": "…" }),
        },
        failed(None),
        failed(Some(path())),
    ]
}
