//! What a program of `troupe exec` is made of: its source, its input, and the function that is called.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde_json::Value;
use troupe_sandbox::Program;

use super::super::document::without_mark;
use super::ExecArgs;

/// Bytes of the source, and of what it reads. Protects memory from an input without end.
pub(super) const READ_BYTES_MAX: u64 = 16 << 20;
/// The function that is called where the caller names none, and there is one.
const ACTION_DEFAULT: &str = "main";

/// The program that a file holds.
pub(super) fn read(args: &ExecArgs, file: &Path) -> anyhow::Result<Program> {
    let source = read_source(file)?;
    let input = read_input(&args.input)?;
    let filename = match file.file_name() {
        Some(name) if name != "-" => name.to_string_lossy().into_owned(),
        _ => "<stdin>".to_owned(),
    };
    let action = args.action.as_deref().unwrap_or(ACTION_DEFAULT);
    Ok(Program {
        source,
        filename,
        input: input.to_string(),
        action: action.to_owned(),
        stdin: read_stdin(args)?,
    })
}

fn read_source(file: &Path) -> anyhow::Result<String> {
    let bytes = read_bytes("the source", file)?;
    String::from_utf8(bytes)
        .map(without_mark)
        .with_context(|| format!("the source {} cannot be read", file.display()))
}

fn read_input(text: &str) -> anyhow::Result<Value> {
    let input = serde_json::from_str(text).map_err(|error| {
        anyhow!("--input is no JSON: {error}; a text is written '\"like this\"'")
    })?;
    check_integers(text.as_bytes()).map_err(|reason| anyhow!("--input: {reason}"))?;
    Ok(input)
}

/// Refuses JSON with an integer that would lose digits: results refuse them too.
///
/// # Errors
/// Which one.
pub(super) fn check_integers(json: &[u8]) -> Result<(), String> {
    const SHOWN_MAX: usize = 40;
    let mut rest = json;
    while let Some((first, after)) = rest.split_first() {
        let length = match first {
            b'"' => text_length(after),
            b'-' | b'0'..=b'9' => {
                let is_of_number =
                    |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E');
                after.iter().take_while(is_of_number).count()
            }
            _ => 0,
        };
        let (token, next) = rest.split_at((1 + length).min(rest.len()));
        rest = next;
        let number = std::str::from_utf8(token).unwrap_or_default();
        let is_integer = !number.starts_with('"')
            && number.ends_with(|last: char| last.is_ascii_digit())
            && !number.contains(['.', 'e', 'E']);
        if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
            let shown = number
                .get(..SHOWN_MAX)
                .map_or_else(|| number.to_owned(), |beginning| format!("{beginning}…"));
            return Err(format!(
                "{shown} is an integer of more than 64 bits, which would lose digits; write it as a text"
            ));
        }
    }
    Ok(())
}

/// Bytes of a JSON text after its first quotation mark, the last one included.
fn text_length(after: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = after.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(after.len(), |end| end + 1)
}

/// A file as a whole, or standard input for `-`.
fn read_bytes(what: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin()
            .take(READ_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(READ_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    let count = read.with_context(|| format!("{what} {} cannot be read", path.display()))?;
    if u64::try_from(count).unwrap_or(u64::MAX) > READ_BYTES_MAX {
        return Err(anyhow!("{what} has more than {READ_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

fn read_stdin(args: &ExecArgs) -> anyhow::Result<Bytes> {
    match &args.stdin {
        None => Ok(Bytes::new()),
        Some(path) if path.as_os_str() == "-" && args.file.as_ref() == Some(path) => Err(anyhow!(
            "standard input holds the source; give the code's own with --stdin FILE"
        )),
        Some(path) => Ok(read_bytes("--stdin", path)?.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_would_lose_digits_are_found_and_nothing_else_is() {
        for kept in [
            "18446744073709551615",
            "[-9223372036854775808, 1]",
            "12345678901234567890123.0",
            "1e400",
            r#"{"a\\": "\" 12345678901234567890123", "12345678901234567890123": -0}"#,
            "[]",
        ] {
            assert_eq!(check_integers(kept.as_bytes()), Ok(()), "{kept}");
        }
        for (lost, says) in [
            ("12345678901234567890123", "12345678901234567890123 is"),
            ("18446744073709551616", "18446744073709551616 is"),
            (
                r#"{"a\\":[-9223372036854775809]}"#,
                "-9223372036854775809 is",
            ),
            (
                &"7".repeat(100),
                "7777777777777777777777777777777777777777… is",
            ),
        ] {
            let reason = check_integers(lost.as_bytes()).expect_err(lost);
            assert!(reason.starts_with(says), "{lost}: {reason}");
        }
    }
}
