//! An instance of a JSON schema, filled from an input: every value is found in the input or is the plainest one the
//! schema allows. Pure; a schema comes from a user and may be wrong, endless or contradict itself.

mod material;
mod names;

use std::cell::Cell;

use serde_json::{Map, Value};

use self::material::{Material, number_of};
use self::names::Kind;
use super::input::{Input, Source};
use super::phrases;
use crate::text::cut_chars;

/// Deepest nesting that is filled. It bounds the work for a schema that refers to itself.
const DEPTH_MAX: usize = 8;
/// Most properties and items that are filled.
const PROPERTIES_MAX: usize = 64;
const ITEMS_MAX: usize = 20;
/// Most values of an instance, all levels together; what is beyond is null.
const VALUES_MAX: usize = 500;
/// Length of a list of phrases where the schema does not say.
const PHRASES: usize = 5;
/// Most of each part of an input that values are found in. It bounds the work for each value.
const MATERIAL_BYTES_MAX: usize = 64 * 1024;
/// A text field that holds less gets a phrase instead of a summary.
const SUMMARY_CHARS_MIN: usize = 200;
/// Longest that a text is drawn out to satisfy a schema.
const PADDED_CHARS_MAX: usize = 1_000;

/// An instance of the schema.
pub(super) fn fill(schema: &Value, input: &Input) -> Value {
    let material = Material::new(bounded(input));
    Filler {
        root: schema,
        material: &material,
        values_left: &Cell::new(VALUES_MAX),
    }
    .value(schema, "", 0)
}

#[derive(Clone, Copy)]
struct Filler<'a> {
    root: &'a Value,
    material: &'a Material,
    values_left: &'a Cell<usize>,
}

impl Filler<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let left = self
            .values_left
            .get()
            .checked_sub(1)
            .filter(|_| depth <= DEPTH_MAX);
        let Some(left) = left else { return Value::Null };
        self.values_left.set(left);
        let schema = self.resolved(schema);
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(options) = schema.get("enum").and_then(Value::as_array) {
            return self.choice(options, name);
        }
        if let Some(options) = ["anyOf", "oneOf"]
            .iter()
            .find_map(|key| schema.get(key)?.as_array())
        {
            let is_value = |option: &&Value| Kind::of(self.resolved(option), name) != Kind::Null;
            let option = options.iter().find(is_value).or(options.first());
            return option.map_or(Value::Null, |option| self.value(option, name, depth + 1));
        }
        match Kind::of(schema, name) {
            Kind::Object => self.object(schema, depth),
            Kind::List => self.list(schema, name, depth),
            Kind::Text => Value::String(self.text(schema, name)),
            Kind::Number => self.number(schema, name),
            Kind::Integer => whole(&self.number(schema, name)),
            Kind::Bool => Value::Bool(self.yes(name)),
            Kind::Null => Value::Null,
        }
    }

    /// Follows references within the document; one that leads nowhere allows anything.
    fn resolved<'b>(&'b self, schema: &'b Value) -> &'b Value {
        let mut schema = schema;
        for _ in 0..DEPTH_MAX {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
                return schema;
            };
            let target = reference
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(pointer));
            schema = target.unwrap_or(&Value::Null);
        }
        schema
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let mut out = Map::new();
        let parts = list_of(schema, "allOf").map(|part| self.resolved(part));
        for part in std::iter::once(schema).chain(parts.take(PROPERTIES_MAX)) {
            let properties = part
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            for (name, property) in properties.take(PROPERTIES_MAX) {
                out.insert(name.clone(), self.value(property, name, depth + 1));
            }
            for name in list_of(part, "required")
                .filter_map(Value::as_str)
                .take(PROPERTIES_MAX)
            {
                if !out.contains_key(name) {
                    out.insert(name.to_owned(), self.value(&Value::Null, name, depth + 1));
                }
            }
        }
        Value::Object(out)
    }

    fn list(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let least = count(schema, "minItems").unwrap_or(0).min(ITEMS_MAX);
        let most = count(schema, "maxItems")
            .unwrap_or(PHRASES.max(least))
            .min(ITEMS_MAX);
        let items = self.resolved(schema.get("items").unwrap_or(&Value::Null));
        let kind = Kind::of(items, "");
        let input = &self.material.input;
        let mut out: Vec<Value> = match kind {
            _ if items.get("enum").is_some() => self.matching_options(items, most),
            Kind::Text => phrases::search_phrases(input, most)
                .into_iter()
                .map(Value::String)
                .collect(),
            Kind::Number => self.material.numbers().iter().take(most).cloned().collect(),
            Kind::Integer => self
                .material
                .numbers()
                .iter()
                .take(most)
                .map(whole)
                .collect(),
            Kind::Object if !input.sources.is_empty() => {
                let each = input
                    .sources
                    .iter()
                    .take(most)
                    .map(|source| of_one_source(input, source));
                each.map(|input| self.of(input).value(items, name, depth + 1))
                    .collect()
            }
            Kind::Object => {
                let each = phrases::key_phrases(input, most)
                    .into_iter()
                    .map(|topic| Input {
                        topic,
                        ..input.clone()
                    });
                each.map(|input| self.of(input).value(items, name, depth + 1))
                    .collect()
            }
            Kind::List | Kind::Bool | Kind::Null => vec![self.value(items, name, depth + 1)],
        };
        while out.len() < least {
            out.push(self.value(items, name, depth + 1));
        }
        out.truncate(most);
        Value::Array(out)
    }

    /// The option the input speaks of most; the first of those it does not speak of.
    fn choice(&self, options: &[Value], name: &str) -> Value {
        let said = self.material.input.field(name);
        let is_said = |option: &&Value| {
            said.is_some_and(|said| {
                option
                    .as_str()
                    .is_some_and(|o| o.eq_ignore_ascii_case(said))
            })
        };
        if let Some(option) = options.iter().find(is_said) {
            return option.clone();
        }
        let mut best = (0, options.first());
        for option in options.iter().take(PROPERTIES_MAX) {
            let mentions = self.material.mentions(&as_text(option));
            if mentions > best.0 {
                best = (mentions, Some(option));
            }
        }
        best.1.cloned().unwrap_or(Value::Null)
    }

    fn matching_options(&self, items: &Value, most: usize) -> Vec<Value> {
        let options = list_of(items, "enum").take(PROPERTIES_MAX);
        options
            .filter(|option| self.material.mentions(&as_text(option)) > 0)
            .take(most)
            .cloned()
            .collect()
    }

    fn yes(&self, name: &str) -> bool {
        match self.material.input.field(name) {
            Some(said) => matches!(
                said.to_lowercase().as_str(),
                "true" | "yes" | "y" | "1" | "on"
            ),
            None => self.material.says(name),
        }
    }

    /// The number beside the property's name, else the first one within the bounds, else the bound nearest to zero.
    fn number(&self, schema: &Value, name: &str) -> Value {
        let (low, high) = bounds(schema);
        let fits = |number: &Value| {
            number
                .as_f64()
                .is_some_and(|number| (low..=high).contains(&number))
        };
        let said = self
            .material
            .input
            .field(name)
            .map(material::numbers)
            .unwrap_or_default();
        let found = said
            .into_iter()
            .chain(self.material.number_beside(name))
            .find(fits);
        found
            .or_else(|| {
                self.material
                    .numbers()
                    .iter()
                    .find(|number| fits(number))
                    .cloned()
            })
            .unwrap_or_else(|| {
                let nearest = if low > high {
                    low
                } else {
                    0.0_f64.clamp(low, high)
                };
                number_of(nearest)
            })
    }

    fn text(&self, schema: &Value, name: &str) -> String {
        let most = count(schema, "maxLength").unwrap_or(usize::MAX);
        let format = schema
            .get("format")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let text = match self.material.input.field(name) {
            Some(said) => said.to_owned(),
            None => self.text_for(name, format, most),
        };
        let mut text = if text.chars().count() > most {
            cut_chars(&text, most.saturating_sub(1))
        } else {
            text
        };
        let least = count(schema, "minLength")
            .unwrap_or(0)
            .min(PADDED_CHARS_MAX);
        text.extend(std::iter::repeat_n(
            '.',
            least.saturating_sub(text.chars().count()),
        ));
        text
    }

    fn text_for(&self, name: &str, format: &str, most: usize) -> String {
        let words = names::words_of(name);
        let names = |options: &[&str]| words.iter().any(|word| options.contains(&word.as_str()));
        let input = &self.material.input;
        let source = input.sources.first();
        if format == "uri" || names(&["url", "uri", "link", "href"]) {
            return source.map(|source| source.url.clone()).unwrap_or_default();
        }
        if names(&["topic", "subject", "query", "question"]) && !input.topic.is_empty() {
            return input.topic.clone();
        }
        if names(&[
            "title", "name", "headline", "label", "keyword", "phrase", "category", "id",
        ]) {
            let title = source
                .map(|source| source.title.clone())
                .filter(|title| !title.is_empty());
            return title.unwrap_or_else(|| self.material.key_phrase());
        }
        if most < SUMMARY_CHARS_MIN {
            self.material.key_phrase()
        } else {
            self.material.summary().to_owned()
        }
    }

    /// The same for another input.
    fn of(&self, input: Input) -> OwnedFiller<'_> {
        OwnedFiller {
            root: self.root,
            material: Material::new(input),
            values_left: self.values_left,
        }
    }
}

