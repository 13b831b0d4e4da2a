//! Records of the journal as what they mean: looked up by id, and listed.

use troupe_journal::{Journal, Record, RecordListing};

use crate::operations::OperationError;

/// What is kept as records of one kind.
pub(crate) trait Stored: Sized {
    /// The kind of its records, and the word for one of them.
    const KIND: &'static str;

    /// What a record says.
    fn read(record: &Record) -> Result<Self, OperationError>;
}

/// The one with an id.
pub(crate) async fn find<T: Stored>(journal: &dyn Journal, id: &str) -> Result<T, OperationError> {
    /// Of an id that is none: it comes from whoever asks, and goes back to them.
    const SHOWN_CHARS_MAX: usize = 80;
    match journal.record(T::KIND, id.to_owned()).await? {
        Some(record) => T::read(&record),
        None => Err(OperationError::NotFound {
            what: T::KIND,
            id: id.chars().take(SHOWN_CHARS_MAX).collect(),
        }),
    }
}

/// A page of them, by id: the oldest first.
pub(crate) async fn list<T: Stored>(
    journal: &dyn Journal,
    after: Option<String>,
    limit: u32,
) -> Result<Vec<T>, OperationError> {
    let listing = RecordListing {
        kind: T::KIND,
        due: None,
        after,
        limit,
    };
    let records = journal.records(listing).await?;
    records.iter().map(T::read).collect()
}
