//! Reads a workflow document from a file, and puts into it what its files name: a stored document names no path.

mod added;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use troupe_workflow::{Definition, Faults};

use self::added::{Added, Named, component_named};
use super::{CliError, output};
use crate::components::Components;
use crate::models::Reach;
use crate::registry;

/// Protects memory; the largest document that makes sense is far smaller.
const BYTES_MAX: u64 = 64 << 20;
/// Protects memory and the journal; a program of this size is no agent.
const SOURCE_BYTES_MAX: u64 = 16 << 20;
/// In the place of a component's file while a document is checked: a stored document names digests, and which one does
/// not matter there.
const SOME_DIGEST: &str = "sha256:";

/// A document with the workflows that its steps name by their files, each with the file it came from.
pub(super) struct Gathered {
    pub(super) document: Value,
    parts: Vec<Part>,
}

/// One workflow of a document: itself, or one of its `workflows`.
struct Part {
    /// JSON pointer to it.
    pointer: String,
    path: PathBuf,
}

/// Whether a file's name says that it is YAML.
pub(super) fn is_yaml(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ["yaml", "yml"].contains(&ending))
}

/// Reads a document as it stands in its file, JSON or YAML.
pub(super) fn read(path: &Path) -> Result<Value, CliError> {
    read_value(path)
        .with_context(|| format!("the workflow {} cannot be read", path.display()))
        .map_err(CliError::Caller)
}

fn read_value(path: &Path) -> anyhow::Result<Value> {
    let about = std::fs::metadata(path)?;
    if about.len() > BYTES_MAX {
        return Err(anyhow!(
            "it has {} bytes; a document has at most {BYTES_MAX}",
            about.len()
        ));
    }
    let text = std::fs::read_to_string(path)?;
    if is_yaml(path) {
        return troupe_workflow::parse_yaml(&text)
            .map_err(|error| anyhow!("it is no YAML of a workflow: {error}"));
    }
    serde_json::from_str(&text).map_err(|error| anyhow!("it is no JSON: {error}"))
}

/// Reads a document and puts the workflows into it that its steps name by their files, and the text of files that
/// agents name.
pub(super) fn gather(path: &Path, faults: &mut Faults) -> Result<Gathered, CliError> {
    let mut gathered = Gathered {
        document: read(path)?,
        parts: vec![Part {
            pointer: String::new(),
            path: path.to_owned(),
        }],
    };
    let held = gathered
        .document
        .get("workflows")
        .and_then(Value::as_object);
    let held = held.into_iter().flat_map(|map| map.keys().cloned());
    let parts: Vec<Part> = held.map(|name| Part::held(&name, path)).collect();
    gathered.parts.extend(parts);
    // Those that are added may name others.
    let mut files = BTreeMap::new();
    let mut next = 0;
    while let Some(part) = gathered.parts.get(next) {
        let (pointer, path) = (part.pointer.clone(), part.path.clone());
        gathered.add_workflows(&pointer, &path, (&mut files, faults));
        next += 1;
    }
    for part in &gathered.parts {
        if let Some(document) = gathered.document.pointer_mut(&part.pointer) {
            inline_files(document, part, faults);
        }
    }
    Ok(gathered)
}

impl Part {
    fn held(name: &str, path: &Path) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        Self {
            pointer: format!("/workflows/{name}"),
            path: path.to_owned(),
        }
    }
}

impl Gathered {
    /// Puts the workflows that the steps of a part name by their files into the document, under their names.
    fn add_workflows(
        &mut self,
        pointer: &str,
        path: &Path,
        (files, faults): (&mut BTreeMap<PathBuf, String>, &mut Faults),
    ) {
        let mut named = Vec::new();
        if let Some(steps) = self.document.pointer(&format!("{pointer}/steps")) {
            workflow_files(steps, &format!("{pointer}/steps"), &mut named);
        }
        for (place, file) in named {
            let found = beside(path, &file);
            let known = found.canonicalize().unwrap_or_else(|_| found.clone());
            let name = match files.get(&known) {
                Some(name) => name.clone(),
                None => match read_value(&found) {
                    Ok(document) => {
                        let name = self.hold(document, &found);
                        files.insert(known, name.clone());
                        name
                    }
                    Err(error) => {
                        faults.add(
                            place,
                            format!("the workflow {file} cannot be read: {error:#}"),
                        );
                        continue;
                    }
                },
            };
            if let Some(reference) = self.document.pointer_mut(&place) {
                *reference = Value::String(name);
            }
        }
    }

