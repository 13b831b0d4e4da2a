//! The fields of an LLM's output that later steps read, and the schema that says so to the model.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::expression::UseKind;

/// What a field must be, as far as its use tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    Any,
    Boolean,
    Number,
    Text,
    /// A list of anything.
    List,
    /// A list of texts.
    Texts,
}

impl FieldKind {
    pub(crate) fn of(kind: &UseKind) -> Self {
        match kind {
            UseKind::Boolean => Self::Boolean,
            UseKind::List => Self::List,
            UseKind::ComparedWith(Value::Bool(_)) => Self::Boolean,
            UseKind::ComparedWith(Value::Number(_)) => Self::Number,
            UseKind::ComparedWith(Value::String(_)) => Self::Text,
            UseKind::ComparedWith(_) | UseKind::Any => Self::Any,
        }
    }

    fn schema(self) -> Value {
        match self {
            Self::Any => json!({}),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Number => json!({ "type": "number" }),
            Self::Text => json!({ "type": "string" }),
            Self::List => json!({ "type": "array" }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        }
    }
}

/// The fields that must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequiredFields(BTreeMap<String, FieldKind>);

impl RequiredFields {
    /// Adds a use. Uses that ask for different types leave the type open.
    pub(crate) fn add(&mut self, field: &str, kind: FieldKind) {
        self.0
            .entry(field.to_owned())
            .and_modify(|known| {
                if *known == FieldKind::Any || (*known, kind) == (FieldKind::List, FieldKind::Texts)
                {
                    *known = kind;
                } else if (*known, kind) == (FieldKind::Texts, FieldKind::List) {
                    // Texts are a list already.
                } else if kind != FieldKind::Any && kind != *known {
                    *known = FieldKind::Any;
                }
            })
            .or_insert(kind);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, FieldKind)> {
        self.0.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// The one field that is read, if exactly one is.
    pub fn only(&self) -> Option<(&str, FieldKind)> {
        if self.0.len() == 1 {
            self.iter().next()
        } else {
            None
        }
    }

    /// Whether the type of every field is known, so that a provider's strict mode can hold it.
    pub fn is_strict(&self) -> bool {
        self.0
            .values()
            .all(|kind| !matches!(kind, FieldKind::Any | FieldKind::List))
    }

    /// JSON schema of an object with these fields.
    pub fn schema(&self) -> Value {
        let properties: Map<String, Value> = self
            .0
            .iter()
            .map(|(name, kind)| (name.clone(), kind.schema()))
            .collect();
        let required: Vec<&String> = self.0.keys().collect();
        let mut schema =
            json!({ "type": "object", "properties": properties, "required": required });
        if self.is_strict() {
            schema["additionalProperties"] = Value::Bool(false);
        }
        schema
    }
}
