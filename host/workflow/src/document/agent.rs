//! The agents of a document.

use std::time::Duration;

use serde_json::Value;

use super::config::Config;
use super::fields::kind;
use super::step::OnError;
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

/// A language model with its instructions.
#[derive(Debug, Clone)]
pub struct LlmAgent {
    pub model: String,
    /// A template, as the author wrote it.
    pub(crate) system_prompt: Option<String>,
    pub temperature: Option<f64>,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    /// Tried in order when the model's service fails.
    pub fallback_models: Vec<String>,
}

/// Source code for an interpreter, or a component.
#[derive(Debug, Clone)]
pub struct CodeAgent {
    pub source: CodeSource,
    pub limits: Limits,
    pub grants: Grants,
}

/// What a code agent runs.
#[derive(Debug, Clone)]
pub enum CodeSource {
    /// Source code in the document.
    Inline { language: Language, code: String },
    /// A component by its digest, `sha256:…`.
    Component { reference: String },
}

/// A language with an interpreter component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    Python,
    JavaScript,
}

impl Language {
    /// The words in documents and on the command line.
    pub const WORDS: [(&'static str, Self); 2] =
        [("python", Self::Python), ("javascript", Self::JavaScript)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
        }
    }
}

/// What one call of a component may use; none: the operator's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub fuel: Option<u64>,
    pub memory_mb: Option<u64>,
    /// The component's own running time; waiting for the host does not count.
    pub timeout: Option<Duration>,
    pub output_kb: Option<u64>,
    pub host_calls: Option<u64>,
}

/// What a component asks to be given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grants {
    /// The models it may ask; none: no model.
    pub llm_models: Option<Vec<String>>,
    /// The sources it may search; none: no search.
    pub search: Option<Vec<String>>,
}

/// Search services and indexes.
#[derive(Debug, Clone)]
pub struct SearchAgent {
    /// `web`, `news`, `academic`, `document`, `database` or names of configured sources.
    pub sources: Vec<String>,
    /// Most results for each query and source.
    pub max_results: u32,
}

/// Functions of the outside.
#[derive(Debug, Clone)]
pub struct ToolAgent {
    pub tools: Vec<String>,
}

/// People.
#[derive(Debug, Clone)]
pub struct HumanAgent {
    pub assignees: Vec<String>,
    pub timeout: Option<Duration>,
    pub form: Option<Value>,
    pub on_timeout: OnTimeout,
    pub escalate_to: Vec<String>,
    pub approvals_required: u32,
}

/// What happens when a person does not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    Fail,
    Approve,
    Reject,
    Escalate,
}

/// More agents than a document can need.
const AGENTS_MAX: usize = 1_000;
/// Results of one query: protects prompts and the journal.
const RESULTS_MAX: u64 = 100;
const RESULTS_DEFAULT: u32 = 10;

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
    let timeout = fields
        .count("timeout_ms", Config::DELAY_MS_MAX, faults)
        .map(Duration::from_millis);
    let on_error = fields
        .value("on_error")
        .and_then(|value| OnError::read(value, &fields.at("on_error"), faults));
    let output_schema = fields.value("output_schema").cloned();
    if let Some(schema) = &output_schema {
        check_schema(schema, &fields.at("output_schema"), faults);
    }
    let idempotent = fields.flag("idempotent", faults).unwrap_or(true);
    if fields.value("cache").is_some() {
        faults.add(
            fields.at("cache"),
            "`cache` is not available in this version of Troupe",
        );
    }
    let word = fields.required_text("type", faults)?;
    let kind = match word.as_str() {
        "llm" => read_llm(&mut fields, faults).map(AgentKind::Llm),
        "code" => read_code(&mut fields, faults).map(|code| AgentKind::Code(Box::new(code))),
        "search" => read_search(&mut fields, faults).map(AgentKind::Search),
        "tool" => read_tool(&mut fields, faults).map(AgentKind::Tool),
        "human" => read_human(&mut fields, faults).map(AgentKind::Human),
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
        kind: kind?,
        pointer: pointer.to_owned(),
    })
}

