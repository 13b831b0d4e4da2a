//! The command line: reads it, runs the command, turns the end into an exit code.

mod agent;
mod answer;
mod backup;
mod bench;
mod component;
mod convert;
mod document;
mod exec;
mod export;
mod graph;
mod keep;
mod memory;
mod operate;
mod output;
mod policy;
mod progress;
mod recover;
mod resume;
mod run;
mod schedule;
mod schema;
mod serve;
mod show;
mod trace;
mod validate;
mod workflow;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use troupe_journal::{Journal, ReadError};

use crate::config::{GrantEntry, PlaceOptions, Places, SecretSource, ServerConfig, log_filter};
use crate::open;
use crate::operations::OperationError;

/// The command by which this program compiles one component, and does nothing else.
pub(crate) const COMPILE: &str = "compile-alone";
/// The command by which this program runs guests for the process at the other end of standard input.
pub(crate) const WORK: &str = "work";

/// Runs workflows of agents; every piece of foreign code runs in a sandbox.
#[derive(Debug, Parser)]
#[command(name = "troupe", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// The operator's file [default: TROUPE_CONFIG, ./troupe.toml, then the user's configuration folder]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where executions are kept: `sqlite`, or `postgres://…` [default: TROUPE_DATABASE, then the operator's file]
    #[arg(long, global = true, value_name = "ADDRESS")]
    database: Option<String>,
    /// Where the journal lies [default: TROUPE_DATA, then `troupe` in the user's data folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Grant more for this command, as an entry of [[grants]] does: 'hosts = ["https://api.example.com"]'; may be
    /// given again
    #[arg(long, global = true, value_name = "TOML")]
    grant: Vec<String>,
    /// Where the interpreter components lie [default: TROUPE_PLUGINS, then `plugins` beside the program]
    #[arg(long, global = true, value_name = "FOLDER")]
    plugins: Option<PathBuf>,
}

impl Common {
    fn places(&self) -> anyhow::Result<Places> {
        let options = PlaceOptions {
            data: self.data.clone(),
            plugins: self.plugins.clone(),
        };
        Places::find(&options)
    }

    fn config(&self) -> Result<ServerConfig, CliError> {
        let mut config = ServerConfig::load(self.config.as_deref()).map_err(CliError::Caller)?;
        if let Some(database) = &self.database {
            config.server.database = SecretSource::literal(database);
        }
        for text in &self.grant {
            let entry = GrantEntry::from_command_line(text)
                .map_err(|error| CliError::Caller(anyhow::anyhow!("--grant {text}: {error}")))?;
            config.grants.push(entry);
        }
        Ok(config)
    }

    /// The journal that the configuration names.
    async fn journal(&self) -> Result<Arc<dyn Journal>, CliError> {
        let config = self.config()?;
        Ok(open::journal(&config.server, &self.places()?).await?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a workflow document to its end
    Run(run::RunArgs),
    /// Run Python or JavaScript in the sandbox
    Exec(exec::ExecArgs),
    /// Check a workflow document, and name all its faults
    Validate(validate::ValidateArgs),
    /// Go on with executions whose process ended before they did
    Recover(recover::RecoverArgs),
    /// Answer an approval that an execution waits for
    Approve(answer::ApproveArgs),
    /// Go on with an execution that is paused; its budgets may be raised
    Resume(resume::ResumeArgs),
    /// Start nothing new of an execution until `resume`
    Pause(operate::PauseArgs),
    /// Try a failed execution again from what failed
    Retry(operate::RetryArgs),
    /// Begin a new execution at a step of another one, which keeps the steps before
    Fork(operate::ForkArgs),
    /// End an execution
    Cancel(resume::CancelArgs),
    /// Print the JSON schema of workflow documents, for editors
    Schema,
    /// Turn a workflow document from YAML into JSON, or from JSON into YAML
    Convert(convert::ConvertArgs),
    /// Draw a workflow document
    Graph(graph::GraphArgs),
    /// Show an execution, or list them
    Show(show::ShowArgs),
    /// Serve the HTTP API, and work on executions
    Serve(serve::ServeArgs),
    /// Measure durable execution on this machine, beside its disk
    Bench(bench::BenchArgs),
    /// Write executions into a file
    Export(export::ExportArgs),
    /// Put executions back that were exported
    Import(export::ImportArgs),
    /// Remove executions that have ended, with all that is kept for them
    Delete(keep::DeleteArgs),
    /// Remove executions that ended long ago
    Prune(keep::PruneArgs),
    /// Copy the journal of the data folder into a file, while it is in use
    Backup(backup::BackupArgs),
    /// Look through everything that is kept, and name what is damaged
    Verify(backup::VerifyArgs),
    /// Copy everything that is kept into another database
    Migrate(backup::MigrateArgs),
    /// Start stored workflows by the clock
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Store workflows, and look at them
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// Look at agents and tools that are components
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Look at what agents are given
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Look at what agents remember, and have it forgotten
    #[command(subcommand)]
    Memory(memory::MemoryCommand),
    /// Work with components
    #[command(subcommand)]
    Component(component::ComponentCommand),
    /// Compile the component on standard input; what other commands start for it
    #[command(name = COMPILE, hide = true)]
    CompileAlone {
        /// Address space, in bytes
        memory_bytes_max: u64,
    },
    /// Run components for the process on standard input; what other commands start for it
    #[command(name = WORK, hide = true)]
    Work,
}

/// How a command ended, as its exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// 0
    Done,
    /// 1
    Failed,
    /// 3
    Waiting,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum CliError {
    /// The caller's mistake: 2.
    Caller(anyhow::Error),
    /// Ours, or the machine's: 1.
    Host(anyhow::Error),
}

impl From<OperationError> for CliError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::NotFound { .. }
            | OperationError::Conflict(_)
            | OperationError::Invalid(_)
            | OperationError::Faults(_) => Self::Caller(error.into()),
            OperationError::Busy(_) | OperationError::Full(_) => Self::Host(error.into()),
            OperationError::Host(error) => Self::Host(error),
        }
    }
}

