//! `cargo xtask bench-peers`: programs in the sandbox, in the machine's own interpreters and in other sandboxes that are
//! packages of PyPI and npm, measured one after the other. Nothing of them is part of Troupe: they are installed below
//! the target folder, and what cannot be installed is left out of the table and named.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{self, Run};
use crate::progress::{self, Done, Step};
use crate::workspace::{WASM_TARGET, Workspace};
use crate::{host, setup};

/// Interpreters that pyeryx may have been built for.
const PYTHONS: [&str; 4] = ["python3", "python3.14", "python3.13", "python3.12"];

/// Packages of npm, each of which is installed by itself: one of them needs a compiler.
const NODE_PACKAGES: [&str; 2] = ["quickjs-emscripten", "isolated-vm"];

/// What one way of running a program takes.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    program: String,
    by: String,
    p50_us: f64,
    p99_us: f64,
}

/// Prepares everything, measures, and prints a table.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::run(workspace)?;
    progress::heading("Installing the peers");
    let mut missing = Vec::new();
    let python = note_missing("pyeryx", install_pyeryx(workspace), &mut missing);
    let packages: Vec<&str> = NODE_PACKAGES
        .into_iter()
        .filter(|name| {
            note_missing(name, install_node_package(workspace, name), &mut missing).is_some()
        })
        .collect();
    progress::heading("Measuring: Troupe, the peers, and Troupe again");
    let before = troupe(workspace)?;
    let programs = &before["programs"];
    let mut peers = Vec::new();
    if let Some(python) = python {
        let mut command = Command::new(python);
        command.arg(workspace.root.join("xtask/peers/pyeryx.py"));
        peers.extend(measured(command, &of_language(programs, "python"))?);
    }
    for package in packages {
        let mut command = Command::new("node");
        command
            .arg(workspace.root.join("xtask/peers/isolates.js"))
            .arg(package)
            .current_dir(node_folder(workspace, package))
            // Where the script asks for packages that lie nowhere near it.
            .env(
                "NODE_PATH",
                node_folder(workspace, package).join("node_modules"),
            );
        peers.extend(measured(command, &of_language(programs, "javascript"))?);
    }
    let after = troupe(workspace)?;
    let rows = slower_of(own_rows(&before)?, &own_rows(&after)?);
    progress::print(&table(&rows, &peers));
    for name in missing {
        progress::print(&format!("not measured: {name}\n"));
    }
    Ok(())
}

fn note_missing<T>(name: &str, installed: Result<T>, missing: &mut Vec<String>) -> Option<T> {
    match installed {
        Ok(installed) => Some(installed),
        Err(error) => {
            let reason = format!("{error:#}");
            let first = reason.lines().next().unwrap_or_default().to_owned();
            missing.push(format!("{name} ({first})"));
            None
        }
    }
}

/// Installs pyeryx for the first Python that it has been built for, and returns that of the environment.
fn install_pyeryx(workspace: &Workspace) -> Result<PathBuf> {
    let mut reason = None;
    for name in PYTHONS {
        let folder = workspace.target.join("peers").join(name);
        let python = folder.join("bin/python");
        let has_it = |python: &PathBuf| {
            let mut check = Command::new(python);
            check.args(["-c", "import eryx"]);
            command::capture(check).is_ok()
        };
        if has_it(&python) {
            return Ok(python);
        }
        let installed = Step::run(&format!("pyeryx for {name}"), |step| {
            let mut venv = Command::new(name);
            venv.args(["-m", "venv"]).arg(&folder);
            Run::new(venv, workspace.log("peers-venv")).under(step)?;
            let mut pip = Command::new(&python);
            pip.args([
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-input",
            ]);
            // A build of its own sources would take longer than all measurements.
            pip.args(["--only-binary", ":all:", "pyeryx"]);
            Run::new(pip, workspace.log("peers-pyeryx")).under(step)?;
            Ok(Done::Changed("installed".into()))
        });
        match installed {
            Ok(()) => return Ok(python),
            Err(error) => reason = Some(error),
        }
    }
    Err(reason.context("there is no Python")?)
}

fn node_folder(workspace: &Workspace, package: &str) -> PathBuf {
    workspace.target.join("peers").join(package)
}

fn install_node_package(workspace: &Workspace, package: &str) -> Result<()> {
    let folder = node_folder(workspace, package);
    let is_there = || {
        let mut check = Command::new("node");
        check.args(["-e", &format!("require('{package}')")]);
        check.current_dir(&folder);
        folder.is_dir() && command::capture(check).is_ok()
    };
    if is_there() {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    std::fs::write(folder.join("package.json"), "{\"private\": true}")?;
    Step::run(package, |step| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", package])
            .current_dir(&folder);
        Run::new(npm, workspace.log(&format!("peers-{package}"))).under(step)?;
        if !is_there() {
            bail!("it is installed and cannot be loaded");
        }
        Ok(Done::Changed("installed".into()))
    })
}

