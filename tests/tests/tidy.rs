//! What the house style asks of every file and crate, read from the checkout.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::troupe::root;
use serde_json::Value;

/// No source file is longer; tests are not counted.
const LINES_MAX: usize = 800;

/// The arrows between our own crates: each crate, and what it may depend on. The one place beside the architecture's
/// description that knows them.
const ARROWS: [(&str, &[&str]); 10] = [
    ("troupe-workflow", &[]),
    ("troupe-journal", &["troupe-workflow"]),
    ("troupe-sandbox", &[]),
    ("troupe-providers", &[]),
    (
        "troupe-server",
        &[
            "troupe-journal",
            "troupe-providers",
            "troupe-sandbox",
            "troupe-workflow",
        ],
    ),
    ("troupe-sdk", &[]),
    ("fact-checker", &["troupe-sdk"]),
    ("guests", &["troupe-sdk"]),
    (
        "e2e",
        &[
            "troupe-journal",
            "troupe-providers",
            "troupe-sandbox",
            "troupe-server",
            "troupe-workflow",
        ],
    ),
    ("xtask", &[]),
];

/// Dependencies that a crate may not have, for what it promises.
const KEPT_OUT: [(&str, &[&str]); 2] = [
    (
        "troupe-workflow",
        &[
            "tokio",
            "wasmtime",
            "axum",
            "rusqlite",
            "reqwest",
            "rand",
            "getrandom",
            "anyhow",
        ],
    ),
    ("troupe-journal", &["anyhow", "axum", "wasmtime", "reqwest"]),
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The crates with their manifests' folders.
fn packages() -> BTreeMap<String, (PathBuf, Value)> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let folder = manifest.parent().unwrap().to_owned();
            (
                package["name"].as_str().unwrap().to_owned(),
                (folder, package.clone()),
            )
        })
        .collect()
}

/// The files of the project: those that git tracks or would, so that nothing built or installed is among them.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(root())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).unwrap();
            names
                .split('\0')
                .filter(|name| !name.is_empty())
                .map(PathBuf::from)
                .filter(|path| root().join(path).is_file())
                .collect()
        }
        // A released archive has no repository, and nothing in it that was not packed.
        _ => walk(&root()),
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir()
            && !["target", "node_modules"].contains(&name.as_str())
            && !name.starts_with('.')
        {
            found.extend(walk(&path));
        } else if path.is_file() {
            found.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
    found
}

/// Source files with their text: the path is relative to the checkout.
fn sources(endings: &[&str]) -> Vec<(String, String)> {
    let is_source = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| endings.contains(&ending))
    };
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        (path.to_string_lossy().replace('\\', "/"), text)
    };
    let found: Vec<_> = files().into_iter().filter(is_source).map(read).collect();
    assert!(!found.is_empty(), "there are sources to look at");
    found
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_source_file_is_too_long() {
    let long = sources(&["rs", "py", "js", "ts", "wit"])
        .into_iter()
        .filter(|(path, text)| !is_test(path) && text.lines().count() > LINES_MAX)
        .map(|(path, text)| {
            format!(
                "{path} has {} lines, at most {LINES_MAX} are allowed",
                text.lines().count()
            )
        });
    none(&long.collect::<Vec<_>>());
}

#[test]
fn every_rust_file_says_what_it_owns() {
    let mute = sources(&["rs"])
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| format!("{path} does not open with `//!`"));
    none(&mute.collect::<Vec<_>>());
}

#[test]
fn files_are_named_after_what_they_hold() {
    let bad = [
        "mod.rs",
        "utils.rs",
        "util.rs",
        "common.rs",
        "helpers.rs",
        "manager.rs",
        "types.rs",
    ];
    let named = sources(&["rs"])
        .into_iter()
        .filter(|(path, _)| bad.contains(&path.rsplit('/').next().unwrap_or(path)))
        .map(|(path, _)| format!("{path}: name it after the thing, or move it to its only caller"));
    none(&named.collect::<Vec<_>>());
}

