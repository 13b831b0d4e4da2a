//! Markdown: the text without its marks, the first heading as title, the date of the front matter.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::super::extract::{Extracted, Part};
use super::published;

pub(super) fn extract(source: &str) -> Extracted {
    let (front, body) = split_front_matter(source);
    let field = |name: &str| {
        front
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let mut text = Text::default();
    for event in Parser::new_ext(
        body,
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES,
    ) {
        text.take(event);
    }
    let front_title = field("title").map(|title| title.trim_matches(['"', '\'']).to_owned());
    Extracted {
        title: front_title.filter(|title| !title.is_empty()).or(text.title),
        published_at: field("date").and_then(published),
        parts: vec![Part {
            page: None,
            text: text.out,
        }],
        warning: None,
    }
}

/// The lines between `---` at the very start, and the rest.
fn split_front_matter(source: &str) -> (&str, &str) {
    let source = source.trim_start_matches('\u{feff}');
    let rest = source
        .strip_prefix("---\n")
        .or_else(|| source.strip_prefix("---\r\n"));
    let Some((front, body)) = rest.and_then(|rest| rest.split_once("\n---")) else {
        return ("", source);
    };
    match body.split_once('\n') {
        Some((end, body)) if end.trim_matches(['-', '\r', ' ']).is_empty() => (front, body),
        None => (front, ""),
        Some(_) => ("", source),
    }
}

/// Text as it grows, block by block.
#[derive(Default)]
struct Text {
    out: String,
    title: Option<String>,
    /// Where the text of the heading that is being read began.
    heading: Option<usize>,
    /// Inside HTML comments and the like.
    cells: u32,
}

impl Text {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                self.block();
                let wanted =
                    self.title.is_none() && matches!(level, HeadingLevel::H1 | HeadingLevel::H2);
                self.heading = wanted.then_some(self.out.len());
            }
            Event::End(TagEnd::Heading(_)) => {
                if let Some(start) = self.heading.take() {
                    self.title = Some(self.out[start..].trim().to_owned());
                }
                self.block();
            }
            Event::Start(Tag::Item) => {
                self.line();
                self.out.push_str("- ");
            }
            Event::Start(Tag::TableRow | Tag::TableHead) => {
                self.line();
                self.cells = 0;
            }
            Event::Start(Tag::TableCell) => {
                if self.cells > 0 {
                    self.out.push_str(" | ");
                }
                self.cells += 1;
            }
            Event::End(TagEnd::Item) => {}
            Event::Start(Tag::Paragraph) if self.out.ends_with("- ") => {}
            Event::Start(
                Tag::Paragraph
                | Tag::CodeBlock(_)
                | Tag::BlockQuote(_)
                | Tag::Table(_)
                | Tag::List(_),
            )
            | Event::End(
                TagEnd::Paragraph
                | TagEnd::CodeBlock
                | TagEnd::BlockQuote(_)
                | TagEnd::Table
                | TagEnd::List(_),
            )
            | Event::Rule => self.block(),
            Event::Text(text) | Event::Code(text) => self.out.push_str(&text),
            Event::SoftBreak => self.out.push(' '),
            Event::HardBreak => self.out.push('\n'),
            _ => {} // images' addresses, HTML, footnote marks: not text
        }
    }

    /// The text so far ends with an empty line.
    fn block(&mut self) {
        let end = self.out.trim_end_matches([' ', '\n']).len();
        self.out.truncate(end);
        if !self.out.is_empty() {
            self.out.push_str("\n\n");
        }
    }

    /// The text so far ends with a line break.
    fn line(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }
}
