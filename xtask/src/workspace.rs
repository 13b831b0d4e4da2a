//! What cargo knows about this checkout: its folders, its packages, and which of them are components.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// The target of every component. The name is rustc's.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

/// This checkout.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo builds; everything this program makes is below it.
    pub(crate) target: PathBuf,
    /// Packages that are built as components only.
    pub(crate) component_packages: Vec<ComponentPackage>,
    cargo: PathBuf,
}

/// A package whose libraries are components: a guest of the tests, or an example's agent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ComponentPackage {
    pub(crate) name: String,
    /// Its folder, below the root.
    pub(crate) folder: PathBuf,
    pub(crate) role: Role,
    /// The components it builds.
    pub(crate) artefacts: Vec<Artefact>,
}

/// What a component package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Below `tests/guests`: only tests load it.
    TestGuest,
    /// Below `examples`: workflows name it.
    ExampleAgent,
}

/// One component of a package, and where cargo puts it, below the profile's folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Artefact {
    /// The package's library, for example `fact_checker.wasm`.
    Library { file: String },
    /// An example of the package, for example `examples/echo.wasm`.
    Example,
}

impl Workspace {
    /// Reads the workspace around the current folder.
    pub(crate) fn load() -> Result<Workspace> {
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let mut metadata = Command::new(&cargo);
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
        let metadata = command::capture(metadata)
            .context("reading the workspace; run `cargo xtask` inside the checkout")?;
        let metadata: Value =
            serde_json::from_str(&metadata).context("reading the output of `cargo metadata`")?;
        Workspace::from_metadata(&metadata, cargo)
    }

    fn from_metadata(metadata: &Value, cargo: PathBuf) -> Result<Workspace> {
        let folder = |field: &str| {
            let path = metadata[field].as_str().map(PathBuf::from);
            path.with_context(|| format!("`cargo metadata` names no `{field}`"))
        };
        let root = folder("workspace_root")?;
        let packages = metadata["packages"]
            .as_array()
            .context("`cargo metadata` lists no packages")?;
        let mut component_packages: Vec<ComponentPackage> = packages
            .iter()
            .filter_map(|package| component_package(package, &root))
            .collect();
        component_packages.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Workspace {
            target: folder("target_directory")?,
            root,
            component_packages,
            cargo,
        })
    }

    #[cfg(test)]
    pub(crate) fn for_tests(component_packages: Vec<ComponentPackage>) -> Workspace {
        Workspace {
            root: "/w".into(),
            target: "/t".into(),
            component_packages,
            cargo: "cargo".into(),
        }
    }

    /// A cargo command in the root folder, without what `cargo run` told this program about itself:
    /// a build script that reads one of those variables would run again for each of our commands.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new(&self.cargo);
        cargo.args(arguments).current_dir(&self.root);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_about_this_program(name)) {
            cargo.env_remove(name);
        }
        cargo
    }

    /// The compiler that cargo uses here.
    pub(crate) fn rustc(&self, arguments: &[&str]) -> Command {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let mut rustc = Command::new(rustc);
        rustc.args(arguments).current_dir(&self.root);
        rustc
    }

    /// The log of a step, for example `<target>/logs/guests.log`.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.target.join("logs").join(format!("{step}.log"))
    }

    /// A path as a person in the root folder would write it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

fn is_about_this_program(variable: &OsString) -> bool {
    let Some(name) = variable.to_str() else {
        return false;
    };
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
        || name == "CARGO_PRIMARY_PACKAGE"
}

/// Reads one package; none: it builds no component.
fn component_package(package: &Value, root: &Path) -> Option<ComponentPackage> {
    let name = package["name"].as_str()?.to_owned();
    let folder = Path::new(package["manifest_path"].as_str()?)
        .parent()?
        .strip_prefix(root)
        .ok()?;
    let role = if folder.starts_with("tests/guests") {
        Role::TestGuest
    } else if folder.starts_with("examples") {
        Role::ExampleAgent
    } else {
        return None;
    };
    let artefacts: Vec<Artefact> = package["targets"]
        .as_array()?
        .iter()
        .filter_map(artefact)
        .collect();
    (!artefacts.is_empty()).then_some(ComponentPackage {
        name,
        folder: folder.to_owned(),
        role,
        artefacts,
    })
}

fn artefact(target: &Value) -> Option<Artefact> {
    let lists = |field: &str, word: &str| {
        target[field]
            .as_array()
            .is_some_and(|words| words.iter().any(|found| found == word))
    };
    if !lists("crate_types", "cdylib") {
        return None;
    }
    if lists("kind", "example") {
        return Some(Artefact::Example);
    }
    let name = target["name"].as_str()?.replace('-', "_");
    Some(Artefact::Library {
        file: format!("{name}.wasm"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn components_are_found_by_their_folder_and_crate_type() {
        let metadata = json!({
            "workspace_root": "/w", "target_directory": "/t",
            "packages": [
                {"name": "troupe-server", "manifest_path": "/w/host/server/Cargo.toml",
                 "targets": [{"name": "troupe", "kind": ["bin"], "crate_types": ["bin"]}]},
                {"name": "guests", "manifest_path": "/w/tests/guests/Cargo.toml", "targets": [
                    {"name": "guests", "kind": ["lib"], "crate_types": ["lib"]},
                    {"name": "echo", "kind": ["example"], "crate_types": ["cdylib"]}]},
                {"name": "fact-checker", "manifest_path": "/w/examples/research-team/agent/Cargo.toml",
                 "targets": [{"name": "fact_checker", "kind": ["cdylib"], "crate_types": ["cdylib"]}]},
            ],
        });
        let workspace =
            Workspace::from_metadata(&metadata, "cargo".into()).expect("the metadata is complete");
        let agent = ComponentPackage {
            name: "fact-checker".into(),
            folder: "examples/research-team/agent".into(),
            role: Role::ExampleAgent,
            artefacts: vec![Artefact::Library {
                file: "fact_checker.wasm".into(),
            }],
        };
        let guests = ComponentPackage {
            name: "guests".into(),
            folder: "tests/guests".into(),
            role: Role::TestGuest,
            artefacts: vec![Artefact::Example],
        };
        assert_eq!(workspace.component_packages, [agent, guests]);
        assert_eq!(workspace.log("guests"), Path::new("/t/logs/guests.log"));
    }

    #[test]
    fn metadata_without_a_root_is_an_error() {
        let error =
            Workspace::from_metadata(&json!({}), "cargo".into()).expect_err("there is no root");
        assert!(error.to_string().contains("workspace_root"), "{error}");
    }
}