#[test]
fn no_test_is_ignored() {
    // Written in two parts, so that this file does not find itself.
    let marks = [
        concat!("#[", "ignore"),
        concat!("#[", "should_panic"),
        concat!("to", "do!("),
    ];
    let ignored = sources(&["rs"])
        .into_iter()
        .filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)))
        .map(|(path, _)| {
            format!("{path} has a test that does not count, or code that is not there")
        });
    none(&ignored.collect::<Vec<_>>());
}

#[test]
fn nothing_names_a_place_on_some_machine() {
    let homes = [
        concat!("/", "root/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
    ];
    let endings = [
        "rs", "py", "js", "ts", "wit", "toml", "json", "md", "yml", "yaml", "txt",
    ];
    let mut faults = Vec::new();
    for (path, text) in sources(&endings) {
        for (number, line) in text.lines().enumerate() {
            let is_bound = homes.iter().any(|home| {
                line.match_indices(home).any(|(index, _)| {
                    let before = line[..index].chars().next_back();
                    before.is_none_or(|c| c.is_whitespace() || "\"'`(=:".contains(c))
                })
            });
            if is_bound {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    let mut faults = Vec::new();
    for (name, (folder, package)) in packages() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
        if !lines
            .windows(2)
            .any(|pair| pair == ["[lints]", "workspace = true"])
        {
            faults.push(format!("{name} lacks `[lints]` with `workspace = true`"));
        }
        if package["publish"] != serde_json::json!([]) {
            faults.push(format!(
                "{name} could be published; give it `publish.workspace = true`"
            ));
        }
    }
    none(&faults);
}

#[test]
fn host_crates_are_named_after_their_folders() {
    let mut faults = Vec::new();
    for (name, (folder, _)) in packages() {
        let parent = folder.parent().unwrap();
        if parent == root().join("host") {
            let expected = format!("troupe-{}", folder.file_name().unwrap().to_string_lossy());
            if name != expected {
                faults.push(format!(
                    "{name} in {} should be {expected}",
                    folder.display()
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn crates_depend_on_each_other_as_the_list_says() {
    let packages = packages();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut faults = Vec::new();
    for (name, (_, package)) in &packages {
        let Some(allowed) = allowed.get(name.as_str()) else {
            faults.push(format!("{name} is not in the list of arrows"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let ours: BTreeSet<&str> = dependencies
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| packages.contains_key(*dependency))
            .collect();
        let wrong = ours
            .iter()
            .filter(|dependency| !allowed.contains(dependency));
        faults.extend(wrong.map(|dependency| format!("{name} may not depend on {dependency}")));
    }
    for name in allowed.keys().filter(|name| !packages.contains_key(**name)) {
        faults.push(format!(
            "the list of arrows names {name}, which is not there"
        ));
    }
    none(&faults);
}

#[test]
fn crates_are_kept_free_of_what_they_promise_not_to_use() {
    let packages = packages();
    let mut faults = Vec::new();
    for (name, kept_out) in KEPT_OUT {
        let dependencies = packages[name].1["dependencies"].as_array().unwrap().iter();
        // A dependency of the tests is no part of the crate.
        let found = dependencies
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| kept_out.contains(dependency));
        faults.extend(found.map(|dependency| format!("{name} may not use {dependency}")));
    }
    none(&faults);
}

#[test]
fn every_guest_has_a_test() {
    let sources = sources(&["rs"]);
    let is_anothers = |path: &str| is_test(path) && !path.starts_with("tests/guests/");
    let tests: Vec<&String> = sources
        .iter()
        .filter(|(path, _)| is_anothers(path))
        .map(|(_, text)| text)
        .collect();
    let guests = sources.iter().filter_map(|(path, _)| {
        path.strip_prefix("tests/guests/examples/")?
            .strip_suffix(".rs")
    });
    let untested: Vec<String> = guests
        .filter(|guest| {
            !tests
                .iter()
                .any(|text| text.contains(&format!("\"{guest}\"")))
        })
        .map(|guest| format!("no test names the guest {guest}"))
        .collect();
    none(&untested);
}