    /// Puts a workflow into the document under its name, or the nearest that is free.
    fn hold(&mut self, document: Value, path: &Path) -> String {
        let own = document.get("name").and_then(Value::as_str);
        let own = own.unwrap_or("workflow").to_owned();
        let Some(root) = self.document.as_object_mut() else {
            return own;
        };
        let held = root
            .entry("workflows")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        let Some(held) = held.as_object_mut() else {
            return own;
        };
        let numbered = (2..).map(|number| format!("{own} ({number})"));
        let name = std::iter::once(own.clone())
            .chain(numbered)
            .find(|name| !held.contains_key(name))
            .unwrap_or(own);
        held.insert(name.clone(), document);
        self.parts.push(Part::held(&name, path));
        name
    }

    /// Adds each component that is named by a file or a registry's reference to this machine's components, and puts its
    /// digest in its place. What is named twice is added once.
    pub(super) async fn add_components(
        &mut self,
        (components, reach): (&Components, Reach),
        faults: &mut Faults,
    ) {
        let mut added = Added::new(components, reach);
        for part in &self.parts {
            let Some(document) = self.document.pointer_mut(&part.pointer) else {
                continue;
            };
            for (place, holder) in component_holders(document) {
                let Some(named) = component_named(holder, &part.path) else {
                    continue;
                };
                let digest = added.digest_of(&named).await.unwrap_or_else(|error| {
                    faults.add(format!("{}{place}/component", part.pointer), error);
                    SOME_DIGEST.to_owned()
                });
                holder.insert("component".to_owned(), Value::String(digest));
            }
        }
    }

    /// Notes component files that are not there, and what is no reference of a registry, which is not asked.
    fn check_components(&mut self, faults: &mut Faults) {
        for part in &self.parts {
            let Some(document) = self.document.pointer_mut(&part.pointer) else {
                continue;
            };
            for (place, holder) in component_holders(document) {
                let Some(named) = component_named(holder, &part.path) else {
                    continue;
                };
                let fault = match &named {
                    Named::File(found) if found.is_file() => None,
                    Named::File(found) => Some(format!("there is no file {}", found.display())),
                    Named::Elsewhere(text) => {
                        let read = registry::parse(text).err();
                        read.map(|error| format!("{error:#}"))
                    }
                };
                if let Some(fault) = fault {
                    faults.add(format!("{}{place}/component", part.pointer), fault);
                }
                holder.insert("component".to_owned(), SOME_DIGEST.into());
            }
        }
    }
}

/// Reads and checks a document with everything it names, without adding anything to this machine.
pub(super) fn checked(path: &Path) -> Result<(Value, Definition), CliError> {
    let mut faults = Faults::default();
    let mut gathered = gather(path, &mut faults)?;
    gathered.check_components(&mut faults);
    let definition = compile(&gathered.document, faults)?;
    Ok((gathered.document, definition))
}

