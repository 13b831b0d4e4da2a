//! Running other programs: their output goes to a log file, and its end is shown when they fail.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::progress::{self, Step};

/// How many lines of a failed command's output are shown.
const TAIL_LINES: usize = 25;

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(30);

/// Most bytes that are kept of what `capture` reads; `cargo metadata` of a large workspace is below 1 MiB.
const CAPTURE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A program to run, and where what it prints is kept.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    log: PathBuf,
    time_max: Option<Duration>,
}

impl Run {
    /// Prepares a run of `command`; its output is written to `log`, which is made anew.
    pub(crate) fn new(command: Command, log: PathBuf) -> Run {
        Run {
            command,
            log,
            time_max: None,
        }
    }

    /// Ends the command when it has run for `time_max`.
    pub(crate) fn time_max(mut self, time_max: Duration) -> Run {
        self.time_max = Some(time_max);
        self
    }

    /// Runs it while `step` shows the last line of its output.
    pub(crate) fn under(self, step: &Step) -> Result<()> {
        self.run(step, &|line| step.show(line))
    }

    /// Runs it and hands every line of its output to `on_line`, as well as to the log.
    fn run(mut self, step: &Step, on_line: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let name = name_of(&self.command);
        let log = create_log(&self.log)?;
        let started = step.elapsed();
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .map_err(|error| cannot_start(&name, error))?;
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child
                .stdout
                .take()
                .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
            child
                .stderr
                .take()
                .map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        ];
        let log = &Mutex::new(log);
        let status = std::thread::scope(|scope| {
            for output in outputs.into_iter().flatten() {
                scope.spawn(move || copy_lines(output, log, on_line));
            }
            wait(&mut child, || {
                self.time_max
                    .is_some_and(|most| step.elapsed() - started > most)
            })
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(failed(&format!("`{name}` failed ({status})"), &self.log)),
            None => {
                let most = progress::readable(self.time_max.unwrap_or_default());
                Err(failed(
                    &format!("`{name}` did not end within {most}"),
                    &self.log,
                ))
            }
        }
    }

    /// Runs it, prints its output as it comes, and hands every line to `on_line` too.
    pub(crate) fn in_the_open(mut self, on_line: &(dyn Fn(&str) + Sync)) -> Result<ExitStatus> {
        let name = name_of(&self.command);
        let log = Mutex::new(create_log(&self.log)?);
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .map_err(|error| cannot_start(&name, error))?;
        let stdout = child
            .stdout
            .take()
            .context("the pipe that was asked for is missing")?;
        let stderr = child
            .stderr
            .take()
            .context("the pipe that was asked for is missing")?;
        let show = |line: &str| {
            progress::pass_on(line);
            on_line(line);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| copy_lines(Box::new(stderr), &log, &show));
            copy_lines(Box::new(stdout), &log, &show);
        });
        child
            .wait()
            .with_context(|| format!("waiting for `{name}`"))
    }
}

/// Runs a command that says something short, and returns what it wrote to standard output.
pub(crate) fn capture(mut command: Command) -> Result<String> {
    let name = name_of(&command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| cannot_start(&name, error))?;
    let stdout = child
        .stdout
        .take()
        .context("the pipe that was asked for is missing")?;
    let stderr = child
        .stderr
        .take()
        .context("the pipe that was asked for is missing")?;
    let (output, complaint) = std::thread::scope(|scope| {
        let complaint = scope.spawn(|| read_text(stderr));
        (read_text(stdout), complaint.join().unwrap_or_default())
    });
    let status = child
        .wait()
        .with_context(|| format!("waiting for `{name}`"))?;
    if !status.success() {
        bail!("`{name}` failed ({status}): {}", complaint.trim());
    }
    Ok(output)
}

fn read_text(pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // What could be read is used; the exit status tells whether the command was content.
    let _ = pipe.take(CAPTURE_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the end; none: `late` said that it took too long, and it was ended.
fn wait(child: &mut Child, late: impl Fn() -> bool) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("waiting for a command")? {
            return Ok(Some(status));
        }
        if late() {
            child
                .kill()
                .context("ending a command that takes too long")?;
            child
                .wait()
                .context("waiting for a command that was ended")?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// Copies a command's output to its log, line by line. A carriage return ends a line too: that is how
/// programs draw their progress.
fn copy_lines(output: Box<dyn Read + Send>, log: &Mutex<File>, on_line: &(dyn Fn(&str) + Sync)) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    while output
        .read_until(b'\n', &mut bytes)
        .is_ok_and(|count| count > 0)
    {
        let line = String::from_utf8_lossy(&bytes);
        let mut log = log
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A full disk shows itself in the command's own failure; its output still reaches the screen.
        let _ = log.write_all(line.as_bytes());
        drop(log);
        on_line(&line);
        bytes.clear();
    }
}

fn create_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    File::create(path).with_context(|| format!("creating the log {}", path.display()))
}

/// The program and its first argument, for messages: `cargo build`.
fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let mut name = program.to_string_lossy().into_owned();
    if let Some(first) = command.get_args().next().filter(|first| first.len() < 30) {
        name.push(' ');
        name.push_str(&first.to_string_lossy());
    }
    name
}

fn cannot_start(name: &str, error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("`{name}` could not be started"))
}

/// The error for a command that failed, with the end of its log.
fn failed(what: &str, log: &Path) -> anyhow::Error {
    let text = std::fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let tail = tail(&text, TAIL_LINES);
    anyhow!("{what}; the end of {}:\n{tail}", log.display())
}

/// The last lines of a text that are not blank, indented.
fn tail(text: &str, lines: usize) -> String {
    let lines_all: Vec<&str> = text
        .split(['\n', '\r'])
        .filter(|line| !line.trim().is_empty())
        .collect();
    let first = lines_all.len().saturating_sub(lines);
    lines_all[first..]
        .iter()
        .map(|line| format!("  | {line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Done;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn run(script: &str, time_max: Duration) -> Result<()> {
        let log =
            std::env::temp_dir().join(format!("xtask-{}-{}.log", std::process::id(), script.len()));
        let result = Step::run("test", |step| {
            Run::new(shell(script), log.clone())
                .time_max(time_max)
                .under(step)?;
            Ok(Done::Unchanged)
        });
        std::fs::remove_file(&log).expect("the log was written");
        result
    }

    #[test]
    fn a_failure_shows_the_end_of_both_outputs() {
        let error = run("echo one; echo two >&2; exit 3", Duration::from_secs(60))
            .expect_err("it exits with 3");
        let text = error.to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(
            text.contains("  | one\n") && text.contains("  | two\n"),
            "{text}"
        );
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let error = run("exec sleep 600", Duration::from_millis(50))
            .expect_err("it sleeps for ten minutes");
        assert!(error.to_string().contains("did not end within"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = capture(Command::new("no-such-program-here")).expect_err("it does not exist");
        assert!(
            error
                .to_string()
                .contains("`no-such-program-here` could not be started"),
            "{error}"
        );
    }

    #[test]
    fn the_tail_leaves_out_blank_lines() {
        assert_eq!(tail("a\n\nb\r\n  \nc", 2), "  | b\n  | c\n");
    }
}
