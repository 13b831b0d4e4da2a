//! The calls of the host that a guest made, one by one, for whoever looks for a fault in it: which function, when, for how
//! long, how many bytes, how much fuel, and how it ended. What was said is not in it, so that no secret and nobody's
//! text can be.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentNamedList, Lift, LinkerInstance, Lower};
use wasmtime::{AsContextMut as _, StoreContextMut};

use crate::budget;
use crate::host_calls::Error;
use crate::http_exchange::{HttpFault, HttpResponse};
use crate::state::State;

pub use self::words::{CallEnd, HostFunction};

mod words;

/// The calls of the host that a guest made, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The first ones, at most [`crate::Limits::traced_calls_max`].
    pub calls: Vec<TracedCall>,
    /// How many came after those.
    pub left_out: u64,
}

/// A call of the host. Requests that were made at once are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedCall {
    /// What was called.
    pub function: HostFunction,
    /// Requests in it: more than one where several were made at once.
    pub requests: u32,
    /// When it began, after the guest had.
    pub began: Duration,
    /// How long the guest waited for its end.
    pub took: Duration,
    /// Bytes that the guest handed over, as limits and fuel count them.
    pub asked_bytes: u64,
    /// Bytes of the answer.
    pub answered_bytes: u64,
    /// Fuel that the guest had used until then.
    pub fuel_before: u64,
    /// Fuel that the call itself cost, that of tools included.
    pub fuel: u64,
    /// How it ended; the first failure where several requests ended.
    pub end: CallEnd,
    /// Requests that failed.
    pub failed: u32,
    /// Requests that were answered with what is on record of an earlier run, and not made again.
    pub recorded: u32,
    /// The status of the response, where it was one HTTP request.
    pub status: Option<u16>,
}

/// Notes the calls of the host while a guest runs.
pub(crate) struct Tracer {
    trace: Trace,
    calls_max: usize,
    /// The one that is under way: a guest makes one at a time.
    open: Option<TracedCall>,
    /// Fuel that was used when the guest turned to the host.
    fuel_used: u64,
    /// Answers that had come from the record by then.
    recorded: u64,
}

impl Tracer {
    /// Notes so many calls, and counts the others; with none it notes nothing.
    pub(crate) fn new(calls_max: u32) -> Self {
        Tracer {
            trace: Trace::default(),
            calls_max: usize::try_from(calls_max).unwrap_or(usize::MAX),
            open: None,
            fuel_used: 0,
            recorded: 0,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.calls_max > 0
    }

    /// Takes what the guest has used when it turns to the host.
    pub(crate) fn note_fuel(&mut self, used: u64) {
        self.fuel_used = used;
    }

    /// Counts what the guest hands over.
    pub(crate) fn count_asked(&mut self, bytes: u64) {
        if let Some(open) = &mut self.open {
            open.asked_bytes = open.asked_bytes.saturating_add(bytes);
        }
    }

    /// Counts what it is answered.
    pub(crate) fn count_answered(&mut self, bytes: u64) {
        if let Some(open) = &mut self.open {
            open.answered_bytes = open.answered_bytes.saturating_add(bytes);
        }
    }
}

/// How the requests of a call ended.
pub(crate) struct Ended {
    pub(crate) requests: u32,
    pub(crate) failed: u32,
    pub(crate) end: CallEnd,
    pub(crate) status: Option<u16>,
}

impl Ended {
    fn of_all<T, E>(results: &[Result<T, E>], end: impl Fn(&E) -> CallEnd) -> Self {
        let failures = || results.iter().filter_map(|result| result.as_ref().err());
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ended {
            requests: count(results.len()),
            failed: count(failures().count()),
            end: failures().next().map_or(CallEnd::Ok, end),
            status: None,
        }
    }