/// The places of steps that name a workflow by its file.
fn workflow_files(value: &Value, pointer: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                workflow_files(item, &format!("{pointer}/{index}"), found);
            }
        }
        Value::Object(step) => {
            let file = step.get("workflow").and_then(Value::as_str);
            if let Some(file) = file.filter(|file| names_a_file(file)) {
                found.push((format!("{pointer}/workflow"), file.to_owned()));
            }
            for name in ["parallel", "then", "else", "loop", "steps"] {
                if let Some(inside) = step.get(name) {
                    workflow_files(inside, &format!("{pointer}/{name}"), found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn names_a_file(reference: &str) -> bool {
    let path = Path::new(reference);
    is_yaml(path) || path.extension().is_some_and(|ending| ending == "json")
}

/// Puts the text of each agent's `file` into its `code`, with the language of the file's name.
fn inline_files(document: &mut Value, part: &Part, faults: &mut Faults) {
    for (index, agent) in agents(document) {
        let Some(file) = agent.get("file").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        let place = format!("{}/agents/{index}/file", part.pointer);
        if agent.contains_key("code") {
            faults.add(place, "give either `code` or `file`, not both");
            agent.remove("file");
            continue;
        }
        let language = match Path::new(&file)
            .extension()
            .and_then(|ending| ending.to_str())
        {
            Some("py") => Some("python"),
            Some("js" | "mjs") => Some("javascript"),
            _ => None,
        };
        match read_source(&beside(&part.path, &file)) {
            Ok(code) => {
                agent.remove("file");
                agent.insert("code".to_owned(), Value::String(code));
                if let (Some(language), false) = (language, agent.contains_key("language")) {
                    agent.insert("language".to_owned(), Value::String(language.to_owned()));
                }
            }
            Err(error) => {
                faults.add(place, format!("the file {file} cannot be read: {error}"));
                // One fault for one mistake.
                agent.remove("file");
                agent.insert("code".to_owned(), Value::String(String::new()));
                agent.entry("language").or_insert_with(|| "python".into());
            }
        }
    }
}

/// Reads a source file: a regular one, for a document may come from a stranger and name a device.
fn read_source(path: &Path) -> std::io::Result<String> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    if about.len() > SOURCE_BYTES_MAX {
        let message = format!(
            "it has {} bytes; at most {SOURCE_BYTES_MAX} are read",
            about.len()
        );
        return Err(std::io::Error::other(message));
    }
    std::fs::read_to_string(path).map(without_mark)
}

/// A source without the mark of UTF-8 that some editors put before it, and that is none of any language.
pub(super) fn without_mark(source: String) -> String {
    match source.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => source,
    }
}

/// Compiles a document; faults found before are added to its own.
pub(super) fn compile(document: &Value, mut faults: Faults) -> Result<Definition, CliError> {
    let compiled = Definition::compile(document);
    if let Err(more) = &compiled {
        for fault in more.iter() {
            faults.push(fault.clone());
        }
    }
    match compiled {
        Ok(definition) if faults.is_empty() => Ok(definition),
        _ => Err(invalid(&faults)),
    }
}

/// Says what is no fault and may surprise.
pub(super) fn warn(definition: &Definition) {
    for warning in definition.warnings().iter() {
        output::note(&format!("warning: {warning}"));
    }
}

/// The error that names all faults.
pub(super) fn invalid(faults: &Faults) -> CliError {
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    CliError::Caller(anyhow!("the workflow has {count}:\n{faults}"))
}

fn agents(
    document: &mut Value,
) -> impl Iterator<Item = (usize, &mut serde_json::Map<String, Value>)> {
    let agents = document.get_mut("agents").and_then(Value::as_array_mut);
    agents
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, agent)| Some((index, agent.as_object_mut()?)))
}

/// Agents and tools that may be components, each with its place.
fn component_holders(document: &mut Value) -> Vec<(String, &mut serde_json::Map<String, Value>)> {
    let mut holders = Vec::new();
    for (index, agent) in agents(document) {
        let place = format!("/agents/{index}");
        if agent.get("type").and_then(Value::as_str) != Some("tool") {
            holders.push((place, agent));
            continue;
        }
        let tools = agent.get_mut("tools").and_then(Value::as_array_mut);
        for (number, tool) in tools.into_iter().flatten().enumerate() {
            if let Some(tool) = tool.as_object_mut() {
                holders.push((format!("{place}/tools/{number}"), tool));
            }
        }
    }
    holders
}

/// A path of a document: relative to the document, not to where the command happens to run.
fn beside(document: &Path, file: &str) -> PathBuf {
    document.parent().unwrap_or(Path::new(".")).join(file)
}
