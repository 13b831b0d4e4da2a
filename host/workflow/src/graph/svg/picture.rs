//! Pictures and how they are put together: one below the other, side by side, in a frame.
//!
//! The flow enters each picture at the top and leaves it at the bottom, both on its axis.

use super::card::Card;
use super::text::Font;

/// The length of the line between two steps.
pub(super) const GAP: i32 = 28;
/// The distance between things side by side.
pub(super) const SPACE: i32 = 24;
/// The empty edge of the whole.
const MARGIN: i32 = 24;
/// How wide a row of other workflows may be, if the first is not wider.
const ROW_WIDTH: i32 = 960;

/// Something drawn, in coordinates of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    /// How wide it is.
    pub(super) width: i32,
    /// How high it is.
    pub(super) height: i32,
    /// Where, from the left, the flow enters and leaves.
    pub(super) axis: i32,
    /// What is drawn, in no order.
    pub(super) parts: Vec<Part>,
}

/// What a picture is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// A shape with text in it.
    Card(Card),
    /// A word beside a line.
    Word {
        /// Where it begins.
        x: i32,
        /// What it stands on.
        y: i32,
        /// One of this crate's own words.
        text: &'static str,
    },
    /// A line whose parts are level or upright.
    Line {
        /// Its corners, from its beginning to its end.
        points: Vec<(i32, i32)>,
        /// How it is drawn.
        stroke: Stroke,
        /// How it ends.
        end: End,
    },
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    /// The flow.
    Plain,
    /// A way back, or the way after a failure.
    Dashed,
    /// A fork or a join.
    Bar,
}

/// How a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It leads into another line.
    Open,
    /// It leads to a step.
    Arrow,
}

impl Picture {
    /// An empty picture.
    pub(super) fn blank(width: i32, height: i32, axis: i32) -> Self {
        Self {
            width,
            height,
            axis,
            parts: Vec::new(),
        }
    }

    /// A picture of one card.
    pub(super) fn of(card: Card) -> Self {
        Self {
            width: card.width,
            height: card.height,
            axis: card.width / 2,
            parts: vec![Part::Card(card)],
        }
    }

    /// How far it reaches to the right of its axis.
    pub(super) fn right(&self) -> i32 {
        self.width - self.axis
    }

    /// Draws another picture into this one.
    pub(super) fn put(&mut self, other: Self, x: i32, y: i32) {
        self.parts.extend(other.parts.into_iter().map(|part| {
            let mut part = part;
            part.shift(x, y);
            part
        }));
    }

    /// Draws another picture so that its axis is there.
    pub(super) fn put_on_axis(&mut self, other: Self, axis: i32, y: i32) {
        let x = axis - other.axis;
        self.put(other, x, y);
    }

    /// Draws a plain line.
    pub(super) fn line(&mut self, points: &[(i32, i32)], end: End) {
        self.stroke(points, Stroke::Plain, end);
    }

    /// Draws a line.
    pub(super) fn stroke(&mut self, points: &[(i32, i32)], stroke: Stroke, end: End) {
        self.parts.push(Part::Line {
            points: points.to_vec(),
            stroke,
            end,
        });
    }

    /// Writes a word; `x` is where it begins and `y` the line it stands on.
    pub(super) fn word(&mut self, text: &'static str, x: i32, y: i32) {
        self.parts.push(Part::Word { x, y, text });
    }
}

impl Part {
    fn shift(&mut self, dx: i32, dy: i32) {
        match self {
            Self::Card(card) => {
                card.x += dx;
                card.y += dy;
            }
            Self::Word { x, y, .. } => {
                *x += dx;
                *y += dy;
            }
            Self::Line { points, .. } => {
                for (x, y) in points {
                    *x += dx;
                    *y += dy;
                }
            }
        }
    }
}

/// Pictures one below the other, with arrows between them.
pub(super) fn column(pictures: Vec<Picture>) -> Picture {
    let left = pictures.iter().map(|it| it.axis).max().unwrap_or(0);
    let right = pictures.iter().map(Picture::right).max().unwrap_or(0);
    let mut whole = Picture::blank(left + right, 0, left);
    let mut is_first = true;
    for picture in pictures {
        if !is_first {
            let top = whole.height;
            whole.line(&[(left, top), (left, top + GAP)], End::Arrow);
            whole.height += GAP;
        }
        is_first = false;
        let height = picture.height;
        whole.put_on_axis(picture, left, whole.height);
        whole.height += height;
    }
    whole
}

/// A picture in a frame whose heading runs along its top.
pub(super) fn framed(heading: Card, body: Picture) -> Picture {
    let width = (body.width + 2 * SPACE).max(heading.width);
    let x = (width - body.width) / 2;
    let top = heading.height;
    let height = top + body.height;
    let mut whole = Picture::blank(width, height, x + body.axis);
    whole
        .parts
        .push(Part::Card(heading.stretched(width, height)));
    whole.put(body, x, top);
    whole
}

/// The whole page: a workflow, and below it in rows the others that it uses.
pub(super) fn page(root: Picture, others: Vec<Picture>) -> Picture {
    let row_width = root.width.max(ROW_WIDTH);
    let mut rows: Vec<(Vec<Picture>, i32, i32)> = Vec::new();
    for other in others {
        let (width, height) = (other.width, other.height);
        match rows.last_mut() {
            Some((row, used, tallest)) if *used + SPACE + width <= row_width => {
                row.push(other);
                *used += SPACE + width;
                *tallest = height.max(*tallest);
            }
            Some(_) | None => rows.push((vec![other], width, height)),
        }
    }
    let widest = rows.iter().map(|(_, width, _)| *width).max();
    let inner = root.width.max(widest.unwrap_or(0));
    let mut whole = Picture::blank(inner + 2 * MARGIN, MARGIN + root.height, 0);
    let x = MARGIN + (inner - root.width) / 2;
    whole.put(root, x, MARGIN);
    for (row, used, tallest) in rows {
        let mut x = MARGIN + (inner - used) / 2;
        let y = whole.height + 2 * SPACE;
        for other in row {
            let step = other.width + SPACE;
            whole.put(other, x, y);
            x += step;
        }
        whole.height = y + tallest;
    }
    whole.height += MARGIN;
    whole
}

impl Stroke {
    /// The name of its style.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Plain => "line",
            Self::Dashed => "line dashed",
            Self::Bar => "bar",
        }
    }
}

/// The font of words beside lines.
pub(super) const WORD_FONT: Font = Font::Detail;