/// An execution that is not there is the caller's mistake; one that cannot be read is not.
impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound(_) => Self::Caller(error.into()),
            other => Self::Host(other.into()),
        }
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::Host(error)
    }
}

/// Stack of each thread, in bytes; what is not touched costs addresses only. Protects the process from JSON that is nested
/// deeply: `serde_json` bounds that, but reads a text behind a certain key as JSON too and begins to count anew
/// (`$serde_json::private::RawValue`, whose quotation marks double with each such text). 64 MiB of those are 2,800 levels,
/// and need between one and two of these.
const THREAD_STACK_BYTES: usize = 8 << 20;

/// Runs the command that the command line names.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::CompileAlone { memory_bytes_max } = cli.command {
        return component::compile_alone(memory_bytes_max);
    }
    if let Command::Work = cli.command {
        return component::work();
    }
    start_log();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&anyhow::Error::new(error).context("no threads can be started"));
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(dispatch(cli));
    // A blocking task (a file on a dead network drive, say) must not hold the end up.
    runtime.shutdown_background();
    match result {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Failed) => ExitCode::from(1),
        Ok(End::Waiting) => ExitCode::from(3),
        Err(CliError::Caller(error)) => {
            output::error(&error);
            ExitCode::from(2)
        }
        Err(CliError::Host(error)) => {
            output::error(&error);
            ExitCode::from(1)
        }
    }
}

async fn dispatch(cli: Cli) -> Result<End, CliError> {
    let Cli { common, command } = cli;
    match command {
        Command::Run(args) => run::run(&common, args).await,
        Command::Exec(args) => exec::run(&common, args).await,
        Command::Validate(args) => validate::run(&args),
        Command::Recover(args) => recover::run(&common, args).await,
        Command::Approve(args) => answer::run(&common, args).await,
        Command::Resume(args) => resume::run(&common, args).await,
        Command::Pause(args) => operate::pause(&common, args).await,
        Command::Retry(args) => operate::retry(&common, args).await,
        Command::Fork(args) => operate::fork(&common, args).await,
        Command::Cancel(args) => resume::cancel(&common, args).await,
        Command::Schema => Ok(schema::run()),
        Command::Convert(args) => convert::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Bench(args) => bench::run(&common, &args).await,
        Command::Serve(args) => serve::run(&common, &args).await,
        Command::Show(args) => show::run(&common, args).await,
        Command::Export(args) => export::export(&common, args).await,
        Command::Import(args) => export::import(&common, args).await,
        Command::Delete(args) => keep::delete(&common, args).await,
        Command::Prune(args) => keep::prune(&common, args).await,
        Command::Backup(args) => backup::backup(&common, args).await,
        Command::Verify(args) => backup::verify(&common, args).await,
        Command::Migrate(args) => backup::migrate(&common, args).await,
        Command::Schedule(command) => schedule::run(&common, command).await,
        Command::Workflow(command) => workflow::run(&common, command).await,
        Command::Agent(command) => agent::run(&common, command).await,
        Command::Policy(command) => policy::run(&common, command).await,
        Command::Memory(command) => memory::run(&common, command).await,
        Command::Component(command) => component::run(&common, command).await,
        // Done before there are threads.
        Command::CompileAlone { .. } | Command::Work => Ok(End::Done),
    }
}

fn start_log() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(log_filter()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
