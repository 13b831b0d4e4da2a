//! Writes a value as YAML that people like to read, and that every YAML reader reads back as the same value.

use serde_json::{Map, Number, Value};

/// Spaces by which a value stands further right than what holds it.
const INDENT: usize = 2;
/// The longest name of a field that stands before a colon (YAML allows 1024 characters); longer ones need `?`.
const SIMPLE_KEY_MAX: usize = 1000;

/// A value as a YAML text: fields in their order, texts of several lines as they are, and in quotes what would
/// otherwise be something else.
pub fn to_yaml(value: &Value) -> String {
    let mut writer = Writer::default();
    match value {
        Value::Array(items) if !items.is_empty() => writer.list(items, 0),
        Value::Object(fields) if !fields.is_empty() => writer.object(fields, 0),
        other => {
            writer.text.push_str(&inline(other));
            writer.text.push('\n');
        }
    }
    writer.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    /// Writes a list whose first dash stands where the text ends, at column `indent`.
    fn list(&mut self, items: &[Value], indent: usize) {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.spaces(indent);
            }
            self.text.push('-');
            match item {
                Value::Array(inner) if !inner.is_empty() => {
                    self.text.push(' ');
                    self.list(inner, indent + INDENT);
                }
                Value::Object(inner) if !inner.is_empty() => {
                    self.text.push(' ');
                    self.object(inner, indent + INDENT);
                }
                other => self.leaf(other, indent),
            }
        }
    }

    /// Writes an object whose first name stands where the text ends, at column `indent`.
    fn object(&mut self, fields: &Map<String, Value>, indent: usize) {
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 {
                self.spaces(indent);
            }
            self.name(name, indent);
            match value {
                Value::Array(inner) if !inner.is_empty() => {
                    self.text.push('\n');
                    self.spaces(indent + INDENT);
                    self.list(inner, indent + INDENT);
                }
                Value::Object(inner) if !inner.is_empty() => {
                    self.text.push('\n');
                    self.spaces(indent + INDENT);
                    self.object(inner, indent + INDENT);
                }
                other => self.leaf(other, indent),
            }
        }
    }

    fn name(&mut self, name: &str, indent: usize) {
        let written = one_line(name);
        if written.chars().count() > SIMPLE_KEY_MAX {
            self.text.push_str("? ");
            self.text.push_str(&written);
            self.text.push('\n');
            self.spaces(indent);
        } else {
            self.text.push_str(&written);
        }
        self.text.push(':');
    }

    /// Writes what follows a dash or a name that stands at column `indent`, up to the line's end.
    fn leaf(&mut self, value: &Value, indent: usize) {
        self.text.push(' ');
        match value {
            Value::String(text) if can_be_block(text) => self.block(text, indent + INDENT),
            other => {
                self.text.push_str(&inline(other));
                self.text.push('\n');
            }
        }
    }

    /// Writes a text of several lines as they are.
    fn block(&mut self, text: &str, indent: usize) {
        self.text.push('|');
        if text.starts_with([' ', '\t', '\n']) {
            // Readers take the indentation from the first line that is not blank, unless they are told.
            self.text.push_str(&INDENT.to_string());
        }
        let body = text.trim_end_matches('\n');
        match text.len() - body.len() {
            0 => self.text.push('-'),
            1 => {}
            _ => self.text.push('+'),
        }
        self.text.push('\n');
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.spaces(indent);
                self.text.push_str(line);
            }
            self.text.push('\n');
        }
    }

    fn spaces(&mut self, count: usize) {
        self.text.extend(std::iter::repeat_n(' ', count));
    }
}

/// A value without lines of its own: anything but a list or an object that has something in it.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number_text(number),
        Value::String(text) => one_line(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

/// Older readers take `1e300` for a text: a float needs a point, and its exponent a sign.
fn number_text(number: &Number) -> String {
    let text = number.to_string();
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['-', '+']) {
        ""
    } else {
        "+"
    };
    format!("{mantissa}{point}e{sign}{exponent}")
}

/// A text on one line: bare where that is safe, else in the quotes that need fewer escapes.
fn one_line(text: &str) -> String {
    if can_be_bare(text) {
        return text.to_owned();
    }
    if text.contains(['"', '\\']) && !text.contains(must_be_escaped) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if must_be_escaped(c) => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Characters that YAML does not print, takes for the end of a line, or would trim or fold away.
pub(super) fn must_be_escaped(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

/// Words that a reader of YAML 1.1 or 1.2 takes for something else than a text.
const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// Whether a text needs no quotes. A text that does not begin with a letter gets them, which is more than the
/// rules ask for but leaves no doubt about numbers, dates and signs.
fn can_be_bare(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains(|c: char| must_be_escaped(c) || (c.is_whitespace() && c != ' '))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether a text can stand as it is, on lines of its own, and be the same when it is read.
fn can_be_block(text: &str) -> bool {
    let has_blank_end = |text: &str| text.ends_with([' ', '\t']);
    text.contains('\n')
        && !text.contains(|c: char| must_be_escaped(c) && c != '\n' && c != '\t')
        && !text.trim_matches('\n').is_empty()
        && !has_blank_end(text.trim_end_matches('\n'))
}
