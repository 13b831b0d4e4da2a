//! Tests of the layout: what is drawn stays where it belongs, and the XML is XML.

use serde_json::{Value, json};

use super::card::{Anchor, Card, Shape};
use super::picture::{Part, Picture};
use super::text::{self, Font};
use crate::graph::outline::Outline;
use crate::graph::tests::{HOSTILE, document, everywhere, plain};

/// Documents with every construct, and with texts that are hard to lay out.
fn documents() -> Vec<Value> {
    let long = "word ".repeat(2_000);
    let dense = "W".repeat(10_000);
    let mut all: Vec<Value> = HOSTILE.iter().map(|text| everywhere(text)).collect();
    all.extend([everywhere(&long), everywhere(&dense), everywhere("plain")]);
    all.extend([
        json!(null),
        document(&json!([{"parallel": []}, {"loop": {}}, {"then": []}])),
        document(&json!([{"condition": "a", "then": [], "else": [plain()]}])),
        document(&json!([{"parallel": [plain(), [plain(), {"wait": {"seconds": 1}}]]}])),
    ]);
    all
}

fn picture(document: &Value) -> Picture {
    super::picture(&Outline::read(document))
}

fn cards(picture: &Picture) -> impl Iterator<Item = &Card> {
    picture.parts.iter().filter_map(|part| match part {
        Part::Card(card) => Some(card),
        Part::Word { .. } | Part::Line { .. } => None,
    })
}

#[test]
fn no_text_overflows_its_card() {
    for document in documents() {
        for card in cards(&picture(&document)) {
            for line in &card.lines {
                let width = text::width(&line.text, line.font);
                let (left, right) = match line.anchor {
                    Anchor::Start => (line.x, line.x + width),
                    Anchor::Middle => (line.x - width / 2, line.x + width / 2),
                };
                assert!(left >= 6 && right <= card.width - 6, "{card:?}");
                assert!(line.y > 0 && line.y < card.height, "{card:?}");
            }
        }
    }
}

#[test]
fn everything_is_on_the_page() {
    for document in documents() {
        let page = picture(&document);
        let is_inside = |x: i32, y: i32| {
            (8..=page.width - 8).contains(&x) && (8..=page.height - 8).contains(&y)
        };
        for part in &page.parts {
            match part {
                Part::Card(card) => {
                    assert!(is_inside(card.x, card.y), "{card:?}");
                    assert!(
                        is_inside(card.x + card.width, card.y + card.height),
                        "{card:?}"
                    );
                }
                Part::Word { x, y, text } => {
                    assert!(is_inside(*x, *y), "{text}");
                    assert!(is_inside(x + text::width(text, Font::Detail), *y), "{text}");
                }
                Part::Line { points, .. } => {
                    assert!(points.iter().all(|(x, y)| is_inside(*x, *y)), "{points:?}");
                }
            }
        }
    }
}

#[test]
fn boxes_do_not_lie_on_each_other() {
    for document in documents() {
        let page = picture(&document);
        let boxes: Vec<&Card> = cards(&page)
            .filter(|card| card.shape != Shape::Frame)
            .collect();
        for (index, one) in boxes.iter().enumerate() {
            for other in boxes.iter().skip(index + 1) {
                let apart = one.x + one.width <= other.x
                    || other.x + other.width <= one.x
                    || one.y + one.height <= other.y
                    || other.y + other.height <= one.y;
                assert!(apart, "{one:?} {other:?}");
            }
        }
    }
}

#[test]
fn lines_are_level_or_upright() {
    for document in documents() {
        for part in &picture(&document).parts {
            if let Part::Line { points, .. } = part {
                for pair in points.windows(2) {
                    assert!(
                        pair[0].0 == pair[1].0 || pair[0].1 == pair[1].1,
                        "{points:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_whole_text_is_in_the_title() {
    let condition = "word ".repeat(2_000);
    let whole = condition.trim();
    let step = json!({"agent": "writer", "action": "write", "condition": condition});
    let svg = crate::graph::svg(&document(&json!([step])));
    assert!(svg.contains(&format!("if {whole}</title>")));
    assert_eq!(svg.matches(whole).count(), 1);
}

#[test]
fn the_xml_is_well_formed() {
    for document in documents() {
        check_xml(&crate::graph::svg(&document));
    }
}

#[test]
fn a_document_has_one_picture() {
    for document in documents() {
        assert_eq!(crate::graph::svg(&document), crate::graph::svg(&document));
    }
}

#[test]
fn texts_are_made_to_fit() {
    let font = Font::Detail;
    for text in HOSTILE {
        for limit in [0, 1, 9, 10, 40, 100, 1_000] {
            let short = text::shorten(text, font, limit);
            let is_dots = short == "…";
            assert!(
                is_dots || text::width(&short, font) <= limit,
                "{text} {limit}"
            );
            for line in text::wrap(text, font, limit.max(20), 3) {
                assert!(text::width(&line, font) <= limit.max(20), "{text} {limit}");
            }
        }
    }
    assert_eq!(text::shorten("short", font, 100), "short");
    assert_eq!(
        text::shorten("a text that is longer", font, 60),
        "a text t…"
    );
    assert_eq!(
        text::wrap("a text that is longer than three lines are", font, 60, 3),
        ["a text", "that is", "longer t…"]
    );
}

/// Checks that tags are balanced, that nothing stands outside of the root, that only the elements and attributes
/// that this module writes are there, and that every `&` begins one of the five entities or a number.
fn check_xml(xml: &str) {
    const ELEMENTS: [&str; 7] = ["svg", "title", "style", "rect", "g", "path", "text"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = xml.trim_end();
    while let Some((text, after)) = rest.split_once('<') {
        assert!(!open.is_empty() || text.is_empty(), "text outside: {text}");
        check_text(text);
        let (tag, after) = after.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        assert!(ELEMENTS.contains(&name), "{tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        for attribute in tag.split('"').step_by(2) {
            let attribute = attribute.trim_start_matches(name).trim();
            assert!(
                !attribute.starts_with("on") && !attribute.contains("href"),
                "{tag}"
            );
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} {rest}");
}

fn check_text(text: &str) {
    for (index, _) in text.match_indices('&') {
        let entity = text.get(index + 1..).and_then(|rest| rest.split_once(';'));
        let name = entity.map_or("", |(name, _)| name);
        assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "{text}");
    }
    let is_allowed = |c: char| c == '\n' || !(c.is_control() || "\u{fffe}\u{ffff}".contains(c));
    assert!(text.chars().all(is_allowed), "{text:?}");
}
