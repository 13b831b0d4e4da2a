//! Expressions in templates and conditions: MiniJinja's grammar, parsed once and kept as a tree of our own.
//!
//! A tree of our own because its rules are stricter than a template engine's: a condition must be true or
//! false, a missing field is an error unless a default is given, a field of null is null. Operators, filters
//! and tests are MiniJinja's.

mod evaluate;
mod parse;
mod uses;

use serde_json::Value;

pub(crate) use evaluate::{EvaluationError, Scope, evaluate, evaluate_condition, shown};
pub(crate) use parse::parse;
pub(crate) use uses::{FieldUse, Presence, UseKind, names, uses};

/// A syntax error, with the byte where it was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxFault {
    pub(crate) offset: usize,
    pub(crate) message: String,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expression {
    Literal(Value),
    Name {
        name: String,
        offset: usize,
    },
    Field {
        of: Box<Expression>,
        name: String,
    },
    Item {
        of: Box<Expression>,
        index: Box<Expression>,
    },
    Slice {
        of: Box<Expression>,
        bounds: Box<[Option<Expression>; 3]>,
    },
    Not(Box<Expression>),
    Negative(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Operator {
        symbol: &'static str,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    If {
        test: Box<Expression>,
        then: Box<Expression>,
        otherwise: Option<Box<Expression>>,
    },
    Filter {
        name: String,
        of: Box<Expression>,
        arguments: Vec<Argument>,
    },
    Test {
        name: String,
        of: Box<Expression>,
        arguments: Vec<Argument>,
    },
    List(Vec<Expression>),
    Map(Vec<(Expression, Expression)>),
}

/// An argument of a filter or a test.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Argument {
    pub(crate) keyword: Option<String>,
    pub(crate) value: Expression,
}

#[cfg(test)]
mod tests;
