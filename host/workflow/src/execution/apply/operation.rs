//! What people do with a whole execution.

use super::super::{Execution, Pause};
use crate::duration::Timestamp;
use crate::event::EventKind;

impl Execution {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`apply_kind` has thought of every event, and sends only these here"
    )]
    pub(super) fn apply_operation(
        &mut self,
        kind: &EventKind,
        at: Timestamp,
    ) -> Result<(), String> {
        match kind {
            EventKind::PauseRequested { by, reason } => {
                if self.pause.is_some() {
                    return Err("it is paused already".to_owned());
                }
                self.pause = Some(Pause {
                    by: by.clone(),
                    reason: reason.clone(),
                    since: at,
                });
                Ok(())
            }
            EventKind::PauseEnded { .. } => match self.pause.take() {
                Some(_) => Ok(()),
                None => Err("nobody has paused it".to_owned()),
            },
            _ => Err("this is nothing that people do with an execution".to_owned()),
        }
    }
}
