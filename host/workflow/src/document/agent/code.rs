//! Agents that are code: source for an interpreter, or a component; with its limits and grants.

use std::time::Duration;

use serde_json::Value;

use super::super::Fields;
use super::super::config::Config;
use crate::fault::Faults;
use crate::money::MicroUsd;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub host_kb: Option<u64>,
    pub log_kb: Option<u64>,
    pub disk_mb: Option<u64>,
    pub open_files: Option<u64>,
    pub instances: Option<u64>,
}

/// What a component asks to be given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grants {
    /// The models it may ask; none: no model.
    pub llm_models: Option<Vec<String>>,
    /// What its models may cost in one step, all attempts together; none: what the execution has.
    pub llm_budget: Option<MicroUsd>,
    /// The sources it may search; none: no search.
    pub search: Option<Vec<String>>,
    /// The people it may ask; none: nobody.
    pub human: Option<HumanGrant>,
    /// The tools it may call: ids of tool agents, or names of tools; none: no tool.
    pub tools: Option<Vec<String>>,
    /// Where it may send HTTP requests, as scheme, host and port.
    pub hosts: Vec<String>,
    /// Secrets that it may use without knowing them.
    pub secrets: Vec<SecretGrant>,
    /// The folders it may use.
    pub files: Vec<FileGrant>,
    /// The names of environment variables that it may read.
    pub env: Vec<String>,
    /// Whether it may remember something from one execution to the next.
    pub memory: bool,
}

/// People whom a component may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HumanGrant {
    /// Persons or groups; none: anybody.
    pub assignees: Option<Vec<String>>,
}

/// A folder, as a component asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileGrant {
    /// The operator's name for it, or [`FileGrant::SCRATCH`].
    pub path: String,
    /// Where the component sees it: `/`, and names that are parted by `/`.
    pub at: String,
    pub is_writable: bool,
}

impl FileGrant {
    /// The folder that is empty when a call begins, and gone when it ends. It needs no grant of the operator's.
    pub const SCRATCH: &str = "scratch";

    /// Whether a text is `/` and names that are parted by `/`.
    pub fn is_place(text: &str) -> bool {
        const BYTES_MAX: usize = 256;
        let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
        text.len() <= BYTES_MAX
            && text
                .strip_prefix('/')
                .is_some_and(|names| names.split('/').all(is_name))
    }
}

/// A secret of the operator's that goes into one header of requests to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretGrant {
    pub name: String,
    pub host: String,
    pub header: String,
}

