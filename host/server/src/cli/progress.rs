//! The progress of an execution on standard error: a tree of steps with spinners, or plain lines where it is no
//! terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use troupe_workflow::{
    Event, EventKind, Execution, StepPath, StepState, StepStatus, StepView, WaitsFor,
};

use super::output;

/// Shows an execution while its events come.
pub(super) struct Progress {
    /// The same execution, followed event by event.
    execution: Execution,
    tree: Option<Tree>,
}

struct Tree {
    bars: MultiProgress,
    steps: BTreeMap<StepPath, ProgressBar>,
    summary: ProgressBar,
}

impl Progress {
    pub(super) fn new(execution: &Execution) -> Self {
        let execution = execution.clone();
        output::note(&format!(
            "{}  {}",
            execution.id(),
            execution.definition().name()
        ));
        let tree = std::io::stderr()
            .is_terminal()
            .then(|| Tree::new(&execution));
        Self { execution, tree }
    }

    /// Follows one event.
    pub(super) fn show(&mut self, event: &Event) {
        // What the driver applied, this applies; should it ever not fit, the execution is not to be blamed.
        let _ = self.execution.apply(event);
        match &mut self.tree {
            Some(tree) => tree.show(&self.execution, event),
            None => show_line(&self.execution, event),
        }
    }

    /// Leaves the last state on the screen.
    pub(super) fn finish(&mut self) {
        match &self.tree {
            Some(tree) => tree.finish(&self.execution),
            None => output::note(&summary(&self.execution)),
        }
    }
}

/// Lines of steps on a screen: more than this scroll by unread.
const LINES_MAX: usize = 200;

impl Tree {
    fn new(execution: &Execution) -> Self {
        let bars = MultiProgress::new();
        let summary = bars.add(ProgressBar::no_length());
        summary.set_style(style("  {msg}"));
        let mut tree = Self {
            bars,
            steps: BTreeMap::new(),
            summary,
        };
        tree.add_lines(execution);
        tree
    }

    /// Adds lines for steps that became known, each after the step before it.
    fn add_lines(&mut self, execution: &Execution) {
        let mut before: Option<ProgressBar> = None;
        for step in execution.steps() {
            if self.steps.len() >= LINES_MAX {
                return;
            }
            let bar = match self.steps.get(&step.path) {
                Some(bar) => bar.clone(),
                None => {
                    let bar = ProgressBar::no_length();
                    let bar = match &before {
                        Some(before) => self.bars.insert_after(before, bar),
                        None => self.bars.insert(0, bar),
                    };
                    bar.set_prefix("  ".repeat(step.depth + 1));
                    bar.set_style(style("{prefix}{msg}"));
                    bar.set_message(step_line(&step));
                    self.steps.insert(step.path.clone(), bar.clone());
                    bar
                }
            };
            before = Some(bar);
        }
    }

    fn show(&mut self, execution: &Execution, event: &Event) {
        if opens_steps(&event.kind) && self.steps.len() < LINES_MAX {
            self.add_lines(execution);
        }
        if let Some(path) = path_of(&event.kind)
            && let Some(bar) = self.steps.get(path)
            && let Some(step) = execution.step_at(path)
        {
            if step.status == StepStatus::Running {
                bar.set_style(style("{prefix}{spinner} {msg}  {elapsed}"));
                if matches!(event.kind, EventKind::StepStarted { .. }) {
                    bar.reset_elapsed();
                }
                bar.enable_steady_tick(Duration::from_millis(100));
                bar.set_message(step_line(&step).trim_start_matches("… ").to_owned());
            } else {
                bar.disable_steady_tick();
                bar.set_style(style("{prefix}{msg}"));
                bar.set_message(step_line(&step));
            }
        }
        self.summary.set_message(summary(execution));
    }

    fn finish(&self, execution: &Execution) {
        for step in execution.steps() {
            if let Some(bar) = self.steps.get(&step.path) {
                bar.set_style(style("{prefix}{msg}"));
                bar.abandon_with_message(step_line(&step));
            }
        }
        self.summary.abandon_with_message(summary(execution));
    }
}

/// Whether steps become known with an event.
fn opens_steps(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::LoopStarted { .. }
            | EventKind::LoopDecided { .. }
            | EventKind::WorkflowStarted { .. }
            | EventKind::StepCompleted { .. }
            | EventKind::StepFailed { .. }
            | EventKind::StepSkipped { .. }
            | EventKind::StepKept { .. }
    )
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_fault| ProgressStyle::default_spinner())
}

