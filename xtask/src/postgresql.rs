//! PostgreSQL for the tests: the machine's own, or one that is unpacked from the distribution's packages.
//!
//! Nothing is installed: the package would make a server of its own and start it. Only packages that the machine
//! lacks are fetched, from its own package sources, and apt checks their signatures as ever.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::debian;
use crate::progress::{self, Done, Step};
use crate::scratch;
use crate::workspace::Workspace;

/// The oldest version that the journal is tested with.
const VERSION_MIN: u32 = 15;

/// The programs that the tests use.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "psql"];

/// What the tests do not need of the packages, below `usr`.
const LEFT_OUT: [&str; 3] = ["share/doc", "share/man", "share/locale"];

/// Makes sure that the tests find a PostgreSQL. Where none can be had, this says so and goes on: everything else works
/// without, and the tests that need it fail with a message of their own.
pub(crate) fn obtain(workspace: &Workspace, step: &Step) -> Result<Done> {
    let place = workspace.target.join("postgresql");
    if in_distribution(Path::new("/")).is_some() || in_path() {
        return Ok(Done::Unchanged);
    }
    if let Some(programs) = in_distribution(&place)
        && check(&place, &programs).is_ok()
    {
        return Ok(Done::Unchanged);
    }
    match unpack(workspace, step, &place) {
        Ok(()) => Ok(Done::Changed("unpacked".into())),
        Err(error) => {
            progress::heading(&format!(
                "PostgreSQL {VERSION_MIN} or newer cannot be had ({error:#}); the tests of its journal will fail until \
                 its server and client are installed"
            ));
            Ok(Done::Changed("left out".into()))
        }
    }
}

/// Fetches the packages and unpacks them to `place`, in one move at the end.
fn unpack(workspace: &Workspace, step: &Step, place: &Path) -> Result<()> {
    let scratch = debian::unpack(workspace, step, "postgresql", |folder| {
        let mut plan = debian::apt("apt-get", folder);
        plan.args(["install", "--simulate", "--no-install-recommends"])
            .arg("postgresql");
        let wanted = packages(&command::capture(plan)?);
        if wanted.is_empty() {
            bail!("the package sources offer no server that is not installed");
        }
        Ok(wanted)
    })?;
    let programs = in_distribution(scratch.path())
        .with_context(|| format!("the packages hold no PostgreSQL {VERSION_MIN} or newer"))?;
    check(scratch.path(), &programs)?;
    leave_out(scratch.path(), &programs)?;
    scratch.persist(place)
}

/// Reads the packages that are needed and not installed from what `apt-get install --simulate` says, a line
/// `Inst libpq5 (15.8-0 Debian:12 [amd64])` for each. The server's management, its compiler of queries, and the C
/// library, which must be the one of the machine's loader, are not among them.
fn packages(plan: &str) -> Vec<String> {
    let installs = plan.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("Inst")).then(|| words.next())?
    });
    let is_wanted = |name: &str| {
        let is_server = name.strip_prefix("postgresql-").is_some_and(|rest| {
            let rest = rest.strip_prefix("client-").unwrap_or(rest);
            rest.parse::<u32>().is_ok()
        });
        let is_library = name.starts_with("lib")
            && !name.ends_with("-perl")
            && !["libllvm", "libz3", "libc6", "libc-"]
                .iter()
                .any(|other| name.starts_with(other));
        is_server || is_library
    };
    let wanted = installs.filter(|name| is_wanted(name));
    wanted.map(str::to_owned).collect()
}

/// Starts each program once: it ends at once where a library is missing.
fn check(root: &Path, programs: &Path) -> Result<()> {
    for program in PROGRAMS {
        let mut version = Command::new(programs.join(program));
        version
            .arg("--version")
            .env("LD_LIBRARY_PATH", library_path(root)?);
        command::capture(version)?;
    }
    Ok(())
}

/// The folders of shared libraries below a root: those of this machine's architecture, whatever its name.
fn library_path(root: &Path) -> Result<OsString> {
    let folders = ["usr/lib", "lib"].into_iter().flat_map(|folder| {
        let entries = std::fs::read_dir(root.join(folder));
        entries.into_iter().flatten().flatten()
    });
    let folders = folders
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("-linux-gnu"));
    std::env::join_paths(folders).context("a folder of libraries has a colon in its name")
}

fn leave_out(root: &Path, programs: &Path) -> Result<()> {
    for folder in LEFT_OUT {
        scratch::remove(&root.join("usr").join(folder))?;
    }
    // For the compiler of queries.
    scratch::remove(&programs.with_file_name("lib").join("bitcode"))
}

/// The programs of the newest version below a root, where Debian and its kin put them.
fn in_distribution(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root.join("usr/lib/postgresql")).ok()?;
    let versions = versions.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        (version >= VERSION_MIN && has_programs(&folder)).then_some((version, folder))
    });
    versions.max().map(|(_, folder)| folder)
}

/// Whether a folder of the path has the programs, as on other systems.
fn in_path() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| has_programs(&folder)))
}

fn has_programs(folder: &Path) -> bool {
    PROGRAMS
        .iter()
        .all(|program| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn only_what_the_server_needs_is_fetched() {
        let plan = "Reading package lists...\n\
                    Inst libllvm14 (1:14.0.6-12 Debian:12 [amd64])\n\
                    Inst libjson-perl (4.10000-1 Debian:12 [all])\n\
                    Inst libc6 [2.36-9] (2.36-10 Debian:12 [amd64])\n\
                    Inst libpq5 (15.8-0 Debian:12 [amd64])\n\
                    Inst postgresql-client-common (248 Debian:12 [all])\n\
                    Inst postgresql-client-15 (15.8-0 Debian:12 [amd64])\n\
                    Inst postgresql-common (248 Debian:12 [all])\n\
                    Inst postgresql-15 (15.8-0 Debian:12 [amd64])\n\
                    Inst postgresql (15+248 Debian:12 [all])\n\
                    Conf libpq5 (15.8-0 Debian:12 [amd64])\n";
        let wanted = ["libpq5", "postgresql-client-15", "postgresql-15"];
        assert_eq!(packages(plan), wanted);
    }

    #[test]
    fn the_newest_version_is_taken_and_an_old_one_is_not() {
        let root = std::env::temp_dir().join(format!("xtask-postgresql-{}", std::process::id()));
        let root = Scratch::create(root).expect("the temporary folder can be written");
        let version = |number: u32| {
            let folder = root.path().join(format!("usr/lib/postgresql/{number}/bin"));
            std::fs::create_dir_all(&folder).expect("the folder is new");
            for program in PROGRAMS {
                std::fs::write(folder.join(program), "").expect("the folder exists");
            }
            folder
        };
        assert_eq!(in_distribution(root.path()), None);
        version(9);
        version(14);
        assert_eq!(in_distribution(root.path()), None);
        let [_, newest] = [version(15), version(17)];
        assert_eq!(in_distribution(root.path()), Some(newest));
    }
}
