//! Memory of components: what is changed is written in the transaction that records the answer.

use troupe_journal::AppendError;
use troupe_workflow::{CallOutcome, Timestamp};

use super::message::StartCall;
use super::{CONFLICTS_MAX, DriveError, Driver};
use crate::memory::{Operation, Prepared};

/// What came of an operation, and when that was recorded.
pub(super) type Remembered = (CallOutcome, Option<Timestamp>);

impl Driver {
    /// Does an operation and records it; none: the attempt has ended. Where another execution changes the same memory
    /// meanwhile nothing is written, and it is all done again on what is there then.
    pub(super) async fn remember(
        &mut self,
        call: &StartCall,
        operation: &Operation,
    ) -> Result<Option<Remembered>, DriveError> {
        let mut tries = 0;
        loop {
            if !self.execution.runs(&call.path, call.attempt) {
                return Ok(None);
            }
            let prepared = if tries < CONFLICTS_MAX {
                operation.prepare(&*self.works.journal).await?
            } else {
                Prepared::overtaken()
            };
            let (number, kinds) = self.noted(call, &prepared.outcome);
            match self.advance_with(kinds, prepared.records).await {
                Ok(()) => {
                    let at = self.execution.call_ended_at(&call.path, number);
                    return Ok(Some((prepared.outcome, at)));
                }
                Err(DriveError::Journal(AppendError::Record { .. })) => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }
}
