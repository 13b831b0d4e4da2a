//! What an expression reads: its names, and the fields of each with what they are used as.

use serde_json::Value;

use super::Expression;

/// How a value is used, which tells what type it must have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum UseKind {
    /// An operand of a condition.
    Boolean,
    /// The items of a loop.
    List,
    /// Compared with this value.
    ComparedWith(Value),
    /// Anything else.
    Any,
}

/// One field that is read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldUse {
    /// The name it is read from, for example `plan` of `plan.queries`.
    pub(crate) name: String,
    pub(crate) field: String,
    pub(crate) kind: UseKind,
    pub(crate) presence: Presence,
}

/// The names that an expression reads, with the byte each stands at, and whether every use of it stands
/// under a `default`.
pub(crate) fn names(expression: &Expression) -> Vec<(String, usize, Presence)> {
    let mut found = Vec::new();
    collect_names(expression, Presence::Required, &mut found);
    found
}

/// Whether a name or field has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Defaulted,
}

fn collect_names(
    expression: &Expression,
    presence: Presence,
    found: &mut Vec<(String, usize, Presence)>,
) {
    if let Expression::Name { name, offset } = expression {
        found.push((name.clone(), *offset, presence));
    }
    for (child, presence) in children(expression, presence) {
        collect_names(child, presence, found);
    }
}

/// The fields that an expression reads; those under a default, or only asked for with `is defined`, need not be
/// there. `kind` is what the whole expression is used as.
pub(crate) fn uses(expression: &Expression, kind: UseKind) -> Vec<FieldUse> {
    let mut found = Vec::new();
    collect_uses(expression, kind, Presence::Required, &mut found);
    found
}

fn collect_uses(
    expression: &Expression,
    kind: UseKind,
    presence: Presence,
    found: &mut Vec<FieldUse>,
) {
    match expression {
        Expression::Field { of, name: field } => {
            if let Expression::Name { name, .. } = of.as_ref() {
                found.push(FieldUse {
                    name: name.clone(),
                    field: field.clone(),
                    kind,
                    presence,
                });
                return;
            }
            collect_uses(of, UseKind::Any, presence, found);
        }
        Expression::And(left, right) | Expression::Or(left, right) => {
            collect_uses(left, UseKind::Boolean, presence, found);
            collect_uses(right, UseKind::Boolean, presence, found);
        }
        Expression::Not(of) => collect_uses(of, UseKind::Boolean, presence, found),
        Expression::If {
            test,
            then,
            otherwise,
        } => {
            collect_uses(test, UseKind::Boolean, presence, found);
            collect_uses(then, kind.clone(), presence, found);
            if let Some(otherwise) = otherwise {
                collect_uses(otherwise, kind, presence, found);
            }
        }
        Expression::Operator {
            symbol: "==" | "!=",
            left,
            right,
        } => {
            collect_uses(left, compared_with(right), presence, found);
            collect_uses(right, compared_with(left), presence, found);
        }
        other => {
            for (child, presence) in children(other, presence) {
                collect_uses(child, UseKind::Any, presence, found);
            }
        }
    }
}

fn compared_with(other: &Expression) -> UseKind {
    match other {
        Expression::Literal(value) => UseKind::ComparedWith(value.clone()),
        _ => UseKind::Any,
    }
}

/// The parts of an expression, each with whether it has to be there.
fn children(expression: &Expression, presence: Presence) -> Vec<(&Expression, Presence)> {
    let mut parts: Vec<(&Expression, Presence)> = Vec::new();
    match expression {
        Expression::Literal(_) | Expression::Name { .. } => {}
        Expression::Field { of, .. } | Expression::Not(of) | Expression::Negative(of) => {
            parts.push((of, presence));
        }
        Expression::Item { of, index } => {
            parts.extend([(of.as_ref(), presence), (index.as_ref(), presence)]);
        }
        Expression::Slice { of, bounds } => {
            parts.push((of, presence));
            parts.extend(bounds.iter().flatten().map(|bound| (bound, presence)));
        }
        Expression::And(left, right)
        | Expression::Or(left, right)
        | Expression::Operator { left, right, .. } => {
            parts.extend([(left.as_ref(), presence), (right.as_ref(), presence)]);
        }
        Expression::If {
            test,
            then,
            otherwise,
        } => {
            parts.extend([(test.as_ref(), presence), (then.as_ref(), presence)]);
            parts.extend(
                otherwise
                    .iter()
                    .map(|otherwise| (otherwise.as_ref(), presence)),
            );
        }
        Expression::Filter {
            name,
            of,
            arguments,
        } => {
            let inner = if matches!(name.as_str(), "default" | "d") {
                Presence::Defaulted
            } else {
                presence
            };
            parts.push((of, inner));
            parts.extend(arguments.iter().map(|argument| (&argument.value, presence)));
        }
        Expression::Test {
            name,
            of,
            arguments,
        } => {
            let inner = if matches!(name.as_str(), "defined" | "undefined") {
                Presence::Defaulted
            } else {
                presence
            };
            parts.push((of, inner));
            parts.extend(arguments.iter().map(|argument| (&argument.value, presence)));
        }
        Expression::List(items) => parts.extend(items.iter().map(|item| (item, presence))),
        Expression::Map(entries) => {
            for (key, value) in entries {
                parts.extend([(key, presence), (value, presence)]);
            }
        }
    }
    parts
}
