//! Reads the fields of a JSON object and notes every fault on the way, so that an author sees all at once.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::fault::{Faults, suggestion};
use crate::ids::Name;

/// The fields of one object of the document. Every field that is asked for is known; the others are faults.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    pointer: String,
    known: Vec<Cow<'static, str>>,
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

    /// The names of all fields there are.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.object.keys().map(String::as_str)
    }

    /// A field of any kind; `null` counts as absent.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(Cow::Borrowed(name));
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A field whose name the document itself says.
    pub(crate) fn named_value(&mut self, name: &str) -> Option<&'a Value> {
        let value = self.object.get(name)?;
        if !self.known.iter().any(|known| known == name) {
            self.known.push(Cow::Owned(name.to_owned()));
        }
        Some(value)
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

    /// A time in whole milliseconds, from 1 to `most`.
    pub(crate) fn millis(
        &mut self,
        name: &'static str,
        most: u64,
        faults: &mut Faults,
    ) -> Option<Duration> {
        let value = self.value(name)?;
        let millis = value.as_u64().filter(|millis| (1..=most).contains(millis));
        if millis.is_none() {
            let expected = format!("a whole number of milliseconds from 1 to {most}");
            self.expected(name, value, &expected, faults);
        }
        millis.map(Duration::from_millis)
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn count_from_one(
        &mut self,
        name: &'static str,
        most: u32,
        faults: &mut Faults,
    ) -> Option<u32> {
        let value = self.value(name)?;
        let count = value
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .filter(|count| (1..=most).contains(count));
        if count.is_none() {
            let expected = format!("a whole number from 1 to {most}");
            self.expected(name, value, &expected, faults);
        }
        count
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

    /// The items of a list, each with its pointer; none, with a fault, where it is no list. A pointer is made when its
    /// item's turn comes: a list may have millions.
    pub(crate) fn items(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
    ) -> impl ExactSizeIterator<Item = (String, &'a Value)> + use<'a> {
        let items: &[Value] = match self.value(name) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.expected(name, other, "a list", faults);
                &[]
            }
        };
        let place = self.at(name);
        let numbered = items.iter().enumerate();
        numbered.map(move |(index, item)| (format!("{place}/{index}"), item))
    }

    pub(crate) fn required_texts(
        &mut self,
        name: &'static str,
        faults: &mut Faults,
    ) -> Option<Vec<String>> {
        self.required(name, faults)?;
        self.texts(name, faults)
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
            // An object may have more fields than anybody wants to read about.
            if faults.is_full() {
                return;
            }
            if !self.known.iter().any(|known| known == name) {
                let known = suggestion(name, self.known.iter().map(AsRef::as_ref));
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
