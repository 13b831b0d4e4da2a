//! Tells what became of a call: whose fault it was, and which one.

use std::collections::BTreeSet;

use wasmtime::{OutOfMemory, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::error::SandboxError;
use crate::guest_memory::Busy;
use crate::json;
use crate::limits::{Limit, Limits, MemoryLimiter, Refused};
use crate::outcome::{Captured, Outcome, Report, Trap, TrapCode, Usage};
use crate::state::Stop;
use crate::trace::Trace;

/// Functions of the guest that a trap lists.
const FRAMES_MAX: usize = 20;

/// Where a call failed.
pub(super) enum Failed {
    /// Before the guest's own code ran, or in its start functions.
    Instantiate(wasmtime::Error),
    /// In the guest.
    Run(wasmtime::Error),
}

/// What the guest returned, or how it failed.
pub(super) type Ended = Result<Result<String, Outcome>, Failed>;

/// Finds the outcome of a call that was not cancelled.
pub(super) fn outcome(
    ended: Ended,
    limits: &Limits,
    memory: &MemoryLimiter,
) -> Result<Outcome, SandboxError> {
    match ended {
        Ok(Ok(result)) => Ok(check_result(result, limits)),
        Ok(Err(outcome)) => Ok(check_failure(outcome, limits)),
        Err(Failed::Instantiate(error)) => match stopped(&error, memory) {
            Some(outcome) => Ok(outcome),
            None if has_too_many_parts(&error) => Ok(Outcome::LimitHit(Limit::Instances)),
            None if memory.refused() == Refused::Now => Ok(Outcome::LimitHit(Limit::Memory)),
            None => Err(of_host(error).unwrap_or_else(SandboxError::Instantiate)),
        },
        Err(Failed::Run(error)) => match stopped(&error, memory) {
            Some(outcome) => Ok(outcome),
            None => of_host(error).map_or_else(|error| Ok(invalid_data(&error)), Err),
        },
    }
}

/// What the host lacked; gives the error back where it is about something else.
fn of_host(error: wasmtime::Error) -> Result<SandboxError, wasmtime::Error> {
    if let Some(busy) = error.downcast_ref::<Busy>() {
        let message = busy.to_string();
        return Ok(SandboxError::Busy { message });
    }
    if error.is::<OutOfMemory>() {
        return Ok(SandboxError::OutOfMemory(error));
    }
    Err(error)
}

/// More instances, memories or tables than our limiter allows. wasmtime has no type for this error.
fn has_too_many_parts(error: &wasmtime::Error) -> bool {
    format!("{error:#}").contains("resource limit exceeded")
}

/// A result is passed on only if it is JSON, of bounded size and depth: others parse it again and trust it.
pub(crate) fn check_result(result: String, limits: &Limits) -> Outcome {
    if exceeds(result.len(), limits) {
        return Outcome::LimitHit(Limit::Output);
    }
    match json::check(&result) {
        Ok(()) => Outcome::Returned(result),
        Err(error) => Outcome::InvalidResult(not_json("the result", &error)),
    }
}

/// A failure's texts come from the guest too.
fn check_failure(outcome: Outcome, limits: &Limits) -> Outcome {
    let bytes = match &outcome {
        Outcome::Declined(failure) => {
            failure.message.len() + failure.details.as_ref().map_or(0, String::len)
        }
        Outcome::Raised(exception) => {
            exception.kind.len() + exception.message.len() + exception.traceback.len()
        }
        _ => 0,
    };
    if exceeds(bytes, limits) {
        return Outcome::LimitHit(Limit::Output);
    }
    if let Outcome::Declined(failure) = &outcome
        && let Some(details) = &failure.details
        && let Err(error) = json::check(details)
    {
        let what = format!(
            "the agent failed with \"{}\", and the details of that failure",
            failure.message
        );
        return Outcome::InvalidResult(not_json(&what, &error));
    }
    outcome
}

/// serde_json refuses documents of more than 127 levels, and says so in words for programmers.
fn not_json(what: &str, error: &serde_json::Error) -> String {
    let error = error.to_string();
    if error.starts_with("recursion limit exceeded") {
        return format!("{what}: lists and objects are nested more than 127 levels deep");
    }
    format!("{what} is not a JSON document: {error}")
}

fn exceeds(bytes: usize, limits: &Limits) -> bool {
    u64::try_from(bytes).unwrap_or(u64::MAX) > limits.output_bytes_max
}

/// What stopped the guest, where it was a limit, an exit or a trap.
fn stopped(error: &wasmtime::Error, memory: &MemoryLimiter) -> Option<Outcome> {
    if let Some(Stop(limit)) = error.downcast_ref::<Stop>() {
        return Some(Outcome::LimitHit(*limit));
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return Some(Outcome::Exited(*code));
    }
    let trap = error.downcast_ref::<wasmtime::Trap>()?;
    Some(match trap {
        wasmtime::Trap::OutOfFuel => Outcome::LimitHit(Limit::Fuel),
        wasmtime::Trap::Interrupt => Outcome::LimitHit(Limit::Time),
        // A program that gets no more memory usually gives up in just this way.
        wasmtime::Trap::UnreachableCodeReached if memory.refused() == Refused::Now => {
            Outcome::LimitHit(Limit::Memory)
        }
        wasmtime::Trap::UnreachableCodeReached if memory.refused() == Refused::Before => {
            let message =
                format!("{trap} (the guest asked for more memory than it may have before)");
            Outcome::Trapped(describe(TrapCode::Unreachable, message, error))
        }
        trap => Outcome::Trapped(describe(trap_code(*trap), trap.to_string(), error)),
    })
}

/// Languages with a stack of their own in linear memory run out of it by reaching below its beginning. What
/// tells that from a wild pointer is a trace in which a few functions call each other again and again.
fn is_recursion(frames: &[String]) -> bool {
    const FUNCTIONS_MAX: usize = 8;
    let functions: BTreeSet<&String> = frames.iter().collect();
    frames.len() >= FRAMES_MAX && functions.len() <= FUNCTIONS_MAX
}

/// The guest handed over something that is no value of its type. wasmtime has no type for these errors.
fn invalid_data(error: &wasmtime::Error) -> Outcome {
    let message = format!("{:#}", error.root_cause());
    let in_guest = error
        .downcast_ref::<WasmBacktrace>()
        .is_some_and(|trace| !trace.frames().is_empty());
    if message.contains("fuel allocated for hostcalls has been exhausted") && !in_guest {
        return Outcome::LimitHit(Limit::Output);
    }
    Outcome::Trapped(describe(TrapCode::InvalidData, message, error))
}

fn describe(code: TrapCode, message: String, error: &wasmtime::Error) -> Trap {
    let frames = error
        .downcast_ref::<WasmBacktrace>()
        .map_or_else(Vec::new, |trace| {
            trace
                .frames()
                .iter()
                .take(FRAMES_MAX)
                .map(|frame| match frame.func_name() {
                    Some(name) => function_name(name),
                    None => format!("function {}", frame.func_index()),
                })
                .collect()
        });
    if code == TrapCode::OutOfBounds && is_recursion(&frames) {
        let message = "the guest called too deeply: its stack is exhausted".to_owned();
        return Trap {
            code: TrapCode::StackOverflow,
            message,
            frames,
        };
    }
    Trap {
        code,
        message,
        frames,
    }
}

/// The name as it stands in the component, as Rust's source has it where it is Rust's. It is the guest's text: cut, so
/// that a report stays small.
fn function_name(name: &str) -> String {
    const NAME_CHARS_MAX: usize = 200;
    const MANGLED_BYTES_MAX: usize = 4_096;
    let name = match rustc_demangle::try_demangle(name) {
        Ok(rust) if name.len() <= MANGLED_BYTES_MAX => format!("{rust:#}"),
        _ => name.to_owned(),
    };
    name.chars().take(NAME_CHARS_MAX).collect()
}

fn trap_code(trap: wasmtime::Trap) -> TrapCode {
    use wasmtime::Trap;
    match trap {
        Trap::UnreachableCodeReached => TrapCode::Unreachable,
        Trap::StackOverflow => TrapCode::StackOverflow,
        Trap::MemoryOutOfBounds
        | Trap::TableOutOfBounds
        | Trap::IndirectCallToNull
        | Trap::BadSignature => TrapCode::OutOfBounds,
        Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => {
            TrapCode::Arithmetic
        }
        Trap::InvalidChar
        | Trap::StringOutOfBounds
        | Trap::ListOutOfBounds
        | Trap::InvalidDiscriminant
        | Trap::UnalignedPointer => TrapCode::InvalidData,
        _ => TrapCode::Other,
    }
}

impl Report {
    /// A call that was cancelled before its guest came to life.
    pub(crate) fn cancelled_early() -> Self {
        Report {
            outcome: Outcome::Cancelled,
            usage: Usage::default(),
            stdout: Captured::default(),
            stderr: Captured::default(),
            denials: Vec::new(),
            trace: Trace::default(),
        }
    }
}
