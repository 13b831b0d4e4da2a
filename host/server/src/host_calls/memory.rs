//! Memory of a guest: each request is recorded with its answer, and a change is written with that record.

use troupe_sandbox::{Error, MemoryAnswer, MemoryRequest};
use troupe_workflow::CallKind;

use super::{GuestHost, error_of};
use crate::memory::{Operation, Recorded};

impl GuestHost {
    pub(super) async fn remember_at(&self, request: MemoryRequest) -> Result<MemoryAnswer, Error> {
        let place = self.place(CallKind::Memory, &request).await;
        let outcome = match place.last() {
            Some(recorded) => Ok(recorded),
            None => {
                let operation = Operation {
                    owner: self.memory.clone(),
                    request,
                };
                self.gateway.remember(&place, operation).await
            }
        };
        outcome
            .and_then(|outcome| self.gateway.replayed::<Recorded>(outcome))
            .map(Into::into)
            .map_err(|failure| error_of("memory", &failure))
    }
}
