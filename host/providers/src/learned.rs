//! What a model has refused before. Models differ in the fields they take and no list of names stays right, so a
//! field that a provider refuses is left out, the request is sent once more, and, where the refusal is for good, the
//! next call knows. A refused request costs nothing. It must not decide anything but which optional fields to send.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Most models remembered for one provider. It protects memory from workflows that make names up.
const MODELS_MAX: usize = 256;

/// An optional field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Temperature,
    Stop,
    /// The provider's own mode for a schema; the schema then goes into the instructions.
    Schema,
    /// The first name of the limit on output tokens; the other name is used instead.
    TokenLimitName,
}

impl Field {
    /// The field's name for the caller; none where nothing is lost for it.
    pub(crate) fn left_out(self) -> Option<&'static str> {
        match self {
            Self::Temperature => Some("temperature"),
            Self::Stop => Some("stop"),
            Self::Schema => Some("schema"),
            Self::TokenLimitName => None,
        }
    }
}

/// The fields that one model does not take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refused(Vec<Field>);

impl Refused {
    pub(crate) fn has(&self, field: Field) -> bool {
        self.0.contains(&field)
    }

    /// Adds a field; false where it was known, so that nobody tries the same again.
    pub(crate) fn add(&mut self, field: Field) -> bool {
        let new = !self.has(field);
        if new {
            self.0.push(field);
        }
        new
    }
}

/// What the models of one provider refused.
#[derive(Debug, Default)]
pub(crate) struct Learned(Mutex<BTreeMap<String, Refused>>);

impl Learned {
    pub(crate) fn get(&self, model: &str) -> Refused {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(model)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn add(&self, model: &str, field: Field) {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if models.len() < MODELS_MAX || models.contains_key(model) {
            models.entry(model.to_owned()).or_default().add(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_bounded_number_of_models() {
        let learned = Learned::default();
        for number in 0..2 * MODELS_MAX {
            learned.add(&format!("model-{number}"), Field::Temperature);
        }
        learned.add("model-0", Field::Stop);
        assert!(
            learned.get("model-0").has(Field::Temperature)
                && learned.get("model-0").has(Field::Stop)
        );
        assert!(
            !learned
                .get(&format!("model-{MODELS_MAX}"))
                .has(Field::Temperature)
        );
    }
}
