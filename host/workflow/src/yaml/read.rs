//! Builds a value from the events of a YAML parser, with a limit for everything that a text can make larger.

use std::collections::BTreeMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Value};

use super::{NESTING_MAX, YamlFault, scalar};

/// Protects memory from a few lines that name each other ("billion laughs"): what anchors and aliases copy, in
/// bytes of text and [`VALUE_BYTES`] for each value.
const COPIED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a value takes beside its text, about.
const VALUE_BYTES: usize = 64;

/// Reads one YAML document. The order of fields is kept; aliases and merge keys (`<<`) are replaced by what they
/// stand for.
///
/// # Errors
/// The first fault: no YAML, more than one document, a field twice, a name that is no text, a tag, a number that
/// JSON lacks, values nested too deep, or aliases that stand for too much.
pub fn parse_yaml(text: &str) -> Result<Value, YamlFault> {
    // One more than the builder allows: it has the better message. Flow collections are scanned ahead of it.
    let options = granit_parser::options! {
        block_nesting_limit: NESTING_MAX + 1,
        flow_nesting_limit: NESTING_MAX + 1,
        emit_comments: false,
    };
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| scan_fault(text, &error))?;
        let place = span.tag_start().unwrap_or(span.start);
        builder
            .take(event)
            .map_err(|message| fault(place, message))?;
    }
    builder.root.ok_or(YamlFault {
        line: 1,
        column: 1,
        message: "there is no document".to_owned(),
    })
}

fn fault(place: Marker, message: String) -> YamlFault {
    YamlFault {
        line: place.line(),
        column: place.col() + 1,
        message,
    }
}

fn scan_fault(text: &str, error: &ScanError) -> YamlFault {
    let message = match error.kind() {
        ErrorKind::RecursionLimitExceeded => too_deep(),
        ErrorKind::UnknownAnchor => "no anchor (`&name`) before this alias has its name".to_owned(),
        ErrorKind::UnexpectedCharacter { character } => {
            format!("the character {character:?} cannot stand here; put the text in quotes")
        }
        ErrorKind::MappingValueNotAllowed => {
            "no field can be here; a text that has `: ` in it must be in quotes".to_owned()
        }
        _ => {
            let line = error.marker().line().saturating_sub(1);
            let hint = match text.lines().nth(line) {
                Some(line) if has_bare_template(line) => TEMPLATE_HINT,
                _ => "",
            };
            format!("{}{hint}", error.info())
        }
    };
    fault(*error.marker(), message)
}

/// The mistake that templates invite: to YAML a brace begins an object.
const TEMPLATE_HINT: &str = "; a text that begins with `{{` must be in quotes";

fn has_bare_template(line: &str) -> bool {
    line.split([':', '-'])
        .any(|part| part.trim_start().starts_with("{{"))
}

fn too_deep() -> String {
    format!("lists and objects are nested at most {NESTING_MAX} deep")
}

/// A list or an object that is not complete yet.
enum Open {
    List {
        items: Vec<Value>,
        anchor: usize,
    },
    Object {
        fields: Map<String, Value>,
        /// What `<<` named, for the fields that the object does not give itself.
        merged: Vec<Map<String, Value>>,
        key: Option<Key>,
        anchor: usize,
    },
}

/// What the next value of an object is for.
enum Key {
    Field(String),
    Merge,
}

