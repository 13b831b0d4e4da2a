//! Steps as pictures: each construct is drawn from the pictures of what stands inside it.

use super::card::{Card, Icon, Shape};
use super::picture::{self, End, GAP, Picture, SPACE, Stroke, WORD_FONT};
use super::text;
use crate::graph::outline::{Flow, Form, OnError, Step};

/// Draws a workflow from its start to its end.
pub(super) fn flow(flow: &Flow) -> Picture {
    let pill = |lines: &[String]| Picture::of(Card::pill("end", lines).titled(lines.join("\n")));
    let mut pictures = vec![pill(&flow.start_lines())];
    pictures.extend(flow.steps.iter().map(step));
    pictures.push(pill(&flow.end_lines()));
    picture::column(pictures)
}

/// Draws a workflow that others call.
pub(super) fn framed_flow(other: &Flow) -> Picture {
    let heading = other.heading().unwrap_or_default();
    let body = flow(other);
    let mut inner = Picture::blank(body.width, body.height + 2 * 16, body.axis);
    inner.put(body, 0, 16);
    picture::framed(Card::heading(Icon::Workflow, &[heading]), inner)
}

fn steps(steps: &[Step]) -> Picture {
    picture::column(steps.iter().map(step).collect())
}

fn step(step: &Step) -> Picture {
    let lines = step.lines();
    let boxed = |shape, icon, class| {
        Picture::of(Card::boxed(shape, icon, class, &lines).titled(lines.join("\n")))
    };
    let drawn = match &step.form {
        Form::Agent(task) => boxed(Shape::Box, Icon::Agent(task.kind), task.kind.class()),
        Form::Workflow(_) => boxed(Shape::Double, Icon::Workflow, "plain"),
        Form::Wait(_) => boxed(Shape::Pill, Icon::Wait, "plain"),
        Form::Set(_) => boxed(Shape::Box, Icon::Set, "plain"),
        Form::Cut => boxed(Shape::Box, Icon::None, "plain"),
        Form::Parallel { branches, .. } => {
            picture::framed(Card::heading(Icon::Parallel, &lines), parallel(branches))
        }
        Form::Choice {
            then, otherwise, ..
        } => {
            let diamond = Picture::of(Card::diamond(&lines.join(": ")));
            match (then.is_empty(), otherwise.is_empty()) {
                (false, false) => two_ways(diamond, steps(then), steps(otherwise)),
                (true, false) => one_way(diamond, steps(otherwise), ["no", "yes"]),
                (_, true) => one_way(diamond, steps(then), ["yes", "no"]),
            }
        }
        Form::Loop { steps: body, .. } => {
            picture::framed(Card::heading(Icon::Loop, &lines), repeated(steps(body)))
        }
    };
    match &step.on_error {
        OnError::Fallback(task) => {
            let lines = task.lines();
            let icon = Icon::Agent(task.kind);
            let card = Card::boxed(Shape::Dashed, icon, task.kind.class(), &lines);
            with_fallback(drawn, Picture::of(card.titled(lines.join("\n"))))
        }
        OnError::Stop | OnError::Continue => drawn,
    }
}

/// What takes the place of a step that fails stands beside it.
fn with_fallback(main: Picture, fallback: Picture) -> Picture {
    const LABEL: &str = "on error";
    let x = main.width + text::width(LABEL, WORD_FONT) + 28;
    let y = ((main.height - fallback.height) / 2).max(0);
    let join = main.height.max(y + fallback.height) + 14;
    let (axis, right) = (main.axis, main.width);
    let mut whole = Picture::blank(x + fallback.width, join + 2, axis);
    let level = y + fallback.height.min(main.height) / 2;
    whole.stroke(&[(right, level), (x, level)], Stroke::Dashed, End::Arrow);
    whole.word(LABEL, right + 9, level - 5);
    let back = [
        (x + fallback.axis, y + fallback.height),
        (x + fallback.axis, join),
        (axis, join),
    ];
    whole.stroke(&back, Stroke::Dashed, End::Open);
    whole.line(&[(axis, main.height), (axis, join + 2)], End::Open);
    whole.put(main, 0, 0);
    whole.put(fallback, x, y);
    whole
}

