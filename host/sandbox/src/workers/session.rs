//! A session in a worker of its own: who breaks another worker costs no session its state, and a session that breaks its
//! worker costs nobody else anything.

use std::sync::Arc;
use std::time::SystemTime;

use super::call::{self, answer, checked, silence_max};
use super::guard::Guard;
use super::process::{Begun, Said, Worker};
use super::{Workers, folders, lock};
use crate::call::{Call, Program};
use crate::cancel::CancelFlag;
use crate::component::Component;
use crate::error::SandboxError;
use crate::guest_memory::HeldShare;
use crate::limits::Limits;
use crate::machine::guarded;
use crate::machine::kept::Then;
use crate::outcome::{Outcome, Report};
use crate::protocol::{Task, ToWorker};

/// A session's end of the conversation with its worker. Dropping it ends the worker.
pub(crate) struct Apart {
    worker: Arc<Worker>,
    begun: Begun,
    guard: Guard,
    limits: Limits,
    cancel: CancelFlag,
}

/// What a worker says of a session when it has nothing more to ask.
enum Told {
    Kept,
    Reported(Report, Then),
    Ended(Report),
}

impl Workers {
    /// Has a worker of its own keep an interpreter; or says what stopped it while it was made.
    ///
    /// # Errors
    /// The host failed, or the worker ended.
    pub(crate) async fn keep(
        &self,
        component: &Component,
        (call, share): (Call, HeldShare),
    ) -> Result<Result<Apart, Report>, SandboxError> {
        let (limits, cancel) = (call.limits, call.cancel.clone());
        let mut orders = self.orders(&folders(&call));
        orders.calls_max = 1;
        let worker = Worker::start(&self.program, orders, &self.suspects).await?;
        self.remember(&worker);
        let (begun, guard) = call::begin(&worker, component, Task::Session, (call, share))?;
        let mut apart = Apart {
            worker,
            begun,
            guard,
            limits,
            cancel,
        };
        match apart.listen().await? {
            Told::Kept => {
                lock(&self.suspects).remove(component.digest());
                Ok(Ok(apart))
            }
            Told::Ended(report) => {
                apart.worker.end();
                Ok(Err(report))
            }
            Told::Reported(..) => Err(apart.lied("it told of a program that it was not given")),
        }
    }
}

impl Apart {
    /// Runs the next program.
    ///
    /// # Errors
    /// The host failed, or the worker ended.
    pub(crate) async fn execute(
        &mut self,
        (program, started_at): (Program, SystemTime),
    ) -> Result<(Report, Then), SandboxError> {
        self.guard.next_program();
        self.worker.say(&ToWorker::Program {
            call: self.begun.number,
            program: Box::new(program),
            started_at,
        })?;
        match self.listen().await? {
            Told::Reported(report, then) => {
                // What a broken worker says of its guest's state is not believed where its report says otherwise.
                let then = match report.outcome {
                    Outcome::Trapped(_) | Outcome::Exited(_) | Outcome::Cancelled => Then::IsOver,
                    _ => then,
                };
                Ok((report, then))
            }
            Told::Ended(report) => Ok((report, Then::IsOver)),
            Told::Kept => Err(self.lied("it said twice that the session has begun")),
        }
    }

    /// Waits until the worker ends while no program runs.
    pub(crate) async fn ended(&mut self) -> SandboxError {
        match self.begun.next().await {
            None => self.worker.interrupted(),
            Some(_) => self.lied("it spoke of a session in which nothing ran"),
        }
    }

    /// Ends the session, and waits until its memory is given back.
    pub(crate) async fn close(self) {
        let Apart {
            worker,
            begun,
            limits,
            ..
        } = self;
        if !worker.is_over() {
            // However it ended, it is over.
            let _ = call::cancelled(begun, &limits).await;
        }
        worker.end();
    }

    /// Answers what the guest asks until the worker tells something else.
    async fn listen(&mut self) -> Result<Told, SandboxError> {
        let silence_max = silence_max(&self.worker, &self.limits);
        loop {
            let said = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Ok(Told::Ended(Report::cancelled_early())),
                said = tokio::time::timeout(silence_max, self.begun.next()) => said,
            };
            match said {
                Err(_elapsed) => return Err(self.lied("it kept a guest beyond its time limit")),
                Ok(None) => return Err(self.worker.interrupted()),
                Ok(Some(Said::Kept)) => return Ok(Told::Kept),
                Ok(Some(Said::Reported(report, then))) => {
                    return Ok(Told::Reported(checked(*report, &self.limits), then));
                }
                Ok(Some(Said::Ended(end))) => {
                    let report = (*end).map_err(call::error)?;
                    return Ok(Told::Ended(checked(report, &self.limits)));
                }
                Ok(Some(Said::Asked(ask))) => tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => {
                        return Ok(Told::Ended(Report::cancelled_early()));
                    }
                    answered = guarded(self.guard.answer(*ask)) => {
                        answer(&self.begun, &self.guard, answered?)?;
                    }
                    said = self.begun.next() => {
                        return Err(match said {
                            Some(_) => self.lied("it went on before it was answered"),
                            None => self.worker.interrupted(),
                        });
                    }
                },
            }
        }
    }

    /// Ends the worker for what it did.
    fn lied(&self, lie: &str) -> SandboxError {
        self.worker.end_for(lie.to_owned());
        self.worker.interrupted()
    }
}
