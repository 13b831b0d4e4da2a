//! An interpreter that is kept: programs run in it one after the other, each with limits and a record of its own, until
//! one is stopped. Memory, files and what the programs left are the instance's.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use wasmtime::Store;
use wasmtime::component::TypedFunc;

use super::{Machine, ending, function, guarded, guest, instances, report, settle};
use crate::bindings::interpreter::exports::troupe::agent::interpreter::{
    Exception, Program as GuestProgram,
};
use crate::call::{Call, Program};
use crate::cancel::CancelFlag;
use crate::error::SandboxError;
use crate::guest_memory::Share;
use crate::limits::{Limit, Limits};
use crate::linked::Linked;
use crate::outcome::{Outcome, Report};
use crate::running_time::RunningTime;
use crate::state::State;
use crate::wasi::Start;

/// The interface that keeps state.
pub(crate) const INTERFACE: &str = "troupe:agent/session@0.1.0";

type Execute = TypedFunc<(GuestProgram,), (Result<String, Exception>,)>;

/// An instance that is kept.
pub(crate) struct Kept {
    store: Store<State>,
    execute: Execute,
    /// Those that it is made of.
    instances: u32,
    limits: Limits,
    cancel: CancelFlag,
    seed: [u8; 32],
    /// Programs so far.
    count: u64,
}

/// Whether another program can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Then {
    /// The guest came back by itself.
    GoesOn,
    /// It was stopped somewhere in the middle: nobody knows what state it is in.
    IsOver,
}

impl Machine {
    /// Makes an instance that is kept; or says what stopped it while it was made.
    ///
    /// # Errors
    /// The host failed, or the component keeps no state.
    pub(crate) async fn keep(
        &self,
        linked: &Linked,
        (call, share): (Call, Share),
    ) -> Result<Result<Kept, Report>, SandboxError> {
        let (limits, cancel, seed) = (call.limits, call.cancel.clone(), call.seed);
        let _ticking = self.ticker.tick_during_call();
        let mut store = self.store((call, share), Start::default())?;
        let time = Arc::clone(&store.data().time);
        let ended = cancel.unless(guarded(time.measure(make(linked, &mut store))));
        let ended = ended.await.transpose()?;
        let stopped = match ended {
            Some(Ok(execute)) => {
                let instances = instances::of_live(&mut store, linked).await;
                return Ok(Ok(Kept {
                    store,
                    execute,
                    instances,
                    limits,
                    cancel,
                    seed,
                    count: 0,
                }));
            }
            Some(Err(failed)) => Some(Err(failed)),
            None => None,
        };
        let fuel_left = settle(&mut store).map_err(SandboxError::Engine)?;
        let instances = instances::made(&mut store, linked, None).await;
        report(&mut store, stopped, (&limits, fuel_left, instances)).map(Err)
    }
}

async fn make(linked: &Linked, store: &mut Store<State>) -> Result<Execute, ending::Failed> {
    let instance = linked.instance.instantiate_async(&mut *store).await;
    let instance = instance.map_err(ending::Failed::Instantiate)?;
    let execute = function::find(&instance, store, (Some(INTERFACE), "execute"));
    let execute = execute.and_then(|execute| execute.typed(&*store).ok());
    execute.ok_or_else(|| {
        let error =
            wasmtime::format_err!("`{INTERFACE}` has no function `execute` as it should be");
        ending::Failed::Instantiate(error)
    })
}

impl Kept {
    /// Runs the next program. Dropping the future leaves an instance that is good for nothing.
    ///
    /// # Errors
    /// The host failed; the instance is good for nothing then.
    pub(crate) async fn execute(
        &mut self,
        machine: &Machine,
        (program, started_at): (Program, SystemTime),
    ) -> Result<(Report, Then), SandboxError> {
        let _ticking = machine.ticker.tick_during_call();
        self.begin(started_at).map_err(SandboxError::Engine)?;
        let purpose = format!("interpreter {}", self.count);
        self.count = self.count.saturating_add(1);
        let program = guest::guest_program(program, (&self.seed, &purpose));
        let time = Arc::clone(&self.store.data().time);
        let running = self.execute.call_async(&mut self.store, (program,));
        let ended = self.cancel.unless(guarded(time.measure(running)));
        let ended = ended.await.transpose()?;
        let ended = ended.map(|ended| match ended {
            Ok((result,)) => Ok(result.map_err(Outcome::Raised)),
            Err(error) => Err(ending::Failed::Run(error)),
        });
        let came_back = matches!(&ended, Some(Ok(_)));
        let fuel_left = settle(&mut self.store).map_err(SandboxError::Engine)?;
        let instances = self.instances;
        let report = report(&mut self.store, ended, (&self.limits, fuel_left, instances))?;
        let is_spent = report.outcome == Outcome::LimitHit(Limit::Fuel);
        let then = match came_back && !is_spent {
            true => Then::GoesOn,
            false => Then::IsOver,
        };
        Ok((report, then))
    }

    /// Gives the next program what each has for itself.
    fn begin(&mut self, started_at: SystemTime) -> wasmtime::Result<()> {
        self.store.set_fuel(self.limits.fuel)?;
        let limits = self.limits;
        let state = self.store.data_mut();
        state.time = Arc::new(RunningTime::new());
        state.clock.go_on_to_time(started_at);
        state.begin_program(&limits);
        Ok(())
    }
}
