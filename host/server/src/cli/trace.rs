//! How the calls of a trace are shown: a table for people, JSON for programs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use troupe_sandbox::{Trace, TracedCall};

use super::output::{self, Format};
use crate::traces::{Traced, Traces};

/// How a command shows what an execution came to.
pub(super) struct Shown {
    pub(super) format: Format,
    /// What components asked of the host, where that is to be shown.
    pub(super) traces: Option<Arc<Traces>>,
}

impl From<bool> for Shown {
    /// From the flag `--json`.
    fn from(json: bool) -> Self {
        Self {
            format: json.into(),
            traces: None,
        }
    }
}

impl Shown {
    /// The same with what components ask.
    pub(super) fn with_traces(self, traces: Option<Arc<Traces>>) -> Self {
        Self { traces, ..self }
    }
}

/// Prints what one component asked of the host; it used so much fuel in all.
pub(super) fn print(who: &str, trace: &Trace, fuel: u64) {
    output::note(&table(who, trace, fuel));
}

/// Prints the same of all attempts.
pub(super) fn print_attempts(traced: &Traced) {
    for attempt in &traced.attempts {
        let (path, number, agent) = (&attempt.path, attempt.attempt, &attempt.agent);
        let who = format!("`{path}` ({agent}), attempt {number},");
        print(&who, &attempt.trace, attempt.fuel);
    }
    if traced.left_out > 0 {
        output::note(&format!(
            "… and {} more attempts of steps are not listed",
            traced.left_out
        ));
    }
}

/// The calls of a component.
pub(super) fn calls_json(trace: &Trace) -> Value {
    between(&trace.calls)
        .map(|(call, guest_fuel)| {
            json!({
                "call": call.function.as_str(),
                "requests": call.requests,
                "began_us": micros(call.began),
                "took_us": micros(call.took),
                "asked_bytes": call.asked_bytes,
                "answered_bytes": call.answered_bytes,
                "guest_fuel": guest_fuel,
                "fuel": call.fuel,
                "end": call.end.as_str(),
                "failed": call.failed,
                "recorded": call.recorded,
                "status": call.status,
            })
        })
        .collect()
}

/// The calls of all attempts.
pub(super) fn attempts_json(traced: &Traced) -> Value {
    let attempts = traced.attempts.iter().map(|attempt| {
        json!({
            "step": attempt.path,
            "attempt": attempt.attempt,
            "agent": attempt.agent,
            "calls": calls_json(&attempt.trace),
            "left_out": attempt.trace.left_out,
        })
    });
    attempts.collect()
}

/// Each call with the fuel that the guest used between the one before and it.
fn between(calls: &[TracedCall]) -> impl Iterator<Item = (&TracedCall, u64)> {
    calls.iter().scan(0, |after, call| {
        let guest_fuel = call.fuel_before.saturating_sub(*after);
        *after = after_call(call);
        Some((call, guest_fuel))
    })
}

fn after_call(call: &TracedCall) -> u64 {
    call.fuel_before.saturating_add(call.fuel)
}

fn table(who: &str, trace: &Trace, fuel: u64) -> String {
    if trace.calls.is_empty() {
        return format!("{who} asked nothing of the host, and used {fuel} fuel");
    }
    let mut text = format!("{who} asked of the host:\n");
    let heads = [
        "began ms",
        "took ms",
        "asked B",
        "answered B",
        "guest fuel",
        "fuel",
    ];
    text.push_str(&row(heads.map(str::to_owned), "call", "end"));
    for (call, guest_fuel) in between(&trace.calls) {
        let cells = [
            millis(call.began),
            millis(call.took),
            call.asked_bytes.to_string(),
            call.answered_bytes.to_string(),
            guest_fuel.to_string(),
            call.fuel.to_string(),
        ];
        text.push_str(&row(cells, &called(call), &ended(call)));
    }
    let after = trace.calls.last().map_or(0, after_call);
    if trace.left_out > 0 {
        text.push_str(&format!(
            "  … and {} more calls are not listed\n",
            trace.left_out
        ));
    }
    let rest = fuel.saturating_sub(after);
    text.push_str(&format!(
        "  {fuel} fuel in all, {rest} of it after the last of these"
    ));
    text
}

fn row(cells: [String; 6], call: &str, end: &str) -> String {
    let [began, took, asked, answered, guest_fuel, fuel] = cells;
    format!(
        "  {began:>10} {took:>10} {asked:>9} {answered:>10} {guest_fuel:>12} {fuel:>10}  {call:<34} {end}\n"
    )
}

fn called(call: &TracedCall) -> String {
    match call.requests {
        1 => call.function.as_str().to_owned(),
        requests => format!("{} × {requests}", call.function.as_str()),
    }
}

/// `ok`, `denied`, `timed_out: 2 of 5`, `ok 404`, `ok, recorded`
fn ended(call: &TracedCall) -> String {
    let mut text = call.end.as_str().to_owned();
    if let Some(status) = call.status {
        text.push_str(&format!(" {status}"));
    }
    if call.failed > 0 && call.requests > 1 {
        text.push_str(&format!(": {} of {}", call.failed, call.requests));
    }
    match (call.recorded, call.requests) {
        (0, _) => {}
        (recorded, requests) if recorded >= requests => text.push_str(", recorded"),
        (recorded, requests) => text.push_str(&format!(", {recorded} of {requests} recorded")),
    }
    text
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds with three digits behind the point.
fn millis(duration: Duration) -> String {
    let micros = micros(duration);
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use troupe_sandbox::{CallEnd, HostFunction};

    use super::*;

    #[test]
    fn calls_are_a_table() {
        let call = |function, began, fuel_before| TracedCall {
            function,
            requests: 1,
            began: Duration::from_micros(began),
            took: Duration::from_micros(1_250),
            asked_bytes: 56,
            answered_bytes: 7,
            fuel_before,
            fuel: 5_000,
            end: CallEnd::Ok,
            failed: 0,
            recorded: 0,
            status: None,
        };
        let trace = Trace {
            calls: vec![
                TracedCall {
                    recorded: 1,
                    ..call(HostFunction::LlmComplete, 90, 4_000)
                },
                TracedCall {
                    requests: 3,
                    failed: 2,
                    end: CallEnd::Denied,
                    ..call(HostFunction::SearchSearchMany, 2_000, 9_100)
                },
                TracedCall {
                    status: Some(404),
                    ..call(HostFunction::Http, 1_234_567, 20_000)
                },
            ],
            left_out: 2,
        };
        let expected = [
            "the code asked of the host:",
            "    began ms    took ms   asked B answered B   guest fuel       fuel  call                               end",
            "       0.090      1.250        56          7         4000       5000  troupe:agent/llm.complete          ok, recorded",
            "       2.000      1.250        56          7          100       5000  troupe:agent/search.search-many × 3 denied: 2 of 3",
            "    1234.567      1.250        56          7         5900       5000  wasi:http/outgoing-handler.handle  ok 404",
            "  … and 2 more calls are not listed",
            "  30000 fuel in all, 5000 of it after the last of these",
        ];
        assert_eq!(table("the code", &trace, 30_000), expected.join("\n"));
        let none = table("the code", &Trace::default(), 12);
        assert_eq!(none, "the code asked nothing of the host, and used 12 fuel");
    }
}
