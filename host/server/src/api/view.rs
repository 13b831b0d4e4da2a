//! What executions and workflows look like from outside.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_journal::ExecutionRow;
use troupe_workflow::{Definition, Execution};

use crate::components::{self, Components, Readiness, Which};
use crate::run::Planned;
use crate::workflows::StoredWorkflow;

/// An execution, whole.
pub(super) fn execution(row: &ExecutionRow, execution: &Execution) -> Value {
    let mut view = execution.to_json();
    let workflow = row.workflow.as_ref();
    view["workflow_id"] = json!(workflow.map(|workflow| &workflow.id));
    view["workflow_version"] = json!(workflow.map(|workflow| workflow.version));
    view["schedule"] = schedule_of(row);
    view
}

/// An execution, as lists have it: what its row says.
pub(super) fn row(row: &ExecutionRow) -> Value {
    let workflow = row.workflow.as_ref();
    let completed_at = row.status.is_terminal().then(|| row.updated_at.to_string());
    json!({
        "id": row.id.to_string(),
        "workflow_id": workflow.map(|workflow| &workflow.id),
        "workflow_version": workflow.map(|workflow| workflow.version),
        "workflow_name": row.workflow_name,
        "status": row.status.as_str(),
        "schedule": schedule_of(row),
        "created_at": row.created_at.to_string(),
        "completed_at": completed_at,
    })
}

/// The schedule that started an execution, and when it was planned.
fn schedule_of(row: &ExecutionRow) -> Value {
    Planned::read(&row.settings).map_or(
        Value::Null,
        |planned| json!({ "id": planned.schedule, "planned_at": planned.at.to_string() }),
    )
}

/// A stored workflow with the document of one of its versions, and how far its components are.
pub(super) fn workflow(
    stored: &StoredWorkflow,
    version: u32,
    definition: &Definition,
    components: &Arc<Components>,
) -> Value {
    let document = definition.document();
    let part = |name: &str| document.get(name).cloned().unwrap_or(Value::Null);
    let mut view = json!({
        "id": stored.id,
        "name": stored.name,
        "description": stored.description,
        "status": "active",
        "version": version,
        "created_at": stored.created_at.to_string(),
    });
    for name in ["agents", "steps", "config", "inputs", "outputs"] {
        view[name] = part(name);
    }
    view["inputs_inferred"] = json!(definition.inferred_inputs());
    let each = components::all(definition).into_iter();
    let components = each.map(|which| component(which, components.prepare(which)));
    view["components"] = components.collect();
    view
}

/// How far a component is.
fn component(which: Which, readiness: Readiness) -> Value {
    let (status, reason) = match readiness {
        Readiness::Ready => ("ready", None),
        Readiness::Compiling => ("compiling", None),
        Readiness::Refused(reason) => ("refused", Some(reason)),
    };
    json!({ "component": which.to_string(), "status": status, "reason": reason })
}

/// A stored workflow, as lists have it.
pub(super) fn workflow_row(stored: &StoredWorkflow) -> Value {
    json!({
        "id": stored.id,
        "name": stored.name,
        "description": stored.description,
        "status": "active",
        "version": stored.version(),
        "created_at": stored.created_at.to_string(),
    })
}

/// A page of a list.
pub(super) fn page(data: Vec<Value>, limit: u32) -> Value {
    let has_more = data.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    let mut data = data;
    data.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let cursor = data
        .last()
        .filter(|_| has_more)
        .map(|last| last["id"].clone());
    json!({ "data": data, "has_more": has_more, "next_cursor": cursor })
}
