//! The shape of what a code agent may use and of what it asks to be given.

use schemars::JsonSchema;
use serde_json::json;

use super::{STEP_MS_MAX, USD_MAX};

/// What one call of a code agent may use.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Limits {
    /// Fuel, about one for each WebAssembly instruction.
    fuel: Option<u64>,
    /// Memory, in MiB.
    #[schemars(range(max = 4096))]
    memory_mb: Option<u64>,
    /// Running time of the code itself, in milliseconds; waiting for a model or a person does not count.
    #[schemars(range(max = STEP_MS_MAX))]
    timeout_ms: Option<u64>,
    /// Size of the result, and of what is printed, in KiB.
    #[schemars(range(max = 1_048_576))]
    output_kb: Option<u64>,
    /// Calls to the host.
    #[schemars(range(max = 1_000_000))]
    host_calls: Option<u64>,
    /// Bytes of all calls to the host and their answers, in KiB.
    #[schemars(range(max = 16_777_216))]
    host_kb: Option<u64>,
    /// Log lines, in KiB; more are dropped and counted.
    #[schemars(range(max = 1_048_576))]
    log_kb: Option<u64>,
    /// Growth of the files of each folder that may be written, in MiB.
    #[schemars(range(max = 1_048_576))]
    disk_mb: Option<u64>,
    /// Files and folders that are open at one time.
    #[schemars(range(max = 256))]
    open_files: Option<u64>,
    /// Core instances that the component is made of.
    #[schemars(range(max = 64))]
    instances: Option<u64>,
}

/// What a code agent asks to be given.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Grants {
    /// Folders: a scratch folder, and folders that the operator grants.
    files: Option<Vec<FileGrant>>,
    /// Where HTTP requests may go.
    #[schemars(example = json!(["https://api.example.com"]))]
    hosts: Option<Vec<String>>,
    /// Names of environment variables.
    env: Option<Vec<String>>,
    /// Secrets that are put into requests; the code never sees them.
    secrets: Option<Vec<SecretGrant>>,
    /// Language models.
    llm: Option<LlmGrant>,
    /// Search sources.
    #[schemars(example = json!(["document"]))]
    search: Option<Vec<String>>,
    /// Tools, by name.
    tools: Option<Vec<String>>,
    /// The people it may ask: anybody, or those who are named.
    human: Option<HumanGrant>,
    /// Whether it may keep values from one execution to the next.
    memory: Option<bool>,
}

/// The people that code may ask.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum HumanGrant {
    /// Whether it may ask anybody.
    Anybody(bool),
    /// Those whom it may ask.
    Named(Assignees),
}

/// People by name.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Assignees {
    /// Persons or groups, as the code names them.
    #[schemars(length(min = 1), example = json!(["moderation-team@company.com"]))]
    assignees: Vec<String>,
}

/// A folder.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FileGrant {
    /// The operator's name for the folder; `scratch` is one that is empty when a call begins and gone when it ends.
    #[schemars(length(min = 1), example = &"scratch")]
    path: String,
    /// Where the code sees it.
    #[schemars(length(min = 1), example = "/data")]
    at: String,
    /// Whether it may be written. Without it the scratch folder may, and others may not.
    mode: Option<FileMode>,
}

/// Whether a folder may be written.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum FileMode {
    /// Read only.
    Ro,
    /// Read and write.
    Rw,
}

/// A secret that is put into requests to one host.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SecretGrant {
    /// The secret's name in the operator's configuration.
    #[schemars(length(min = 1))]
    name: String,
    /// The host to which it is sent.
    #[schemars(length(min = 1), example = "https://api.example.com")]
    host: String,
    /// The header that carries it.
    #[schemars(length(min = 1), example = &"Authorization")]
    header: String,
}

/// Language models that code may ask.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LlmGrant {
    /// The models' names.
    #[schemars(example = json!(["gpt-5-mini"]))]
    models: Option<Vec<String>>,
    /// Most that the agent may spend on them in one step, all its attempts together, in US dollars.
    #[schemars(range(min = 0.0, max = USD_MAX))]
    budget_usd: Option<f64>,
}
