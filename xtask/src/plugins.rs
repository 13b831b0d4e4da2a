//! The components that ship with Troupe, made from the sources in `plugins/`.
//!
//! A plugin is built again only where its sources, the interfaces in `wit/` or the tool have changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::Run;
use crate::progress::{Done, Step};
use crate::stamp::{self, Inputs};
use crate::workspace::Workspace;
use crate::{merge, node, python};

/// A plugin and the command that builds it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plugin {
    Python,
    JavaScript,
}

impl Plugin {
    pub(crate) const ALL: [Plugin; 2] = [Plugin::Python, Plugin::JavaScript];

    /// The name of its folder and of the component.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Plugin::Python => "python",
            Plugin::JavaScript => "javascript",
        }
    }

    /// Where the component is.
    pub(crate) fn component(self, workspace: &Workspace) -> PathBuf {
        workspace
            .target
            .join("plugins")
            .join(format!("{}.wasm", self.name()))
    }

    /// The command that writes the component to `output`.
    fn build_command(self, workspace: &Workspace, output: &Path) -> Command {
        // Paths are relative to the plugin's folder. The JavaScript plugin has a world of its own, around
        // the interpreter's: its tool gives a component only the imports that its world names.
        let (mut command, arguments): (Command, &[&str]) = match self {
            Plugin::Python => (
                python::componentize(workspace),
                &[
                    "--wit-path",
                    "../../wit",
                    "--world",
                    "session-interpreter",
                    "componentize",
                    "app",
                    "-o",
                ],
            ),
            Plugin::JavaScript => (
                node::componentize(workspace),
                &[
                    "--wit",
                    "wit",
                    "--world",
                    "interpreter",
                    "--js",
                    "app.js",
                    "--sync",
                    "--output",
                ],
            ),
        };
        command.args(arguments).arg(output);
        command.current_dir(workspace.root.join("plugins").join(self.name()));
        command
    }
}

/// Builds a plugin whose tool is installed.
pub(crate) fn build(workspace: &Workspace, plugin: Plugin, step: &Step) -> Result<Done> {
    let name = plugin.name();
    let sources = workspace.root.join("plugins").join(name);
    let component = plugin.component(workspace);
    // The tool's version is in the manifests among the sources; the command and the merge are in here.
    let command = format!(
        "{:?}",
        plugin
            .build_command(workspace, &component)
            .get_args()
            .collect::<Vec<_>>()
    );
    let merge_sources = workspace.root.join("xtask/src/merge");
    let digest = Inputs::default()
        .text("command", &command)
        .path(&workspace.root, &merge_sources)?
        .path(&workspace.root, &merge_sources.with_extension("rs"))?
        .path(&workspace.root, &sources)?
        .path(&workspace.root, &workspace.root.join("wit"))?
        .digest();
    if stamp::is_current(&component, &digest) {
        return Ok(Done::Unchanged);
    }
    let folder = workspace.target.join("plugins");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    stamp::clear(&component)?;
    let partial = folder.join(format!("{name}.partial.wasm"));
    let log = workspace.log(&format!("plugin-{name}"));
    Run::new(plugin.build_command(workspace, &partial), log).under(step)?;
    merge::merge_file(&partial)?;
    std::fs::rename(&partial, &component)
        .with_context(|| format!("moving {} to {}", partial.display(), component.display()))?;
    stamp::record(&component, &digest)?;
    Ok(Done::Changed("built".into()))
}
