//! The shape of agents: one closed object for each `type`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::on_error::OnError;
use super::sandbox::{Grants, Limits};
use super::{Id, STEP_MS_MAX, SchemaValue};

/// The longest wait for a person: ten years.
const HOURS_MAX: f64 = 87_840.0;

/// Who does a step; its `type` says which fields it has.
pub(super) struct Agent;

impl JsonSchema for Agent {
    fn schema_name() -> Cow<'static, str> {
        "Agent".into()
    }

    /// Conditions on `type` rather than alternatives: an editor then names the faulty field instead of saying
    /// that no alternative fits.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let forms = [
            ("llm", generator.subschema_for::<LlmAgent>()),
            ("code", generator.subschema_for::<CodeAgent>()),
            ("search", generator.subschema_for::<SearchAgent>()),
            ("tool", generator.subschema_for::<ToolAgent>()),
            ("human", generator.subschema_for::<HumanAgent>()),
        ];
        let rules = forms.map(|(word, form)| {
            let is_it = json!({
                "type": "object",
                "properties": { "type": { "const": word } },
                "required": ["type"],
            });
            json!({ "if": is_it, "then": form })
        });
        json_schema!({
            "description": "Who does a step; its `type` says which fields it has.",
            "type": "object",
            "properties": {
                "id": described::<Id>(generator, "The name by which steps call the agent."),
                "type": described::<AgentType>(generator, "What kind of agent it is."),
            },
            "required": ["id", "type"],
            "allOf": rules,
        })
    }
}

/// A reference to the schema of `T`, with what it means in this place.
pub(super) fn described<T: JsonSchema>(generator: &mut SchemaGenerator, meaning: &str) -> Schema {
    let mut schema = generator.subschema_for::<T>();
    schema.insert("description".to_owned(), meaning.into());
    schema
}

/// What kind of agent it is.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum AgentType {
    /// A language model.
    Llm,
    /// Source code, or a WebAssembly component, in a sandbox.
    Code,
    /// Search services and indexes.
    Search,
    /// Functions of the outside: HTTP APIs, MCP servers, components.
    Tool,
    /// People, who approve or reject.
    Human,
}

#[derive(JsonSchema)]
struct Common {
    /// The name by which steps call the agent.
    id: Id,
    /// What the agent does, for people and for models that use it as a tool.
    description: Option<String>,
    /// Longest time of one attempt of a step, in milliseconds, waiting included.
    #[schemars(range(min = 1, max = STEP_MS_MAX))]
    timeout_ms: Option<u64>,
    /// What happens when a step of this agent fails that says nothing about it.
    on_error: Option<OnError>,
    /// JSON schema of the output. An output that violates it fails the step; a model is asked once more.
    output_schema: Option<SchemaValue>,
    /// Whether a step that a crash interrupted is tried again without asking. With `false` the execution pauses
    /// and a person decides.
    #[schemars(extend("default" = true))]
    idempotent: Option<bool>,
    /// Keeps answers: the same agent with the same input gives the same answer, at no cost.
    cache: Option<Cache>,
}

/// How long answers are kept.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Cache {
    /// Seconds that an answer is kept, up to a year.
    #[schemars(range(min = 1, max = 31_536_000), example = 3600)]
    ttl_s: u64,
}

/// A language model with its instructions.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LlmAgent {
    #[schemars(flatten)]
    common: Common,
    /// A language model.
    #[schemars(extend("const" = "llm"))]
    r#type: String,
    /// The model's name in the operator's configuration.
    #[schemars(length(min = 1), example = "gpt-5-mini")]
    model: String,
    /// Instructions to the model; a template.
    system_prompt: Option<String>,
    /// How freely the model chooses its words: 0 hardly, 2 wildly.
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f64>,
    /// Most tokens of one answer.
    #[schemars(range(min = 1, max = u32::MAX))]
    max_tokens: Option<u32>,
    /// Texts at which the answer ends.
    stop: Option<Vec<String>>,
    /// Tools that the model may call: ids of tool agents, or names of tools.
    tools: Option<Vec<String>>,
    /// Most answers of the model in one step, where it calls tools.
    #[schemars(range(min = 1, max = 100), extend("default" = 10))]
    max_turns: Option<u32>,
    /// Models that are asked in turn when the service of the one before fails.
    fallback_models: Option<Vec<String>>,
    /// What the answer must be. Without it JSON is taken as JSON and everything else as text.
    response_format: Option<ResponseFormat>,
}

/// What a model's answer must be.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum ResponseFormat {
    /// The value is the text, even if it looks like JSON.
    Text,
    /// The answer must be JSON; if it is not, the model is asked once more.
    Json,
}

/// Source code for an interpreter, or a WebAssembly component, in a sandbox.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = code_sources(), "allOf" = language_rules()))]
struct CodeAgent {
    #[schemars(flatten)]
    common: Common,
    /// Source code, or a WebAssembly component, in a sandbox.
    #[schemars(extend("const" = "code"))]
    r#type: String,
    /// The language of `code` or `file`. Of a file it follows from the ending `.py`, `.js` or `.mjs`.
    language: Option<Language>,
    /// The source. The input is the variable `input`. The output is the value of `result`, or what a function
    /// called like the action returns, or the last expression (Python) or `return` (JavaScript).
    #[schemars(example = "result = sorted(input)")]
    code: Option<String>,
    /// Instead of `code`: a source file beside this document. The command line puts its text into `code`.
    #[schemars(length(min = 1), example = "rank.py")]
    file: Option<String>,
    /// Instead of source code: a component, as a path beside this document, `oci://…`, or `sha256:…`.
    #[schemars(length(min = 1), example = "fact-checker.wasm")]
    component: Option<String>,
    /// What one call may use; the operator's limits are the ceiling.
    limits: Option<Limits>,
    /// What the code asks to be given; it gets as much of it as the operator allows.
    grants: Option<Grants>,
}

