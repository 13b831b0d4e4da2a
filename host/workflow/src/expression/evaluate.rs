//! The value of an expression.

use std::borrow::Cow;
use std::cmp::Ordering;

use minijinja::ErrorKind;
use minijinja::value::{Kwargs, Value as JinjaValue};
use serde_json::{Map, Value};

use super::parse::ENVIRONMENT;
use super::{Argument, Expression};
use crate::document::kind;
use crate::failure::Code;
use crate::fault::listed;
use crate::template::size;

/// What the names of an expression mean at this moment.
pub(crate) trait Scope {
    /// The value of a name, whole.
    fn name(&self, name: &str) -> Result<Cow<'_, Value>, EvaluationError>;

    /// Counts bytes that an expression makes.
    ///
    /// # Errors
    /// It has made too many.
    fn spend(&self, bytes: usize) -> Result<(), EvaluationError>;

    /// An accessor such as `X.output` or `X.status`, where `name` has one called `field`.
    fn accessor(&self, name: &str, field: &str) -> Option<Cow<'_, Value>>;
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EvaluationError {
    /// A field that is not there: what a default stands in for.
    Missing(String),
    /// A condition that is neither true nor false.
    NotBoolean(String),
    /// Anything else.
    Other(String),
}

impl EvaluationError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotBoolean(_) => Code::ConditionType,
            Self::Missing(_) | Self::Other(_) => Code::TemplateFailed,
        }
    }

    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Missing(message) | Self::NotBoolean(message) | Self::Other(message) => message,
        }
    }
}

type Evaluated<'a> = Result<Cow<'a, Value>, EvaluationError>;

/// The value of an expression.
pub(crate) fn evaluate<'a>(expression: &'a Expression, scope: &'a dyn Scope) -> Evaluated<'a> {
    match expression {
        Expression::Literal(value) => Ok(Cow::Borrowed(value)),
        Expression::Name { name, .. } => scope.name(name),
        Expression::Field { of, name } => {
            if let Expression::Name { name: root, .. } = of.as_ref()
                && let Some(value) = scope.accessor(root, name)
            {
                return Ok(value);
            }
            field(evaluate(of, scope)?, name, &shown(of))
        }
        Expression::Item { of, index } => {
            let (value, index) = (evaluate(of, scope)?, evaluate(index, scope)?);
            item(value, &index, &shown(of))
        }
        Expression::Slice { of, bounds } => slice(of, bounds, scope).map(Cow::Owned),
        Expression::Not(of) => boolean(of, scope).map(|truth| Cow::Owned(Value::Bool(!truth))),
        Expression::Negative(of) => {
            run("-a", &[("a", jinja(&*evaluate(of, scope)?))]).map(Cow::Owned)
        }
        Expression::And(left, right) => {
            let truth = boolean(left, scope)? && boolean(right, scope)?;
            Ok(Cow::Owned(Value::Bool(truth)))
        }
        Expression::Or(left, right) => {
            let truth = boolean(left, scope)? || boolean(right, scope)?;
            Ok(Cow::Owned(Value::Bool(truth)))
        }
        Expression::Operator {
            symbol,
            left,
            right,
        } => {
            let (left, right) = (evaluate(left, scope)?, evaluate(right, scope)?);
            // What the operator makes is at most about as large as both.
            scope.spend(size(&left) + size(&right))?;
            operate(symbol, &left, &right).map(Cow::Owned)
        }
        Expression::If {
            test,
            then,
            otherwise,
        } => match (boolean(test, scope)?, otherwise) {
            (true, _) => evaluate(then, scope),
            (false, Some(otherwise)) => evaluate(otherwise, scope),
            (false, None) => Ok(Cow::Owned(Value::Null)),
        },
        Expression::Filter {
            name,
            of,
            arguments,
        } => filter(name, of, arguments, scope),
        Expression::Test {
            name,
            of,
            arguments,
        } => test(name, of, arguments, scope).map(|truth| Cow::Owned(Value::Bool(truth))),
        Expression::List(items) => {
            let mut values = Vec::with_capacity(items.len());
            for item in items {
                let value = evaluate(item, scope)?;
                scope.spend(size(&value))?;
                values.push(value.into_owned());
            }
            Ok(Cow::Owned(Value::Array(values)))
        }
        Expression::Map(entries) => map(entries, scope).map(Cow::Owned),
    }
}

fn slice(
    of: &Expression,
    bounds: &[Option<Expression>; 3],
    scope: &dyn Scope,
) -> Result<Value, EvaluationError> {
    let mut names = vec![("v", jinja(&*evaluate(of, scope)?))];
    for (name, bound) in ["a", "b", "c"].into_iter().zip(bounds) {
        let value = match bound {
            Some(bound) => jinja(&*evaluate(bound, scope)?),
            None => JinjaValue::from(()),
        };
        names.push((name, value));
    }
    run("v[a:b:c]", &names)
}

