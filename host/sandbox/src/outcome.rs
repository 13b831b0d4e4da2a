//! How a call ended, as data: nothing a guest does is an error of ours.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Limit;
use crate::trace::Trace;

pub use crate::bindings::agent::troupe::agent::types::Failure;
pub use crate::bindings::interpreter::exports::troupe::agent::interpreter::Exception;

/// How a call ended, what it used, and what the guest printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Usage,
    /// What the guest wrote to standard output, also where it trapped.
    pub stdout: Captured,
    /// What the guest wrote to standard error.
    pub stderr: Captured,
    /// What it was denied, at most about two dozen different things.
    pub denials: Vec<Denied>,
    /// What it asked of the host, where [`crate::Limits::traced_calls_max`] says that somebody wants to see it.
    pub trace: Trace,
}

/// Something that a guest was denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The capability, for example `llm` or `files`, or the code of a limit.
    pub capability: String,
    /// What was denied, to whom, and what would grant it, if that is no limit; at most 512 bytes.
    pub message: String,
    /// How often.
    pub count: u64,
    /// The limit that denied it, where one did.
    pub limit: Option<FilesLimit>,
}

/// A limit of what a guest does with files. What is beyond it is denied, and the guest may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesLimit {
    /// [`crate::Limits::disk_bytes_max`].
    Disk,
    /// [`crate::Limits::open_files_max`].
    OpenFiles,
}

impl FilesLimit {
    /// The stable code, for example `limit_disk`.
    pub fn code(self) -> &'static str {
        match self {
            FilesLimit::Disk => "limit_disk",
            FilesLimit::OpenFiles => "limit_open_files",
        }
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The result: JSON text, checked to be JSON of bounded size and depth.
    Returned(String),
    /// An agent said that it could not do what it was asked, in its own words.
    Declined(Failure),
    /// The source code that an interpreter ran raised an exception.
    Raised(Exception),
    /// The guest returned something that is not JSON: what is wrong with it.
    InvalidResult(String),
    /// The guest ended its own process, with this exit code.
    Exited(i32),
    /// The guest broke a rule of WebAssembly and was stopped.
    Trapped(Trap),
    /// A limit was reached and the guest was stopped.
    LimitHit(Limit),
    /// The call's [`crate::CancelFlag`] was raised.
    Cancelled,
}

/// Why the machine stopped a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// The kind of trap.
    pub code: TrapCode,
    /// What happened, for example `wasm trap: out of bounds memory access`.
    pub message: String,
    /// The guest's functions that were running, innermost first, at most 20; names as the component has them.
    pub frames: Vec<String>,
}

/// The kinds of trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrapCode {
    /// The guest gave up by itself: a panic, an abort, an assertion.
    Unreachable,
    /// It called too deeply.
    StackOverflow,
    /// It reached beyond its memory or a table.
    OutOfBounds,
    /// It divided by zero, or converted a number that does not fit.
    Arithmetic,
    /// It handed the host something that is no value of its type, or too much at once.
    InvalidData,
    /// Anything else.
    Other,
}

impl TrapCode {
    /// The stable code, for example `stack_overflow`.
    pub fn code(self) -> &'static str {
        match self {
            TrapCode::Unreachable => "unreachable",
            TrapCode::StackOverflow => "stack_overflow",
            TrapCode::OutOfBounds => "out_of_bounds",
            TrapCode::Arithmetic => "arithmetic",
            TrapCode::InvalidData => "invalid_data",
            TrapCode::Other => "other",
        }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for frame in &self.frames {
            write!(f, "\n  in {frame}")?;
        }
        Ok(())
    }
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Fuel, of the guest and of the host's work for it.
    pub fuel: u64,
    /// The part of `fuel` that is of tools, as their answers said.
    pub tool_fuel: u64,
    /// The most bytes of memories and tables at one time.
    pub memory_bytes_peak: u64,
    /// Computing and sleeping time; waiting for the host is not in it.
    pub duration: Duration,
    /// Calls of the host that [`crate::Limits::host_calls_max`] counts, refused ones included.
    pub host_calls: u32,
    /// Bytes that passed in these calls, as [`crate::Limits::host_bytes_max`] counts them: questions and answers.
    pub host_bytes: u64,
    /// Core instances that were made: those of the component.
    pub instances: u32,
    /// Bytes of the result.
    pub output_bytes: u64,
    /// Bytes written to standard output, whether kept or not.
    pub stdout_bytes: u64,
    /// Bytes written to standard error, whether kept or not.
    pub stderr_bytes: u64,
    /// Bytes of log lines that went to the log.
    pub log_bytes: u64,
    /// Log lines that no longer fitted.
    pub log_lines_dropped: u64,
    /// Files and folders that were opened.
    pub files_opened: u64,
    /// The most of them that were open at one time.
    pub open_files_peak: u32,
    /// Bytes that were read from files.
    pub file_bytes_read: u64,
    /// Bytes that were written to files.
    pub file_bytes_written: u64,
    /// The most that the scratch folder held at one time, in bytes.
    pub scratch_bytes_peak: u64,
}

