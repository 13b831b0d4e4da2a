//! From text to a tree, by way of MiniJinja's parser.

use std::sync::LazyLock;

use minijinja::Environment;
use minijinja::machinery::{Span, ast, parse_expr};

use super::{Argument, Expression, SyntaxFault};
use crate::fault::suggestion;

/// Protects the stack, whose depth follows the tree's.
const DEPTH_MAX: usize = 100;
/// Protects the parser; a document is refused, not cut.
const LENGTH_MAX: usize = 64 * 1024;

/// Protects the scheduler, which nothing else can stop, from a filter over a huge list.
const FUEL_MAX: u64 = 1_000_000;

/// Filters that have no meaning for JSON values, or none without templates.
const FILTERS_LEFT_OUT: [&str; 4] = ["safe", "escape", "e", "pprint"];

/// The filters and tests there are. Built once: it never changes.
pub(super) static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL_MAX));
    for name in FILTERS_LEFT_OUT {
        environment.remove_filter(name);
    }
    environment
});

/// Filters that an author may use, ours included.
const FILTERS: [&str; 45] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "keys",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];

/// Tests that an author may use after `is`.
const TESTS: [&str; 28] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// Parses an expression; offsets are bytes of `text`.
pub(crate) fn parse(text: &str) -> Result<Expression, SyntaxFault> {
    if text.len() > LENGTH_MAX {
        let message = format!("an expression has at most {LENGTH_MAX} bytes");
        return Err(SyntaxFault { offset: 0, message });
    }
    if text.trim().is_empty() {
        return Err(SyntaxFault {
            offset: 0,
            message: "there is no expression here".to_owned(),
        });
    }
    let tree = parse_expr(text).map_err(|error| SyntaxFault {
        offset: error.range().map_or(0, |range| range.start),
        message: error.detail().unwrap_or("this is no expression").to_owned(),
    })?;
    convert(&tree, 0)
}

fn convert(tree: &ast::Expr<'_>, depth: usize) -> Result<Expression, SyntaxFault> {
    if depth > DEPTH_MAX {
        return Err(fault(
            tree.span(),
            format!("expressions are nested at most {DEPTH_MAX} deep"),
        ));
    }
    let sub = |tree: &ast::Expr<'_>| convert(tree, depth + 1).map(Box::new);
    Ok(match tree {
        // JSON's word for what the grammar calls `none`.
        ast::Expr::Var(var) if var.id == "null" => Expression::Literal(serde_json::Value::Null),
        ast::Expr::Var(var) => Expression::Name {
            name: var.id.to_owned(),
            offset: offset(var.span()),
        },
        ast::Expr::Const(constant) => Expression::Literal(
            serde_json::to_value(&constant.value)
                .map_err(|error| fault(constant.span(), error.to_string()))?,
        ),
        ast::Expr::Slice(slice) => convert_slice(slice, depth)?,
        ast::Expr::UnaryOp(unary) => match unary.op {
            ast::UnaryOpKind::Not => Expression::Not(sub(&unary.expr)?),
            ast::UnaryOpKind::Neg => Expression::Negative(sub(&unary.expr)?),
        },
        ast::Expr::BinOp(binary) => {
            let (left, right) = (sub(&binary.left)?, sub(&binary.right)?);
            match operator(binary.op) {
                Some(symbol) => Expression::Operator {
                    symbol,
                    left,
                    right,
                },
                None if matches!(binary.op, ast::BinOpKind::ScAnd) => Expression::And(left, right),
                None => Expression::Or(left, right),
            }
        }
        ast::Expr::Compare(compare) => convert_comparison(compare, depth)?,
        ast::Expr::IfExpr(choice) => Expression::If {
            test: sub(&choice.test_expr)?,
            then: sub(&choice.true_expr)?,
            otherwise: choice.false_expr.as_ref().map(sub).transpose()?,
        },
        ast::Expr::Filter(filter) => convert_filter(filter, depth)?,
        ast::Expr::Test(test) => convert_test(test, depth)?,
        ast::Expr::GetAttr(attribute) => Expression::Field {
            of: sub(&attribute.expr)?,
            name: attribute.name.to_owned(),
        },
        ast::Expr::GetItem(item) => Expression::Item {
            of: sub(&item.expr)?,
            index: sub(&item.subscript_expr)?,
        },
        ast::Expr::Call(call) => {
            return Err(fault(
                call.span(),
                "there are no functions here; filters are written `value | name(…)`".to_owned(),
            ));
        }
        ast::Expr::List(list) => Expression::List(convert_all(&list.items, depth)?),
        ast::Expr::Tuple(tuple) => Expression::List(convert_all(&tuple.items, depth)?),
        ast::Expr::Map(map) => {
            let keys = convert_all(&map.keys, depth)?;
            let values = convert_all(&map.values, depth)?;
            Expression::Map(keys.into_iter().zip(values).collect())
        }
    })
}

fn convert_slice(
    slice: &ast::Spanned<ast::Slice<'_>>,
    depth: usize,
) -> Result<Expression, SyntaxFault> {
    let bound = |bound: &Option<ast::Expr<'_>>| {
        bound
            .as_ref()
            .map(|tree| convert(tree, depth + 1))
            .transpose()
    };
    Ok(Expression::Slice {
        of: Box::new(convert(&slice.expr, depth + 1)?),
        bounds: Box::new([
            bound(&slice.start)?,
            bound(&slice.stop)?,
            bound(&slice.step)?,
        ]),
    })
}

