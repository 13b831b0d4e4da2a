//! `cargo xtask check`, `test` and `verify`: what must hold before a change is kept.

use std::io::IsTerminal;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};

use crate::command::Run;
use crate::workspace::Workspace;
use crate::{host, progress, setup};

/// Formatting, lints and documentation.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    cargo(workspace, "Formatting", &["fmt", "--all", "--check"])?;
    cargo(
        workspace,
        "Lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
    )?;
    let mut doc = workspace.cargo(&["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    in_the_open(workspace, "Documentation", doc, &|_| ())
}

/// Prepares the checkout, runs every test, and says how many ran.
pub(crate) fn test(workspace: &Workspace) -> Result<()> {
    setup::run_with_tests(workspace)?;
    let count = Count::default();
    let on_line = |line: &str| count.add(line);
    // This program was built for itself alone: testing it with the others would compile what it needs
    // a second time, with their features.
    let own = workspace.cargo(&["test", "--package", "xtask"]);
    let own = in_the_open(workspace, "Tests of the set-up", own, &on_line);
    let mut others = workspace.cargo(&["test", "--no-fail-fast"]);
    others.args(host::tested_packages(workspace));
    let others = in_the_open(workspace, "Tests", others, &on_line);
    progress::heading(&count.summary());
    own.and(others)
}

/// All of it.
pub(crate) fn verify(workspace: &Workspace) -> Result<()> {
    check(workspace)?;
    test(workspace)
}

fn cargo(workspace: &Workspace, name: &str, arguments: &[&str]) -> Result<()> {
    in_the_open(workspace, name, workspace.cargo(arguments), &|_| ())
}

/// Runs a cargo command whose output the user wants to see.
fn in_the_open(
    workspace: &Workspace,
    name: &str,
    mut command: Command,
    on_line: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    progress::heading(name);
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let log = workspace.log(&name.to_lowercase().replace(' ', "-"));
    let status = Run::new(command, log.clone()).in_the_open(on_line)?;
    if !status.success() {
        bail!(
            "{}: failed ({status}); the whole output is in {}",
            name.to_lowercase(),
            workspace.shown(&log)
        );
    }
    Ok(())
}

/// Counts tests by the line that ends each test program's output.
#[derive(Debug, Default)]
struct Count {
    programs: AtomicU64,
    passed: AtomicU64,
    failed: AtomicU64,
    ignored: AtomicU64,
}

impl Count {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`; any other line counts nothing.
    fn add(&self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else {
            return;
        };
        self.programs.fetch_add(1, Ordering::Relaxed);
        let words: Vec<&str> = result
            .split([' ', ';'])
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else {
                continue;
            };
            match pair[1] {
                "passed" => self.passed.fetch_add(number, Ordering::Relaxed),
                "failed" => self.failed.fetch_add(number, Ordering::Relaxed),
                "ignored" => self.ignored.fetch_add(number, Ordering::Relaxed),
                _ => 0,
            };
        }
    }

    fn summary(&self) -> String {
        let [programs, passed, failed, ignored] =
            [&self.programs, &self.passed, &self.failed, &self.ignored]
                .map(|count| count.load(Ordering::Relaxed));
        format!(
            "{passed} tests passed, {failed} failed, {ignored} ignored, in {programs} test programs"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let count = Count::default();
        count.add("running 4 tests\n");
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n");
        count.add(
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(
            count.summary(),
            "13 tests passed, 2 failed, 1 ignored, in 2 test programs"
        );
    }
}
