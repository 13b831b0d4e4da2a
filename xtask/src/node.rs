//! Node.js and npm, for the tool that makes a component of the JavaScript plugin.
//!
//! The packages are installed in a copy below cargo's target folder, in the versions of the lock file.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{self, Run};
use crate::progress::{Done, Step};
use crate::scratch;
use crate::stamp::{self, Inputs};
use crate::workspace::Workspace;

/// What npm needs of the plugin's folder.
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];

/// The oldest Node.js that the tool runs on.
const VERSION_MIN: u32 = 18;

/// Checks that node and npm are there; returns their versions.
pub(crate) fn find() -> Result<String> {
    let version = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version");
        command::capture(command)
    };
    let node = version("node").context("Node.js 18 or newer is needed; install it as `node`")?;
    check_version(node.trim())?;
    let npm = version("npm").context("npm is needed beside Node.js; install it as `npm`")?;
    Ok(format!("{node}{npm}"))
}

/// Checks what `node --version` said, for example `v20.20.2`.
fn check_version(version: &str) -> Result<()> {
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= VERSION_MIN => Ok(()),
        Some(_) => bail!("`node` is {version}; {VERSION_MIN} or newer is needed"),
        None => bail!("`node --version` said `{version}`, which is no version"),
    }
}

/// Installs the packages; does nothing where they are there already.
pub(crate) fn install_tools(workspace: &Workspace, step: &Step) -> Result<Done> {
    let source = workspace.root.join("plugins/javascript");
    let mut inputs = Inputs::default().text("node", &find()?);
    for manifest in MANIFESTS {
        inputs = inputs.path(&workspace.root, &source.join(manifest))?;
    }
    let digest = inputs.digest();
    let folder = tools_folder(workspace);
    if stamp::is_current(&folder, &digest) {
        return Ok(Done::Unchanged);
    }
    stamp::clear(&folder)?;
    scratch::remove(&folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    for manifest in MANIFESTS {
        scratch::copy_file(&source.join(manifest), &folder.join(manifest))?;
    }

    let mut npm = Command::new("npm");
    // Not `npm ci`: it refuses a lock file that lacks an optional package, and the tool's makers publish
    // those for some platforms only. What is in the lock file is installed as it says, and its digests
    // are checked. The packages are prebuilt: none needs a script of its own, so none may run one.
    npm.args([
        "install",
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ])
    .current_dir(&folder);
    Run::new(npm, workspace.log("javascript-tools")).under(step)?;
    stamp::record(&folder, &digest)?;
    Ok(Done::Changed("installed".into()))
}

/// The tool `componentize-qjs`, which must be installed.
pub(crate) fn componentize(workspace: &Workspace) -> Command {
    Command::new(tools_folder(workspace).join("node_modules/.bin/componentize-qjs"))
}

fn tools_folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tools/javascript")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_is_refused() {
        assert!(check_version("v18.0.0").is_ok() && check_version("v24.1.0").is_ok());
        let error = check_version("v16.20.2").expect_err("it is too old");
        assert_eq!(
            error.to_string(),
            "`node` is v16.20.2; 18 or newer is needed"
        );
        assert!(check_version("").is_err());
    }
}