    /// Of HTTP requests.
    pub(crate) fn of_http(answers: &[Result<HttpResponse, HttpFault>]) -> Self {
        let status = match answers {
            [Ok(response)] => Some(response.status),
            _ => None,
        };
        Ended {
            status,
            ..Ended::of_all(answers, |fault| CallEnd::Http(fault.kind))
        }
    }
}

/// What a function returns, as far as its end can be seen in it.
pub(crate) trait Returned {
    fn ended(&self) -> Ended;
}

/// Of functions that cannot fail.
fn well() -> Ended {
    Ended {
        requests: 1,
        failed: 0,
        end: CallEnd::Ok,
        status: None,
    }
}

impl Returned for () {
    fn ended(&self) -> Ended {
        well()
    }
}

impl Returned for (String,) {
    fn ended(&self) -> Ended {
        well()
    }
}

impl Returned for (Vec<String>,) {
    fn ended(&self) -> Ended {
        well()
    }
}

impl Returned for (budget::Remaining,) {
    fn ended(&self) -> Ended {
        well()
    }
}

impl<T> Returned for (Result<T, Error>,) {
    fn ended(&self) -> Ended {
        Ended::of_all(std::slice::from_ref(&self.0), CallEnd::of)
    }
}

impl<T> Returned for (Vec<Result<T, Error>>,) {
    fn ended(&self) -> Ended {
        Ended::of_all(&self.0, CallEnd::of)
    }
}

impl State {
    /// A call of the host begins.
    pub(crate) fn trace_begins(&mut self, function: HostFunction) {
        if !self.tracer.is_on() {
            return;
        }
        if self.tracer.trace.calls.len() >= self.tracer.calls_max {
            self.tracer.trace.left_out += 1;
            return;
        }
        self.tracer.open = Some(TracedCall {
            function,
            requests: 1,
            began: self.time.since_start(),
            took: Duration::ZERO,
            asked_bytes: 0,
            answered_bytes: 0,
            fuel_before: self.tracer.fuel_used,
            fuel: 0,
            end: CallEnd::Stopped,
            failed: 0,
            recorded: 0,
            status: None,
        });
        self.tracer.recorded = self.host.recorded();
    }

    /// It has ended, and cost so much fuel.
    pub(crate) fn trace_ends(&mut self, ended: &Ended, fuel: u64) {
        let Some(open) = self.tracer.open.take() else {
            return;
        };
        let recorded = self.host.recorded().saturating_sub(self.tracer.recorded);
        self.tracer.trace.calls.push(TracedCall {
            requests: ended.requests,
            took: self.time.since_start().saturating_sub(open.began),
            fuel,
            end: ended.end,
            failed: ended.failed,
            recorded: u32::try_from(recorded).unwrap_or(u32::MAX),
            status: ended.status,
            ..open
        });
    }

    /// All that was noted. A call that the guest has not come back from ended with it.
    pub(crate) fn take_trace(&mut self) -> Trace {
        let mut trace = std::mem::take(&mut self.tracer.trace);
        if let Some(open) = self.tracer.open.take() {
            let took = self.time.since_start().saturating_sub(open.began);
            trace.calls.push(TracedCall { took, ..open });
        }
        trace
    }
}

/// What a function of the host gives back, in the time that it takes.
pub(crate) type Answering<'a, R> = Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>;

/// Links a function, and has its calls noted where somebody wants to see them.
pub(crate) fn link<P, R>(
    instance: &mut LinkerInstance<'_, State>,
    function: HostFunction,
    call: impl for<'a> Fn(StoreContextMut<'a, State>, P) -> Answering<'a, R>
    + Copy
    + Send
    + Sync
    + 'static,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + Send + 'static,
    R: ComponentNamedList + Lower + Returned + Send + 'static,
{
    instance.func_wrap_async(
        function.name(),
        move |mut store: StoreContextMut<'_, State>, asked: P| {
            if !store.data().tracer.is_on() {
                return call(store, asked);
            }
            Box::new(async move {
                store.data_mut().trace_begins(function);
                let before = store.get_fuel()?;
                let answer = Box::into_pin(call(store.as_context_mut(), asked)).await?;
                let fuel = before.saturating_sub(store.get_fuel()?);
                store.data_mut().trace_ends(&answer.ended(), fuel);
                Ok(answer)
            })
        },
    )
}

/// The same of a function that answers at once.
pub(crate) fn link_ready<P, R>(
    instance: &mut LinkerInstance<'_, State>,
    function: HostFunction,
    call: impl Fn(StoreContextMut<'_, State>, P) -> wasmtime::Result<R> + Send + Sync + 'static,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + 'static,
    R: ComponentNamedList + Lower + Returned + 'static,
{
    instance.func_wrap(
        function.name(),
        move |mut store: StoreContextMut<'_, State>, asked: P| {
            store.data_mut().trace_begins(function);
            let before = store.get_fuel()?;
            let answer = call(store.as_context_mut(), asked)?;
            let fuel = before.saturating_sub(store.get_fuel()?);
            store.data_mut().trace_ends(&answer.ended(), fuel);
            Ok(answer)
        },
    )
}
