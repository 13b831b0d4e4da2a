//! Pictures of a workflow document: the flow from top to bottom, as Mermaid and as SVG.
//!
//! It reads the JSON itself and draws what it understands, so that any value gives some picture and none a
//! fault; whether a document may run is `definition`'s to say. It must not panic, whatever the value holds.

mod mermaid;
mod outline;
mod svg;
#[cfg(test)]
mod tests;

use serde_json::Value;

use outline::Outline;

/// Draws a workflow document as a Mermaid flowchart, in the syntax of version 10 and later.
#[must_use]
pub fn mermaid(document: &Value) -> String {
    mermaid::write(&Outline::read(document))
}

/// Draws a workflow document as an SVG that needs nothing else: no script, no font, no style of the page.
#[must_use]
pub fn svg(document: &Value) -> String {
    svg::write(&Outline::read(document))
}
