//! What scripted agents do: the next answer of each, understood as an agent's would be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use troupe_workflow::{
    AgentKind, CallOutcome, Code, Failure, LlmAgent, StartStep, StepPath, StepUsage, check_depth,
    check_schema, interpret_text,
};

use super::case::{Answer, Call, Case};

/// The answers of a case, with how many of each were given.
pub(super) struct Script {
    answers: BTreeMap<String, Vec<Answer>>,
    given: BTreeMap<String, usize>,
}

/// One attempt as it will go.
pub(super) struct Plan {
    /// Calls that it makes, one after the other, each with its request.
    pub(super) calls: Vec<(String, Call)>,
    /// How long each call takes, or the whole attempt where it makes none.
    pub(super) slice: Duration,
    pub(super) result: Result<(Value, Option<String>), Failure>,
    pub(super) usage: StepUsage,
}

/// What becomes of an attempt of which a call was refused. Where it is its agent's share that has nothing left, the agent is
/// told, and gives up.
pub(super) fn told(path: &StepPath, refused: Failure) -> Failure {
    match refused.cap_of.as_ref() == Some(path) {
        true => Failure::new(Code::GuestFailed, refused.message),
        false => refused,
    }
}

impl Script {
    pub(super) fn of(case: &Case) -> Self {
        Self {
            answers: case.answers.clone(),
            given: BTreeMap::new(),
        }
    }

    fn next(&mut self, start: &StartStep) -> Answer {
        let by_path = start.path.as_str();
        let key = if self.answers.contains_key(by_path) {
            by_path
        } else {
            start.agent.as_str()
        };
        let Some(answers) = self.answers.get(key) else {
            return Answer::nothing();
        };
        let given = self.given.entry(key.to_owned()).or_default();
        let answer = answers.get(*given).or(answers.last()).cloned();
        *given += 1;
        answer.unwrap_or_else(Answer::nothing)
    }

    /// How an attempt will go.
    pub(super) fn plan(&mut self, start: &StartStep) -> Plan {
        let answer = self.next(start);
        let mut result = self.result(start, &answer);
        let mut takes = Duration::from_millis(answer.takes_ms);
        if let Some(timeout) = start.timeout.filter(|timeout| takes > *timeout) {
            takes = timeout;
            let millis = timeout.as_millis();
            let message =
                format!("the step took longer than its {millis} ms; raise its `timeout_ms`");
            result = Err(Failure::new(Code::TimedOut, message));
        }
        let left = start.fuel.as_ref();
        if let Some(left) = left.filter(|left| answer.fuel > left.units) {
            result = Err(left.used_up());
        }
        let slices = u32::try_from(answer.calls.len().max(1)).expect("few calls");
        let path = &start.path;
        let calls = answer
            .calls
            .iter()
            .enumerate()
            .map(|(index, call)| (format!("{path} call {index}"), call.clone()))
            // What was answered before an interruption is not asked again.
            .filter(|(request, _)| {
                let is_known = |call: &troupe_workflow::CallRecord| {
                    call.request == *request
                        && matches!(call.outcome, Some(CallOutcome::Answered(_)))
                };
                !start.recorded.iter().any(is_known)
            })
            .collect();
        Plan {
            calls,
            slice: takes / slices,
            result,
            usage: StepUsage {
                fuel: answer.fuel.min(left.map_or(u64::MAX, |left| left.units)),
                ..StepUsage::default()
            },
        }
    }

    fn result(
        &mut self,
        start: &StartStep,
        answer: &Answer,
    ) -> Result<(Value, Option<String>), Failure> {
        if let Some(code) = answer.fail {
            let message = answer
                .message
                .clone()
                .unwrap_or_else(|| "it broke".to_owned());
            let failure = Failure::new(code, message).retry_after_ms(answer.retry_after_ms);
            return Err(if answer.transient {
                failure.transient()
            } else {
                failure
            });
        }
        let agent = start.definition.agent(start.agent.as_str());
        let agent = agent.expect("the agent is in the document");
        let schema = agent.output_schema.as_ref();
        let (value, text) = match (&agent.kind, answer.text()) {
            (AgentKind::Llm(llm), Some(text)) => self.understood((start, llm, schema), text)?,
            (_, Some(text)) => (Value::String(text), None),
            (_, None) => {
                let output = answer.output();
                if let Some(problem) = schema.and_then(|schema| check_schema(&output, schema).err())
                {
                    return Err(Failure::new(Code::OutputInvalid, problem.to_string()));
                }
                (output, None)
            }
        };
        check_depth(&value).map_err(|message| Failure::new(Code::OutputInvalid, message))?;
        Ok((value, text))
    }

    /// A model's text, and that of its one repair turn.
    fn understood(
        &mut self,
        (start, llm, schema): (&StartStep, &LlmAgent, Option<&Value>),
        text: String,
    ) -> Result<(Value, Option<String>), Failure> {
        let understand = |text| interpret_text(text, &start.required, schema, llm.response_format);
        let answer = match understand(text) {
            Ok(answer) => answer,
            Err(_) => {
                let repaired = self.next(start);
                let text = repaired
                    .text()
                    .unwrap_or_else(|| repaired.output().to_string());
                understand(text)
                    .map_err(|problem| Failure::new(Code::OutputInvalid, problem.to_string()))?
            }
        };
        let text = (answer.value.as_str() != Some(answer.text.as_str())).then_some(answer.text);
        Ok((answer.value, text))
    }
}
