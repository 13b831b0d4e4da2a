//! An execution as programs read it.

use serde_json::{Value, json};

use super::super::{End, Execution, Pause, StepStatus};
use super::{StepView, WaitingApproval};
use crate::duration::Timestamp;
use crate::money::MicroUsd;

impl Execution {
    /// The execution as programs read it; times are RFC 3339 in UTC.
    pub fn to_json(&self) -> Value {
        let progress = self.progress();
        let error = match &self.end {
            Some(End::Failed(failure, step)) => json!({
                "code": failure.code.as_str(),
                "message": failure.message,
                "step": step,
            }),
            Some(End::Completed(_) | End::Cancelled) | None => Value::Null,
        };
        let completed_at = self.end.is_some().then(|| self.last_event_at.to_string());
        let waiting: Vec<Value> = self.waiting_approvals().iter().map(approval_json).collect();
        let warnings: Vec<String> = self
            .passed()
            .map(|budget| format!("`{}` was passed", budget.field()))
            .collect();
        json!({
            "id": self.id.to_string(),
            "workflow_name": self.definition.name(),
            "workflow_digest": self.definition.digest().as_str(),
            "status": self.status().as_str(),
            "current_step": self.current_step(),
            "progress": { "completed": progress.completed, "total": progress.total },
            "inputs": self.inputs(),
            "outputs": self.outputs(),
            "steps": self.steps().iter().map(step_json).collect::<Vec<_>>(),
            "cost": { "usd": dollars(self.cost()) },
            "usage": self.tokens(),
            "waiting_for": waiting.first(),
            "waiting": waiting,
            "paused": self.paused().map(pause_json),
            "forked_from": self.forked_from(),
            "error": error,
            "warnings": warnings,
            "created_at": self.created_at.to_string(),
            "completed_at": completed_at,
            "duration_ms": millis(self.created_at, self.last_event_at),
        })
    }
}

fn pause_json(pause: &Pause) -> Value {
    json!({ "by": pause.by, "reason": pause.reason, "since": pause.since.to_string() })
}

/// What a person is asked: the text, or the value, that the step's input is.
fn approval_json(waiting: &WaitingApproval<'_>) -> Value {
    let approval = waiting.approval;
    json!({
        "type": "human_approval",
        "step": waiting.path,
        "agent": approval.agent,
        "assignees": approval.assignees,
        "message": approval.message(),
        "context": approval.context(),
        "form": waiting.form,
        "deadline": approval.deadline.map(|deadline| deadline.to_string()),
        "approvals": approval.answers.len(),
        "approvals_required": waiting.required,
    })
}

fn step_json(step: &StepView<'_>) -> Value {
    let mut view = json!({
        "id": step.id,
        "path": step.path,
        "agent": step.agent,
        "status": step.status.as_str(),
        "output": step.output(),
        "error": null,
        "attempts": 0,
    });
    let Some(state) = step.state else {
        return view;
    };
    if let Some(failure) = &state.failure
        && step.status != StepStatus::Completed
    {
        view["error"] = json!({ "code": failure.code.as_str(), "message": failure.message });
    }
    view["attempts"] = json!(state.attempts);
    view["kept"] = json!(state.is_kept);
    view["cost"] = json!({ "usd": dollars(state.cost) });
    view["usage"] = json!({
        "input_tokens": state.tokens.input_tokens,
        "cached_input_tokens": state.tokens.cached_input_tokens,
        "output_tokens": state.tokens.output_tokens,
        "fuel": state.usage.fuel,
        "memory_bytes": state.usage.memory_bytes,
        "guest_ms": state.usage.guest_ms,
        "output_bytes": state.usage.output_bytes,
        "printed_bytes": state.usage.printed_bytes,
        "log_bytes": state.usage.log_bytes,
        "log_lines_dropped": state.usage.log_lines_dropped,
        "host_calls": state.usage.host_calls,
        "host_bytes": state.usage.host_bytes,
        "disk_bytes": state.usage.disk_bytes,
        "open_files": state.usage.open_files,
        "instances": state.usage.instances,
    });
    view["started_at"] = json!(state.started_at.map(|at| at.to_string()));
    view["duration_ms"] = json!(
        state
            .started_at
            .zip(state.ended_at)
            .map(|(start, end)| millis(start, end))
    );
    view
}

fn millis(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from(end.since(start).as_millis()).unwrap_or(u64::MAX)
}

/// An amount for JSON readers, who expect dollars.
#[expect(
    clippy::cast_precision_loss,
    reason = "shown, never added: micro-dollars below 2^53 are exact"
)]
fn dollars(amount: MicroUsd) -> f64 {
    amount.as_micro_usd() as f64 / 1e6
}
