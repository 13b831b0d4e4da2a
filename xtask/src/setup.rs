//! `cargo xtask setup`: from a fresh checkout to one where everything runs.
//!
//! Every step finds out itself whether it has anything to do, so that a second run takes seconds.

use std::fs::File;

use anyhow::{Context, Result, bail};

use crate::plugins::{self, Plugin};
use crate::progress::{self, Step};
use crate::python::Python;
use crate::workspace::Workspace;
use crate::{components, host, node, postgresql, python, registry, wasm_target};

/// Prepares the checkout for its tests too, which need more than a run of an example does.
pub(crate) fn run_with_tests(workspace: &Workspace) -> Result<()> {
    run(workspace)?;
    let _alone = wait_for_others(workspace)?;
    Step::run("PostgreSQL for the tests", |step| {
        postgresql::obtain(workspace, step)
    })?;
    Step::run("registry for the tests", |step| {
        registry::obtain(workspace, step)
    })
}

/// Runs every step that an example needs, in order.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    progress::heading(&format!(
        "Setting up (what commands print is in {})",
        workspace.shown(&workspace.target.join("logs"))
    ));
    check_programs()?;
    let _alone = wait_for_others(workspace)?;
    Step::run("wasm target", |step| wasm_target::install(workspace, step))?;
    Step::run("Python tools", |step| {
        python::install_tools(workspace, step)
    })?;
    Step::run("JavaScript tools", |step| {
        node::install_tools(workspace, step)
    })?;
    for plugin in Plugin::ALL {
        let name = format!("{} plugin", plugin.name());
        Step::run(&name, |step| plugins::build(workspace, plugin, step))?;
    }
    Step::run("guests and agents", |step| {
        components::build(workspace, step)
    })?;
    Step::run("troupe", |step| host::build(workspace, step))?;
    let plugins = Plugin::ALL.iter().map(|plugin| plugin.component(workspace));
    let ahead: Vec<_> = plugins.chain(components::agent_files(workspace)).collect();
    Step::run("precompiled components", |step| {
        host::precompile(workspace, &ahead, step)
    })
}

/// Takes the lock that two runs in one target folder share; it is held until the file is dropped.
fn wait_for_others(workspace: &Workspace) -> Result<File> {
    let path = workspace.target.join("xtask.lock");
    std::fs::create_dir_all(&workspace.target)
        .with_context(|| format!("creating {}", workspace.target.display()))?;
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::heading("Waiting for another set-up in the same target folder");
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

/// Names every missing program at once, before any work is done.
fn check_programs() -> Result<()> {
    let missing: Vec<String> = [Python::find().map(|_| ()), node::find().map(|_| ())]
        .into_iter()
        .filter_map(|found| found.err().map(|error| format!("  - {error:#}")))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "this machine lacks what set-up needs:\n{}",
        missing.join("\n")
    )
}
