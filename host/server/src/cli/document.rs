//! Reads a workflow document from a file, and puts into it what its files name: a stored document names no path.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use troupe_workflow::{Definition, Faults};

use super::CliError;
use crate::components::Components;

/// Protects memory; the largest document that makes sense is far smaller.
const BYTES_MAX: u64 = 64 << 20;
/// Protects memory and the journal; a program of this size is no agent.
const SOURCE_BYTES_MAX: u64 = 16 << 20;

/// Reads a document as it stands in its file.
pub(super) fn read(path: &Path) -> Result<Value, CliError> {
    let read = || -> anyhow::Result<Value> {
        let size = std::fs::metadata(path)?.len();
        if size > BYTES_MAX {
            return Err(anyhow!(
                "it has {size} bytes; a document has at most {BYTES_MAX}"
            ));
        }
        let text = std::fs::read_to_string(path)?;
        serde_json::from_str(&text).map_err(|error| anyhow!("it is no JSON: {error}"))
    };
    read()
        .with_context(|| format!("the workflow {} cannot be read", path.display()))
        .map_err(CliError::Caller)
}

/// Puts the text of each agent's `file` into its `code`, with the language of the file's name.
pub(super) fn inline_files(document: &mut Value, path: &Path, faults: &mut Faults) {
    for (index, agent) in agents(document) {
        let Some(file) = agent.get("file").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        let place = format!("/agents/{index}/file");
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
        match read_source(&beside(path, &file)) {
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
    std::fs::read_to_string(path)
}

/// Adds each agent's component file to this machine's components, and puts its digest in its place.
pub(super) async fn add_components(
    document: &mut Value,
    path: &Path,
    components: &Components,
    faults: &mut Faults,
) {
    for (index, agent) in agents(document) {
        let Some(file) = component_file(agent) else {
            continue;
        };
        match components.add(&beside(path, &file)).await {
            Ok(digest) => {
                agent.insert("component".to_owned(), Value::String(digest.to_string()));
            }
            Err(error) => faults.add(format!("/agents/{index}/component"), format!("{error:#}")),
        }
    }
}

/// Notes component files that are not there.
pub(super) fn check_components(document: &mut Value, path: &Path, faults: &mut Faults) {
    for (index, agent) in agents(document) {
        let Some(file) = component_file(agent) else {
            continue;
        };
        let found = beside(path, &file);
        if !found.is_file() {
            faults.add(
                format!("/agents/{index}/component"),
                format!("there is no file {}", found.display()),
            );
        }
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

/// The path of a component that is named by one, not by a digest or a registry's reference.
fn component_file(agent: &serde_json::Map<String, Value>) -> Option<String> {
    let reference = agent.get("component")?.as_str()?;
    let is_path = !reference.starts_with("sha256:") && !reference.contains("://");
    is_path.then(|| reference.to_owned())
}

/// A path of a document: relative to the document, not to where the command happens to run.
fn beside(document: &Path, file: &str) -> PathBuf {
    document.parent().unwrap_or(Path::new(".")).join(file)
}
