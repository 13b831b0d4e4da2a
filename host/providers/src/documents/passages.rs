//! Cuts a document's text into passages of a few paragraphs. Pure.

use super::extract::Part;

/// Length a passage grows to, in characters: a few paragraphs, enough to answer from and to cite.
const PASSAGE_CHARS: usize = 1_500;
/// A last passage shorter than this joins the one before it.
const PASSAGE_CHARS_MIN: usize = 300;

/// Part of a document that is found as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) page: Option<u32>,
    pub(super) text: String,
}

/// The passages of a document, in order. A passage never crosses a page.
pub(super) fn cut(parts: &[Part]) -> Vec<Passage> {
    let of_part = |part: &Part| {
        let page = part.page;
        cut_text(&part.text)
            .into_iter()
            .map(move |text| Passage { page, text })
    };
    parts.iter().flat_map(of_part).collect()
}

fn cut_text(text: &str) -> Vec<String> {
    let mut passages: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut chars = 0;
    for piece in paragraphs(text)
        .iter()
        .flat_map(|paragraph| pieces(paragraph))
    {
        let piece_chars = piece.chars().count();
        if chars > 0 && chars + piece_chars > PASSAGE_CHARS {
            passages.push(std::mem::take(&mut current));
            chars = 0;
        }
        if chars > 0 {
            current.push_str("\n\n");
        }
        current.push_str(piece);
        chars += piece_chars;
    }
    match passages.last_mut() {
        Some(last) if chars > 0 && chars < PASSAGE_CHARS_MIN => {
            last.push_str("\n\n");
            last.push_str(&current);
        }
        _ if chars > 0 => passages.push(current),
        _ => {}
    }
    passages
}

/// Paragraphs with their lines joined, so that a passage reads the same however the source was wrapped. Lines that
/// begin like items of a list stay lines.
fn paragraphs(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let line = crate::text::squeeze(line);
        if line.is_empty() {
            open = false;
        } else if let Some(last) = out.last_mut().filter(|_| open) {
            let end = last.trim_end_matches(HYPHEN).len();
            if is_item(&line) {
                last.push('\n');
            } else if ends_in_broken_word(last, &line) {
                last.truncate(end);
            } else {
                last.push(' ');
            }
            last.push_str(&line);
        } else {
            out.push(line);
            open = true;
        }
    }
    out
}

const HYPHEN: [char; 2] = ['-', '\u{ad}'];

/// `exam-` at the end of a line before `ple`.
fn ends_in_broken_word(before: &str, line: &str) -> bool {
    let mut end = before.chars().rev();
    let (last, letter) = (end.next(), end.next());
    last.is_some_and(|c| HYPHEN.contains(&c))
        && letter.is_some_and(char::is_alphabetic)
        && line.starts_with(char::is_lowercase)
}

fn is_item(line: &str) -> bool {
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    ["- ", "* ", "• ", "+ "]
        .iter()
        .any(|mark| line.starts_with(mark))
        || (number.len() < line.len() && (number.starts_with(". ") || number.starts_with(") ")))
}

/// A paragraph, cut at ends of sentences where it is too long, at blanks or anywhere where it has none.
fn pieces(paragraph: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = paragraph;
    while let Some((limit, _)) = rest.char_indices().nth(PASSAGE_CHARS) {
        let head = &rest[..limit];
        let sentence = [". ", "! ", "? ", "\n"]
            .iter()
            .filter_map(|end| head.rfind(end).map(|at| at + 1))
            .max();
        let at = sentence
            .or_else(|| head.rfind(' '))
            .filter(|at| *at > 0)
            .unwrap_or(limit);
        out.push(rest[..at].trim_end());
        rest = rest[at..].trim_start();
    }
    if !rest.is_empty() {
        out.push(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_lines_and_broken_words() {
        let text = "A heading\n\nOne para-\ngraph of\nthree lines.\nA list:\n- one\n- two\n3. three\n\n\n\nLast.";
        assert_eq!(
            paragraphs(text),
            [
                "A heading",
                "One paragraph of three lines. A list:\n- one\n- two\n3. three",
                "Last."
            ]
        );
    }

    #[test]
    fn cuts_at_borders_of_paragraphs() {
        let paragraph = "Sentence number one is here. ".repeat(20);
        let text = [paragraph.as_str(); 7].join("\n\n");
        let passages = cut_text(&text);
        assert_eq!(passages.len(), 4);
        assert!(
            passages
                .iter()
                .all(|passage| passage.starts_with("Sentence") && passage.ends_with('.'))
        );
    }

    #[test]
    fn cuts_long_paragraphs_at_sentences_and_never_within_a_character() {
        for text in [
            "An end. ".repeat(1_000),
            "wort ".repeat(1_000),
            "ä".repeat(10_000),
        ] {
            let passages = cut_text(&text);
            assert!(passages.iter().all(|passage| passage.chars().count() <= PASSAGE_CHARS + PASSAGE_CHARS_MIN + 2));
            let length: usize = passages
                .iter()
                .map(|p| p.chars().filter(|c| !c.is_whitespace()).count())
                .sum();
            assert_eq!(length, text.chars().filter(|c| !c.is_whitespace()).count());
        }
        assert!(
            cut_text(&"An end. ".repeat(1_000))
                .iter()
                .all(|passage| passage.ends_with("end."))
        );
        assert_eq!(cut_text(" \n\n "), Vec::<String>::new());
    }
}