/// Branches between a fork and a join.
fn parallel(branches: &[Vec<Step>]) -> Picture {
    const BAR: i32 = 14;
    let pictures: Vec<Picture> = branches.iter().map(|branch| steps(branch)).collect();
    let widths: i32 = pictures.iter().map(|branch| branch.width + SPACE).sum();
    let tallest = pictures.iter().map(|branch| branch.height).max();
    let top = BAR + GAP;
    let bottom = top + tallest.unwrap_or(0) + 18;
    let width = (widths - SPACE).max(0);
    let mut whole = Picture::blank(width, bottom + BAR, width / 2);
    let mut x = 0;
    let mut axes = Vec::new();
    for branch in pictures {
        let axis = x + branch.axis;
        axes.push(axis);
        let end = top + branch.height;
        whole.line(&[(axis, BAR), (axis, top)], End::Arrow);
        whole.line(&[(axis, end), (axis, bottom)], End::Open);
        x += branch.width + SPACE;
        whole.put_on_axis(branch, axis, top);
    }
    let first = axes.first().copied().unwrap_or(whole.axis);
    let last = axes.last().copied().unwrap_or(whole.axis);
    let axis = i32::midpoint(first, last);
    whole.axis = axis;
    for y in [BAR, bottom] {
        let ends = [(first - 24, y), (last + 24, y)];
        whole.stroke(&ends, Stroke::Bar, End::Open);
    }
    whole.line(&[(axis, 0), (axis, BAR)], End::Open);
    whole.line(&[(axis, bottom), (axis, bottom + BAR)], End::Open);
    whole
}

/// A body with the way back to its beginning at its right.
fn repeated(body: Picture) -> Picture {
    const ROOM: i32 = 22;
    let (axis, bottom) = (body.axis, ROOM + body.height);
    let channel = body.width + 16;
    let mut whole = Picture::blank(channel, bottom + ROOM, axis);
    whole.line(&[(axis, 0), (axis, ROOM)], End::Arrow);
    whole.line(&[(axis, bottom), (axis, bottom + ROOM)], End::Open);
    let back = [
        (axis, bottom + 11),
        (channel, bottom + 11),
        (channel, 8),
        (axis, 8),
    ];
    whole.stroke(&back, Stroke::Dashed, End::Arrow);
    whole.put(body, 0, ROOM);
    whole
}

/// A diamond with one branch below it and the way past it at the right.
fn one_way(diamond: Picture, branch: Picture, words: [&'static str; 2]) -> Picture {
    let half = diamond.axis;
    let axis = half.max(branch.axis);
    let corner = (axis + half, diamond.height / 2);
    let top = diamond.height + GAP;
    let end = top + branch.height;
    let join = end + 14;
    let past = corner.0.max(axis + branch.right()) + SPACE;
    let mut whole = Picture::blank(past, join + 2, axis);
    whole.line(&[(axis, diamond.height), (axis, top)], End::Arrow);
    whole.line(&[(axis, end), (axis, join + 2)], End::Open);
    let way = [corner, (past, corner.1), (past, join), (axis, join)];
    whole.line(&way, End::Open);
    let [below, beside] = words;
    whole.word(below, axis + 7, diamond.height + 13);
    whole.word(beside, corner.0 + 2, corner.1 - 6);
    whole.put_on_axis(diamond, axis, 0);
    whole.put_on_axis(branch, axis, top);
    whole
}

/// A diamond with a branch on each side.
fn two_ways(diamond: Picture, yes: Picture, no: Picture) -> Picture {
    let half = diamond.axis;
    let left = (half + SPACE).max(yes.right() + SPACE / 2);
    let right = (half + SPACE).max(no.axis + SPACE / 2);
    let axis = (left + yes.axis).max(half);
    let level = diamond.height / 2;
    let top = diamond.height + 14;
    let join = top + yes.height.max(no.height) + 16;
    let width = axis + half.max(right + no.right());
    let mut whole = Picture::blank(width, join + 2, axis);
    whole.word("yes", axis - half - 22, level - 6);
    whole.word("no", axis + half + 4, level - 6);
    for (branch, corner, axis_of_branch) in [
        (yes, axis - half, axis - left),
        (no, axis + half, axis + right),
    ] {
        let way = [
            (corner, level),
            (axis_of_branch, level),
            (axis_of_branch, top),
        ];
        whole.line(&way, End::Arrow);
        let end = top + branch.height;
        let way = [(axis_of_branch, end), (axis_of_branch, join), (axis, join)];
        whole.line(&way, End::Open);
        whole.put_on_axis(branch, axis_of_branch, top);
    }
    whole.line(&[(axis, join), (axis, join + 2)], End::Open);
    whole.put_on_axis(diamond, axis, 0);
    whole
}
