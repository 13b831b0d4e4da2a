//! The inputs of a workflow: declared by a schema, or inferred from its templates.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::depth::check_depth;
use crate::document::kind;
use crate::expression::Presence;
use crate::fault::{Faults, suggestion};

/// What a run must and may be given.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    schema: Option<jsonschema::Validator>,
    /// What the schema declares, each with whether it requires it.
    declared: BTreeMap<String, bool>,
    inferred: BTreeMap<String, Presence>,
}

impl Inputs {
    pub(crate) fn new(schema: Option<&Value>) -> Self {
        Self {
            // A schema that is none was reported where it stands.
            schema: schema.and_then(|schema| jsonschema::validator_for(schema).ok()),
            declared: schema.map(declared).unwrap_or_default(),
            inferred: BTreeMap::new(),
        }
    }

    /// Notes that a template reads an input. Without a default once means: required.
    pub(crate) fn infer(&mut self, name: &str, presence: Presence) {
        let known = self.inferred.entry(name.to_owned()).or_insert(presence);
        if presence == Presence::Required {
            *known = Presence::Required;
        }
    }

    /// Whether a template reads an input of this name.
    pub(crate) fn reads(&self, name: &str) -> bool {
        self.inferred.contains_key(name)
    }

    /// All inputs that can be given, each with whether it must be.
    pub(crate) fn known(&self) -> BTreeMap<&str, bool> {
        let mut known: BTreeMap<&str, bool> = self
            .declared
            .iter()
            .map(|(name, is_required)| (name.as_str(), *is_required))
            .collect();
        for (name, presence) in &self.inferred {
            let is_required = *presence == Presence::Required;
            *known.entry(name).or_insert(false) |= is_required;
        }
        known
    }

    /// The inputs that are known only from their use.
    pub(crate) fn inferred(&self) -> impl Iterator<Item = (&str, Presence)> {
        self.read().filter(|_| self.schema.is_none())
    }

    /// The inputs that templates read.
    fn read(&self) -> impl Iterator<Item = (&str, Presence)> {
        self.inferred
            .iter()
            .map(|(name, presence)| (name.as_str(), *presence))
    }

    pub(crate) fn check(&self, inputs: &Value) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let Some(given) = inputs.as_object() else {
            faults.add(
                "",
                format!("the inputs are {}, they must be an object", kind(inputs)),
            );
            return Err(faults);
        };
        for (name, _) in self
            .read()
            .filter(|(_, presence)| *presence == Presence::Required)
        {
            if !given.contains_key(name) {
                faults.add(
                    "",
                    format!(
                        "the input `{name}` is missing; add `{name}` to the inputs, on the command line with -i {name}=…"
                    ),
                );
            }
        }
        if let Some(schema) = &self.schema {
            let is_said = |error: &jsonschema::ValidationError<'_>| {
                // A missing input was named above.
                error.instance_path().as_str().is_empty()
                    && error.to_string().contains("is a required property")
            };
            let is_any_said = !faults.is_empty();
            for error in schema
                .iter_errors(inputs)
                .filter(|error| !is_any_said || !is_said(error))
            {
                // Each message may hold what was given.
                if faults.is_full() {
                    break;
                }
                faults.add(error.instance_path().to_string(), error.to_string());
            }
        } else {
            for name in given
                .keys()
                .filter(|name| !self.inferred.contains_key(*name))
            {
                if faults.is_full() {
                    break;
                }
                let known = suggestion(name, self.inferred.keys().map(String::as_str));
                faults.add(
                    format!("/{}", crate::document::escape(name)),
                    format!("the workflow reads no input `{name}`{known}"),
                );
            }
        }
        for (place, value) in given {
            if let Err(message) = check_depth(value) {
                faults.add(format!("/{}", crate::document::escape(place)), message);
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }
}

/// The properties of a schema, each with whether it is required.
fn declared(schema: &Value) -> BTreeMap<String, bool> {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| {
        required
            .into_iter()
            .flatten()
            .any(|required| required == name)
    };
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|map| map.keys())
        .map(|name| (name.clone(), is_required(name)))
        .collect()
}
