//! What a person sees: one line for each step, alive on a terminal and plain elsewhere.
//!
//! Everything this program prints goes through here. Steps go to standard error, so that the output of
//! what `demo` runs can be piped.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a long step says that it is alive where there is no terminal: often enough that a CI log
/// shows what takes the time.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Most characters of a command's output line that a step shows beside its name.
const DETAIL_CHARS_MAX: usize = 60;

/// Columns of the step's name, so that what follows is aligned.
const NAME_WIDTH: usize = 26;

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// There was work, for example `installed`.
    Changed(String),
    /// There was nothing to do.
    Unchanged,
}

/// One step that is under way.
#[derive(Debug)]
pub(crate) struct Step {
    name: String,
    bar: ProgressBar,
    /// When the last plain line was printed; only where there is no terminal.
    heartbeat: Option<Mutex<Duration>>,
}

impl Step {
    /// Begins a step, runs `work`, and prints how it ended.
    pub(crate) fn run(name: &str, work: impl FnOnce(&Step) -> Result<Done>) -> Result<()> {
        let step = Step::begin(name);
        let done = work(&step);
        step.end(&done);
        done.map(|_| ())
    }

    fn begin(name: &str) -> Step {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            None,
            if terminal {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::hidden()
            },
        );
        let style =
            ProgressStyle::with_template("  {spinner} {prefix:26} {elapsed:>5} {wide_msg:.dim}")
                .expect("the template is a constant that a test renders");
        bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        bar.set_prefix(name.to_owned());
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            write_stderr(&format!("  - {name} …\n"));
        }
        let heartbeat = (!terminal).then(|| Mutex::new(Duration::ZERO));
        Step {
            name: name.to_owned(),
            bar,
            heartbeat,
        }
    }

    /// How long the step has been running.
    pub(crate) fn elapsed(&self) -> Duration {
        self.bar.elapsed()
    }

    /// Shows what the step does now, for example the last line of a command's output.
    pub(crate) fn show(&self, detail: &str) {
        let detail = plain_text(detail);
        if detail.is_empty() {
            return;
        }
        let Some(heartbeat) = &self.heartbeat else {
            self.bar.set_message(detail);
            return;
        };
        let now = self.elapsed();
        let mut last = heartbeat
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if now.saturating_sub(*last) >= HEARTBEAT {
            *last = now;
            write_stderr(&format!(
                "    {} ({}): {detail}\n",
                self.name,
                readable(now)
            ));
        }
    }

    fn end(&self, done: &Result<Done>) {
        let time = readable(self.elapsed());
        self.bar.finish_and_clear();
        let (sign, text) = match done {
            Ok(Done::Changed(what)) => ("✓", format!("{what} ({time})")),
            Ok(Done::Unchanged) => ("✓", "up to date".to_owned()),
            Err(_) => ("✗", format!("failed ({time})")),
        };
        write_stderr(&format!("  {sign} {:NAME_WIDTH$} {text}\n", self.name));
    }
}

/// Prints to standard output what a command of ours was asked for.
pub(crate) fn print(text: &str) {
    // A reader that went away (a closed pipe) is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints a heading before a group of steps.
pub(crate) fn heading(text: &str) {
    write_stderr(&format!("\n{text}\n"));
}

/// Prints an error.
pub(crate) fn complain(text: &str) {
    write_stderr(&format!("\nerror: {text}\n"));
}

/// Prints a line that a command wrote to its standard output or error, as it came.
pub(crate) fn pass_on(line: &str) {
    write_stderr(line);
}

fn write_stderr(text: &str) {
    // Where even standard error is closed there is nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A duration as a person says it: `0.4 s`, `12 s`, `3 min 20 s`.
pub(crate) fn readable(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A line without control characters and escape sequences, cut to what fits beside a step's name.
fn plain_text(line: &str) -> String {
    let mut plain = String::new();
    let mut characters = line.trim().chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // A terminal's escape sequence ends in a letter: `ESC [ 1 ; 32 m`.
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else if !character.is_control() {
            plain.push(character);
        }
    }
    plain.trim().chars().take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(readable(Duration::from_millis(430)), "0.4 s");
        assert_eq!(readable(Duration::from_millis(12_900)), "12 s");
        assert_eq!(readable(Duration::from_secs(200)), "3 min 20 s");
    }

    #[test]
    fn escape_sequences_are_left_out() {
        assert_eq!(
            plain_text("\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m serde v1.0\r"),
            "Compiling serde v1.0"
        );
        assert_eq!(plain_text(&"x".repeat(500)).len(), DETAIL_CHARS_MAX);
    }

    #[test]
    fn a_step_returns_what_its_work_returns() {
        assert!(Step::run("works", |_| Ok(Done::Unchanged)).is_ok());
        let failed = Step::run("fails", |_| anyhow::bail!("no such thing"));
        assert_eq!(
            failed.expect_err("the work failed").to_string(),
            "no such thing"
        );
    }
}
