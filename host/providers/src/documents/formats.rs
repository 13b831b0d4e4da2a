//! Makes plain text of each format. Pure, on bytes that nobody vouches for: it may panic inside a parser, which the
//! caller contains.

mod html;
mod markdown;
mod pdf;

use super::extract::{Extracted, Part};
use super::scan::Format;
use crate::published::parse_date;
use crate::search::TITLE_CHARS_MAX;
use crate::text::{cut_chars, squeeze};

/// How far a file is searched for a zero byte, which no text has.
const BINARY_PROBE_BYTES: usize = 8 * 1024;

/// The text of a file, or why there is none.
pub(super) fn extract(format: Format, bytes: &[u8]) -> Result<Extracted, String> {
    let mut extracted = match format {
        Format::Pdf => pdf::extract(bytes)?,
        Format::Html => html::extract(&decode(bytes)?)?,
        Format::Markdown => markdown::extract(&decode(bytes)?),
        Format::Text => plain(&decode(bytes)?),
    };
    extracted.title = extracted
        .title
        .map(|title| cut_chars(&squeeze(&title), TITLE_CHARS_MAX));
    extracted.title = extracted.title.filter(|title| !title.is_empty());
    Ok(extracted)
}

/// By its byte order mark, else UTF-8, else the old Western encoding that covers every byte.
fn decode(bytes: &[u8]) -> Result<String, String> {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(bytes) {
        return Ok(encoding.decode(bytes).0.into_owned());
    }
    if bytes[..bytes.len().min(BINARY_PROBE_BYTES)].contains(&0) {
        return Err("it is no text, whatever its name says".to_owned());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_not_utf8) => Ok(encoding_rs::WINDOWS_1252
            .decode_without_bom_handling(bytes)
            .0
            .into_owned()),
    }
}

/// Plain text; its title is a first line that stands alone and is short enough to be one.
fn plain(text: &str) -> Extracted {
    /// Longest first line that is taken for a title.
    const TITLE_LINE_CHARS_MAX: usize = 100;
    let mut lines = text
        .lines()
        .map(str::trim)
        .skip_while(|line| line.is_empty());
    let first = lines.next().unwrap_or_default();
    let alone = lines
        .next()
        .is_none_or(|next| next.is_empty() || is_underline(next));
    let is_title = alone
        && first.chars().count() <= TITLE_LINE_CHARS_MAX
        && !first.ends_with(['.', ',', ';', ':']);
    let text: Vec<&str> = text
        .lines()
        .filter(|line| !is_underline(line.trim()))
        .collect();
    Extracted {
        title: is_title.then(|| first.trim_start_matches(['=', '*', '#', ' ']).to_owned()),
        parts: vec![Part {
            page: None,
            text: text.join("\n"),
        }],
        ..Extracted::default()
    }
}

/// `=====` below a heading.
fn is_underline(line: &str) -> bool {
    line.len() >= 3
        && ["=", "-", "~", "^"]
            .iter()
            .any(|mark| line.trim_matches(|c| mark.starts_with(c)).is_empty())
}

/// A date from a document's own head.
fn published(text: &str) -> Option<String> {
    parse_date(text)
}

#[cfg(test)]
mod tests;
