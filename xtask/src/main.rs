//! `cargo xtask`: prepares a checkout, runs the demonstration, and verifies everything.
//!
//! Owns the order of the commands' steps and nothing else; every step is a module of its own.
//! No other crate depends on this one, and it depends on none of them.

mod command;
mod components;
mod debian;
mod demo;
mod host;
mod merge;
mod node;
mod peers;
mod plugins;
mod postgresql;
mod progress;
mod python;
mod registry;
mod scratch;
mod setup;
mod stamp;
mod verify;
mod wasm_target;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::workspace::Workspace;

const USAGE: &str = "\
Usage: cargo xtask <command>

Commands:
  setup               prepare this checkout: the wasm target, tools, plugins, components, the binary, and
                      PostgreSQL and a registry for the tests where the machine has none
  demo [-- <args>]    setup, then run the research example offline; the arguments go to `troupe run`
  test                setup, then run every test
  check               formatting, lints and documentation
  verify              check and test: what must hold before a change is kept
  bench-peers         setup, then measure the sandbox beside python3, node and other sandboxes, which are
                      installed below the target folder
  help                print this text
";

/// A command of this program.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Setup,
    Demo(Vec<OsString>),
    Test,
    Check,
    Verify,
    BenchPeers,
    Help,
}

/// Reads the command line; the error is the text to show.
fn parse_arguments(arguments: Vec<OsString>) -> Result<Task, String> {
    let mut arguments = arguments.into_iter();
    let Some(name) = arguments.next() else {
        return Ok(Task::Help);
    };
    let rest: Vec<OsString> = arguments.collect();
    let name = name.to_string_lossy().into_owned();
    if name == "demo" {
        let separator = usize::from(rest.first().is_some_and(|first| first == "--"));
        return Ok(Task::Demo(rest.into_iter().skip(separator).collect()));
    }
    let task = match name.as_str() {
        "setup" => Task::Setup,
        "test" => Task::Test,
        "check" => Task::Check,
        "verify" => Task::Verify,
        "bench-peers" => Task::BenchPeers,
        "help" | "--help" | "-h" => Task::Help,
        _ => return Err(format!("there is no command `{name}`")),
    };
    match rest.first() {
        Some(surplus) => Err(format!(
            "`{name}` takes no arguments, got `{}`",
            surplus.to_string_lossy()
        )),
        None => Ok(task),
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Setup => {
            let workspace = Workspace::load()?;
            setup::run_with_tests(&workspace)?;
            let binary = workspace.shown(&host::binary(&workspace));
            progress::heading(&format!("Ready: {binary}. Try `cargo xtask demo`."));
            Ok(())
        }
        Task::Demo(arguments) => demo::run(&Workspace::load()?, &arguments),
        Task::Test => verify::test(&Workspace::load()?),
        Task::Check => verify::check(&Workspace::load()?),
        Task::Verify => verify::verify(&Workspace::load()?),
        Task::BenchPeers => peers::run(&Workspace::load()?),
        Task::Help => {
            progress::print(USAGE);
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    let task = match parse_arguments(std::env::args_os().skip(1).collect()) {
        Ok(task) => task,
        Err(message) => {
            progress::complain(&format!("{message}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Task, String> {
        parse_arguments(arguments.iter().map(OsString::from).collect())
    }

    #[test]
    fn commands_are_read() {
        assert_eq!(parse(&[]), Ok(Task::Help));
        assert_eq!(parse(&["setup"]), Ok(Task::Setup));
        assert_eq!(parse(&["bench-peers"]), Ok(Task::BenchPeers));
        assert_eq!(parse(&["demo"]), Ok(Task::Demo(vec![])));
        let topic = vec![OsString::from("-i"), OsString::from("topic=bees")];
        assert_eq!(
            parse(&["demo", "--", "-i", "topic=bees"]),
            Ok(Task::Demo(topic.clone()))
        );
        assert_eq!(parse(&["demo", "-i", "topic=bees"]), Ok(Task::Demo(topic)));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parse(&["tset"]), Err("there is no command `tset`".into()));
        assert_eq!(
            parse(&["test", "fast"]),
            Err("`test` takes no arguments, got `fast`".into())
        );
    }
}
