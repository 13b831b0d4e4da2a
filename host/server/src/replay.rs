//! The record of a component's run, in the order of its requests: what it asked before must be asked again, word for
//! word, and is answered with what was answered then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;
use sha2::{Digest, Sha256};
use troupe_workflow::{CallKind, CallOutcome, CallRecord, Code, Failure, Timestamp};

/// What earlier attempts of a run asked and were answered, and how far the present one has come.
pub(crate) struct Replay {
    /// The tries of each request: one may ask several models.
    recorded: BTreeMap<u32, Vec<CallRecord>>,
    next: AtomicU32,
}

/// One request's place among those of its run.
pub(crate) struct Place {
    pub(crate) position: u32,
    /// SHA-256 of the request, in hex.
    pub(crate) request: String,
    /// The tries that have ended: outcomes, and when they were recorded.
    ended: Vec<(CallOutcome, Option<Timestamp>)>,
    /// Whether the component went on after it, so that it is answered for good.
    is_passed: bool,
}

impl Replay {
    /// The record that an attempt begins with.
    pub(crate) fn new(calls: &[CallRecord]) -> Self {
        let mut recorded: BTreeMap<u32, Vec<CallRecord>> = BTreeMap::new();
        for call in calls {
            if let Some(position) = call.position {
                recorded.entry(position).or_default().push(call.clone());
            }
        }
        Self {
            recorded,
            next: AtomicU32::new(0),
        }
    }

    /// The places of requests that are made at once, in their order.
    ///
    /// # Errors
    /// The first that is not what was asked at its place before.
    pub(crate) fn places(
        &self,
        kind: CallKind,
        requests: Vec<String>,
    ) -> Result<Vec<Place>, Failure> {
        let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let after = first.saturating_add(count);
        let is_passed = self.recorded.range(after..).next().is_some();
        let places = (first..after).zip(requests).map(|(position, request)| {
            let tries = self.recorded.get(&position).map_or(&[][..], Vec::as_slice);
            if let Some(other) = tries
                .iter()
                .find(|call| (call.kind, &call.request) != (kind, &request))
            {
                return Err(diverged(position, (kind, other.kind)));
            }
            let ended = tries
                .iter()
                .filter_map(|call| Some((call.outcome.clone()?, call.ended_at)));
            Ok(Place {
                position,
                request,
                ended: ended.collect(),
                is_passed,
            })
        });
        places.collect()
    }

    /// Whether a component that has ended asked all that it had asked before.
    ///
    /// # Errors
    /// The first request on record that it did not make.
    pub(crate) fn check_ended(&self) -> Result<(), Failure> {
        let made = self.next.load(Ordering::Relaxed);
        let missing = self.recorded.range(made..).next();
        match missing.and_then(|(position, tries)| Some((position, tries.first()?))) {
            None => Ok(()),
            Some((position, call)) => Err(failure(
                *position,
                &format!(
                    "is on record as one of kind `{}`, and was not made again",
                    call.kind.as_str()
                ),
            )),
        }
    }
}

impl Place {
    /// Its outcome, where the component was given one.
    pub(crate) fn settled(&self) -> Option<(CallOutcome, Option<Timestamp>)> {
        let answered = self
            .ended
            .iter()
            .find(|(outcome, _)| matches!(outcome, CallOutcome::Answered(_)));
        let failed_for_good = || {
            let last = self.ended.last()?;
            match &last.0 {
                // The next model of its route may not have been asked any more.
                CallOutcome::Failed(failure) if failure.code.is_services_fault() => {
                    self.is_passed.then_some(last)
                }
                CallOutcome::Failed(_) | CallOutcome::Answered(_) => Some(last),
            }
        };
        answered.or_else(failed_for_good).cloned()
    }

    /// Whether a request of this kind is answered from the record, and not made again.
    pub(crate) fn is_answered(&self, kind: CallKind) -> bool {
        match kind {
            CallKind::Model => self.settled().is_some(),
            _ => !self.ended.is_empty(),
        }
    }

    /// The last outcome on record.
    pub(crate) fn last(&self) -> Option<(CallOutcome, Option<Timestamp>)> {
        self.ended.last().cloned()
    }

    /// How many models have failed to answer it.
    pub(crate) fn failures(&self) -> usize {
        self.ended.len()
    }

    /// How the last of them failed.
    pub(crate) fn last_failure(&self) -> Option<Failure> {
        match &self.ended.last()?.0 {
            CallOutcome::Failed(failure) => Some(failure.clone()),
            CallOutcome::Answered(_) => None,
        }
    }
}

/// SHA-256 of a request as the component made it, in hex.
pub(crate) fn hash_of(request: &impl Serialize) -> Result<String, Failure> {
    let bytes = serde_json::to_vec(request).map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("a request cannot be recorded: {error}"),
        )
    })?;
    Ok(hex(&Sha256::digest(bytes)))
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn diverged(position: u32, (asked, recorded): (CallKind, CallKind)) -> Failure {
    let what = if asked == recorded {
        format!("(`{}`) differs from the one on record", asked.as_str())
    } else {
        format!(
            "is one of kind `{}`, on record is one of kind `{}`",
            asked.as_str(),
            recorded.as_str()
        )
    };
    failure(position, &what)
}