fn read_llm(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<LlmAgent> {
    let model = fields.required_text("model", faults);
    let system_prompt = fields.text("system_prompt", faults);
    let temperature = fields.number("temperature", faults);
    if temperature.is_some_and(|degrees| !(0.0..=2.0).contains(&degrees)) {
        faults.add(
            fields.at("temperature"),
            "the temperature lies between 0 and 2",
        );
    }
    let max_tokens = fields
        .count("max_tokens", u64::from(u32::MAX), faults)
        .and_then(|count| u32::try_from(count).ok());
    if max_tokens == Some(0) {
        faults.add(
            fields.at("max_tokens"),
            "a model needs at least 1 token to answer",
        );
    }
    let stop = fields.texts("stop", faults).unwrap_or_default();
    let fallback_models = fields.texts("fallback_models", faults).unwrap_or_default();
    for later in ["tools", "max_turns", "response_format"] {
        if fields.value(later).is_some() {
            faults.add(
                fields.at(later),
                format!("`{later}` is not available in this version of Troupe"),
            );
        }
    }
    Some(LlmAgent {
        model: model?,
        system_prompt,
        temperature,
        max_tokens,
        stop,
        fallback_models,
    })
}

fn read_code(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<CodeAgent> {
    let limits = fields
        .value("limits")
        .map(|value| Limits::read(value, &fields.at("limits"), faults))
        .unwrap_or_default();
    let grants = fields
        .value("grants")
        .map(|value| Grants::read(value, &fields.at("grants"), faults))
        .unwrap_or_default();
    let language = fields.choice("language", &Language::WORDS, faults);
    let code = fields.text("code", faults);
    let component = fields.text("component", faults);
    if fields.value("file").is_some() {
        faults.add(
            fields.at("file"),
            "a stored document names no files; `troupe run` puts the file's text into `code`",
        );
    }
    let pointer = fields.pointer().to_owned();
    let source = match (code, component) {
        (Some(code), None) => match language {
            Some(language) => Some(CodeSource::Inline { language, code }),
            None => {
                if !fields.has("language") {
                    faults.add(
                        pointer,
                        "`language` is missing: \"python\" or \"javascript\"",
                    );
                }
                None
            }
        },
        (None, Some(reference)) => {
            if fields.has("language") {
                faults.add(fields.at("language"), "a component has no `language`");
            }
            Some(CodeSource::Component { reference })
        }
        (Some(_), Some(_)) => {
            faults.add(pointer, "give either `code` or `component`, not both");
            None
        }
        (None, None) => {
            faults.add(
                pointer,
                "a code agent needs `language` and `code`, or `component`",
            );
            None
        }
    };
    Some(CodeAgent {
        source: source?,
        limits,
        grants,
    })
}

impl Limits {
    fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Self {
        let Some(mut fields) = Fields::of(value, pointer, faults) else {
            return Self::default();
        };
        let limits = Self {
            fuel: fields.count("fuel", u64::MAX, faults),
            memory_mb: fields.count("memory_mb", 4096, faults),
            timeout: fields
                .count("timeout_ms", Config::DELAY_MS_MAX, faults)
                .map(Duration::from_millis),
            output_kb: fields.count("output_kb", 1024 * 1024, faults),
            host_calls: fields.count("host_calls", 1_000_000, faults),
        };
        fields.finish(faults);
        limits
    }
}

impl Grants {
    fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Self {
        let Some(mut fields) = Fields::of(value, pointer, faults) else {
            return Self::default();
        };
        let llm_models = fields.value("llm").and_then(|value| {
            let mut llm = Fields::of(value, &fields.at("llm"), faults)?;
            let models = llm.texts("models", faults);
            if llm.value("budget_usd").is_some() {
                faults.add(
                    llm.at("budget_usd"),
                    "`budget_usd` of a grant is not available in this version of Troupe",
                );
            }
            llm.finish(faults);
            models
        });
        let search = fields.texts("search", faults);
        for later in [
            "files", "hosts", "env", "secrets", "tools", "human", "memory",
        ] {
            if fields.value(later).is_some() {
                faults.add(
                    fields.at(later),
                    format!("the grant `{later}` is not available in this version of Troupe"),
                );
            }
        }
        fields.finish(faults);
        Self { llm_models, search }
    }
}

fn read_search(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<SearchAgent> {
    let sources = match fields.required("sources", faults) {
        Some(_) => fields.texts("sources", faults),
        None => None,
    };
    if sources.as_ref().is_some_and(Vec::is_empty) {
        faults.add(
            fields.at("sources"),
            "a search agent needs at least one source",
        );
    }
    let max_results = fields
        .count("max_results", RESULTS_MAX, faults)
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(RESULTS_DEFAULT);
    Some(SearchAgent {
        sources: sources?,
        max_results,
    })
}

fn read_tool(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<ToolAgent> {
    let tools = match fields.required("tools", faults) {
        Some(_) => fields.texts("tools", faults),
        None => None,
    };
    Some(ToolAgent { tools: tools? })
}

fn read_human(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<HumanAgent> {
    let assignees = match fields.required("assignees", faults) {
        Some(_) => fields.texts("assignees", faults),
        None => None,
    };
    let timeout = fields
        .count("timeout_hours", 24 * 366 * 10, faults)
        .map(|hours| Duration::from_secs(hours * 3600));
    let form = fields.value("form").cloned();
    if let Some(schema) = &form {
        check_schema(schema, &fields.at("form"), faults);
    }
    let words = [
        ("fail", OnTimeout::Fail),
        ("approve", OnTimeout::Approve),
        ("reject", OnTimeout::Reject),
        ("escalate", OnTimeout::Escalate),
    ];
    let on_timeout = fields
        .choice("on_timeout", &words, faults)
        .unwrap_or(OnTimeout::Fail);
    let escalate_to = fields.texts("escalate_to", faults).unwrap_or_default();
    let approvals_required = fields
        .count("approvals_required", 1_000, faults)
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(1);
    Some(HumanAgent {
        assignees: assignees?,
        timeout,
        form,
        on_timeout,
        escalate_to,
        approvals_required,
    })
}
