//! Everything that runs on this machine and not in the sandbox: the host crates and the binary `troupe`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::Run;
use crate::progress::{Done, Step};
use crate::workspace::{Role, Workspace};

/// The packages that run on this machine, as arguments of `cargo build`.
///
/// Set-up builds them all, though it needs but one: cargo unites the features that the selected packages
/// ask of a dependency, so that another selection in the tests would compile much a second time. This
/// program is left out, for it was built for itself alone.
pub(crate) fn packages(workspace: &Workspace) -> Vec<String> {
    all_but(workspace, &[Role::TestGuest, Role::ExampleAgent])
}

/// The same, as arguments of `cargo test`, and the examples' agents, whose own logic can be tested here.
pub(crate) fn tested_packages(workspace: &Workspace) -> Vec<String> {
    all_but(workspace, &[Role::TestGuest])
}

fn all_but(workspace: &Workspace, roles: &[Role]) -> Vec<String> {
    let components = workspace
        .component_packages
        .iter()
        .filter(|package| roles.contains(&package.role));
    let left_out = components
        .map(|package| package.name.as_str())
        .chain(["xtask"]);
    let excluded = left_out.flat_map(|name| ["--exclude".to_owned(), name.to_owned()]);
    ["--workspace".to_owned()]
        .into_iter()
        .chain(excluded)
        .collect()
}

/// Builds the binary, and the crates it is made of.
pub(crate) fn build(workspace: &Workspace, step: &Step) -> Result<Done> {
    let mut cargo = workspace.cargo(&["build"]);
    cargo.args(packages(workspace));
    let log = workspace.log("host");
    Run::new(cargo, log.clone()).under(step)?;
    what_cargo_did(&log)
}

/// The binary, after `build`.
pub(crate) fn binary(workspace: &Workspace) -> PathBuf {
    workspace
        .target
        .join("debug")
        .join(format!("troupe{}", std::env::consts::EXE_SUFFIX))
}

/// Whether a log of cargo says that something was compiled.
pub(crate) fn what_cargo_did(log: &Path) -> Result<Done> {
    let text = std::fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let compiled = text
        .lines()
        .filter(|line| line.trim_start().starts_with("Compiling "))
        .count();
    Ok(match compiled {
        0 => Done::Unchanged,
        1 => Done::Changed("built (1 crate)".into()),
        _ => Done::Changed(format!("built, {compiled} crates")),
    })
}

/// Compiles components to this machine's code ahead of time, so that no run waits for it. The binary
/// knows what is compiled already, and shows its own progress.
pub(crate) fn precompile(
    workspace: &Workspace,
    components: &[PathBuf],
    step: &Step,
) -> Result<Done> {
    let mut troupe = Command::new(binary(workspace));
    troupe
        .args(["component", "compile"])
        .args(components)
        .current_dir(&workspace.root);
    Run::new(troupe, workspace.log("precompile")).under(step)?;
    Ok(Done::Changed(format!(
        "{} components ready",
        components.len()
    )))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workspace::ComponentPackage;

    #[test]
    fn components_are_not_built_for_this_machine() {
        let package = |name: &str, role| ComponentPackage {
            folder: name.into(),
            name: name.into(),
            role,
            artefacts: vec![],
        };
        let packages_all = vec![
            package("fact-checker", Role::ExampleAgent),
            package("guests", Role::TestGuest),
        ];
        let workspace = Workspace::for_tests(packages_all);
        let built = "--workspace --exclude fact-checker --exclude guests --exclude xtask";
        assert_eq!(packages(&workspace).join(" "), built);
        assert_eq!(
            tested_packages(&workspace).join(" "),
            "--workspace --exclude guests --exclude xtask"
        );
    }

    /// Every dependency of a selection of packages with the features it gets, one a line.
    fn dependencies(
        workspace: &Workspace,
        edges: &str,
        selection: Vec<String>,
    ) -> BTreeSet<String> {
        let mut cargo = workspace.cargo(&["tree", "--locked", "--prefix=none", "--no-dedupe"]);
        cargo.args(["--edges", edges, "--format={p}|{f}"]);
        // The tree knows no tests, only dependencies: what a selection leaves out is the same.
        let output = cargo.args(selection).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_tests_compile_no_dependency_a_second_time() {
        let workspace = Workspace::load().unwrap();
        let name = |line: &str| line.split('|').next().unwrap_or_default().to_owned();
        let built = dependencies(&workspace, "normal,build", packages(&workspace));
        let names: BTreeSet<String> = built.iter().map(|line| name(line)).collect();
        let tested = dependencies(&workspace, "normal,build,dev", tested_packages(&workspace));
        let twice: Vec<&String> = tested
            .difference(&built)
            .filter(|line| names.contains(&name(line)))
            .collect();
        assert!(
            twice.is_empty(),
            "these have other features in the tests than in the set-up; make the features the same in \
             the manifests: {twice:#?}"
        );
    }
}
