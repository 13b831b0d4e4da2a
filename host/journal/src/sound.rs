//! Pages without what is damaged: one damaged row keeps no other from being read.

use crate::error::ReadError;

/// A page that is being put together.
pub(crate) struct Sound {
    limit: u32,
    damaged: u32,
}

impl Sound {
    /// One of at most `limit` rows.
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, damaged: 0 }
    }

    /// How many rows are to be asked for.
    pub(crate) fn to_ask(&self) -> u32 {
        self.limit.saturating_add(self.damaged)
    }

    /// What of the rows is sound; each that is not is logged. None: they took the place of sound ones, and more rows are
    /// to be asked for.
    ///
    /// # Errors
    /// The database's own trouble.
    pub(crate) fn take<T>(
        &mut self,
        rows: Vec<Result<T, ReadError>>,
    ) -> Result<Option<Vec<T>>, ReadError> {
        let wanted = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let was_full = rows.len() >= usize::try_from(self.to_ask()).unwrap_or(usize::MAX);
        let (mut sound, mut damaged) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Ok(row) => sound.push(row),
                Err(error @ ReadError::Corrupt { .. }) => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        if was_full && sound.len() < wanted {
            self.damaged = u32::try_from(damaged.len()).unwrap_or(u32::MAX);
            return Ok(None);
        }
        for error in damaged {
            tracing::error!(%error, "a damaged row is left out");
        }
        sound.truncate(wanted);
        Ok(Some(sound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[Option<u8>], asked: u32) -> Vec<Result<u8, ReadError>> {
        let damaged = || ReadError::Corrupt {
            place: "here".to_owned(),
            message: "it is damaged".to_owned(),
        };
        let rows = rows.iter().take(usize::try_from(asked).unwrap());
        rows.map(|row| row.ok_or_else(damaged)).collect()
    }

    #[test]
    fn a_page_is_full_in_spite_of_damaged_rows() {
        for (rows, limit, expected) in [
            (&[Some(1), Some(2), Some(3)][..], 2, &[1, 2][..]),
            (&[None, Some(2), None, None, Some(5), Some(6)], 2, &[2, 5]),
            (&[None, None, Some(3)], 2, &[3]),
            (&[None, None], 2, &[]),
            (&[], 2, &[]),
            (&[Some(1)], 0, &[]),
        ] {
            let mut sound = Sound::new(limit);
            let found = loop {
                if let Some(found) = sound.take(page(rows, sound.to_ask())).unwrap() {
                    break found;
                }
            };
            assert_eq!(found, expected, "{rows:?}");
        }
    }

    #[test]
    fn trouble_with_the_database_is_not_damage() {
        let mut sound = Sound::new(1);
        let rows: Vec<Result<u8, _>> = vec![Err(ReadError::Closed)];
        assert!(matches!(sound.take(rows), Err(ReadError::Closed)));
    }
}
