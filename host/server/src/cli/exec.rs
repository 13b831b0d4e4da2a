//! `troupe exec`: what it is given and what it answers. What a program is made of is in `exec/program.rs`, how packages are
//! found in `exec/packages.rs`, a session in `exec/session.rs`.

mod packages;
mod program;
mod session;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Value, json};
use tempfile::TempDir;
use troupe_sandbox::{
    Call, CancelFlag, Component, DenyAll, EnvGrant, FilesGrant, FolderAccess, FolderGrant, Grants,
    Limits, Outcome, Report, ScratchGrant, Trace, Usage,
};
use troupe_workflow::{FileGrant, Language, Limits as AskedLimits};

use super::{CliError, Common, End, output, trace};
use crate::agents::code::printed_bytes;
use crate::clock;
use crate::components::Components;
use crate::grants::{ENTRIES_MAX, Own};
use crate::limits::{AskedIn, Remedies, ceilings, within};
use crate::services::open_components;
use crate::traces;

/// Where the folder lies that every call has for itself.
const SCRATCH_AT: &str = "/tmp";
/// Where the interpreters look for packages.
const PACKAGES_AT: &str = "/packages";

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// The language: python or javascript [default: what the file's name says]
    #[arg(long, value_parser = parse_language)]
    lang: Option<Language>,
    /// The source file, or `-` for standard input
    #[arg(required_unless_present = "session", conflicts_with = "session")]
    file: Option<PathBuf>,
    /// Read programs from standard input, one JSON object a line, and run each with what those before it left
    #[arg(long, requires = "lang", conflicts_with_all = ["input", "stdin"])]
    session: bool,
    /// Longest time that a session lasts, whatever it does
    #[arg(long, value_name = "MS", default_value_t = session::TIME_MS_DEFAULT, value_parser = session::times())]
    session_timeout_ms: u64,
    /// Longest time that a session waits for its next program
    #[arg(long, value_name = "MS", default_value_t = session::IDLE_MS_DEFAULT, value_parser = session::times())]
    idle_timeout_ms: u64,
    /// The value of the variable `input`, as JSON
    #[arg(
        long,
        default_value = "null",
        value_name = "JSON",
        allow_hyphen_values = true
    )]
    input: String,
    /// The function to call with the input, where the source sets no `result` [default: main; in a session none]
    #[arg(long)]
    action: Option<String>,
    /// A folder that the code may read at AT, and write where `:rw` follows; may be given again
    #[arg(long, value_name = "AT=PATH[:rw]", value_parser = parse_folder)]
    folder: Vec<FolderGrant>,
    /// A variable of the code's environment; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// What the code reads from standard input: a file, or `-` for that of this command
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// A package that the code may import: a pure-Python wheel (`…-none-any.whl`), or one file of JavaScript; may be given again
    #[arg(long, value_name = "WHEEL|[NAME=]FILE")]
    package: Vec<String>,
    /// Most units of computation, about one for each WebAssembly instruction
    #[arg(long)]
    fuel: Option<u64>,
    /// Most memory
    #[arg(long)]
    memory_mb: Option<u64>,
    /// Longest running time
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// Largest result, and largest output
    #[arg(long)]
    output_kb: Option<u64>,
    /// Most that files may grow by, and as much in /tmp
    #[arg(long)]
    disk_mb: Option<u64>,
    /// Most files that are open at one time
    #[arg(long)]
    open_files: Option<u64>,
    /// List what the code asked of the host: on standard error, or with --json as `trace`
    #[arg(long)]
    trace: bool,
    /// Print result, output, error and usage as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, args: ExecArgs) -> Result<End, CliError> {
    let language = language(&args).map_err(CliError::Caller)?;
    let Some(file) = &args.file else {
        let prepared = prepare(common, &args, language).await?;
        return session::run(prepared, &args).await;
    };
    let program = program::read(&args, file).map_err(CliError::Caller)?;
    let prepared = prepare(common, &args, language).await?;
    let sandbox = prepared.components.sandbox();
    let mut report = sandbox
        .execute(&prepared.component, program, prepared.call)
        .await
        .map_err(anyhow::Error::from)?;
    if let (Some(action), Outcome::Returned(result)) = (&args.action, &report.outcome)
        && result == "null"
    {
        output::note(&format!(
            "the result is null: the source sets no other, and no function `{action}` returned one"
        ));
    }
    let remedies = Remedies {
        ceiling: prepared.ceiling,
        asked: &prepared.asked,
        asked_in: AskedIn::Options,
    };
    remedies.complete(&mut report.denials);
    let traced = args.trace.then_some(&report.trace);
    Ok(if args.json {
        let (answer, end) = answer(&report, &remedies, traced);
        output::json(&answer);
        end
    } else {
        if let Some(traced) = traced {
            trace::print("the code", traced, report.usage.fuel);
        }
        print(&report, &remedies)
    })
}

