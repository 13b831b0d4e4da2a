//! Python, for the tool that makes a component of the Python plugin.
//!
//! The tool is installed below cargo's target folder, with the versions that
//! `plugins/python/requirements.txt` names: nothing of the user's own Python changes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{self, Run};
use crate::progress::{Done, Step};
use crate::scratch;
use crate::stamp::{self, Inputs};
use crate::workspace::Workspace;

/// The oldest Python that the tool runs on.
const VERSION_MIN: (u32, u32) = (3, 10);

/// Prints the version and, in the second line, whether a virtual environment can be made.
const QUESTION: &str = "import sys, importlib.util as u\n\
    print(*sys.version_info[:2])\n\
    print('venv' if u.find_spec('venv') and u.find_spec('ensurepip') else 'pip' if u.find_spec('pip') else 'none')\n\
    print(sys.executable, sys.version)";

/// A Python that was found on this machine.
#[derive(Debug)]
pub(crate) struct Python {
    /// How packages can be put into a folder of our own.
    way: Way,
    /// Everything about it that may change what is installed.
    identity: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// A virtual environment.
    Venv,
    /// `pip install --target`: Debian keeps what a virtual environment needs in a package of its own.
    Pip,
}

impl Python {
    /// Looks for `python3`; the error says what to install.
    pub(crate) fn find() -> Result<Python> {
        let mut python = Command::new("python3");
        python.args(["-c", QUESTION]);
        let answer = command::capture(python)
            .context("Python 3.10 or newer is needed; install it as `python3`")?;
        Python::from_answer(&answer)
    }

    fn from_answer(answer: &str) -> Result<Python> {
        let mut lines = answer.lines();
        let version = lines.next().and_then(|line| {
            let (major, minor) = line.split_once(' ')?;
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        });
        let version = version.context("`python3` did not tell its version")?;
        if version < VERSION_MIN {
            bail!(
                "`python3` is {}.{}; 3.10 or newer is needed",
                version.0,
                version.1
            );
        }
        let way = match lines.next() {
            Some("venv") => Way::Venv,
            Some("pip") => Way::Pip,
            _ => bail!(
                "`python3` has neither venv nor pip; install one (on Debian: the package python3-venv)"
            ),
        };
        Ok(Python {
            way,
            identity: answer.to_owned(),
        })
    }
}

/// Installs the tool; does nothing where it is there already.
pub(crate) fn install_tools(workspace: &Workspace, step: &Step) -> Result<Done> {
    let python = Python::find()?;
    let requirements = workspace.root.join("plugins/python/requirements.txt");
    let digest = Inputs::default()
        .text("python", &python.identity)
        .path(&workspace.root, &requirements)?
        .digest();
    let folder = tools_folder(workspace);
    if stamp::is_current(&folder, &digest) {
        return Ok(Done::Unchanged);
    }
    stamp::clear(&folder)?;
    scratch::remove(&folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;

    let mut pip = match python.way {
        Way::Venv => {
            let mut venv = Command::new("python3");
            venv.args(["-m", "venv"]).arg(&folder);
            Run::new(venv, workspace.log("python-venv")).under(step)?;
            let mut pip = Command::new(folder.join("bin/python"));
            pip.args(["-m", "pip", "install"]);
            pip
        }
        Way::Pip => {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--target"]).arg(&folder);
            pip
        }
    };
    pip.args(["--disable-pip-version-check", "--no-input", "--requirement"])
        .arg(&requirements);
    Run::new(pip, workspace.log("python-tools")).under(step)?;
    stamp::record(&folder, &digest)?;
    Ok(Done::Changed("installed".into()))
}

/// The tool `componentize-py`, which must be installed.
pub(crate) fn componentize(workspace: &Workspace) -> Command {
    let folder = tools_folder(workspace);
    let mut tool = Command::new(folder.join("bin/componentize-py"));
    if !folder.join("pyvenv.cfg").exists() {
        tool.env("PYTHONPATH", &folder);
    }
    tool
}

fn tools_folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tools/python")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_python_is_understood() {
        let python =
            Python::from_answer("3 11\nvenv\n/usr/bin/python3 3.11.2\n").expect("it is new enough");
        assert_eq!(python.way, Way::Venv);
        assert_eq!(
            Python::from_answer("3 14\npip\n…")
                .expect("it is new enough")
                .way,
            Way::Pip
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let complaint = |answer| {
            Python::from_answer(answer)
                .expect_err("it cannot be used")
                .to_string()
        };
        assert_eq!(
            complaint("3 9\nvenv\n…"),
            "`python3` is 3.9; 3.10 or newer is needed"
        );
        assert!(complaint("3 12\nnone\n…").contains("python3-venv"));
        assert_eq!(complaint(""), "`python3` did not tell its version");
    }
}