/// The figures of Troupe, with those of the bare loop and of the machine's own interpreters.
fn troupe(workspace: &Workspace) -> Result<Value> {
    let guests = workspace.target.join("guests").join(WASM_TARGET);
    let mut troupe = Command::new(host::binary(workspace));
    troupe
        .args(["bench", "sandbox", "--of", "python,javascript"])
        .args(["--parts", "processes", "--guests"])
        .arg(guests.join("guest/examples"))
        .current_dir(&workspace.root);
    let figures = command::capture(troupe)?;
    serde_json::from_str(&figures).context("reading the figures of `troupe bench sandbox`")
}

fn of_language(programs: &Value, language: &str) -> Value {
    let programs = programs.as_array().into_iter().flatten();
    let chosen = programs.filter(|program| program["language"] == language);
    chosen.cloned().collect()
}

/// Runs a peer's script, which reads the programs and prints a line of figures for each.
fn measured(mut command: Command, programs: &Value) -> Result<Vec<Row>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting a peer")?;
    let mut stdin = child.stdin.take().context("the pipe that was asked for")?;
    stdin.write_all(programs.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output().context("waiting for a peer")?;
    if !output.status.success() {
        bail!("a peer's script failed ({})", output.status);
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines
        .lines()
        .map(|line| {
            let figures: Value = serde_json::from_str(line).context("reading a peer's figures")?;
            let by = figures["peer"].as_str().unwrap_or_default();
            row(&figures["what"], by, &figures)
        })
        .collect()
}

fn row(program: &Value, by: &str, figures: &Value) -> Result<Row> {
    let number = |name: &str| {
        let number = figures[name].as_f64();
        number.with_context(|| format!("the figures of {by} have no `{name}`"))
    };
    Ok(Row {
        program: program.as_str().unwrap_or_default().to_owned(),
        by: by.to_owned(),
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
    })
}

/// Troupe's rows come first among those of their program: the table divides by them.
fn own_rows(figures: &Value) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for measured in figures["processes"].as_array().into_iter().flatten() {
        let program = &measured["what"];
        if measured["missing"] == true {
            continue;
        }
        rows.push(row(program, "Troupe", &measured["sandbox"])?);
        rows.push(row(program, "bare wasmtime loop", &measured["bare"])?);
        let process = measured["process"].as_str().unwrap_or_default();
        rows.push(row(program, process, &measured["of_process"])?);
    }
    Ok(rows)
}

/// Of two measurements of the same things the slower of each, for Troupe's; of what it is compared with the faster one.
fn slower_of(mut rows: Vec<Row>, others: &[Row]) -> Vec<Row> {
    for row in &mut rows {
        let same = |other: &&Row| other.program == row.program && other.by == row.by;
        let Some(other) = others.iter().find(same) else {
            continue;
        };
        if (other.p50_us > row.p50_us) == (row.by == "Troupe") {
            *row = other.clone();
        }
    }
    rows
}

/// A table in Markdown: for each program Troupe, and how many times as long the others take.
fn table(own: &[Row], peers: &[Row]) -> String {
    let mut text = String::from(
        "\n| program | by | p50 | p99 | p50, times Troupe's |\n|---|---|---|---|---|\n",
    );
    for troupe in own.iter().filter(|row| row.by == "Troupe") {
        let of_program = |row: &&Row| row.program == troupe.program;
        for row in own.iter().chain(peers).filter(of_program) {
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} ms | {:.2} ms | {:.2} |",
                row.program,
                row.by,
                row.p50_us / 1e3,
                row.p99_us / 1e3,
                row.p50_us / troupe.p50_us,
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures(sandbox: f64, process: f64) -> Value {
        let times = |p50: f64| json!({ "p50_us": p50, "p99_us": 2.0 * p50 });
        json!({ "processes": [
            { "what": "python 1 + 1", "process": "python3 -I", "sandbox": times(sandbox),
              "bare": times(1_000.0), "of_process": times(process) },
            { "what": "javascript 1 + 1", "process": "node", "missing": true },
        ]})
    }

    #[test]
    fn troupe_is_shown_at_its_slowest_and_others_at_their_fastest() {
        let (before, after) = (figures(2_000.0, 40_000.0), figures(4_000.0, 50_000.0));
        let rows = slower_of(own_rows(&before).unwrap(), &own_rows(&after).unwrap());
        let peer = Row {
            program: "python 1 + 1".to_owned(),
            by: "other 1.0".to_owned(),
            p50_us: 6_000.0,
            p99_us: 7_000.0,
        };
        let expected = "
| program | by | p50 | p99 | p50, times Troupe's |
|---|---|---|---|---|
| python 1 + 1 | Troupe | 4.00 ms | 8.00 ms | 1.00 |
| python 1 + 1 | bare wasmtime loop | 1.00 ms | 2.00 ms | 0.25 |
| python 1 + 1 | python3 -I | 40.00 ms | 80.00 ms | 10.00 |
| python 1 + 1 | other 1.0 | 6.00 ms | 7.00 ms | 1.50 |
";
        assert_eq!(table(&rows, &[peer]), expected);
    }
}
