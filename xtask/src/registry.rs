//! A registry of components for the tests: the machine's own `docker-registry`, or one that is unpacked from the
//! distribution's package.
//!
//! Nothing is installed: the package would make a service of its own and start it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::debian;
use crate::progress::{self, Done, Step};
use crate::workspace::Workspace;

/// The program, which is also the package's name.
const PROGRAM: &str = "docker-registry";

/// Makes sure that the tests find a registry. Where none can be had, this says so and goes on: everything else works
/// without, and the tests that need it fail with a message of their own.
pub(crate) fn obtain(workspace: &Workspace, step: &Step) -> Result<Done> {
    let place = workspace.target.join(PROGRAM);
    if in_distribution(Path::new("/")).is_some() || in_path() {
        return Ok(Done::Unchanged);
    }
    if check(&place).is_ok() {
        return Ok(Done::Unchanged);
    }
    match unpack(workspace, step, &place) {
        Ok(()) => Ok(Done::Changed("unpacked".into())),
        Err(error) => {
            progress::heading(&format!(
                "{PROGRAM} cannot be had ({error:#}); the tests of components from registries will fail until it is \
                 installed"
            ));
            Ok(Done::Changed("left out".into()))
        }
    }
}

/// Fetches the package and unpacks it to `place`, in one move at the end.
fn unpack(workspace: &Workspace, step: &Step, place: &Path) -> Result<()> {
    let unpacked = debian::unpack(workspace, step, PROGRAM, |_| Ok(vec![PROGRAM.to_owned()]))?;
    check(unpacked.path())?;
    unpacked.persist(place)
}

/// Starts the program once: it ends at once where a library is missing.
fn check(root: &Path) -> Result<()> {
    let mut version = Command::new(root.join("usr/bin").join(PROGRAM));
    version.arg("--version");
    command::capture(version).map(drop)
}

fn in_distribution(root: &Path) -> Option<PathBuf> {
    let program = root.join("usr/bin").join(PROGRAM);
    program.is_file().then_some(program)
}

fn in_path() -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file())
    })
}
