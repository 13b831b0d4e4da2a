//! HTML: the text as a browser without pictures would show it, the title and date of its head.

use html2text::config;
use html2text::render::{TaggedLine, TextDecorator};

use super::super::extract::{Extracted, Part};
use super::published;

/// Wider than any line: paragraphs stay whole.
const WIDTH: usize = 1_000_000;
/// How far the head is searched for a title and a date.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Meta fields that hold the date of publication, best first.
const DATE_FIELDS: [&str; 6] = [
    "article:published_time",
    "datepublished",
    "date",
    "dc.date",
    "dcterms.created",
    "citation_publication_date",
];

/// Parts of a page that are not what it says.
const HIDDEN: &str = "nav, aside, footer, form, button, noscript, template, svg { display: none; }";

pub(super) fn extract(source: &str) -> Result<Extracted, String> {
    let head = &source[..source.floor_char_boundary(HEAD_BYTES_MAX)];
    let title = element(head, "title").or_else(|| element(source, "h1"));
    let title = title.and_then(|title| to_text(title).ok());
    Ok(Extracted {
        title,
        published_at: published_in(head),
        parts: vec![Part {
            page: None,
            text: to_text(source)?,
        }],
        warning: None,
    })
}

fn to_text(source: &str) -> Result<String, String> {
    let text = config::with_decorator(PlainText)
        .add_agent_css(HIDDEN)
        .and_then(|config| {
            config
                .no_table_borders()
                .allow_width_overflow()
                .string_from_read(source.as_bytes(), WIDTH)
        })
        .map_err(|error| format!("its HTML cannot be shown as text: {error}"))?;
    Ok(text
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n"))
}

/// The source between the first start tag of that name and its end tag.
fn element<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let lower = source.to_ascii_lowercase(); // as long as the source: the same places
    let start = lower
        .find(&format!("<{name}>"))
        .or_else(|| lower.find(&format!("<{name} ")))?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find(&format!("</{name}"))?;
    source.get(start..end)
}

fn published_in(head: &str) -> Option<String> {
    let metas: Vec<&str> = head
        .match_indices('<')
        .filter_map(|(at, _)| meta_tag(&head[at..]))
        .collect();
    let date_of = |field: &&str| {
        let names_it = |meta: &&&str| {
            ["property", "name", "itemprop"].iter().any(|key| {
                attribute(meta, key).is_some_and(|name| name.eq_ignore_ascii_case(field))
            })
        };
        metas
            .iter()
            .find(names_it)
            .and_then(|meta| published(attribute(meta, "content")?))
    };
    DATE_FIELDS.iter().find_map(date_of)
}

/// The inside of a `<meta …>` tag that `rest` begins with.
fn meta_tag(rest: &str) -> Option<&str> {
    let (start, inside) = rest.split_at_checked("<meta ".len())?;
    start
        .eq_ignore_ascii_case("<meta ")
        .then(|| inside.split('>').next())?
}

/// The value of an attribute, between quotes.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let lower = tag.to_ascii_lowercase();
    let start = lower.find(&format!("{name}="))? + name.len() + 1;
    let rest = tag.get(start..)?;
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split(quote).next()
}

/// Text without marks, except for items of lists.
#[derive(Clone)]
struct PlainText;

impl TextDecorator for PlainText {
    type Annotation = ();

    fn decorate_link_start(&mut self, _url: &str) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_link_end(&mut self) -> String {
        String::new()
    }
    fn decorate_em_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_em_end(&self) -> String {
        String::new()
    }
    fn decorate_strong_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_strong_end(&self) -> String {
        String::new()
    }
    fn decorate_strikeout_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_strikeout_end(&self) -> String {
        String::new()
    }
    fn decorate_code_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_code_end(&self) -> String {
        String::new()
    }
    fn decorate_preformat_first(&self) {}
    fn decorate_preformat_cont(&self) {}
    fn decorate_image(&mut self, _src: &str, _title: &str) -> (String, ()) {
        (String::new(), ())
    }
    fn header_prefix(&self, _level: usize) -> String {
        String::new()
    }
    fn quote_prefix(&self) -> String {
        String::new()
    }
    fn unordered_item_prefix(&self) -> String {
        "- ".to_owned()
    }
    fn ordered_item_prefix(&self, number: i64) -> String {
        format!("{number}. ")
    }
    fn make_subblock_decorator(&self) -> Self {
        Self
    }
    fn decorate_superscript_start(&self) -> (String, ()) {
        (String::new(), ())
    }
    fn decorate_superscript_end(&self) -> String {
        String::new()
    }
    fn finalise(&mut self, _urls: Vec<String>) -> Vec<TaggedLine<()>> {
        Vec::new()
    }
}
