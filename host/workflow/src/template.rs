//! The front end of templates: text with `{{ expressions }}`, whole values, conditions.
//!
//! What a template evaluates to is data for ever: it is never parsed as a template again.

use serde_json::Value;

use crate::depth::check_depth;
use crate::expression::{
    self, EvaluationError, Expression, Scope, SyntaxFault, UseKind, evaluate, shown,
};
use crate::fault::Faults;

/// Protects the journal and prompts from a template that multiplies its inputs.
const RENDERED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A parsed text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Text {
    /// The whole text is one expression: its value is passed on with its type.
    Whole(Expression),
    /// Values written into text. Without any expression it is a plain text.
    Pieces(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Literal(String),
    Expression(Expression),
}

/// A JSON value with templates in its strings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Template {
    Text(Text),
    Literal(Value),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
}

impl Template {
    /// Parses every string in a value; faults are added with their pointer and column.
    pub(crate) fn parse(value: &Value, pointer: &str, faults: &mut Faults) -> Self {
        match value {
            Value::String(text) => match parse_text(text) {
                Ok(text) => Self::Text(text),
                Err(fault) => {
                    faults.add_at(pointer, column(text, fault.offset), fault.message);
                    Self::Literal(Value::Null)
                }
            },
            Value::Array(items) => Self::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| Self::parse(item, &format!("{pointer}/{index}"), faults))
                    .collect(),
            ),
            Value::Object(map) => Self::Object(
                map.iter()
                    .map(|(key, value)| {
                        let place = format!("{pointer}/{}", crate::document::escape(key));
                        (key.clone(), Self::parse(value, &place, faults))
                    })
                    .collect(),
            ),
            literal => Self::Literal(literal.clone()),
        }
    }

    /// The value that the template stands for now.
    pub(crate) fn render(&self, scope: &dyn Scope) -> Result<Value, EvaluationError> {
        let mut left = RENDERED_BYTES_MAX;
        let value = self.render_within(scope, &mut left)?;
        check_depth(&value).map_err(EvaluationError::Other)?;
        Ok(value)
    }

    fn render_within(&self, scope: &dyn Scope, left: &mut usize) -> Result<Value, EvaluationError> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Text(Text::Whole(expression)) => {
                let value = evaluate(expression, scope)?;
                spend(left, size(&value))?;
                Ok(value.into_owned())
            }
            Self::Text(Text::Pieces(pieces)) => {
                render_pieces(pieces, scope, left).map(Value::String)
            }
            Self::List(items) => items
                .iter()
                .map(|item| item.render_within(scope, left))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Self::Object(entries) => entries
                .iter()
                .map(|(key, item)| Ok((key.clone(), item.render_within(scope, left)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object),
        }
    }

    /// Every expression, with the pointer of its text below the template's own.
    pub(crate) fn expressions(&self) -> Vec<(String, &Expression, UseKind)> {
        let mut found = Vec::new();
        self.collect(String::new(), &mut found);
        found
    }

    fn collect<'a>(&'a self, place: String, found: &mut Vec<(String, &'a Expression, UseKind)>) {
        match self {
            Self::Literal(_) => {}
            Self::Text(Text::Whole(expression)) => found.push((place, expression, UseKind::Any)),
            Self::Text(Text::Pieces(pieces)) => {
                for piece in pieces {
                    if let Piece::Expression(expression) = piece {
                        found.push((place.clone(), expression, UseKind::Any));
                    }
                }
            }
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect(format!("{place}/{index}"), found);
                }
            }
            Self::Object(entries) => {
                for (key, item) in entries {
                    item.collect(format!("{place}/{}", crate::document::escape(key)), found);
                }
            }
        }
    }
}

fn render_pieces(
    pieces: &[Piece],
    scope: &dyn Scope,
    left: &mut usize,
) -> Result<String, EvaluationError> {
    let mut text = String::new();
    for piece in pieces {
        let before = text.len();
        match piece {
            Piece::Literal(literal) => text.push_str(literal),
            Piece::Expression(expression) => match &*evaluate(expression, scope)? {
                Value::String(value) => text.push_str(value),
                Value::Null => {
                    return Err(EvaluationError::Other(format!(
                        "`{0}` is null here; write `{0} | default(\"…\")` if it may be",
                        shown(expression)
                    )));
                }
                other => text.push_str(&other.to_string()),
            },
        }
        spend(left, text.len() - before)?;
    }
    Ok(text)
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), EvaluationError> {
    *left = left.checked_sub(bytes).ok_or_else(|| {
        EvaluationError::Other(format!(
            "the result is larger than {} MiB; pass on a part of it",
            RENDERED_BYTES_MAX / (1024 * 1024)
        ))
    })?;
    Ok(())
}

