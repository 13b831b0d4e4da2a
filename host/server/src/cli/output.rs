//! The one place that prints.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

/// How a command shows its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

impl From<bool> for Format {
    /// From the flag `--json`.
    fn from(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Who reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Terminal,
    Program,
}

impl From<bool> for Reader {
    /// From whether the stream is a terminal.
    fn from(is_terminal: bool) -> Self {
        if is_terminal {
            Self::Terminal
        } else {
            Self::Program
        }
    }
}

/// Writes a line to standard output. A reader that has gone (`troupe show | head`) is no error.
pub(super) fn line(text: &str) {
    let text = for_stream(text, std::io::stdout().is_terminal().into());
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Text of somebody else's in one line: it cannot look like a line of ours.
pub(super) fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Writes text to standard output as it is, without adding a line break.
pub(super) fn text(text: &str) {
    let text = for_stream(text, std::io::stdout().is_terminal().into());
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

/// Standard output itself, for what is no text for people.
pub(super) fn stream() -> std::io::Stdout {
    std::io::stdout()
}

/// Writes a line to standard error.
pub(super) fn note(text: &str) {
    let text = for_stream(text, std::io::stderr().is_terminal().into());
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes text to standard error as it is.
pub(super) fn note_text(text: &str) {
    let text = for_stream(text, std::io::stderr().is_terminal().into());
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes an error with what led to it.
pub(super) fn error(error: &anyhow::Error) {
    note(&format!("error: {error:#}"));
}

/// Writes JSON for a program.
pub(super) fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// What a value looks like to a person: a text as it is, all else as JSON.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => format!("{other:#}"),
    }
}

/// Text of guests and models on its way to a terminal: control characters, which could move the cursor or set
/// the clipboard, are shown instead of obeyed. Files and pipes get every byte.
fn for_stream(text: &str, reader: Reader) -> std::borrow::Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if reader == Reader::Program || !text.contains(is_harmful) {
        return text.into();
    }
    text.chars()
        .map(|c| {
            if is_harmful(c) {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::{Reader, for_stream};

    #[test]
    fn a_terminal_is_shown_control_characters_and_obeys_none() {
        assert_eq!(
            for_stream("a\n\tb\u{1b}[2J", Reader::Terminal),
            "a\n\tb\\u{1b}[2J"
        );
        assert_eq!(for_stream("a\u{1b}[2J", Reader::Program), "a\u{1b}[2J");
    }
}
