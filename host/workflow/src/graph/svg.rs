//! An outline as an SVG that needs nothing else.
//!
//! `draw` turns steps into pictures, `picture` puts pictures together, `text` says how wide a text is and
//! `write` makes XML of the whole. All lengths are whole pixels, so that a document has one picture.

mod card;
mod draw;
mod picture;
#[cfg(test)]
mod tests;
mod text;
mod write;

use super::outline::Outline;

/// Writes the picture.
pub(super) fn write(outline: &Outline) -> String {
    write::document(&outline.root.name, &picture(outline))
}

/// The whole picture, before it is written.
fn picture(outline: &Outline) -> picture::Picture {
    let root = draw::flow(&outline.root);
    let others = outline.workflows.iter().map(draw::framed_flow).collect();
    picture::page(root, others)
}
