//! A picture as XML.

use std::fmt::Write as _;

use super::card::{Anchor, Card, ICON, Icon, Shape};
use super::picture::{End, Part, Picture};
use crate::graph::outline::Kind;

/// The colours: of a light page, and of a dark one where the reader prefers it. Only the picture's own classes
/// are named, for it may stand within a page that has styles of its own.
const STYLE: &str = include_str!("style.css");

/// How far the corners of lines are rounded.
const CORNER: i32 = 8;

/// Writes the whole document.
pub(super) fn document(name: &str, picture: &Picture) -> String {
    let (width, height) = (picture.width, picture.height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"troupe-graph\" role=\"img\" \
         width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"12\"/>\n",
        escape(name)
    );
    // Frames lie below lines and lines below boxes: a line may begin and end at the middle of a border.
    for part in &picture.parts {
        if let Part::Card(card) = part
            && card.shape == Shape::Frame
        {
            write_card(&mut out, card);
        }
    }
    for part in &picture.parts {
        if let Part::Line {
            points,
            stroke,
            end,
        } = part
        {
            write_line(&mut out, points, stroke.class());
            if *end == End::Arrow {
                write_arrow(&mut out, points);
            }
        }
    }
    for part in &picture.parts {
        match part {
            Part::Card(card) if card.shape != Shape::Frame => write_card(&mut out, card),
            Part::Word { x, y, text } => {
                let _ = writeln!(
                    out,
                    "<text class=\"word\" x=\"{x}\" y=\"{y}\">{text}</text>"
                );
            }
            Part::Card(_) | Part::Line { .. } => {}
        }
    }
    out.push_str("</svg>\n");
    out
}

fn write_card(out: &mut String, card: &Card) {
    let _ = writeln!(out, "<g class=\"{}\">", card.class);
    let _ = writeln!(out, "<title>{}</title>", escape(&card.title));
    let (x, y, width, height) = (card.x, card.y, card.width, card.height);
    let mut rect = |class: &str, inset: i32, radius: i32| {
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{radius}\"/>",
            x + inset,
            y + inset,
            width - 2 * inset,
            height - 2 * inset,
        );
    };
    match card.shape {
        Shape::Box => rect("shape", 0, 8),
        Shape::Dashed => rect("shape dashed", 0, 8),
        Shape::Frame => rect("shape", 0, 10),
        Shape::Pill => rect("shape", 0, height / 2),
        Shape::Double => {
            rect("shape", 0, 8);
            rect("inner", 4, 5);
        }
        Shape::Diamond => {
            let (half, level) = (x + width / 2, y + height / 2);
            let _ = writeln!(
                out,
                "<path class=\"shape\" d=\"M{half} {y}L{} {level}L{half} {}L{x} {level}Z\"/>",
                x + width,
                y + height,
            );
        }
    }
    if let Some(path) = icon_path(card.icon) {
        let left = card.lines.first().map_or(0, |line| line.x);
        let (top, gap) = match card.shape {
            Shape::Frame => (5, 6),
            _ => ((height - ICON) / 2, 10),
        };
        let _ = writeln!(
            out,
            "<path class=\"icon\" transform=\"translate({} {})\" d=\"{path}\"/>",
            x + left - ICON - gap,
            y + top,
        );
    }
    for line in &card.lines {
        let anchor = match line.anchor {
            Anchor::Start => "",
            Anchor::Middle => " middle",
        };
        let _ = writeln!(
            out,
            "<text class=\"{}{anchor}\" x=\"{}\" y=\"{}\">{}</text>",
            line.font.class(),
            x + line.x,
            y + line.y,
            escape(&line.text),
        );
    }
    out.push_str("</g>\n");
}

fn write_line(out: &mut String, points: &[(i32, i32)], class: &str) {
    let Some((x, y)) = points.first() else {
        return;
    };
    let mut path = format!("M{x} {y}");
    for corner in points.windows(3) {
        let [before, at, after] = corner else {
            continue;
        };
        let room = distance(*before, *at).min(distance(*at, *after)) / 2;
        let (enter, leave) = (
            toward(*at, *before, CORNER.min(room)),
            toward(*at, *after, CORNER.min(room)),
        );
        let _ = write!(
            path,
            "L{} {}Q{} {} {} {}",
            enter.0, enter.1, at.0, at.1, leave.0, leave.1
        );
    }
    if let Some((x, y)) = points.last() {
        let _ = write!(path, "L{x} {y}");
    }
    let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
}

/// Draws the head of an arrow at the end of a line.
fn write_arrow(out: &mut String, points: &[(i32, i32)]) {
    let [.., before, tip] = points else {
        return;
    };
    let base = toward(*tip, *before, 8);
    let (dx, dy) = ((tip.0 - base.0).signum() * 4, (tip.1 - base.1).signum() * 4);
    let _ = writeln!(
        out,
        "<path class=\"head\" d=\"M{} {}L{} {}L{} {}Z\"/>",
        tip.0,
        tip.1,
        base.0 + dy,
        base.1 + dx,
        base.0 - dy,
        base.1 - dx,
    );
}

/// The length of a level or upright line.
fn distance(from: (i32, i32), to: (i32, i32)) -> i32 {
    (from.0 - to.0).abs() + (from.1 - to.1).abs()
}

/// The point so far from one point on the level or upright line to another.
fn toward(from: (i32, i32), to: (i32, i32), length: i32) -> (i32, i32) {
    (
        from.0 + (to.0 - from.0).signum() * length,
        from.1 + (to.1 - from.1).signum() * length,
    )
}

/// The path of an icon, in a square of [`ICON`] pixels.
fn icon_path(icon: Icon) -> Option<&'static str> {
    match icon {
        Icon::None => None,
        // A ring, a spark, angle brackets, a magnifying glass, a nut, a person.
        Icon::Agent(Kind::Unknown) => Some("M8 3a5 5 0 1 0 0 10a5 5 0 1 0 0-10"),
        Icon::Agent(Kind::Llm) => Some("M8 1L9.8 6.2L15 8L9.8 9.8L8 15L6.2 9.8L1 8L6.2 6.2Z"),
        Icon::Agent(Kind::Code) => Some("M5 4L1 8L5 12M11 4L15 8L11 12"),
        Icon::Agent(Kind::Search) => Some("M7 2a5 5 0 1 0 0 10a5 5 0 1 0 0-10M11 11L15 15"),
        Icon::Agent(Kind::Tool) => {
            Some("M8 1L14 4.5V11.5L8 15L2 11.5V4.5ZM8 5.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 1 0 0-5")
        }
        Icon::Agent(Kind::Human) => {
            Some("M8 1.5a3 3 0 1 0 0 6a3 3 0 1 0 0-6M2 15a6 5.5 0 0 1 12 0")
        }
        // A page behind a page, a clock, an equals sign, an arrow that turns back, a fork.
        Icon::Workflow => Some("M4 4V2H14V11H12M2 5H11V14H2Z"),
        Icon::Wait => Some("M8 1a7 7 0 1 0 0 14a7 7 0 1 0 0-14M8 4V8L11 10"),
        Icon::Set => Some("M3 6H13M3 10H13"),
        Icon::Loop => Some("M13 5a6 6 0 1 0 1 4M13.5 1.5V5.5H9.5"),
        Icon::Parallel => Some("M8 2V5M3 14V5H13V14"),
    }
}

/// Writes a text so that it is one. Characters that XML has no place for were left out before.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}
