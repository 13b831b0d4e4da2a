//! Reads the fields of a JSON object and notes every fault on the way, so that an author sees all at once.

use serde_json::{Map, Value};

use crate::fault::{Faults, suggestion};
use crate::ids::Name;

/// The fields of one object of the document. Every field that is asked for is known; the others are faults.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`; none, with a fault, where it is no object.
    pub(crate) fn of(value: &'a Value, pointer: &str, faults: &mut Faults) -> Option<Self> {
        let Some(object) = value.as_object() else {
            faults.add(
                pointer,
                format!("this is {}, it must be an object", kind(value)),
            );
            return None;
        };
        Some(Self {
            object,
            pointer: pointer.to_owned(),
            known: Vec::new(),
        })
    }

    /// The pointer to a field.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escape(name))
    }

    pub(crate) fn pointer(&self) -> &str {
        &self.pointer
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// A field of any kind; `null` counts as absent.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub(crate) fn required(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
    ) -> Option<&'a Value> {
        let value = self.value(name);
        if value.is_none() {
            faults.add(&self.pointer, format!("`{name}` is missing"));
        }
        value
    }

    pub(crate) fn text(&mut self, name: &'static str, faults: &mut Faults) -> Option<String> {
        let value = self.value(name)?;
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.expected(name, value, "a text", faults);
        }
        text
    }

    pub(crate) fn required_text(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
    ) -> Option<String> {
        self.required(name, faults)?;
        self.text(name, faults)
    }

    /// An id.
    pub(crate) fn name(&mut self, name: &'static str, faults: &mut Faults) -> Option<Name> {
        let text = self.text(name, faults)?;
        match Name::parse(&text) {
            Ok(id) => Some(id),
            Err(message) => {
                faults.add(self.at(name), message);
                None
            }
        }
    }

    /// A whole number from 0 to `most`.
    pub(crate) fn count(
        &mut self,
        name: &'static str,
        most: u64,
        faults: &mut Faults,
    ) -> Option<u64> {
        let value = self.value(name)?;
        match value.as_u64() {
            Some(count) if count <= most => Some(count),
            _ => {
                self.expected(
                    name,
                    value,
                    &format!("a whole number from 0 to {most}"),
                    faults,
                );
                None
            }
        }
    }

    pub(crate) fn number(&mut self, name: &'static str, faults: &mut Faults) -> Option<f64> {
        let value = self.value(name)?;
        let number = value.as_f64();
        if number.is_none() {
            self.expected(name, value, "a number", faults);
        }
        number
    }

    pub(crate) fn flag(&mut self, name: &'static str, faults: &mut Faults) -> Option<bool> {
        let value = self.value(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.expected(name, value, "true or false", faults);
        }
        flag
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, name: &'static str, faults: &mut Faults) -> Option<Vec<String>> {
        let value = self.value(name)?;
        let texts = value.as_array().and_then(|items| {
            items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.expected(name, value, "a list of texts", faults);
        }
        texts
    }

    /// One of a closed list of words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
        faults: &mut Faults,
    ) -> Option<T> {
        let text = self.text(name, faults)?;
        let found = choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, choice)| *choice);
        if found.is_none() {
            let known = suggestion(&text, choices.iter().map(|(word, _)| *word));
            faults.add(self.at(name), format!("`{text}` is not known here{known}"));
        }
        found
    }

    /// Says that a field has the wrong kind of value.
    pub(crate) fn expected(&self, name: &str, value: &Value, expected: &str, faults: &mut Faults) {
        faults.add(
            self.at(name),
            format!("this is {}, it must be {expected}", kind(value)),
        );
    }

    /// Notes the fields that nobody asked for.
    pub(crate) fn finish(self, faults: &mut Faults) {
        for name in self.object.keys() {
            if !self.known.contains(&name.as_str()) {
                let known = suggestion(name, self.known.iter().copied());
                faults.add(
                    self.at(name),
                    format!("the field `{name}` is not known here{known}"),
                );
            }
        }
    }
}

/// What a JSON value is, for a message.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("{flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A name as it stands in a JSON pointer (RFC 6901).
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
