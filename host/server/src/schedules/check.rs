//! Whether a schedule's workflow can be started with what it gives.

use std::sync::Arc;

use troupe_journal::{Journal, WorkflowVersion};
use troupe_workflow::{Definition, Fault, Faults, Schedule};

use crate::operations::OperationError;
use crate::{records, workflows};

/// Checks that the schedule's workflow is there and can be started with its inputs and overrides.
///
/// # Errors
/// All faults, with their places in the schedule.
pub(crate) async fn check(
    journal: &dyn Journal,
    schedule: &Schedule,
) -> Result<(), OperationError> {
    let at_workflow = |message: String| {
        let mut faults = Faults::default();
        faults.add("/workflow_id", message);
        OperationError::Faults(faults)
    };
    let (definition, _) = match newest(journal, schedule).await {
        Ok(found) => found,
        Err(error @ OperationError::NotFound { .. }) => return Err(at_workflow(error.to_string())),
        // Its own faults have their places in its document.
        Err(OperationError::Faults(faults)) => {
            let message = format!("the workflow cannot be run by this version:\n{faults}");
            return Err(at_workflow(message));
        }
        Err(error) => return Err(error),
    };
    with_given(definition, schedule).map(|_| ())
}

/// What the schedule starts now.
pub(super) async fn runnable(
    journal: &dyn Journal,
    schedule: &Schedule,
) -> Result<(Arc<Definition>, WorkflowVersion), OperationError> {
    let (definition, version) = newest(journal, schedule).await?;
    Ok((with_given(definition, schedule)?, version))
}

async fn newest(
    journal: &dyn Journal,
    schedule: &Schedule,
) -> Result<(Arc<Definition>, WorkflowVersion), OperationError> {
    let workflow = records::find(journal, &schedule.workflow_id).await?;
    workflows::definition(journal, &workflow, None).await
}

/// The definition with the schedule's overrides, if its inputs fit.
pub(crate) fn with_given(
    definition: Arc<Definition>,
    schedule: &Schedule,
) -> Result<Arc<Definition>, OperationError> {
    let definition = workflows::with_config(definition, schedule.config.as_ref())?;
    let inputs = schedule.inputs.clone().into();
    definition.check_inputs(&inputs).map_err(|found| {
        let mut faults = Faults::default();
        for fault in found.iter() {
            faults.push(Fault {
                pointer: format!("/inputs{}", fault.pointer),
                ..fault.clone()
            });
        }
        OperationError::Faults(faults)
    })?;
    Ok(definition)
}
