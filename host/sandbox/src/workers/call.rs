//! A call that a worker makes: what its guest asks is answered here, and what comes of it is held for a stranger's word.

use std::sync::Arc;
use std::time::Duration;

use super::guard::Guard;
use super::process::{Begun, Said, Worker};
use crate::call::Call;
use crate::component::Component;
use crate::entry::Entry;
use crate::error::SandboxError;
use crate::guest_memory::HeldShare;
use crate::limits::Limits;
use crate::machine::ending::check_result;
use crate::machine::guarded;
use crate::outcome::{Captured, Outcome, Report, Usage};
use crate::protocol::{Answer, Beside, FRAME_BYTES_MAX, Fault, Order, Task, ToWorker};
use crate::value;

/// How long a worker may take to end a call that was cancelled: many times a tick.
const CANCEL_MAX: Duration = Duration::from_secs(10);
/// What a worker may take beyond the time limits of all its guests before it says something of one.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Memory that a call has from the beginning where nobody knows yet what it needs, and there is plenty.
const FIRST_BYTES: u64 = 4 << 20;
/// What a report may say beyond the limits: that something was cut.
const NOTE_BYTES_MAX: usize = 256;
/// Denials of one call that are told; a worker keeps fewer.
const DENIALS_MAX: usize = 64;

/// Makes a call.
///
/// # Errors
/// The host failed, or the worker ended.
pub(super) async fn make(
    worker: &Arc<Worker>,
    component: &Component,
    entry: Entry<'_>,
    (call, share): (Call, HeldShare),
) -> Result<Report, SandboxError> {
    let (limits, cancel) = (call.limits, call.cancel.clone());
    let (mut begun, mut guard) = begin(worker, component, task(entry)?, (call, share))?;
    let silence_max = silence_max(worker, &limits);
    loop {
        let said = tokio::select! {
            biased;
            () = cancel.cancelled() => return cancelled(begun, &limits).await,
            said = tokio::time::timeout(silence_max, begun.next()) => said,
        };
        match said {
            Err(_elapsed) => {
                worker.end_for("it kept a guest beyond its time limit".to_owned());
                return Err(worker.interrupted());
            }
            Ok(None) => return Err(worker.interrupted()),
            Ok(Some(Said::Ended(end))) => {
                let report = (*end).map_err(error)?;
                return Ok(checked(report, &limits));
            }
            Ok(Some(Said::Kept | Said::Reported(..))) => {
                worker.end_for("it spoke of a session where there is none".to_owned());
                return Err(worker.interrupted());
            }
            Ok(Some(Said::Asked(ask))) => tokio::select! {
                biased;
                () = cancel.cancelled() => return cancelled(begun, &limits).await,
                answered = guarded(guard.answer(*ask)) => answer(&begun, &guard, answered?)?,
                // Nobody needs the answer any more, or the worker says something else while its guest waits.
                said = begun.next() => {
                    if said.is_some() {
                        worker.end_for("it went on before it was answered".to_owned());
                    }
                    return Err(worker.interrupted());
                }
            },
        }
    }
}

/// Has a worker begin a call, with memory of its own from the beginning where there is plenty.
pub(super) fn begin(
    worker: &Arc<Worker>,
    component: &Component,
    task: Task,
    (call, share): (Call, HeldShare),
) -> Result<(Begun, Guard), SandboxError> {
    let limits = call.limits;
    let likely = component.memory_likely().max(FIRST_BYTES);
    let first = likely.min(limits.memory_bytes_max);
    let given = if share.take_to_spare(first) { first } else { 0 };
    let share = Arc::new(share);
    let guard = Guard::new(&call, Arc::clone(&share), given);
    let order = Order {
        call: 0,
        component: *component.digest(),
        task,
        agent: call.agent,
        grants: call.grants,
        limits,
        seed: call.seed,
        started_at: call.started_at,
        memory_bytes: (share.bytes_max(), given),
    };
    let begun = worker.begin(component, order, share)?;
    Ok((begun, guard))
}

/// How long a worker may say nothing of a call that runs.
pub(super) fn silence_max(worker: &Worker, limits: &Limits) -> Duration {
    let of_all = limits.time_max.saturating_mul(worker.calls_max());
    of_all.saturating_add(SILENCE_MAX)
}

