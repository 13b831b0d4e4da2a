//! A session in a worker: one long call, which is given further programs.

use super::{Worker, fault, lock};
use crate::call::Call;
use crate::guest_memory::Share;
use crate::linked::Linked;
use crate::machine::kept::Then;
use crate::outcome::Report;
use crate::protocol::{CallNumber, Fault, FromWorker};

impl Worker {
    /// Keeps an interpreter and runs the programs that come, until one is stopped or the call is cancelled.
    pub(super) async fn session(
        &self,
        number: CallNumber,
        linked: &Linked,
        (call, share): (Call, Share),
    ) -> Result<Report, Fault> {
        let world = lock(&self.calls).get(&number).cloned();
        let programs = world.and_then(|world| world.take_programs());
        let mut programs =
            programs.ok_or_else(|| Fault::Engine("the session is over".to_owned()))?;
        let cancel = call.cancel.clone();
        let kept = self.machine.keep(linked, (call, share)).await;
        let mut kept = match kept.map_err(fault)? {
            Ok(kept) => kept,
            // What stopped it is the session's whole report.
            Err(report) => return Ok(report),
        };
        self.say(&FromWorker::Kept(number)).await;
        loop {
            let program = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                program = programs.recv() => program,
            };
            let Some(program) = program else {
                return Ok(Report::cancelled_early());
            };
            let ran = kept.execute(&self.machine, program).await;
            let (report, then) = ran.map_err(fault)?;
            let message = FromWorker::Reported {
                call: number,
                report: Box::new(report),
                then,
            };
            self.say(&message).await;
            if then == Then::IsOver {
                return Ok(Report::cancelled_early());
            }
        }
    }
}