/// What code runs with.
struct Prepared {
    components: Components,
    component: Component,
    call: Call,
    /// What may be asked for, and what is.
    ceiling: Limits,
    asked: AskedLimits,
    /// Until nothing runs any more.
    _packages: Option<TempDir>,
}

async fn prepare(
    common: &Common,
    args: &ExecArgs,
    language: Language,
) -> Result<Prepared, CliError> {
    let config = common.config()?;
    let ceiling = ceilings(&config.limits);
    let places = common.places()?;
    let own = Own::new(&config, &places);
    for folder in &args.folder {
        let checked = own.check(&folder.access);
        checked.map_err(|reason| CliError::Caller(anyhow!("--folder: {reason}")))?;
    }
    check_places(args).map_err(CliError::Caller)?;
    let packages = packages::folder(&args.package, language).map_err(CliError::Caller)?;
    let components = open_components(&config, &places)?;
    let component = components.interpreter(language).await?;
    let asked = asked(args);
    let call = Call {
        agent: "exec".to_owned(),
        grants: grants(args, packages.as_ref()),
        limits: Limits {
            traced_calls_max: if args.trace { traces::CALLS_MAX } else { 0 },
            ..within(ceiling, &asked)
        },
        host: Arc::new(DenyAll),
        seed: clock::entropy(),
        started_at: clock::system_time(),
        cancel: CancelFlag::new(),
    };
    Ok(Prepared {
        components,
        component,
        call,
        ceiling,
        asked,
        _packages: packages,
    })
}

fn parse_language(text: &str) -> Result<Language, String> {
    let found = Language::WORDS
        .iter()
        .find(|(word, _)| *word == text || word.starts_with(text) && text == "js");
    match (found, text) {
        (Some((_, language)), _) => Ok(*language),
        (None, "js") => Ok(Language::JavaScript),
        (None, "py") => Ok(Language::Python),
        (None, _) => Err("use python or javascript".to_owned()),
    }
}

fn language(args: &ExecArgs) -> anyhow::Result<Language> {
    let file = args.file.as_ref();
    let by_name = match file.and_then(|file| file.extension()?.to_str()) {
        Some("py") => Some(Language::Python),
        Some("js" | "mjs") => Some(Language::JavaScript),
        _ => None,
    };
    args.lang.or(by_name).context(
        "the file's name does not tell the language; add --lang python or --lang javascript",
    )
}

/// `/data=./data`, or `/out=./out:rw`
fn parse_folder(text: &str) -> Result<FolderGrant, String> {
    let (at, path) = text
        .split_once('=')
        .filter(|(at, path)| at.starts_with('/') && !path.is_empty())
        .ok_or("write AT=PATH, for example /data=./data, or /out=./out:rw")?;
    if !FileGrant::is_place(at) {
        return Err(format!(
            "`{at}` is no place of a folder; write it like `/data`"
        ));
    }
    let (path, is_writable) = match path.strip_suffix(":rw") {
        Some(path) => (path, true),
        None => (path.strip_suffix(":ro").unwrap_or(path), false),
    };
    if !Path::new(path).is_dir() {
        return Err(format!("there is no folder {path}"));
    }
    let path = PathBuf::from(path);
    let access = match is_writable {
        true => FolderAccess::Write {
            path,
            bytes_max: u64::MAX,
            entries_max: ENTRIES_MAX,
        },
        false => FolderAccess::Read {
            path,
            to_write: format!("add `:rw` to its --folder {text}"),
        },
    };
    Ok(FolderGrant {
        at: at.to_owned(),
        access,
    })
}