/// What a guest printed, as far as it was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// The text, bytes that are not UTF-8 replaced; where it was cut, the last line says so. It comes from a
    /// guest: remove control sequences before it reaches a terminal.
    pub text: String,
    /// How much was written, in bytes, whether kept or not.
    pub bytes_total: u64,
    /// How much of it was not kept, in bytes.
    pub bytes_dropped: u64,
}

impl Captured {
    /// Takes what was kept of `bytes_total` bytes.
    pub(crate) fn new(kept: &[u8], bytes_total: u64) -> Self {
        let bytes_dropped =
            bytes_total.saturating_sub(u64::try_from(kept.len()).unwrap_or(u64::MAX));
        let room = kept.len();
        let whole = if bytes_dropped > 0 {
            without_cut_character(kept)
        } else {
            kept
        };
        let mut text = String::from_utf8_lossy(whole).into_owned();
        // A byte that is not UTF-8 becomes a sign of three: the text may not outgrow what was allowed for it.
        let replaced = text.len() > room;
        text.truncate(text.floor_char_boundary(room));
        if bytes_dropped > 0 || replaced {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&if bytes_dropped > 0 {
                format!("[… {bytes_dropped} more bytes were not kept]\n")
            } else {
                "[… the rest is not shown: it is not UTF-8]\n".to_owned()
            });
        }
        Captured {
            text,
            bytes_total,
            bytes_dropped,
        }
    }

    /// Whether anything was dropped.
    pub fn is_truncated(&self) -> bool {
        self.bytes_dropped > 0
    }
}

/// The bytes without a character at their end that was cut in two, which is not worth a replacement sign.
fn without_cut_character(bytes: &[u8]) -> &[u8] {
    const CUT_BYTES_MAX: usize = 3;
    for length in 1..=CUT_BYTES_MAX.min(bytes.len()) {
        let (before, tail) = bytes.split_at(bytes.len() - length);
        // An incomplete character, and nothing before it.
        if std::str::from_utf8(tail)
            .is_err_and(|error| error.error_len().is_none() && error.valid_up_to() == 0)
        {
            return before;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_says_how_much_is_missing_and_ends_at_a_character() {
        let cut = Captured::new(&"aé".as_bytes()[..2], 10);
        assert_eq!(cut.text, "a\n[… 8 more bytes were not kept]\n");
        assert!(cut.is_truncated());
        let whole = Captured::new("é".as_bytes(), 2);
        assert_eq!(whole.text, "é");
        assert!(!whole.is_truncated());
    }

    #[test]
    fn bytes_that_are_no_text_do_not_make_a_larger_one() {
        let noise = Captured::new(&[0xff; 300], 300);
        assert!(noise.text.starts_with("\u{fffd}"));
        assert!(noise.text.len() < 300 + 60, "{}", noise.text.len());
        assert!(!noise.is_truncated());
        assert_eq!(Captured::new(b"", 0).text, "");
    }

    #[test]
    fn only_a_character_that_was_cut_is_left_out() {
        let printed = "\u{fffd}\u{fffd}é".as_bytes();
        let cut = Captured::new(&printed[..7], 8);
        assert!(cut.text.starts_with("\u{fffd}\u{fffd}\n"), "{}", cut.text);
    }
}
