//! The second way to the wasm target: the standard library, built from Debian's packages.
//!
//! Debian's backports carry the compiler's sources (`rust-src`) in several versions and the C library
//! that Rust's own builds use (`wasi-libc`). Both are unpacked into a scratch folder, never installed
//! (`rust-src` conflicts with rustup), and apt checks their signatures as ever. The toolchain is changed
//! in one move at the end, so that an interrupted run leaves it as it was.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{self, Run};
use crate::progress::Step;
use crate::scratch::{self, Scratch};
use crate::wasm_target::Toolchain;
use crate::workspace::{WASM_TARGET, Workspace};

/// Debian's suite that has the packages.
pub(crate) const SUITE: &str = "trixie-backports";

/// Where Debian's package `debian-archive-keyring` puts the keys, in its older and newer versions.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// How long apt may take for its index or the packages, some 30 MB.
const APT_TIME_MAX: Duration = Duration::from_secs(300);

/// What the linker needs of the C library for a component.
const C_LIBRARY: [&str; 3] = ["libc.a", "crt1-command.o", "crt1-reactor.o"];

/// Builds the standard library for the wasm target and lays it into the toolchain.
pub(crate) fn build_standard_library(workspace: &Workspace, step: &Step) -> Result<()> {
    let toolchain = Toolchain::load(workspace)?;
    let stage = stage_in(&toolchain)?;
    let scratch = Scratch::create(workspace.target.join("wasm-target/debian"))?;

    let packages = download(workspace, step, scratch.path(), &toolchain.version)?;
    let libraries = stage.path().join("lib");
    let own = libraries.join("self-contained");
    std::fs::create_dir_all(&own).with_context(|| format!("creating {}", own.display()))?;
    for file in C_LIBRARY {
        let from = packages.join("usr/lib").join(WASM_TARGET).join(file);
        scratch::copy_file(&from, &own.join(file))
            .context("the package wasi-libc has changed its layout")?;
    }

    let sources = packages.join(format!("usr/src/rustc-{}/library", toolchain.version));
    let built = with_sources(&toolchain, &sources, || {
        compile(workspace, step, scratch.path(), &toolchain)
    })?;
    copy_libraries(&built, &libraries)?;
    stage.persist(&toolchain.rustlib().join(WASM_TARGET))
}

/// An empty folder in the toolchain, which also shows early that the toolchain can be written.
fn stage_in(toolchain: &Toolchain) -> Result<Scratch> {
    Scratch::create(toolchain.rustlib().join(format!("{WASM_TARGET}.partial"))).with_context(|| {
        format!(
            "the toolchain in {} cannot be changed; run this as its owner",
            toolchain.sysroot.display()
        )
    })
}

