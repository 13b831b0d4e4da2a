//! `troupe exec`.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Value, json};
use troupe_sandbox::{Call, CancelFlag, DenyAll, Grants, Outcome, Program, Report};
use troupe_workflow::{Language, Limits as AskedLimits};

use super::{CliError, Common, End, output};
use crate::clock;
use crate::limits::{ceilings, within};
use crate::services::open_components;

/// Protects memory from a script without end on standard input.
const SOURCE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct ExecArgs {
    /// The language: python or javascript [default: what the file's name says]
    #[arg(long, value_parser = parse_language)]
    lang: Option<Language>,
    /// The source file, or `-` for standard input
    file: PathBuf,
    /// The value of the variable `input`, as JSON
    #[arg(
        long,
        default_value = "null",
        value_name = "JSON",
        allow_hyphen_values = true
    )]
    input: String,
    /// The function to call with the input, where the source sets no `result`
    #[arg(long, default_value = "main")]
    action: String,
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
    /// Print result, output, error and usage as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, args: ExecArgs) -> Result<End, CliError> {
    let language = language(&args).map_err(CliError::Caller)?;
    let source = read_source(&args).map_err(CliError::Caller)?;
    let input: Value = serde_json::from_str(&args.input).map_err(|error| {
        CliError::Caller(anyhow!(
            "--input is no JSON: {error}; a text is written '\"like this\"'"
        ))
    })?;
    let config = common.config()?;
    let ceiling = ceilings(&config.limits);
    let components = open_components(&config, &common.places()?)?;
    let component = components.interpreter(language).await?;
    let filename = match args.file.file_name() {
        Some(name) if name != "-" => name.to_string_lossy().into_owned(),
        _ => "<stdin>".to_owned(),
    };
    let program = Program {
        source,
        filename,
        input: input.to_string(),
        action: args.action.clone(),
    };
    let call = Call {
        agent: "exec".to_owned(),
        grants: Grants::none(),
        limits: within(ceiling, &asked(&args)),
        host: Arc::new(DenyAll),
        seed: clock::entropy(),
        started_at: clock::system_time(),
        cancel: CancelFlag::new(),
    };
    let report = components
        .sandbox()
        .execute(&component, program, call)
        .await
        .map_err(anyhow::Error::from)?;
    Ok(if args.json {
        print_json(&report)
    } else {
        print(&report)
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
    let by_name = match args.file.extension().and_then(|ending| ending.to_str()) {
        Some("py") => Some(Language::Python),
        Some("js" | "mjs") => Some(Language::JavaScript),
        _ => None,
    };
    args.lang.or(by_name).context(
        "the file's name does not tell the language; add --lang python or --lang javascript",
    )
}

fn read_source(args: &ExecArgs) -> anyhow::Result<String> {
    let mut source = String::new();
    let read = if args.file.as_os_str() == "-" {
        std::io::stdin()
            .take(SOURCE_BYTES_MAX + 1)
            .read_to_string(&mut source)
    } else {
        std::fs::File::open(&args.file)
            .and_then(|file| file.take(SOURCE_BYTES_MAX + 1).read_to_string(&mut source))
    };
    let bytes =
        read.with_context(|| format!("the source {} cannot be read", args.file.display()))?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > SOURCE_BYTES_MAX {
        return Err(anyhow!("the source has more than {SOURCE_BYTES_MAX} bytes"));
    }
    Ok(source)
}

/// What the caller asks for.
fn asked(args: &ExecArgs) -> AskedLimits {
    AskedLimits {
        fuel: args.fuel,
        memory_mb: args.memory_mb,
        timeout: args.timeout_ms.map(Duration::from_millis),
        output_kb: args.output_kb,
        ..AskedLimits::default()
    }
}

fn print(report: &Report) -> End {
    output::text(&report.stdout.text);
    output::note_text(&report.stderr.text);
    match error_of(&report.outcome) {
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
            End::Failed
        }
    }
}

fn print_json(report: &Report) -> End {
    let result: Option<Value> = match &report.outcome {
        Outcome::Returned(json) => serde_json::from_str(json).ok(),
        _ => None,
    };
    let line = match &report.outcome {
        Outcome::Raised(exception) => exception.line,
        _ => None,
    };
    let error = error_of(&report.outcome).map(
        |(code, message)| json!({ "code": code, "message": message.trim_end(), "line": line }),
    );
    let end = if error.is_some() {
        End::Failed
    } else {
        End::Done
    };
    output::json(&json!({
        "result": result,
        "stdout": report.stdout.text,
        "stderr": report.stderr.text,
        "error": error,
        "usage": {
            "fuel": report.usage.fuel,
            "memory_bytes": report.usage.memory_bytes_peak,
            "duration_ms": u64::try_from(report.usage.duration.as_millis()).unwrap_or(u64::MAX),
            "output_bytes": report.usage.output_bytes,
            "log_bytes": report.usage.log_bytes,
        },
    }));
    end
}

/// The code and the text of what went wrong, if anything did.
fn error_of(outcome: &Outcome) -> Option<(&'static str, String)> {
    Some(match outcome {
        Outcome::Returned(_) => return None,
        Outcome::Declined(failure) => ("guest_failed", failure.message.clone()),
        Outcome::Raised(exception) => ("guest_failed", exception.traceback.clone()),
        Outcome::InvalidResult(reason) => ("output_invalid", reason.clone()),
        Outcome::Exited(code) => (
            "guest_failed",
            format!("the program ended itself with exit code {code}"),
        ),
        Outcome::Trapped(trap) => ("guest_trap", trap.message.clone()),
        Outcome::LimitHit(limit) => (limit.code(), limit.to_string()),
        Outcome::Cancelled => ("cancelled", "the run was cancelled".to_owned()),
    })
}
