//! Which steps a place in the document can see: those that have ended when it is reached.

use super::super::NodeIndex;

/// The steps that can be seen from where the builder stands. A branch hides its steps from its siblings by
/// taking them back, so that the work is proportional to the steps and not to their square.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    is_seen: Vec<bool>,
    order: Vec<NodeIndex>,
}

impl Visible {
    pub(crate) fn contains(&self, index: NodeIndex) -> bool {
        self.is_seen.get(index.0).copied().unwrap_or(false)
    }

    pub(crate) fn add(&mut self, index: NodeIndex) {
        if self.is_seen.len() <= index.0 {
            self.is_seen.resize(index.0 + 1, false);
        }
        self.is_seen[index.0] = true;
        self.order.push(index);
    }

    /// A moment to go back to.
    pub(crate) fn mark(&self) -> usize {
        self.order.len()
    }

    /// Takes back what was added since a moment.
    pub(crate) fn hide_since(&mut self, mark: usize) -> Vec<NodeIndex> {
        let hidden = self.order.split_off(mark.min(self.order.len()));
        for index in &hidden {
            self.is_seen[index.0] = false;
        }
        hidden
    }

    /// The steps that can be seen, the latest first.
    pub(crate) fn latest(&self) -> impl Iterator<Item = NodeIndex> {
        self.order.iter().rev().copied()
    }
}