pub(super) fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<CodeAgent> {
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
            check_reference(&reference, &fields.at("component"), faults);
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

/// Refuses a component that is named by a path of some machine.
pub(super) fn check_reference(reference: &str, place: &str, faults: &mut Faults) {
    if !reference.starts_with("sha256:") && !reference.contains("://") {
        let message = format!(
            "`{reference}` is no digest (`sha256:…`); a stored document names no files, `troupe run` puts the digest of a component's file in its place"
        );
        faults.add(place.to_owned(), message);
    }
}

impl Limits {
    pub(super) fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Self {
        let Some(mut fields) = Fields::of(value, pointer, faults) else {
            return Self::default();
        };
        let limits = Self {
            fuel: fields.count("fuel", u64::MAX, faults),
            memory_mb: fields.count("memory_mb", 4096, faults),
            timeout: fields.millis("timeout_ms", Config::DELAY_MS_MAX, faults),
            output_kb: fields.count("output_kb", 1024 * 1024, faults),
            host_calls: fields.count("host_calls", 1_000_000, faults),
            host_kb: fields.count("host_kb", 16 * 1024 * 1024, faults),
            log_kb: fields.count("log_kb", 1024 * 1024, faults),
            disk_mb: fields.count("disk_mb", 1024 * 1024, faults),
            open_files: fields.count("open_files", 256, faults),
            instances: fields.count("instances", 64, faults),
        };
        fields.finish(faults);
        limits
    }
}

impl Grants {
    /// Whether an environment can hold a variable of this name.
    pub fn is_variable_name(name: &str) -> bool {
        !name.is_empty() && !name.contains(['=', '\0'])
    }

    fn read(value: &Value, pointer: &str, faults: &mut Faults) -> Self {
        let Some(mut fields) = Fields::of(value, pointer, faults) else {
            return Self::default();
        };
        let mut grants = Self {
            search: fields.texts("search", faults),
            tools: fields.texts("tools", faults),
            ..Self::default()
        };
        grants.read_llm(&mut fields, faults);
        grants.files = read_files(&mut fields, faults);
        grants.secrets = read_secrets(&mut fields, faults);
        grants.hosts = fields.texts("hosts", faults).unwrap_or_default();
        grants.env = read_env(&mut fields, faults);
        grants.human = read_human(&mut fields, faults);
        grants.memory = fields.flag("memory", faults).unwrap_or(false);
        fields.finish(faults);
        grants
    }

    fn read_llm(&mut self, fields: &mut Fields<'_>, faults: &mut Faults) {
        let place = fields.at("llm");
        let Some(value) = fields.value("llm") else {
            return;
        };
        let Some(mut llm) = Fields::of(value, &place, faults) else {
            return;
        };
        self.llm_models = llm.texts("models", faults);
        if let Some(dollars) = llm.number("budget_usd", faults) {
            match MicroUsd::from_dollars(dollars) {
                Ok(budget) => self.llm_budget = Some(budget),
                Err(error) => faults.add(llm.at("budget_usd"), error.to_string()),
            }
        }
        llm.finish(faults);
    }
}

/// `env: [NAME]`
fn read_env(fields: &mut Fields<'_>, faults: &mut Faults) -> Vec<String> {
    let names = fields.texts("env", faults).unwrap_or_default();
    for (index, name) in names.iter().enumerate() {
        if !Grants::is_variable_name(name) {
            let message = format!(
                "`{}` is no name of a variable: one is not empty, and has neither `=` nor a NUL; write it like `REGION`",
                name.escape_debug()
            );
            faults.add(format!("{}/{index}", fields.at("env")), message);
        }
    }
    names
}

/// `human: true`, or `human: {assignees: […]}`
fn read_human(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<HumanGrant> {
    let place = fields.at("human");
    match fields.value("human")? {
        Value::Bool(is_granted) => is_granted.then_some(HumanGrant { assignees: None }),
        value if !value.is_object() => {
            let what = "true, false, or an object with `assignees`";
            fields.expected("human", value, what, faults);
            None
        }
        value => {
            let mut human = Fields::of(value, &place, faults)?;
            let assignees = human.texts("assignees", faults);
            if assignees.as_ref().is_none_or(Vec::is_empty) {
                let message =
                    "name the `assignees` whom it may ask, or write `\"human\": true` for anybody";
                faults.add(place, message);
            }
            human.finish(faults);
            Some(HumanGrant {
                assignees: Some(assignees.unwrap_or_default()),
            })
        }
    }
}

/// Folders of one agent. Each is a handle of the process while it runs.
const FILES_MAX: usize = 32;

/// `files: [{path, at, mode}]`
fn read_files(fields: &mut Fields<'_>, faults: &mut Faults) -> Vec<FileGrant> {
    let mut files: Vec<FileGrant> = Vec::new();
    let items = fields.items("files", faults);
    if items.len() > FILES_MAX {
        let message = format!("an agent has at most {FILES_MAX} folders");
        faults.add(fields.at("files"), message);
    }
    for (place, value) in items.take(FILES_MAX) {
        let Some(mut file) = Fields::of(value, &place, faults) else {
            continue;
        };
        let [path, at] = ["path", "at"].map(|field| file.required_text(field, faults));
        let mode = file.choice("mode", &[("ro", false), ("rw", true)], faults);
        let (at_path, at_at) = (file.at("path"), file.at("at"));
        file.finish(faults);
        let (Some(path), Some(at)) = (path, at) else {
            continue;
        };
        if path.contains(['/', '\\']) || path == "." || path == ".." {
            let message = format!(
                "`{path}` is a path of a machine; name a folder that the operator grants, or `scratch`"
            );
            faults.add(at_path, message);
        } else if path == FileGrant::SCRATCH && files.iter().any(|file| file.path == path) {
            faults.add(at_path, "there is one scratch folder for each agent");
        }
        if !FileGrant::is_place(&at) {
            let message = format!(
                "`{at}` is no place of a folder; write it like `/data`, without `.` and `..`"
            );
            faults.add(at_at, message);
        } else if files.iter().any(|file| file.at == at) {
            faults.add(at_at, format!("another folder is at `{at}` already"));
        }
        let is_writable = mode.unwrap_or(path == FileGrant::SCRATCH);
        files.push(FileGrant {
            path,
            at,
            is_writable,
        });
    }
    files
}

/// `secrets: [{name, host, header}]`
fn read_secrets(fields: &mut Fields<'_>, faults: &mut Faults) -> Vec<SecretGrant> {
    let mut secrets = Vec::new();
    for (place, value) in fields.items("secrets", faults) {
        let Some(mut secret) = Fields::of(value, &place, faults) else {
            continue;
        };
        let [name, host, header] =
            ["name", "host", "header"].map(|field| secret.required_text(field, faults));
        secret.finish(faults);
        if let (Some(name), Some(host), Some(header)) = (name, host, header) {
            secrets.push(SecretGrant { name, host, header });
        }
    }
    secrets
}