/// Fetches and unpacks the packages; returns the folder with their files.
fn download(workspace: &Workspace, step: &Step, folder: &Path, version: &str) -> Result<PathBuf> {
    let Some(keyring) = KEYRINGS.iter().find(|path| Path::new(path).exists()) else {
        bail!("this is no Debian machine: the package debian-archive-keyring is not installed");
    };
    let mirror = mirror()?;
    let files = ["lists/partial", "cache/archives/partial", "unpacked"];
    for part in files {
        std::fs::create_dir_all(folder.join(part))
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    let entry = format!("deb [signed-by={keyring}] {mirror} {SUITE} main\n");
    std::fs::write(folder.join("sources.list"), entry).context("writing the package source")?;

    step.show("reading the package index");
    let mut update = one_suite("apt-get", folder);
    update.args(["update", "--quiet"]);
    Run::new(update, workspace.log("wasm-target-apt-update"))
        .time_max(APT_TIME_MAX)
        .under(step)?;

    let mut list = one_suite("apt-cache", folder);
    list.args(["madison", "rust-src"]);
    let found = source_version(&command::capture(list)?, version);
    let found = found.with_context(|| format!("{SUITE} has no rust-src of version {version}"))?;

    let mut fetch = one_suite("apt-get", folder);
    fetch
        .args(["download", "--quiet", "wasi-libc"])
        .arg(format!("rust-src={found}"))
        .current_dir(folder);
    Run::new(fetch, workspace.log("wasm-target-apt-download"))
        .time_max(APT_TIME_MAX)
        .under(step)?;

    let unpacked = folder.join("unpacked");
    let archives = archives(folder)?;
    if archives.len() != 2 {
        bail!(
            "apt-get download left {} packages in {}, not 2",
            archives.len(),
            folder.display()
        );
    }
    for package in archives {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(&unpacked);
        Run::new(unpack, workspace.log("wasm-target-unpack")).under(step)?;
    }
    Ok(unpacked)
}

/// An apt command that knows one suite and none of the machine's own package sources.
fn one_suite(program: &str, folder: &Path) -> Command {
    let mut apt = apt(program, folder);
    apt.arg("-o").arg(format!(
        "Dir::Etc::sourcelist={}",
        folder.join("sources.list").display()
    ));
    apt.args(["-o", "Dir::Etc::sourceparts=-"]);
    apt
}

/// An apt command that writes nothing of the machine's own package state: its indexes are below `folder`, in
/// `lists/partial` and `cache/archives/partial`, which must be there.
pub(crate) fn apt(program: &str, folder: &Path) -> Command {
    let mut apt = Command::new(program);
    let settings = [
        ("Dir::State::Lists", folder.join("lists")),
        ("Dir::Cache", folder.join("cache")),
        // The folder belongs to who runs this; apt's own user could not write there.
        ("APT::Sandbox::User", PathBuf::from("root")),
        ("Acquire::Retries", PathBuf::from("1")),
        ("Acquire::Languages", PathBuf::from("none")),
    ];
    for (name, value) in settings {
        apt.arg("-o").arg(format!("{name}={}", value.display()));
    }
    apt
}

/// Fetches packages from the machine's own sources and unpacks them, without installing anything. Which they are is
/// decided with the index in the folder that `wanted` is given.
pub(crate) fn unpack(
    workspace: &Workspace,
    step: &Step,
    name: &str,
    wanted: impl FnOnce(&Path) -> Result<Vec<String>>,
) -> Result<Scratch> {
    let unpacked = Scratch::create(workspace.target.join(format!("{name}.partial")))?;
    let files = Scratch::create(workspace.target.join(format!("{name}.packages")))?;
    let folder = files.path();
    for part in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(folder.join(part))
            .with_context(|| format!("creating {}", folder.display()))?;
    }

    step.show("reading the package index");
    let mut update = apt("apt-get", folder);
    update.args(["update", "--quiet"]);
    Run::new(update, workspace.log(&format!("{name}-apt-update")))
        .time_max(APT_TIME_MAX)
        .under(step)?;

    let mut fetch = apt("apt-get", folder);
    fetch
        .args(["download", "--quiet"])
        .args(wanted(folder)?)
        .current_dir(folder);
    Run::new(fetch, workspace.log(&format!("{name}-apt-download")))
        .time_max(APT_TIME_MAX)
        .under(step)?;

    for package in archives(folder)? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(unpacked.path());
        Run::new(unpack, workspace.log(&format!("{name}-unpack"))).under(step)?;
    }
    Ok(unpacked)
}

/// The Debian mirror that this machine uses.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(ORIGIN)",
        "Created-By: Packages",
    ]);
    let targets = command::capture(targets)?;
    debian_mirror(&targets).context("the machine's package sources name no Debian mirror")
}

/// Finds the mirror in lines of address, suite and origin. Where no index was ever fetched the origin is
/// not known (it then stands there as its variable), and the mirror's usual path tells.
fn debian_mirror(targets: &str) -> Option<String> {
    let fields = targets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut mirrors = fields.filter_map(|fields| match fields[..] {
        [uri, suite, ..] if suite.contains("-security") || uri.contains("debian-security") => None,
        [uri, _, "Debian"] => Some(uri),
        [uri, ..] if uri.trim_end_matches('/').ends_with("/debian") => Some(uri),
        _ => None,
    });
    mirrors.next().map(str::to_owned)
}

/// The newest package version of a compiler's version, in what `apt-cache madison` lists newest first:
/// ` rust-src | 1.95.0+dfsg1-1~bpo13+1 | mirror trixie-backports/main …`.
fn source_version(madison: &str, version: &str) -> Option<String> {
    let mut versions = madison
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim);
    let wanted = format!("{version}+");
    versions
        .find(|found| found.starts_with(&wanted))
        .map(str::to_owned)
}