/// A filler with material of its own.
struct OwnedFiller<'a> {
    root: &'a Value,
    material: Material,
    values_left: &'a Cell<usize>,
}

impl OwnedFiller<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let filler = Filler {
            root: self.root,
            material: &self.material,
            values_left: self.values_left,
        };
        filler.value(schema, name, depth)
    }
}

/// The input with one source alone.
fn of_one_source(input: &Input, source: &Source) -> Input {
    Input {
        topic: input.topic.clone(),
        sources: vec![source.clone()],
        asks_for_sources: true,
        ..Input::default()
    }
}

/// The input with each part cut to what values are found in.
fn bounded(input: &Input) -> Input {
    let mut input = input.clone();
    input
        .prose
        .truncate(input.prose.floor_char_boundary(MATERIAL_BYTES_MAX));
    let mut left = MATERIAL_BYTES_MAX;
    for source in &mut input.sources {
        source.text.truncate(source.text.floor_char_boundary(left));
        left -= source.text.len();
    }
    input
}

fn list_of<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    schema
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn count(schema: &Value, key: &str) -> Option<usize> {
    schema
        .get(key)
        .and_then(Value::as_u64)
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// The lowest and the highest number a schema allows; an exclusive bound is stepped over.
fn bounds(schema: &Value) -> (f64, f64) {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let (low, high) = (bound("minimum"), bound("maximum"));
    let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
    let room = high.or(below).unwrap_or(f64::MAX) / 2.0 - low.or(above).unwrap_or(f64::MIN) / 2.0;
    let step = room.clamp(0.0, 1.0);
    let low = low.or(above.map(|above| above + step)).unwrap_or(f64::MIN);
    (
        low,
        high.or(below.map(|below| below - step)).unwrap_or(f64::MAX),
    )
}

fn as_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn whole(number: &Value) -> Value {
    number
        .as_f64()
        .map_or(Value::from(0), |number| number_of(number.round()))
}
