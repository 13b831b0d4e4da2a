//! PDF: the text of each page, the title and date of its information record. A page that cannot be read is left out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{
    Dictionary, Document, Object, PlainTextOutput, decode_text_string, output_doc_page,
};

use super::super::extract::{Extracted, Part};
use super::published;

/// Most pages that are read. It protects the index from a small file with a page tree without end.
const PAGES_MAX: usize = 5_000;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted, String> {
    let mut document = Document::load_mem(bytes)
        .map_err(|error| format!("it is no PDF that can be read: {error}"))?;
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err("it is protected with a password".to_owned());
    }
    let mut parts = Vec::new();
    let mut failed = 0;
    let pages: Vec<u32> = document
        .get_pages()
        .keys()
        .copied()
        .take(PAGES_MAX)
        .collect();
    for page in &pages {
        match catch_unwind(AssertUnwindSafe(|| page_text(&document, *page))) {
            Ok(Some(text)) => parts.push(Part {
                page: Some(*page),
                text,
            }),
            Ok(None) | Err(_) => failed += 1,
        }
    }
    if parts.iter().all(|part| part.text.trim().is_empty()) {
        let message = if failed > 0 {
            "none of its pages can be read"
        } else {
            "it holds no text, only pictures"
        };
        return Err(message.to_owned());
    }
    Ok(Extracted {
        title: info(&document, b"Title"),
        published_at: info(&document, b"CreationDate")
            .and_then(|date| published(&pdf_date(&date)?)),
        parts,
        warning: (failed > 0).then(|| format!("{failed} of {} pages cannot be read", pages.len())),
    })
}

fn page_text(document: &Document, page: u32) -> Option<String> {
    let mut text = String::new();
    output_doc_page(document, &mut PlainTextOutput::new(&mut text), page).ok()?;
    Some(text)
}

/// A text of the information record.
fn info(document: &Document, key: &[u8]) -> Option<String> {
    let info = document.trailer.get(b"Info").ok()?;
    let info: &Dictionary = document.dereference(info).ok()?.1.as_dict().ok()?;
    let value: &Object = document.dereference(info.get(key).ok()?).ok()?.1;
    let text = decode_text_string(value).ok()?;
    (!text.trim().is_empty()).then_some(text)
}

/// `D:20260301102030+05'30'` as a day; the time of day of a PDF's making means nothing to a reader.
fn pdf_date(date: &str) -> Option<String> {
    let digits = date.strip_prefix("D:").unwrap_or(date).get(..8)?;
    Some(format!(
        "{}-{}-{}",
        digits.get(..4)?,
        digits.get(4..6)?,
        digits.get(6..)?
    ))
}
