//! Cards: shapes with text in them, as large as their text needs.

use super::text::{self, Font};
use crate::graph::outline::Kind;

/// A shape with lines of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    /// Its outline.
    pub(super) shape: Shape,
    /// The drawing beside its text.
    pub(super) icon: Icon,
    /// The name of its colours.
    pub(super) class: &'static str,
    /// Where its left is.
    pub(super) x: i32,
    /// Where its top is.
    pub(super) y: i32,
    /// How wide it is.
    pub(super) width: i32,
    /// How high it is.
    pub(super) height: i32,
    /// The text that is seen, made to fit.
    pub(super) lines: Vec<Line>,
    /// The whole text, for whoever points at it.
    pub(super) title: String,
}

/// One line of text on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// What it says.
    pub(super) text: String,
    /// In which letters.
    pub(super) font: Font,
    /// Which of its points `x` is.
    pub(super) anchor: Anchor,
    /// Where its anchor is, from the card's left.
    pub(super) x: i32,
    /// What it stands on, from the card's top.
    pub(super) y: i32,
}

/// The point of a line that is given a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Its beginning.
    Start,
    /// Its middle.
    Middle,
}

/// The outlines of cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A rectangle.
    Box,
    /// A box with a dashed border.
    Dashed,
    /// A box with a double border.
    Double,
    /// A box with round ends.
    Pill,
    /// A question.
    Diamond,
    /// A heading with room for a picture below it.
    Frame,
}

/// The small drawings on cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Icon {
    /// There is none.
    None,
    /// An agent of that kind.
    Agent(Kind),
    /// Another workflow.
    Workflow,
    /// A timer.
    Wait,
    /// A value that is set.
    Set,
    /// Something that is repeated.
    Loop,
    /// Branches side by side.
    Parallel,
}

/// The least width of a box: boxes of a flow look alike.
const BOX_WIDTH_MIN: i32 = 160;
/// The greatest width of the text in a box.
const BOX_TEXT_MAX: i32 = 220;
/// The greatest width of the text in a heading.
const HEADING_TEXT_MAX: i32 = 420;
/// The greatest width of one phrase in a heading, so that those after it are seen.
const PHRASE_MAX: i32 = 240;
/// The height of a heading.
const HEADING_HEIGHT: i32 = 26;
/// The greatest width of the text in a diamond.
const DIAMOND_TEXT_MAX: i32 = 220;
/// The most lines of text in a diamond.
const DIAMOND_LINES_MAX: usize = 3;
/// The space between a card's border and its text.
const PADDING: i32 = 12;
/// The size of an icon.
pub(super) const ICON: i32 = 16;

impl Card {
    /// A card with its text on the left, after an icon.
    pub(super) fn boxed(shape: Shape, icon: Icon, class: &'static str, lines: &[String]) -> Self {
        let indent = match shape {
            Shape::Pill => PADDING + 4,
            Shape::Box | Shape::Dashed | Shape::Double | Shape::Diamond | Shape::Frame => PADDING,
        };
        let x = match icon {
            Icon::None => indent,
            Icon::Agent(_)
            | Icon::Workflow
            | Icon::Wait
            | Icon::Set
            | Icon::Loop
            | Icon::Parallel => indent + ICON + 10,
        };
        let (lines, text_width, bottom) = stack(lines, x, 9);
        Self {
            shape,
            icon,
            class,
            x: 0,
            y: 0,
            width: (x + text_width + indent).max(BOX_WIDTH_MIN),
            height: bottom + 9,
            title: String::new(),
            lines,
        }
    }

    /// A card with round ends and its text in the middle.
    pub(super) fn pill(class: &'static str, lines: &[String]) -> Self {
        let (mut lines, text_width, bottom) = stack(lines, 0, 8);
        let width = (text_width + 2 * 20).max(90);
        for line in &mut lines {
            line.anchor = Anchor::Middle;
            line.x = width / 2;
        }
        Self {
            shape: Shape::Pill,
            icon: Icon::None,
            class,
            x: 0,
            y: 0,
            width,
            height: bottom + 8,
            title: String::new(),
            lines,
        }
    }

    /// A diamond around a text.
    pub(super) fn diamond(text: &str) -> Self {
        let font = Font::Detail;
        let shown = text::wrap(text, font, DIAMOND_TEXT_MAX, DIAMOND_LINES_MAX);
        let widths = shown.iter().map(|line| text::width(line, font));
        let text_width = widths.max().unwrap_or(0).max(40);
        let text_height = shown.iter().fold(0, |sum, _| sum + font.line_height());
        // A rectangle within a diamond: width / WIDTH + height / HEIGHT is at most 1.
        let height = (2 * text_height + 12).max(56);
        let width = text_width * height / (height - text_height) + 12;
        let mut y = (height - text_height) / 2 - 4;
        let mut lines = Vec::new();
        for text in shown {
            y += font.line_height();
            lines.push(Line {
                text,
                font,
                anchor: Anchor::Middle,
                x: width / 2,
                y,
            });
        }
        Self {
            shape: Shape::Diamond,
            icon: Icon::None,
            class: "choice",
            x: 0,
            y: 0,
            width,
            height,
            lines,
            title: text.to_owned(),
        }
    }

    /// The heading of a frame: phrases in one line.
    pub(super) fn heading(icon: Icon, phrases: &[String]) -> Self {
        let x = match icon {
            Icon::None => PADDING,
            Icon::Agent(_)
            | Icon::Workflow
            | Icon::Wait
            | Icon::Set
            | Icon::Loop
            | Icon::Parallel => PADDING + ICON + 6,
        };
        let font = Font::Heading;
        let shown: Vec<String> = phrases
            .iter()
            .map(|phrase| text::shorten(phrase, font, PHRASE_MAX))
            .collect();
        let text = text::shorten(&shown.join(" · "), font, HEADING_TEXT_MAX);
        let width = x + text::width(&text, font) + PADDING;
        Self {
            shape: Shape::Frame,
            icon,
            class: "frame",
            x: 0,
            y: 0,
            width,
            height: HEADING_HEIGHT,
            lines: vec![Line {
                text,
                font,
                anchor: Anchor::Start,
                x,
                y: 17,
            }],
            title: phrases.join(" · "),
        }
    }

    /// The same card with that whole text to be read where the pointer is.
    pub(super) fn titled(mut self, title: String) -> Self {
        self.title = title;
        self
    }

    /// The same card in another size.
    pub(super) fn stretched(mut self, width: i32, height: i32) -> Self {
        self.width = width;
        self.height = height;
        self
    }
}

/// Lines one below the other, the first of them bold; with their width and their bottom.
fn stack(texts: &[String], x: i32, top: i32) -> (Vec<Line>, i32, i32) {
    let mut lines = Vec::new();
    let mut width = 0;
    let mut bottom = top;
    for (index, text) in texts.iter().enumerate() {
        let font = if index == 0 { Font::Name } else { Font::Detail };
        let text = text::shorten(text, font, BOX_TEXT_MAX);
        bottom += font.line_height();
        width = text::width(&text, font).max(width);
        lines.push(Line {
            text,
            font,
            anchor: Anchor::Start,
            x,
            y: bottom - 4,
        });
    }
    (lines, width, bottom)
}