/// Exactly one of `code`, `file` and `component`.
fn code_sources() -> Value {
    json!([{ "required": ["code"] }, { "required": ["file"] }, { "required": ["component"] }])
}

/// A language for source code, unless its file says it; none for a component.
fn language_rules() -> Value {
    let speaks_for_itself = json!({ "properties": { "file": { "pattern": r"\.(py|js|mjs)$" } } });
    json!([
        { "if": { "required": ["code"] }, "then": { "required": ["language"] } },
        {
            "if": { "required": ["file"], "not": speaks_for_itself },
            "then": { "required": ["language"] },
        },
        { "if": { "required": ["component"] }, "then": { "properties": { "language": false } } },
    ])
}

/// A language with an interpreter.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Language {
    Python,
    JavaScript,
}

/// Search services and indexes. Settings of a source stand under its name.
#[derive(JsonSchema)]
#[schemars(extend("additionalProperties" = {
    "type": "object",
    "description": "Settings of the source with this name.",
    "properties": {
        "max_results": {
            "type": "integer", "minimum": 1, "maximum": 100,
            "description": "Most results of this source for each query.",
        },
    },
    "additionalProperties": false,
}))]
struct SearchAgent {
    #[schemars(flatten)]
    common: Common,
    /// Search services and indexes.
    #[schemars(extend("const" = "search"))]
    r#type: String,
    /// `web`, `news`, `academic`, `document`, `database`, or names of sources in the operator's configuration.
    #[schemars(length(min = 1), example = json!(["web", "news", "academic"]))]
    sources: Vec<String>,
    /// Most results for each query and source.
    #[schemars(range(min = 1, max = 100), extend("default" = 10))]
    max_results: Option<u32>,
    /// Settings of the source `web`.
    web: Option<SourceSettings>,
    /// Settings of the source `news`.
    news: Option<SourceSettings>,
    /// Settings of the source `academic`.
    academic: Option<SourceSettings>,
    /// Settings of the source `document`.
    document: Option<SourceSettings>,
    /// Settings of the source `database`.
    database: Option<SourceSettings>,
}

/// What one source is asked differently.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SourceSettings {
    /// Most results of this source for each query.
    #[schemars(range(min = 1, max = 100))]
    max_results: Option<u32>,
}

/// Functions of the outside; a step's `action` picks one.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ToolAgent {
    #[schemars(flatten)]
    common: Common,
    /// Functions of the outside: HTTP APIs, MCP servers, components.
    #[schemars(extend("const" = "tool"))]
    r#type: String,
    /// Its tools: components, or names in the operator's configuration.
    #[schemars(length(min = 1), example = json!(["content_api"]))]
    tools: Vec<Tool>,
}

/// Where functions come from.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Tool {
    /// A tool of the operator's configuration.
    Named(String),
    /// A component, whose functions are the tool.
    Component(ComponentTool),
}

/// A component as a tool.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ComponentTool {
    /// What its functions are called by, before a point and their own names.
    name: Id,
    /// The component, as a path beside this document, `oci://…`, or `sha256:…`.
    #[schemars(length(min = 1), example = "calculator.wasm")]
    component: String,
    /// What one call of it may use.
    limits: Option<Limits>,
}

/// People, who approve or reject.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("allOf" = deadline_rules()))]
struct HumanAgent {
    #[schemars(flatten)]
    common: Common,
    /// People, who approve or reject.
    #[schemars(extend("const" = "human"))]
    r#type: String,
    /// Who is asked.
    #[schemars(length(min = 1), example = json!(["moderation-team@company.com"]))]
    assignees: Vec<String>,
    /// How long they have, in hours; parts of an hour are allowed. Without it the step waits for ever.
    #[schemars(range(max = HOURS_MAX), extend("exclusiveMinimum" = 0), example = 24)]
    timeout_hours: Option<f64>,
    /// JSON schema of the data that an approval must bring.
    form: Option<SchemaValue>,
    /// What happens when nobody has decided in time.
    #[schemars(extend("default" = "fail"))]
    on_timeout: Option<OnTimeout>,
    /// Who is asked next when nobody has decided in time: a person or a list of persons for each level.
    #[schemars(length(min = 1), example = json!(["lead@company.com", ["cto@company.com", "ceo@company.com"]]))]
    escalate_to: Option<Vec<Level>>,
    /// How many different persons must approve. The first rejection decides.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    approvals_required: Option<u32>,
}

/// What a deadline needs and what needs a deadline.
fn deadline_rules() -> Value {
    let is = |words: &[&str]| json!({ "properties": { "on_timeout": { "enum": words } }, "required": ["on_timeout"] });
    json!([
        { "if": is(&["approve", "reject", "escalate"]), "then": { "required": ["timeout_hours"] } },
        { "if": is(&["escalate"]), "then": { "required": ["escalate_to"] } },
    ])
}

/// What happens when nobody has decided in time.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum OnTimeout {
    /// The step fails.
    Fail,
    /// The step ends as approved.
    Approve,
    /// The step ends as rejected.
    Reject,
    /// Those of the next level of `escalate_to` are asked too, with the same time again.
    Escalate,
}

/// Who is asked at one level of an escalation.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Level {
    /// A person.
    One(String),
    /// Several persons.
    Many(#[schemars(length(min = 1))] Vec<String>),
}
