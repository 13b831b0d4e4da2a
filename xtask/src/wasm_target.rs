//! The compiler's target for components, `wasm32-wasip2`.
//!
//! Rustup installs it; where rustup's server is out of reach, the standard library is built from the
//! distribution's packages (`debian`). Nothing is done where a small component can already be built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{self, Run};
use crate::debian;
use crate::progress::{Done, Step};
use crate::scratch::Scratch;
use crate::workspace::{WASM_TARGET, Workspace};

/// How long rustup may try: it downloads some 25 MB, and where its server is out of reach it would
/// keep a person waiting.
const RUSTUP_TIME_MAX: Duration = Duration::from_secs(300);

/// A library that needs the standard library, an allocator and link-time optimisation, as agents do.
const PROBE: &str =
    "#[unsafe(no_mangle)]\npub extern \"C\" fn probe() -> usize { std::env::args().count() }\n";

/// Makes sure that components can be built.
pub(crate) fn install(workspace: &Workspace, step: &Step) -> Result<Done> {
    step.show("building a small component");
    let Err(missing) = probe(workspace, step) else {
        return Ok(Done::Unchanged);
    };
    let by_rustup = match add_with_rustup(workspace, step).and_then(|()| probe(workspace, step)) {
        Ok(()) => return Ok(Done::Changed("installed by rustup".into())),
        Err(error) => error,
    };
    let by_packages = match debian::build_standard_library(workspace, step)
        .and_then(|()| probe(workspace, step))
    {
        Ok(()) => return Ok(Done::Changed("built from Debian's rust-src".into())),
        Err(error) => error,
    };
    bail!(
        "the compiler cannot build for {WASM_TARGET}, and it could not be installed.\n\
         Either give this machine access to rustup's server and run `rustup target add {WASM_TARGET}`,\n\
         or use a Debian machine whose mirror has the suite {suite} (packages rust-src and wasi-libc).\n\n\
         The compiler said: {missing:#}\n\
         The first way failed: {by_rustup:#}\n\
         The second way failed: {by_packages:#}",
        suite = debian::SUITE
    )
}

/// Builds a small component.
fn probe(workspace: &Workspace, step: &Step) -> Result<()> {
    let scratch = Scratch::create(workspace.target.join("wasm-target/probe"))?;
    let source = scratch.path().join("probe.rs");
    std::fs::write(&source, PROBE).with_context(|| format!("writing {}", source.display()))?;
    let options = [
        "--edition=2024",
        "--crate-type=cdylib",
        "-Copt-level=s",
        "-Clto",
        "-Cpanic=abort",
    ];
    let mut rustc = workspace.rustc(&options);
    rustc
        .args(["--target", WASM_TARGET, "-o"])
        .arg(scratch.path().join("probe.wasm"))
        .arg(&source);
    Run::new(rustc, workspace.log("wasm-target-probe")).under(step)
}

fn add_with_rustup(workspace: &Workspace, step: &Step) -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup
        .args(["target", "add", WASM_TARGET])
        .current_dir(&workspace.root);
    // Rustup tries three times, with a long wait for each; the user is told the other way sooner.
    rustup.env("RUSTUP_MAX_RETRIES", "1");
    Run::new(rustup, workspace.log("wasm-target-rustup"))
        .time_max(RUSTUP_TIME_MAX)
        .under(step)
}

/// The compiler as the second way needs to know it.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// For example `1.95.0`.
    pub(crate) version: String,
    /// The folder that `rustc --print sysroot` names.
    pub(crate) sysroot: PathBuf,
}

impl Toolchain {
    /// Asks the compiler.
    pub(crate) fn load(workspace: &Workspace) -> Result<Toolchain> {
        let verbose = command::capture(workspace.rustc(&["--version", "--verbose"]))?;
        let release = verbose
            .lines()
            .find_map(|line| line.strip_prefix("release: "));
        let version = release
            .context("`rustc --version --verbose` names no release")?
            .trim()
            .to_owned();
        let sysroot = command::capture(workspace.rustc(&["--print", "sysroot"]))?;
        Ok(Toolchain {
            version,
            sysroot: PathBuf::from(sysroot.trim_end()),
        })
    }

    /// Where the compiler keeps what belongs to its targets.
    pub(crate) fn rustlib(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib")
    }

    /// The compiler itself, not a proxy of it.
    pub(crate) fn rustc(&self) -> PathBuf {
        self.sysroot
            .join(Path::new("bin").join(format!("rustc{}", std::env::consts::EXE_SUFFIX)))
    }
}
