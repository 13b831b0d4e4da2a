//! `cargo xtask demo`: the research example on its own documents, with the offline model: no key, no network.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{host, progress, setup};

/// What the example researches where the user names nothing.
const INPUT: &str = "topic=How do cities adapt to hotter summers?";

/// Prepares the checkout and runs the example; `arguments` go to `troupe run`.
pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    setup::run(workspace)?;
    let mut troupe = Command::new(host::binary(workspace));
    troupe.current_dir(&workspace.root);
    troupe.args(["run", "examples/research-team/workflow.json", "--offline"]);
    if !names(arguments, is_documents) {
        troupe.args(["--docs", "examples/documents"]);
    }
    if !names(arguments, is_input) {
        troupe.args(["--input", INPUT]);
    }
    troupe.args(arguments);
    progress::heading(&shown(&troupe));
    let status = troupe
        .status()
        .context("starting the binary that was just built")?;
    if !status.success() {
        bail!("the example failed ({status})");
    }
    Ok(())
}

fn names(arguments: &[OsString], is_meant: fn(&str) -> bool) -> bool {
    arguments
        .iter()
        .any(|argument| is_meant(&argument.to_string_lossy()))
}

/// True for `--docs` and `--docs=folder`.
fn is_documents(argument: &str) -> bool {
    argument == "--docs" || argument.starts_with("--docs=")
}

/// True for `-i`, `--input`, `-iname=value` and `--input=name=value`.
fn is_input(argument: &str) -> bool {
    argument == "--input" || argument.starts_with("--input=") || argument.starts_with("-i")
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let words = command.get_args().map(|word| {
        let word = word.to_string_lossy();
        if word.contains([' ', '?', '\'', '"', '*', '&', ';']) {
            format!("\"{}\"", word.replace('"', "\\\""))
        } else {
            word.into_owned()
        }
    });
    words.fold("$ troupe".to_owned(), |line, word| line + " " + &word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_gives_replaces_ours() {
        assert!(is_documents("--docs") && is_documents("--docs=x") && !is_documents("docs"));
        assert!(
            ["-i", "-itopic=x", "--input", "--input=topic=x"]
                .iter()
                .all(|argument| is_input(argument))
        );
        assert!(
            !["--offline", "topic=x", "--inputs"]
                .iter()
                .any(|argument| is_input(argument))
        );
    }

    #[test]
    fn the_command_can_be_typed() {
        let mut command = Command::new("/somewhere/troupe");
        command.args(["run", "a.json", "-i", "topic=Why is the \"sky\" blue?"]);
        assert_eq!(
            shown(&command),
            r#"$ troupe run a.json -i "topic=Why is the \"sky\" blue?""#
        );
    }
}
