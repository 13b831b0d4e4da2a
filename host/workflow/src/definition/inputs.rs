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
    inferred: BTreeMap<String, Presence>,
}

impl Inputs {
    pub(crate) fn new(schema: Option<&Value>) -> Self {
        Self {
            // A schema that is none was reported where it stands.
            schema: schema.and_then(|schema| jsonschema::validator_for(schema).ok()),
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
        let mut found: Vec<(String, String)> = Vec::new();
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
                    format!("the input `{name}` is missing; give it with -i {name}=…"),
                );
            }
        }
        if let Some(schema) = &self.schema {
            let is_said = |error: &jsonschema::ValidationError<'_>| {
                // A missing input was named above.
                error.instance_path().as_str().is_empty()
                    && error.to_string().contains("is a required property")
            };
            for error in schema
                .iter_errors(inputs)
                .filter(|error| faults.is_empty() || !is_said(error))
            {
                found.push((error.instance_path().to_string(), error.to_string()));
            }
        } else {
            for name in given
                .keys()
                .filter(|name| !self.inferred.contains_key(*name))
            {
                let known = suggestion(name, self.inferred.keys().map(String::as_str));
                found.push((
                    format!("/{}", crate::document::escape(name)),
                    format!("the workflow reads no input `{name}`{known}"),
                ));
            }
        }
        for (place, value) in given {
            if let Err(message) = check_depth(value) {
                found.push((format!("/{}", crate::document::escape(place)), message));
            }
        }
        for (place, message) in found {
            faults.add(place, message);
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }
}
