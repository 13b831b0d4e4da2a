//! The format of a case.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use troupe_workflow::Code;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name, which no other has.
    pub case: String,
    /// The rule it is about.
    pub rule: String,
    pub about: String,
    pub workflow: Value,
    #[serde(default)]
    inputs: Option<Value>,
    /// What agents answer, by the path of a step or else by the agent's id: one for each attempt, the last again and
    /// again.
    #[serde(default)]
    pub answers: BTreeMap<String, Vec<Answer>>,
    /// What people do, at their virtual times.
    #[serde(default)]
    pub acts: Vec<Act>,
    /// When to look, where the execution does not end by itself.
    #[serde(default)]
    pub until_ms: Option<u64>,
    pub expect: Expectation,
}

impl Case {
    /// The inputs, with what stands for long texts and deep lists written out.
    pub fn inputs(&self) -> Value {
        match &self.inputs {
            Some(inputs) => written_out(inputs),
            None => Value::Object(Map::new()),
        }
    }
}

/// What an agent does in one attempt.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    #[serde(default)]
    output: Option<Value>,
    /// A model's text, which is understood like one.
    #[serde(default)]
    text: Option<Value>,
    #[serde(default)]
    pub fail: Option<Code>,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub transient: bool,
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    #[serde(default = "ten")]
    pub takes_ms: u64,
    #[serde(default)]
    pub calls: Vec<Call>,
    /// Units of computation that it used.
    #[serde(default)]
    pub fuel: u64,
}

fn ten() -> u64 {
    10
}

impl Answer {
    /// An attempt of which the case says nothing.
    pub fn nothing() -> Self {
        Self {
            output: None,
            text: None,
            fail: None,
            message: None,
            transient: false,
            retry_after_ms: None,
            takes_ms: ten(),
            calls: Vec::new(),
            fuel: 0,
        }
    }

    pub fn output(&self) -> Value {
        self.output.as_ref().map_or(Value::Null, written_out)
    }

    pub fn text(&self) -> Option<String> {
        let text = written_out(self.text.as_ref()?);
        Some(text.as_str().expect("a model's text is a text").to_owned())
    }
}

/// A call of an attempt to a model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    #[serde(default)]
    pub worst_usd: f64,
    #[serde(default)]
    pub worst_tokens: u64,
    #[serde(default)]
    pub cost_usd: f64,
    #[serde(default)]
    pub input_tokens: u64,
    #[serde(default)]
    pub output_tokens: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Act {
    pub at_ms: u64,
    #[serde(flatten)]
    pub kind: ActKind,
    /// A part of the message with which it is refused.
    #[serde(default)]
    pub refused: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActKind {
    Approve {
        #[serde(default)]
        step: Option<String>,
        by: String,
        approved: bool,
        #[serde(default)]
        notes: Option<String>,
        #[serde(default)]
        data: Option<Value>,
    },
    Resume {
        #[serde(default)]
        budget_usd: Option<f64>,
        #[serde(default)]
        budget_tokens: Option<u64>,
        #[serde(default)]
        budget_fuel: Option<u64>,
    },
    Pause {
        #[serde(default)]
        by: Option<String>,
        #[serde(default)]
        reason: Option<String>,
    },
    /// What follows is about a fork of the execution.
    Fork {
        step: String,
        /// The fork's document; the same without it.
        #[serde(default)]
        workflow: Option<Value>,
    },
    Retry {
        #[serde(default)]
        by: Option<String>,
    },
    Cancel(bool),
}

/// What must come of a case; what is left out is not looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// All faults with which the document is refused.
    #[serde(default)]
    pub faults: Option<Vec<ExpectedFault>>,
    /// Parts of messages with which the inputs are refused.
    #[serde(default)]
    pub inputs_refused: Option<Vec<String>>,
    #[serde(default)]
    pub inferred: Option<Vec<String>>,
    #[serde(default)]
    pub status: Option<String>,
    /// The attempts that were started, and the persons that were asked, in order.
    #[serde(default)]
    pub starts: Option<Vec<String>>,
    /// The steps that were completed before and are not done again, in order.
    #[serde(default)]
    pub kept: Option<Vec<String>>,
    /// When a step began first.
    #[serde(default)]
    pub at_ms: BTreeMap<String, i64>,
    /// The input of a step's last start.
    #[serde(default)]
    pub inputs_of: BTreeMap<String, Value>,
    #[serde(default)]
    pub outputs: Option<Value>,
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
    #[serde(default)]
    pub steps: BTreeMap<String, String>,
    #[serde(default)]
    pub progress: Option<[usize; 2]>,
    #[serde(default)]
    pub cost_usd: Option<f64>,
    #[serde(default)]
    pub error: Option<ExpectedError>,
    #[serde(default)]
    pub ended_ms: Option<i64>,
    #[serde(default)]
    pub waiting: Option<Vec<ExpectedApproval>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFault {
    pub at: String,
    #[serde(default)]
    pub column: Option<usize>,
    pub says: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedError {
    pub code: String,
    #[serde(default)]
    pub step: Option<String>,
    #[serde(default)]
    pub says: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedApproval {
    pub step: String,
    #[serde(default)]
    pub assignees: Option<Vec<String>>,
    #[serde(default)]
    pub deadline_ms: Option<i64>,
}

/// A value with `{"$repeat": {"text", "times"}}` and `{"$nest": {"depth"}}` written out.
pub(super) fn written_out(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(written_out).collect(),
        Value::Object(map) => {
            if let Some(repeat) = map.get("$repeat") {
                let times = repeat["times"].as_u64().expect("`times` is a number");
                let text = repeat["text"].as_str().expect("`text` is a text");
                return Value::String(text.repeat(usize::try_from(times).expect("it fits")));
            }
            if let Some(nest) = map.get("$nest") {
                let depth = nest["depth"].as_u64().expect("`depth` is a number");
                return (0..depth).fold(Value::Null, |value, _| Value::Array(vec![value]));
            }
            map.iter()
                .map(|(name, value)| (name.clone(), written_out(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        other => other.clone(),
    }
}