/// Tells a worker what its guest is answered, or ends it for what it asked.
pub(super) fn answer(
    begun: &Begun,
    guard: &Guard,
    answered: Result<(Answer, Beside), String>,
) -> Result<(), SandboxError> {
    let worker = &begun.worker;
    match answered {
        Ok((answer, beside)) => worker.say(&ToWorker::Answer {
            call: begun.number,
            answer: Box::new(answer),
            beside,
        }),
        Err(lie) => {
            let agent = guard.agent();
            tracing::error!(
                agent,
                lie,
                "a worker asked for what no guest can ask for; it is ended"
            );
            worker.end_for(lie);
            Err(worker.interrupted())
        }
    }
}

/// Has a call ended.
///
/// # Errors
/// The worker ended, or was ended, without a word of what the call used.
pub(super) async fn cancelled(mut begun: Begun, limits: &Limits) -> Result<Report, SandboxError> {
    let worker = Arc::clone(&begun.worker);
    worker.say(&ToWorker::Cancel(begun.number))?;
    let ended = tokio::time::timeout(CANCEL_MAX, async {
        loop {
            match begun.next().await {
                Some(Said::Ended(end)) => return Some(*end),
                Some(Said::Asked(_) | Said::Kept | Said::Reported(..)) => {}
                None => return None,
            }
        }
    });
    match ended.await {
        Ok(Some(Ok(report))) => Ok(checked(report, limits)),
        // Whatever it was, the call is over.
        Ok(Some(Err(_))) => Ok(Report::cancelled_early()),
        // What it used nobody knows.
        Ok(None) => Err(worker.interrupted()),
        Err(_elapsed) => {
            worker.end_for("it did not end a call that was cancelled".to_owned());
            Err(worker.interrupted())
        }
    }
}

fn task(entry: Entry<'_>) -> Result<Task, SandboxError> {
    Ok(match entry {
        Entry::Agent(invocation) => Task::Agent(invocation),
        Entry::Program(program) => Task::Program(program),
        Entry::Command(invocation) => Task::Command(invocation),
        Entry::Function(function, arguments) => {
            let values = &arguments.0;
            let json = value::write_arguments(&function.parameters, values, FRAME_BYTES_MAX / 2);
            let json = json.map_err(|_too_large| SandboxError::NoWorker {
                message: "the arguments are too large for a worker; give it less".to_owned(),
            })?;
            Task::Function(function.into_owned(), json)
        }
    })
}

pub(super) fn error(fault: Fault) -> SandboxError {
    let because = wasmtime::Error::msg;
    match fault {
        Fault::Busy(message) => SandboxError::Busy { message },
        Fault::OutOfMemory(reason) => SandboxError::OutOfMemory(because(reason)),
        Fault::Instantiate(reason) => SandboxError::Instantiate(because(reason)),
        Fault::Panicked(message) => SandboxError::Panicked { message },
        Fault::Engine(reason) => SandboxError::Engine(because(reason)),
    }
}

/// Holds a report to what any report of such a call keeps to: a worker that was broken may say what it likes.
pub(super) fn checked(report: Report, limits: &Limits) -> Report {
    let Report {
        outcome,
        usage,
        stdout,
        stderr,
        mut denials,
        mut trace,
    } = report;
    denials.truncate(DENIALS_MAX);
    let traced_max = usize::try_from(limits.traced_calls_max).unwrap_or(usize::MAX);
    trace.calls.truncate(traced_max);
    Report {
        outcome: match outcome {
            Outcome::Returned(json) => check_result(json, limits),
            other => other,
        },
        usage: Usage {
            fuel: usage.fuel.min(limits.fuel),
            ..usage
        },
        stdout: cut(stdout, limits),
        stderr: cut(stderr, limits),
        denials,
        trace,
    }
}

fn cut(mut captured: Captured, limits: &Limits) -> Captured {
    let bytes_max = usize::try_from(limits.output_bytes_max).unwrap_or(usize::MAX);
    let bytes_max = bytes_max.saturating_add(NOTE_BYTES_MAX);
    let text = &mut captured.text;
    text.truncate(text.floor_char_boundary(bytes_max));
    captured
}
