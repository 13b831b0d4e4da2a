//! `troupe schema`.

use super::{End, output};

pub(super) fn run() -> End {
    output::json(&troupe_workflow::document_schema());
    End::Done
}