/// About how many bytes a value has as JSON.
pub(crate) fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => {
            map.iter()
                .map(|(key, item)| key.len() + 4 + size(item))
                .sum::<usize>()
                + 2
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// Parses a text with `{{ … }}`. Blanks around it do not count for whether it is one expression.
pub(crate) fn parse_text(text: &str) -> Result<Text, SyntaxFault> {
    let mut pieces = Vec::new();
    let mut rest = 0;
    while let Some(found) = find_opening(text, rest)? {
        if found > rest {
            pieces.push(Piece::Literal(text[rest..found].to_owned()));
        }
        let (expression, end) = parse_braces(text, found)?;
        pieces.push(Piece::Expression(expression));
        rest = end;
    }
    if rest < text.len() {
        pieces.push(Piece::Literal(text[rest..].to_owned()));
    }
    let blank = |piece: &Piece| matches!(piece, Piece::Literal(text) if text.trim().is_empty());
    let mut expressions = pieces.iter().filter(|piece| !blank(piece));
    if let (Some(Piece::Expression(expression)), None) = (expressions.next(), expressions.next()) {
        return Ok(Text::Whole(expression.clone()));
    }
    Ok(Text::Pieces(pieces))
}

/// Parses a condition: an expression in which each `{{ E }}` stands for `(E)`.
pub(crate) fn parse_condition(text: &str) -> Result<Expression, SyntaxFault> {
    let mut source = String::with_capacity(text.len() + 8);
    let mut quote: Option<char> = None;
    let mut escaped = false;
    let mut characters = text.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(_) if character == '{' && next == Some('{') => {
                let message = "`{{` stands inside quotes; a condition is an expression, compare the value itself: `{{ a.b }} == 'x'`".to_owned();
                return Err(SyntaxFault { offset, message });
            }
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if matches!(character, '\'' | '"') => quote = Some(character),
            // Two brackets for two braces: offsets stay the same.
            None if character == '{' && next == Some('{') => {
                source.push_str("((");
                characters.next();
                continue;
            }
            None if character == '}' && next == Some('}') => {
                source.push_str("))");
                characters.next();
                continue;
            }
            None => {}
        }
        source.push(character);
    }
    expression::parse(&source)
}

fn find_opening(text: &str, from: usize) -> Result<Option<usize>, SyntaxFault> {
    for (index, _) in text[from..].match_indices('{') {
        let offset = from + index;
        match text.as_bytes().get(offset + 1) {
            Some(b'{') => return Ok(Some(offset)),
            Some(mark @ (b'%' | b'#')) => {
                let mark = char::from(*mark);
                let message = format!(
                    "`{{{mark}` is not available: there are no statements and comments, only `{{{{ expressions }}}}`; write `{{{{ '{{{mark}' }}}}` for the characters themselves"
                );
                return Err(SyntaxFault { offset, message });
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Parses the expression whose `{{` stands at `start`; returns it with the byte after its `}}`.
fn parse_braces(text: &str, start: usize) -> Result<(Expression, usize), SyntaxFault> {
    let inner = start + 2;
    let mut quote: Option<u8> = None;
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    let mut index = inner;
    while let Some(&byte) = bytes.get(index) {
        match quote {
            Some(_) if byte == b'\\' => index += 1,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if matches!(byte, b'\'' | b'"') => quote = Some(byte),
            None if byte == b'{' => depth += 1,
            None if byte == b'}' && depth > 0 => depth -= 1,
            None if byte == b'}' && bytes.get(index + 1) == Some(&b'}') => {
                let expression =
                    expression::parse(&text[inner..index]).map_err(|fault| SyntaxFault {
                        offset: inner + fault.offset,
                        message: fault.message,
                    })?;
                return Ok((expression, index + 2));
            }
            None => {}
        }
        index += 1;
    }
    Err(SyntaxFault {
        offset: start,
        message: "this `{{` has no `}}`".to_owned(),
    })
}

/// The column of a byte, counted in characters from 1.
pub(crate) fn column(text: &str, offset: usize) -> usize {
    text.char_indices()
        .take_while(|(index, _)| *index < offset)
        .count()
        + 1
}

#[cfg(test)]
mod tests;