fn convert_filter(
    filter: &ast::Spanned<ast::Filter<'_>>,
    depth: usize,
) -> Result<Expression, SyntaxFault> {
    check_known(filter.name, &FILTERS, "filter", filter.span())?;
    let of = filter.expr.as_ref().ok_or_else(|| {
        fault(
            filter.span(),
            "a filter needs a value before its `|`".to_owned(),
        )
    })?;
    Ok(Expression::Filter {
        name: filter.name.to_owned(),
        of: Box::new(convert(of, depth + 1)?),
        arguments: convert_arguments(&filter.args, filter.span(), depth)?,
    })
}

fn convert_test(
    test: &ast::Spanned<ast::Test<'_>>,
    depth: usize,
) -> Result<Expression, SyntaxFault> {
    check_known(test.name, &TESTS, "test", test.span())?;
    Ok(Expression::Test {
        name: test.name.to_owned(),
        of: Box::new(convert(&test.expr, depth + 1)?),
        arguments: convert_arguments(&test.args, test.span(), depth)?,
    })
}

/// `a < b < c` is `a < b and b < c`.
fn convert_comparison(
    compare: &ast::Spanned<ast::Compare<'_>>,
    depth: usize,
) -> Result<Expression, SyntaxFault> {
    // Each link nests the ones before it.
    if depth + compare.ops.len() > DEPTH_MAX {
        let message = format!("a comparison has at most {DEPTH_MAX} links");
        return Err(fault(compare.span(), message));
    }
    let mut left = convert(&compare.expr, depth + 1)?;
    let mut whole: Option<Expression> = None;
    for step in &compare.ops {
        let right = convert(&step.expr, depth + 1)?;
        let (symbol, negated) = match step.op {
            ast::CompareOpKind::Eq => ("==", false),
            ast::CompareOpKind::Ne => ("!=", false),
            ast::CompareOpKind::Lt => ("<", false),
            ast::CompareOpKind::Lte => ("<=", false),
            ast::CompareOpKind::Gt => (">", false),
            ast::CompareOpKind::Gte => (">=", false),
            ast::CompareOpKind::In => ("in", false),
            ast::CompareOpKind::NotIn => ("in", true),
        };
        let mut one = Expression::Operator {
            symbol,
            left: Box::new(left),
            right: Box::new(right.clone()),
        };
        if negated {
            one = Expression::Not(Box::new(one));
        }
        whole = Some(match whole {
            Some(before) => Expression::And(Box::new(before), Box::new(one)),
            None => one,
        });
        left = right;
    }
    Ok(whole.unwrap_or(left))
}

fn convert_all(trees: &[ast::Expr<'_>], depth: usize) -> Result<Vec<Expression>, SyntaxFault> {
    trees.iter().map(|tree| convert(tree, depth + 1)).collect()
}

fn convert_arguments(
    arguments: &[ast::CallArg<'_>],
    span: Span,
    depth: usize,
) -> Result<Vec<Argument>, SyntaxFault> {
    arguments
        .iter()
        .map(|argument| match argument {
            ast::CallArg::Pos(value) => Ok(Argument {
                keyword: None,
                value: convert(value, depth + 1)?,
            }),
            ast::CallArg::Kwarg(name, value) => Ok(Argument {
                keyword: Some((*name).to_owned()),
                value: convert(value, depth + 1)?,
            }),
            ast::CallArg::PosSplat(_) | ast::CallArg::KwargSplat(_) => Err(fault(
                span,
                "`*` and `**` are not available in arguments".to_owned(),
            )),
        })
        .collect()
}

fn operator(kind: ast::BinOpKind) -> Option<&'static str> {
    Some(match kind {
        ast::BinOpKind::Eq => "==",
        ast::BinOpKind::Ne => "!=",
        ast::BinOpKind::Lt => "<",
        ast::BinOpKind::Lte => "<=",
        ast::BinOpKind::Gt => ">",
        ast::BinOpKind::Gte => ">=",
        ast::BinOpKind::Add => "+",
        ast::BinOpKind::Sub => "-",
        ast::BinOpKind::Mul => "*",
        ast::BinOpKind::Div => "/",
        ast::BinOpKind::FloorDiv => "//",
        ast::BinOpKind::Rem => "%",
        ast::BinOpKind::Pow => "**",
        ast::BinOpKind::Concat => "~",
        ast::BinOpKind::In => "in",
        ast::BinOpKind::ScAnd | ast::BinOpKind::ScOr => return None,
    })
}

fn check_known(name: &str, known: &[&str], what: &str, span: Span) -> Result<(), SyntaxFault> {
    if known.contains(&name) {
        return Ok(());
    }
    Err(fault(
        span,
        format!(
            "there is no {what} `{name}`{}",
            suggestion(name, known.iter().copied())
        ),
    ))
}

fn offset(span: Span) -> usize {
    usize::try_from(span.start_offset).unwrap_or(0)
}

fn fault(span: Span, message: String) -> SyntaxFault {
    SyntaxFault {
        offset: offset(span),
        message,
    }
}