/// The packages in a folder, where `apt-get download` put them.
pub(crate) fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .collect())
}

/// Does `work` while the standard library's sources lie where cargo looks for them. They are taken away
/// again: rustup would stumble over files that it did not install.
fn with_sources<T>(
    toolchain: &Toolchain,
    sources: &Path,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let place = toolchain.rustlib().join("src/rust/library");
    if place.join("Cargo.lock").exists() {
        return work();
    }
    scratch::copy_folder(sources, &place).context("the package rust-src has changed its layout")?;
    let result = work();
    scratch::remove(&place)?;
    for folder in place.ancestors().skip(1).take(2) {
        // Removed only where it is empty, as it was before.
        let _ = std::fs::remove_dir(folder);
    }
    result
}

/// Compiles the standard library; returns the folder of the libraries.
fn compile(
    workspace: &Workspace,
    step: &Step,
    folder: &Path,
    toolchain: &Toolchain,
) -> Result<PathBuf> {
    let package = folder.join("package");
    // The empty workspace keeps cargo from looking for one in the folders above.
    let manifest = "[package]\nname = \"standard-library\"\nedition = \"2024\"\n\n[workspace]\n";
    std::fs::create_dir_all(package.join("src"))
        .and_then(|()| std::fs::write(package.join("Cargo.toml"), manifest))
        .and_then(|()| {
            std::fs::write(
                package.join("src/lib.rs"),
                "//! Empty: only the standard library counts.\n",
            )
        })
        .with_context(|| format!("writing {}", package.display()))?;
    let target = folder.join("target");
    let mut cargo = workspace.cargo(&[
        "build",
        "--release",
        "-Zbuild-std=std,panic_abort",
        "--target",
        WASM_TARGET,
    ]);
    cargo.current_dir(&package).arg("--target-dir").arg(&target);
    // `-Zbuild-std` is not stable: this lets a stable compiler take it. The bitcode is for agents that are
    // linked with link-time optimisation.
    cargo
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("RUSTC", toolchain.rustc());
    cargo
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    Run::new(cargo, workspace.log("wasm-target-compile")).under(step)?;
    Ok(target.join(WASM_TARGET).join("release/deps"))
}

fn copy_libraries(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path = entry
            .with_context(|| format!("reading {}", from.display()))?
            .path();
        let is_library = path
            .extension()
            .is_some_and(|ending| ending == "rlib" || ending == "rmeta");
        let name = path
            .file_name()
            .filter(|name| !name.to_string_lossy().contains("standard_library"));
        if let Some(name) = name.filter(|_| is_library) {
            scratch::copy_file(&path, &to.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines_own() {
        let known = "http://mirror.example/security/ bookworm-security Debian\n\
                     http://other.example/node/ nodistro .\n\
                     http://mirror.example/d/ bookworm Debian\n";
        assert_eq!(
            debian_mirror(known).as_deref(),
            Some("http://mirror.example/d/")
        );
        let never_updated = "http://mirror.example/debian-security/ bookworm-security $(ORIGIN)\n\
                             http://mirror.example/debian/ bookworm $(ORIGIN)\n";
        assert_eq!(
            debian_mirror(never_updated).as_deref(),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(
            debian_mirror("http://archive.example/ubuntu/ noble Ubuntu\n"),
            None
        );
    }

    #[test]
    fn a_toolchain_that_cannot_be_changed_is_said_so() {
        let toolchain = Toolchain {
            version: "1.95.0".into(),
            sysroot: "/dev/null/toolchain".into(),
        };
        let error = stage_in(&toolchain).expect_err("it is below a file");
        let expected =
            "the toolchain in /dev/null/toolchain cannot be changed; run this as its owner";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_sources_are_of_the_compilers_version() {
        let madison = " rust-src | 1.96.0+dfsg1-1~bpo13+1 | mirror trixie-backports/main all Packages\n \
                       rust-src | 1.95.0+dfsg1-2~bpo13+1 | mirror trixie-backports/main all Packages\n";
        assert_eq!(
            source_version(madison, "1.95.0").as_deref(),
            Some("1.95.0+dfsg1-2~bpo13+1")
        );
        assert_eq!(source_version(madison, "1.95"), None);
        assert_eq!(source_version("", "1.95.0"), None);
    }
}
