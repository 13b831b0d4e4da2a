//! What may still be spent.

use crate::bindings::troupe::agent::budget as wit;

pub use wit::Remaining;

/// Reads what is left at this moment. Others who draw on the same budget may be faster, so a call can
/// still be refused.
pub fn left() -> Remaining {
    wit::left()
}
