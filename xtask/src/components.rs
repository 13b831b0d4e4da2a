//! Components written in Rust: the guests of the tests and the agents of the examples.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::Run;
use crate::host;
use crate::progress::{Done, Step};
use crate::scratch;
use crate::workspace::{Artefact, Role, WASM_TARGET, Workspace};

/// The cargo profile of components; the root `Cargo.toml` defines it.
const PROFILE: &str = "guest";

/// Builds all of them, and puts the examples' agents where their workflows expect them.
pub(crate) fn build(workspace: &Workspace, step: &Step) -> Result<Done> {
    if workspace.component_packages.is_empty() {
        return Ok(Done::Unchanged);
    }
    // A target folder of their own: a component and a host crate never wait for each other's lock.
    let target = workspace.target.join("guests");
    let mut cargo = workspace.cargo(&[
        "build",
        "--profile",
        PROFILE,
        "--target",
        WASM_TARGET,
        "--target-dir",
    ]);
    cargo.arg(&target);
    let artefacts = || {
        workspace
            .component_packages
            .iter()
            .flat_map(|package| &package.artefacts)
    };
    if artefacts().any(|artefact| matches!(artefact, Artefact::Library { .. })) {
        cargo.arg("--lib");
    }
    if artefacts().any(|artefact| *artefact == Artefact::Example) {
        cargo.arg("--examples");
    }
    for package in &workspace.component_packages {
        cargo.args(["--package", &package.name]);
    }
    let log = workspace.log("components");
    Run::new(cargo, log.clone()).under(step)?;

    let built = target.join(WASM_TARGET).join(PROFILE);
    for (agent, file) in agents(workspace) {
        copy_changed(&built.join(file), &agent)?;
    }
    host::what_cargo_did(&log)
}

/// The examples' agents, after `build`.
pub(crate) fn agent_files(workspace: &Workspace) -> Vec<PathBuf> {
    agents(workspace).map(|(agent, _)| agent).collect()
}

/// Where each agent lies for the workflow that names it, beside the workflow's document, and cargo's name
/// for its file.
fn agents(workspace: &Workspace) -> impl Iterator<Item = (PathBuf, &str)> {
    let packages = workspace
        .component_packages
        .iter()
        .filter(|package| package.role == Role::ExampleAgent);
    packages.filter_map(|package| {
        let file = package
            .artefacts
            .iter()
            .find_map(|artefact| match artefact {
                Artefact::Library { file } => Some(file.as_str()),
                Artefact::Example => None,
            })?;
        let example = workspace.root.join(package.folder.parent()?);
        Some((example.join(format!("{}.wasm", package.name)), file))
    })
}

/// Copies a file where the copy differs, so that an unchanged component keeps its time.
fn copy_changed(from: &Path, to: &Path) -> Result<()> {
    let new = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    match std::fs::read(to) {
        Ok(old) if old == new => Ok(()),
        _ => scratch::copy_file(from, to),
    }
}