/// A value with a name, for aliases.
struct Anchored {
    value: Value,
    bytes: usize,
    depth: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    copied_bytes: usize,
    has_document: bool,
    root: Option<Value>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::DocumentStart(..) => {
                if self.has_document {
                    return Err("a second document begins here; one is allowed".to_owned());
                }
                self.has_document = true;
                Ok(())
            }
            Event::Alias(id) => self.alias(id),
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.as_deref())?;
                if style == ScalarStyle::Plain && text == "<<" && self.begin_merge()? {
                    return Ok(());
                }
                let value = match style {
                    ScalarStyle::Plain => scalar::resolve(&text)?,
                    ScalarStyle::SingleQuoted
                    | ScalarStyle::DoubleQuoted
                    | ScalarStyle::Literal
                    | ScalarStyle::Folded => Value::String(text.into_owned()),
                };
                self.complete(value, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let items = Vec::new();
                self.begin(Open::List { items, anchor }, tag.as_deref())
            }
            Event::MappingStart(_, anchor, tag) => {
                let object = Open::Object {
                    fields: Map::new(),
                    merged: Vec::new(),
                    key: None,
                    anchor,
                };
                self.begin(object, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, tag: Option<&Tag>) -> Result<(), String> {
        refuse_tag(tag)?;
        if self.wants_key() {
            let (what, hint) = match open {
                Open::List { .. } => ("a list", ""),
                Open::Object { .. } => ("an object", TEMPLATE_HINT),
            };
            return Err(format!(
                "the name of a field must be a text, not {what}{hint}"
            ));
        }
        if self.open.len() >= NESTING_MAX {
            return Err(too_deep());
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(Open::List { items, anchor }) => self.complete(Value::Array(items), anchor),
            Some(Open::Object {
                mut fields,
                merged,
                anchor,
                ..
            }) => {
                for (name, value) in merged.into_iter().flatten() {
                    fields.entry(name).or_insert(value);
                }
                self.complete(Value::Object(fields), anchor)
            }
            None => Ok(()),
        }
    }

    fn alias(&mut self, id: usize) -> Result<(), String> {
        let Some(anchored) = self.anchors.get(&id) else {
            return Err("this alias stands within the value that it names".to_owned());
        };
        if self.open.len() + anchored.depth > NESTING_MAX {
            return Err(too_deep());
        }
        let (value, bytes) = (anchored.value.clone(), anchored.bytes);
        self.count_copy(bytes)?;
        self.complete(value, 0)
    }

    /// Counts what an anchor or an alias copies.
    fn count_copy(&mut self, bytes: usize) -> Result<(), String> {
        self.copied_bytes = self.copied_bytes.saturating_add(bytes);
        if self.copied_bytes > COPIED_BYTES_MAX {
            return Err(format!(
                "anchors and aliases stand for more than {} MiB up to here",
                COPIED_BYTES_MAX / 1024 / 1024
            ));
        }
        Ok(())
    }

    /// Puts a value where it belongs, and keeps it where it has an anchor.
    fn complete(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        if anchor != 0 {
            let (bytes, depth) = measure(&value);
            self.count_copy(bytes)?;
            let value = value.clone();
            self.anchors.insert(
                anchor,
                Anchored {
                    value,
                    bytes,
                    depth,
                },
            );
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::List { items, .. }) => items.push(value),
            Some(Open::Object {
                fields,
                merged,
                key,
                ..
            }) => match key.take() {
                None => *key = Some(Key::Field(new_name(value, fields)?)),
                Some(Key::Field(name)) => {
                    fields.insert(name, value);
                }
                Some(Key::Merge) => *merged = objects(value)?,
            },
        }
        Ok(())
    }

    /// Whether the next value is the name of a field.
    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Object { key: None, .. }))
    }

    /// Takes `<<` as the name of a field; `false` where it is a value.
    fn begin_merge(&mut self) -> Result<bool, String> {
        let Some(Open::Object {
            merged,
            key: key @ None,
            ..
        }) = self.open.last_mut()
        else {
            return Ok(false);
        };
        if !merged.is_empty() {
            return Err("`<<` is there twice; give it a list".to_owned());
        }
        *key = Some(Key::Merge);
        Ok(true)
    }
}

fn refuse_tag(tag: Option<&Tag>) -> Result<(), String> {
    match tag {
        None => Ok(()),
        Some(tag) => Err(format!(
            "`{}` is a tag; there are none here, and a text that begins with `!` must be in quotes",
            shortened(&tag.to_string())
        )),
    }
}

/// What a message shows of a text of any length.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The name of a field that its object does not have yet.
fn new_name(value: Value, fields: &Map<String, Value>) -> Result<String, String> {
    let Value::String(name) = value else {
        return Err(format!(
            "the name of a field must be a text: put {} in quotes",
            shortened(&value.to_string())
        ));
    };
    if fields.contains_key(&name) {
        return Err(format!("the field `{}` is there twice", shortened(&name)));
    }
    Ok(name)
}

/// What `<<` names: an object, or a list of objects of which the first that has a field gives it.
fn objects(value: Value) -> Result<Vec<Map<String, Value>>, String> {
    let values = match value {
        Value::Array(values) => values,
        other => vec![other],
    };
    let objects = values.into_iter().map(|value| match value {
        Value::Object(fields) => Ok(fields),
        _ => Err("`<<` takes an object or a list of objects".to_owned()),
    });
    objects.collect()
}

/// About how many bytes a value takes, and how deep it is.
fn measure(value: &Value) -> (usize, usize) {
    let (text_bytes, inner): (usize, Vec<&Value>) = match value {
        Value::Array(items) => (0, items.iter().collect()),
        Value::Object(fields) => (
            fields.keys().map(String::len).sum(),
            fields.values().collect(),
        ),
        Value::String(text) => (text.len(), Vec::new()),
        Value::Null | Value::Bool(_) | Value::Number(_) => (0, Vec::new()),
    };
    let own_depth = usize::from(value.is_array() || value.is_object());
    inner.into_iter().map(measure).fold(
        (VALUE_BYTES + text_bytes, own_depth),
        |(bytes, depth), (inner_bytes, inner_depth)| {
            (bytes + inner_bytes, depth.max(inner_depth + 1))
        },
    )
}
