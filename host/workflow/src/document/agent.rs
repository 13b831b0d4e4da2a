//! The agents of a document: what all of them have. Each kind has a file of its own.

mod code;
mod human;
mod llm;
mod search;
mod tool;

use std::time::Duration;

use serde_json::Value;

pub use code::{
    CodeAgent, CodeSource, FileGrant, Grants, HumanGrant, Language, Limits, SecretGrant,
};
pub use human::{HumanAgent, OnTimeout};
pub use llm::{LlmAgent, ResponseFormat};
pub use search::{SearchAgent, SourceSettings};
pub use tool::{ComponentTool, Tool, ToolAgent};

use super::config::Config;
use super::fields::kind;
use super::on_error::OnError;
use super::{Fields, check_schema};
use crate::fault::Faults;
use crate::ids::Name;

/// Who does a step.
#[derive(Debug, Clone)]
pub struct Agent {
    pub id: Name,
    pub description: Option<String>,
    /// How long one attempt of a step may take, waiting included.
    pub timeout: Option<Duration>,
    pub(crate) on_error: Option<OnError>,
    /// JSON schema of the step's output.
    pub output_schema: Option<Value>,
    /// Whether a step that a crash interrupted may be tried again without asking.
    pub idempotent: bool,
    /// How long an answer may be given again to the same input.
    pub cache: Option<Duration>,
    pub kind: AgentKind,
    pub(crate) pointer: String,
}

impl Agent {
    /// JSON pointer to the agent in its document.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }
}

/// What kind of agent it is, with the fields of its kind.
#[derive(Debug, Clone)]
pub enum AgentKind {
    Llm(LlmAgent),
    Code(Box<CodeAgent>),
    Search(SearchAgent),
    Tool(ToolAgent),
    Human(HumanAgent),
}

impl AgentKind {
    /// The word in the document.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Llm(_) => "llm",
            Self::Code(_) => "code",
            Self::Search(_) => "search",
            Self::Tool(_) => "tool",
            Self::Human(_) => "human",
        }
    }
}

/// More agents than a document can need.
const AGENTS_MAX: usize = 1_000;

const TYPES: [&str; 5] = ["llm", "code", "search", "tool", "human"];

/// The ids that agents of a list have, also those that are not well-formed otherwise.
pub(crate) fn declared_ids(agents: Option<&Value>) -> impl Iterator<Item = &str> {
    let agents = agents.and_then(Value::as_array);
    agents
        .into_iter()
        .flatten()
        .filter_map(|agent| agent.get("id")?.as_str())
}

pub(crate) fn read_agents(value: &Value, pointer: &str, faults: &mut Faults) -> Vec<Agent> {
    let Some(items) = value.as_array() else {
        faults.add(
            pointer,
            format!("this is {}, it must be a list of agents", kind(value)),
        );
        return Vec::new();
    };
    if items.len() > AGENTS_MAX {
        faults.add(
            pointer,
            format!("a workflow has at most {AGENTS_MAX} agents"),
        );
        return Vec::new();
    }
    items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| read_agent(item, &format!("{pointer}/{index}"), faults))
        .collect()
}

fn read_agent(value: &Value, pointer: &str, faults: &mut Faults) -> Option<Agent> {
    let mut fields = Fields::of(value, pointer, faults)?;
    let id = match fields.required("id", faults) {
        Some(_) => fields.name("id", faults),
        None => None,
    };
    let description = fields.text("description", faults);
    let timeout = fields.millis("timeout_ms", Config::DELAY_MS_MAX, faults);
    let on_error = fields
        .value("on_error")
        .and_then(|value| OnError::read(value, &fields.at("on_error"), faults));
    let output_schema = fields.value("output_schema").cloned();
    if let Some(schema) = &output_schema {
        check_schema(schema, &fields.at("output_schema"), faults);
    }
    let idempotent = fields.flag("idempotent", faults).unwrap_or(true);
    let cache = read_cache(&mut fields, faults);
    let word = fields.required_text("type", faults)?;
    let kind = match word.as_str() {
        "llm" => llm::read(&mut fields, faults).map(AgentKind::Llm),
        "code" => code::read(&mut fields, faults).map(|code| AgentKind::Code(Box::new(code))),
        "search" => search::read(&mut fields, faults).map(AgentKind::Search),
        "tool" => tool::read(&mut fields, faults).map(AgentKind::Tool),
        "human" => human::read(&mut fields, faults).map(AgentKind::Human),
        _ => {
            let known = crate::fault::suggestion(&word, TYPES);
            faults.add(
                fields.at("type"),
                format!("`{word}` is no type of agent{known}"),
            );
            return None;
        }
    };
    fields.finish(faults);
    Some(Agent {
        id: id?,
        description,
        timeout,
        on_error,
        output_schema,
        idempotent,
        cache,
        kind: kind?,
        pointer: pointer.to_owned(),
    })
}

/// A year: older answers are no answers.
const CACHE_SECONDS_MAX: u32 = 31_536_000;

fn read_cache(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Duration> {
    let value = fields.value("cache")?;
    let mut cache = Fields::of(value, &fields.at("cache"), faults)?;
    let seconds = match cache.required("ttl_s", faults) {
        Some(_) => cache.count_from_one("ttl_s", CACHE_SECONDS_MAX, faults),
        None => None,
    };
    cache.finish(faults);
    seconds.map(|seconds| Duration::from_secs(u64::from(seconds)))
}