/// The step that an event is about.
fn path_of(kind: &EventKind) -> Option<&StepPath> {
    match kind {
        EventKind::StepStarted { path, .. }
        | EventKind::CallStarted { path, .. }
        | EventKind::CallEnded { path, .. }
        | EventKind::StepCompleted { path, .. }
        | EventKind::StepFailed { path, .. }
        | EventKind::StepInterrupted { path, .. }
        | EventKind::StepPaused { path, .. }
        | EventKind::StepResumed { path }
        | EventKind::StepSkipped { path }
        | EventKind::StepKept { path }
        | EventKind::StepCancelled { path }
        | EventKind::ParallelStarted { path }
        | EventKind::BranchTaken { path, .. }
        | EventKind::LoopStarted { path, .. }
        | EventKind::LoopDecided { path, .. }
        | EventKind::WorkflowStarted { path, .. }
        | EventKind::WaitStarted { path, .. }
        | EventKind::ApprovalRequested { path, .. }
        | EventKind::QuestionAsked { path, .. }
        | EventKind::ApprovalGiven { path, .. }
        | EventKind::ApprovalEscalated { path, .. } => Some(path),
        EventKind::ExecutionCreated { .. }
        | EventKind::ExecutionRecovered
        | EventKind::BudgetRaised { .. }
        | EventKind::CancelRequested
        | EventKind::PauseRequested { .. }
        | EventKind::ExecutionRetried { .. }
        | EventKind::PauseEnded { .. }
        | EventKind::TimeLimitReached
        | EventKind::ExecutionCancelled
        | EventKind::ExecutionCompleted { .. }
        | EventKind::ExecutionFailed { .. } => None,
    }
}

/// One plain line for what a reader of a log wants to know.
fn show_line(execution: &Execution, event: &Event) {
    let Some(path) = path_of(&event.kind) else {
        return;
    };
    if matches!(
        event.kind,
        EventKind::CallStarted { .. } | EventKind::CallEnded { .. }
    ) {
        return;
    }
    let Some(step) = execution.step_at(path) else {
        return;
    };
    let mut line = format!("  {}", step_line(&step));
    match &event.kind {
        EventKind::StepFailed { failure, .. } => {
            let first = failure.message.lines().next().unwrap_or_default();
            line.push_str(&format!("  {}: {first}", failure.code));
        }
        EventKind::StepInterrupted { .. } => line.push_str("  interrupted"),
        _ => {}
    }
    output::note(&line);
}

/// A step with its state, time, tokens and cost: `✓ plan (planner)  1.2 s  312 → 45 tokens  $0.000168`.
pub(super) fn step_line(step: &StepView<'_>) -> String {
    let mark = match step.status {
        StepStatus::Pending => "○",
        StepStatus::Running => "…",
        StepStatus::Waiting => "↻",
        StepStatus::Completed => "✓",
        StepStatus::Failed => "✗",
        StepStatus::Skipped => "–",
        StepStatus::Cancelled => "⊘",
    };
    let mut parts = vec![match step.agent {
        Some(agent) if agent != step.path.as_str() => format!("{mark} {} ({agent})", step.path),
        _ => format!("{mark} {}", step.path),
    }];
    if let Some(state) = step.state {
        match step.status {
            StepStatus::Waiting => parts.push(waiting(state)),
            StepStatus::Running if state.attempts > 1 => {
                parts.push(format!("attempt {}", state.attempts));
            }
            _ => {}
        }
        if let (Some(start), Some(end)) = (state.started_at, state.ended_at) {
            parts.push(seconds(end.since(start)));
        }
        let tokens = state.tokens;
        if tokens.input_tokens + tokens.output_tokens > 0 {
            parts.push(format!(
                "{} → {} tokens",
                tokens.input_tokens, tokens.output_tokens
            ));
            parts.push(state.cost.to_string());
        }
        if state.usage.fuel > 0 {
            parts.push(format!("{} fuel", grouped(state.usage.fuel)));
            parts.push(format!(
                "{} MiB",
                state.usage.memory_bytes.div_ceil(1 << 20)
            ));
        }
    }
    parts.join("  ")
}

/// What a step waits for.
fn waiting(state: &StepState) -> String {
    match state.waits_for {
        Some(WaitsFor::Doubt) => format!("attempt {} was interrupted", state.attempts),
        Some(WaitsFor::Approval) => "waits for an answer".to_owned(),
        Some(WaitsFor::Timer) => "waits".to_owned(),
        Some(WaitsFor::Budget) => "waits for a higher budget".to_owned(),
        Some(WaitsFor::Retry) | None => {
            format!("attempt {} failed, tried again", state.attempts)
        }
    }
}

fn summary(execution: &Execution) -> String {
    let progress = execution.progress();
    let tokens = execution.tokens();
    format!(
        "{}/{} steps  {}  {} → {} tokens  {}",
        progress.completed,
        progress.total,
        seconds(execution.last_event_at().since(execution.created_at())),
        tokens.input_tokens,
        tokens.output_tokens,
        execution.cost(),
    )
}

fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// `1234567` as `1.2 M`.
fn grouped(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{} k", count / 1_000),
        _ => format!("{}.{} M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}