fn map(entries: &[(Expression, Expression)], scope: &dyn Scope) -> Result<Value, EvaluationError> {
    let mut map = Map::new();
    for (key, value) in entries {
        let key = match &*evaluate(key, scope)? {
            Value::String(text) => text.clone(),
            other => {
                let message = format!("an object's key must be a text, not {}", kind(other));
                return Err(EvaluationError::Other(message));
            }
        };
        let value = evaluate(value, scope)?;
        scope.spend(size(&value))?;
        map.insert(key, value.into_owned());
    }
    Ok(Value::Object(map))
}

/// The outcome of a condition: fail-closed, for "no" must not publish.
pub(crate) fn evaluate_condition(
    expression: &Expression,
    scope: &dyn Scope,
) -> Result<bool, EvaluationError> {
    boolean(expression, scope)
}

fn boolean(expression: &Expression, scope: &dyn Scope) -> Result<bool, EvaluationError> {
    let value = evaluate(expression, scope)?;
    match &*value {
        Value::Bool(truth) => Ok(*truth),
        Value::Null => Ok(false),
        // Models like to return these two.
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        other => Err(EvaluationError::NotBoolean(format!(
            "`{}` is {}, a condition needs true or false; compare it, for example `{} == …`",
            shown(expression),
            described(other),
            shown(expression),
        ))),
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let start: String = text.chars().take(40).collect();
            format!("the text {start:?}")
        }
        other => kind(other),
    }
}

fn field<'a>(value: Cow<'a, Value>, name: &str, place: &str) -> Evaluated<'a> {
    match value {
        Cow::Borrowed(Value::Object(map)) => match map.get(name) {
            Some(found) => Ok(Cow::Borrowed(found)),
            None => Err(missing(map, name, place)),
        },
        Cow::Owned(Value::Object(mut map)) => match map.swap_remove(name) {
            Some(found) => Ok(Cow::Owned(found)),
            None => Err(missing(&map, name, place)),
        },
        other if other.is_null() => Ok(Cow::Owned(Value::Null)),
        other => Err(EvaluationError::Missing(format!(
            "`{place}` is {}, it has no field `{name}`",
            described(&other)
        ))),
    }
}

fn missing(map: &Map<String, Value>, name: &str, place: &str) -> EvaluationError {
    let there: Vec<&str> = map.keys().map(String::as_str).collect();
    let message = format!("`{place}` has no field `{name}`; it has {}", listed(&there));
    EvaluationError::Missing(message)
}

fn item<'a>(value: Cow<'a, Value>, index: &Value, place: &str) -> Evaluated<'a> {
    if value.is_null() {
        return Ok(Cow::Owned(Value::Null));
    }
    if let Value::String(name) = index {
        return field(value, name, place);
    }
    let Some(number) = index.as_i64() else {
        let message = format!("an index is a whole number or a text, not {}", kind(index));
        return Err(EvaluationError::Other(message));
    };
    let Some(items) = value.as_array() else {
        let message = format!(
            "`{place}` is {}, it has no item {number}",
            described(&value)
        );
        return Err(EvaluationError::Missing(message));
    };
    let position = if number < 0 {
        usize::try_from(number.unsigned_abs())
            .ok()
            .and_then(|back| items.len().checked_sub(back))
    } else {
        usize::try_from(number).ok()
    };
    match position.and_then(|position| items.get(position)) {
        Some(found) => Ok(Cow::Owned(found.clone())),
        None => Err(EvaluationError::Missing(format!(
            "`{place}` has no item {number}; it has {} items",
            items.len()
        ))),
    }
}

fn operate(symbol: &str, left: &Value, right: &Value) -> Result<Value, EvaluationError> {
    match symbol {
        "==" => return Ok(Value::Bool(equal(left, right))),
        "!=" => return Ok(Value::Bool(!equal(left, right))),
        "<" | "<=" | ">" | ">=" => {
            let order = compare(left, right)?;
            let truth = match symbol {
                "<" => order == Ordering::Less,
                "<=" => order != Ordering::Greater,
                ">" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            };
            return Ok(Value::Bool(truth));
        }
        _ => {}
    }
    if symbol == "*" && !(left.is_number() && right.is_number()) {
        let message = format!(
            "`*` multiplies numbers, not {} and {}",
            kind(left),
            kind(right)
        );
        return Err(EvaluationError::Other(message));
    }
    run(
        &format!("a {symbol} b"),
        &[("a", jinja(left)), ("b", jinja(right))],
    )
}

/// Equality of values: numbers by what they are worth (1 equals 1.0).
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right
                || left
                    .as_f64()
                    .zip(right.as_f64())
                    .is_some_and(|(a, b)| a == b)
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| equal(a, b))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, a)| right.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => left == right,
    }
}