fn failure(position: u32, what: &str) -> Failure {
    let number = u64::from(position) + 1;
    Failure::new(
        Code::ReplayDiverged,
        format!(
            "the component was run again with its recorded answers, and its call {number} {what}; between calls, let nothing depend on anything but the input, the answers, and the clock and random numbers that WASI gives"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A record as the journal leaves it.
    fn record(calls: &[(&str, u32, Option<CallOutcome>)]) -> Replay {
        use troupe_workflow::*;
        let definition = Definition::compile(&json!({
            "name": "n",
            "agents": [{ "id": "a", "type": "code", "language": "python", "code": "result = 1" }],
            "steps": [{ "id": "s", "agent": "a", "action": "x", "input": 1 }],
        }))
        .unwrap();
        let definition = std::sync::Arc::new(definition);
        let at = Timestamp::from_millis(7);
        let mut execution = Execution::replay(
            ExecutionId::from_parts(1, 1),
            std::sync::Arc::clone(&definition),
            &[],
        )
        .unwrap();
        let mut apply = |kind| execution.apply(&Event { at, kind }).unwrap();
        let path = StepPath::new("s");
        apply(EventKind::ExecutionCreated {
            workflow: "n".to_owned(),
            digest: definition.digest().clone(),
            inputs: json!({}),
            forked_from: None,
            kept: Vec::new(),
        });
        apply(EventKind::StepStarted {
            path: path.clone(),
            attempt: 1,
            agent: "a".to_owned(),
            input: json!(1),
            fuel: None,
        });
        for (number, (request, position, outcome)) in (0..).zip(calls) {
            apply(EventKind::CallStarted {
                path: path.clone(),
                attempt: 1,
                call: number,
                kind: CallKind::Model,
                target: "m".to_owned(),
                request: (*request).to_owned(),
                reserved: MicroUsd::ZERO,
                reserved_tokens: 0,
                position: Some(*position),
            });
            if let Some(outcome) = outcome {
                apply(EventKind::CallEnded {
                    path: path.clone(),
                    attempt: 1,
                    call: number,
                    outcome: outcome.clone(),
                    usage: Usage::default(),
                    cost: MicroUsd::ZERO,
                });
            }
        }
        apply(EventKind::StepInterrupted { path, attempt: 1 });
        let commands = execution.decide(at);
        let Some(Command::Start(start)) = commands.into_iter().next() else {
            panic!("it starts again");
        };
        Replay::new(&start.recorded)
    }

    fn answered(text: &str) -> Option<CallOutcome> {
        Some(CallOutcome::Answered(json!(text)))
    }

    fn down() -> Option<CallOutcome> {
        let failure = Failure::new(Code::Unavailable, "down");
        Some(CallOutcome::Failed(failure))
    }

    fn ask(replay: &Replay, requests: &[&str]) -> Result<Vec<Place>, String> {
        let requests = requests.iter().map(|text| (*text).to_owned()).collect();
        let places = replay.places(CallKind::Model, requests);
        places.map_err(|failure| failure.message)
    }

    #[test]
    fn requests_are_answered_by_their_place() {
        // The second of two at once ended first, and the first is under way.
        let replay = record(&[("a", 0, None), ("b", 1, answered("B"))]);
        let places = ask(&replay, &["a", "b"]).unwrap();
        assert_eq!((places[0].position, places[1].position), (0, 1));
        assert!(places[0].settled().is_none());
        let at = Some(Timestamp::from_millis(7));
        assert_eq!(
            places[1].settled(),
            answered("B").map(|answer| (answer, at))
        );
        assert!(ask(&replay, &["c"]).unwrap()[0].settled().is_none());
        assert!(replay.check_ended().is_ok());
    }

    #[test]
    fn what_differs_from_the_record_is_said() {
        let replay = record(&[("a", 0, answered("A")), ("b", 1, answered("B"))]);
        ask(&replay, &["a"]).unwrap();
        let ended = replay.check_ended().unwrap_err();
        assert!(ended.message.contains("its call 2 is on record"), "{ended}");
        let message = ask(&replay, &["c"]).err().unwrap();
        assert!(
            message.contains("its call 2 (`model`) differs"),
            "{message}"
        );
        let replay = record(&[("a", 0, answered("A"))]);
        let failure = replay.places(CallKind::Human, vec!["a".to_owned()]);
        let failure = failure.err().unwrap();
        assert_eq!(failure.code, Code::ReplayDiverged);
        let says = "its call 1 is one of kind `human`, on record is one of kind `model`";
        assert!(failure.message.contains(says), "{failure}");
    }

    #[test]
    fn models_that_failed_are_not_asked_again() {
        let one = [("a", 0, down())];
        let place = ask(&record(&one), &["a"]).unwrap().remove(0);
        assert_eq!((place.settled().is_none(), place.failures()), (true, 1));
        // The component was given the failure, and went on.
        let on = [("a", 0, down()), ("b", 1, answered("B"))];
        let place = ask(&record(&on), &["a"]).unwrap().remove(0);
        assert!(place.settled().is_some());
        // Two at once: nobody knows whether the first would have asked another model.
        let place = ask(&record(&on), &["a", "b"]).unwrap().remove(0);
        assert!(place.settled().is_none());
        let two = [("a", 0, down()), ("a", 0, answered("A"))];
        let place = ask(&record(&two), &["a"]).unwrap().remove(0);
        assert_eq!(place.settled().map(|(outcome, _)| outcome), answered("A"));
    }
}