/// Of two folders at one place the code would see one.
fn check_places(args: &ExecArgs) -> anyhow::Result<()> {
    let mut taken = BTreeSet::new();
    for at in args.folder.iter().map(|folder| folder.at.as_str()) {
        if at == SCRATCH_AT {
            return Err(anyhow!(
                "--folder: the code's own folder is at `{at}` already; choose another place"
            ));
        }
        if at == PACKAGES_AT && !args.package.is_empty() {
            return Err(anyhow!(
                "--folder: what --package gives is at `{at}` already; put those packages into the folder, where the code finds them too, and leave --package out"
            ));
        }
        if !taken.insert(at) {
            return Err(anyhow!("--folder: another folder is at `{at}` already"));
        }
    }
    Ok(())
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What the caller gives, and a folder for what does not last.
fn grants(args: &ExecArgs, packages: Option<&TempDir>) -> Grants {
    let packages = packages.map(|folder| FolderGrant {
        at: PACKAGES_AT.to_owned(),
        access: FolderAccess::Read {
            path: folder.path().to_owned(),
            to_write: "packages are only read".to_owned(),
        },
    });
    Grants {
        files: Some(FilesGrant {
            folders: args.folder.iter().cloned().chain(packages).collect(),
            scratch: Some(ScratchGrant {
                at: SCRATCH_AT.to_owned(),
                bytes_max: u64::MAX,
                entries_max: ENTRIES_MAX,
            }),
        }),
        env: Some(EnvGrant {
            values: args.env.clone(),
        }),
        ..Grants::none()
    }
}

/// What the caller asks for.
fn asked(args: &ExecArgs) -> AskedLimits {
    AskedLimits {
        fuel: args.fuel,
        memory_mb: args.memory_mb,
        timeout: args.timeout_ms.map(Duration::from_millis),
        output_kb: args.output_kb,
        disk_mb: args.disk_mb,
        open_files: args.open_files,
        ..AskedLimits::default()
    }
}

fn print(report: &Report, remedies: &Remedies<'_>) -> End {
    output::text(&report.stdout.text);
    output::note_text(&report.stderr.text);
    match error_of(&report.outcome, remedies) {
        None => {
            if let Outcome::Returned(json) = &report.outcome
                && json != "null"
            {
                if !report.stdout.text.is_empty() && !report.stdout.text.ends_with('\n') {
                    output::line("");
                }
                output::line(json);
            }
            End::Done
        }
        Some((_, message)) => {
            output::note(message.trim_end());
            for denied in &report.denials {
                output::note(&denied.message);
            }
            End::Failed
        }
    }
}

/// A report for a program.
fn answer(report: &Report, remedies: &Remedies<'_>, traced: Option<&Trace>) -> (Value, End) {
    let result: Option<Value> = match &report.outcome {
        Outcome::Returned(json) => serde_json::from_str(json).ok(),
        _ => None,
    };
    let line = match &report.outcome {
        Outcome::Raised(exception) => exception.line,
        _ => None,
    };
    let error = error_of(&report.outcome, remedies).map(
        |(code, message)| json!({ "code": code, "message": message.trim_end(), "line": line }),
    );
    let end = if error.is_some() {
        End::Failed
    } else {
        End::Done
    };
    let mut answer = json!({
        "result": result,
        "stdout": report.stdout.text,
        "stderr": report.stderr.text,
        "stdout_left_out": report.stdout.bytes_dropped,
        "stderr_left_out": report.stderr.bytes_dropped,
        "error": error,
        "denied": report.denials.iter().map(|denied| &denied.message).collect::<Vec<_>>(),
        "usage": usage(&report.usage),
    });
    if let Some(traced) = traced {
        answer["trace"] = trace::calls_json(traced);
        answer["trace_left_out"] = json!(traced.left_out);
    }
    (answer, end)
}

/// Under the names that a step's usage has.
fn usage(usage: &Usage) -> Value {
    json!({
        "fuel": usage.fuel,
        "memory_bytes": usage.memory_bytes_peak,
        "duration_ms": u64::try_from(usage.duration.as_millis()).unwrap_or(u64::MAX),
        "output_bytes": usage.output_bytes,
        "printed_bytes": printed_bytes(usage),
        "log_bytes": usage.log_bytes,
        "log_lines_dropped": usage.log_lines_dropped,
        "host_calls": usage.host_calls,
        "host_bytes": usage.host_bytes,
        "disk_bytes": usage.file_bytes_written,
        "open_files": usage.open_files_peak,
        "instances": usage.instances,
    })
}

/// The code and the text of what went wrong, if anything did.
fn error_of(outcome: &Outcome, remedies: &Remedies<'_>) -> Option<(&'static str, String)> {
    Some(match outcome {
        Outcome::Returned(_) => return None,
        Outcome::Declined(failure) => ("guest_failed", failure.message.clone()),
        Outcome::Raised(exception) => ("guest_failed", exception.traceback.clone()),
        Outcome::InvalidResult(reason) => ("output_invalid", reason.clone()),
        Outcome::Exited(code) => (
            "guest_failed",
            format!("the program ended itself with exit code {code}"),
        ),
        Outcome::Trapped(trap) => ("guest_trap", trap.to_string()),
        Outcome::LimitHit(limit) => (limit.code(), remedies.ended(*limit)),
        Outcome::Cancelled => ("cancelled", "the run was cancelled".to_owned()),
    })
}