fn compare(left: &Value, right: &Value) -> Result<Ordering, EvaluationError> {
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a
                .as_f64()
                .zip(b.as_f64())
                .and_then(|(a, b)| a.partial_cmp(&b)),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.ok_or_else(|| {
        EvaluationError::Other(format!(
            "{} and {} cannot be put in order; compare two numbers or two texts",
            described(left),
            described(right)
        ))
    })
}

fn filter<'a>(
    name: &str,
    of: &'a Expression,
    arguments: &'a [Argument],
    scope: &'a dyn Scope,
) -> Evaluated<'a> {
    let value = evaluate(of, scope);
    if matches!(name, "default" | "d") {
        return match value {
            Ok(value) if !value.is_null() => Ok(value),
            Ok(_) | Err(EvaluationError::Missing(_)) => match arguments.first() {
                Some(argument) => evaluate(&argument.value, scope),
                None => Ok(Cow::Owned(Value::String(String::new()))),
            },
            Err(error) => Err(error),
        };
    }
    let values = call_values(value?, arguments, scope)?;
    let result = ENVIRONMENT.empty_state().apply_filter(name, &values);
    result
        .map_err(|error| EvaluationError::Other(format!("filter `{name}`: {}", text_of(&error))))
        .and_then(|value| json(&value))
        .map(Cow::Owned)
}

fn test(
    name: &str,
    of: &Expression,
    arguments: &[Argument],
    scope: &dyn Scope,
) -> Result<bool, EvaluationError> {
    let value = evaluate(of, scope);
    match (name, &value) {
        ("defined", Err(EvaluationError::Missing(_))) => return Ok(false),
        ("undefined", Err(EvaluationError::Missing(_))) => return Ok(true),
        _ => {}
    }
    let values = call_values(value?, arguments, scope)?;
    ENVIRONMENT
        .empty_state()
        .perform_test(name, &values)
        .map_err(|error| EvaluationError::Other(format!("test `{name}`: {}", text_of(&error))))
}

fn call_values(
    first: Cow<'_, Value>,
    arguments: &[Argument],
    scope: &dyn Scope,
) -> Result<Vec<JinjaValue>, EvaluationError> {
    scope.spend(size(&first))?;
    let mut values = vec![jinja(&first)];
    let mut keywords = Vec::new();
    for argument in arguments {
        let value = jinja(&*evaluate(&argument.value, scope)?);
        match &argument.keyword {
            Some(keyword) => keywords.push((keyword.clone(), value)),
            None => values.push(value),
        }
    }
    if !keywords.is_empty() {
        values.push(keywords.into_iter().collect::<Kwargs>().into());
    }
    Ok(values)
}

/// Lets MiniJinja evaluate one of its own operators over finished values.
fn run(source: &str, names: &[(&'static str, JinjaValue)]) -> Result<Value, EvaluationError> {
    let context: std::collections::BTreeMap<&str, JinjaValue> = names.iter().cloned().collect();
    ENVIRONMENT
        .compile_expression(source)
        .and_then(|expression| expression.eval(context))
        .map_err(|error| EvaluationError::Other(text_of(&error)))
        .and_then(|value| json(&value))
}

fn text_of(error: &minijinja::Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return "this takes too many steps over so much data; pass on a part of it".to_owned();
    }
    error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned)
}

fn jinja(value: &Value) -> JinjaValue {
    JinjaValue::from(minijinja::value::Serde(value))
}

fn json(value: &JinjaValue) -> Result<Value, EvaluationError> {
    if value.is_undefined() {
        return Ok(Value::Null);
    }
    serde_json::to_value(value).map_err(|error| EvaluationError::Other(error.to_string()))
}

/// An expression as an author would recognise it in a message.
pub(crate) fn shown(expression: &Expression) -> String {
    match expression {
        Expression::Name { name, .. } => name.clone(),
        Expression::Field { of, name } => format!("{}.{name}", shown(of)),
        Expression::Item { of, index } => format!("{}[{}]", shown(of), shown(index)),
        Expression::Literal(value) => value.to_string(),
        Expression::Filter { name, of, .. } => format!("{} | {name}", shown(of)),
        Expression::Operator {
            symbol,
            left,
            right,
        } => {
            format!("{} {symbol} {}", shown(left), shown(right))
        }
        Expression::Not(of) => format!("not {}", shown(of)),
        Expression::And(left, right) => format!("{} and {}", shown(left), shown(right)),
        Expression::Or(left, right) => format!("{} or {}", shown(left), shown(right)),
        Expression::Slice { .. }
        | Expression::Negative(_)
        | Expression::If { .. }
        | Expression::Test { .. }
        | Expression::List(_)
        | Expression::Map(_) => "this expression".to_owned(),
    }
}
