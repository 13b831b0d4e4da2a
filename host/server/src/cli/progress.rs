//! The progress of an execution on standard error: a tree of steps with spinners, or plain lines where it is no
//! terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use troupe_workflow::{Event, EventKind, Execution, StepPath, StepStatus, StepView};

use super::output;

/// Shows an execution while its events come.
pub(super) struct Progress {
    /// The same execution, followed event by event.
    execution: Execution,
    tree: Option<Tree>,
}

struct Tree {
    _bars: MultiProgress,
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

impl Tree {
    fn new(execution: &Execution) -> Self {
        let bars = MultiProgress::new();
        let depths: BTreeMap<&str, usize> = execution
            .definition()
            .outline()
            .iter()
            .map(|line| (line.id, line.depth))
            .collect();
        let steps = execution
            .steps()
            .iter()
            .map(|step| {
                let bar = bars.add(ProgressBar::no_length());
                bar.set_prefix("  ".repeat(depths.get(step.id).copied().unwrap_or(0) + 1));
                bar.set_style(style("{prefix}{msg}"));
                bar.set_message(step_line(step));
                (step.path.clone(), bar)
            })
            .collect();
        let summary = bars.add(ProgressBar::no_length());
        summary.set_style(style("  {msg}"));
        Self {
            _bars: bars,
            steps,
            summary,
        }
    }

    fn show(&mut self, execution: &Execution, event: &Event) {
        if let Some(path) = path_of(&event.kind)
            && let Some(bar) = self.steps.get(path)
            && let Some(step) = execution.steps().iter().find(|step| step.path == *path)
        {
            if step.status() == StepStatus::Running {
                bar.set_style(style("{prefix}{spinner} {msg}  {elapsed}"));
                if matches!(event.kind, EventKind::StepStarted { .. }) {
                    bar.reset_elapsed();
                }
                bar.enable_steady_tick(Duration::from_millis(100));
                bar.set_message(step_line(step).trim_start_matches("… ").to_owned());
            } else {
                bar.disable_steady_tick();
                bar.set_style(style("{prefix}{msg}"));
                bar.set_message(step_line(step));
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

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_fault| ProgressStyle::default_spinner())
}

fn path_of(kind: &EventKind) -> Option<&StepPath> {
    match kind {
        EventKind::StepStarted { path, .. }
        | EventKind::CallStarted { path, .. }
        | EventKind::CallEnded { path, .. }
        | EventKind::StepCompleted { path, .. }
        | EventKind::StepFailed { path, .. }
        | EventKind::StepInterrupted { path, .. }
        | EventKind::StepResumed { path }
        | EventKind::StepSkipped { path }
        | EventKind::StepCancelled { path } => Some(path),
        EventKind::ExecutionCreated { .. }
        | EventKind::ExecutionRecovered
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
    let steps = execution.steps();
    let Some(step) = steps.iter().find(|step| step.path == *path) else {
        return;
    };
    let mut line = format!("  {}", step_line(step));
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
    let mark = match step.status() {
        StepStatus::Pending => "○",
        StepStatus::Running => "…",
        StepStatus::Waiting => "↻",
        StepStatus::Completed => "✓",
        StepStatus::Failed => "✗",
        StepStatus::Skipped => "–",
        StepStatus::Cancelled => "⊘",
    };
    let mut parts = vec![match step.agent {
        Some(agent) if agent != step.id => format!("{mark} {} ({agent})", step.id),
        _ => format!("{mark} {}", step.id),
    }];
    if let Some(state) = step.state {
        match step.status() {
            StepStatus::Waiting if state.is_in_doubt() => {
                parts.push(format!("attempt {} was interrupted", state.attempts));
            }
            StepStatus::Waiting => {
                parts.push(format!("attempt {} failed, tried again", state.attempts));
            }
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
