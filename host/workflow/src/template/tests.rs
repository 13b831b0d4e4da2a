//! Texts with expressions in them.

use expect_test::{Expect, expect};

use super::{Piece, Text, column, parse_condition, parse_text};
use crate::expression::{Expression, shown};

fn check(texts: &[&str], expected: Expect) {
    let lines: Vec<String> = texts
        .iter()
        .map(|text| match parse_text(text) {
            Ok(Text::Whole(expression)) => format!("{text:?} => value {}", shown(&expression)),
            Ok(Text::Pieces(pieces)) => {
                let pieces: Vec<String> = pieces
                    .iter()
                    .map(|piece| match piece {
                        Piece::Literal(text) => format!("{text:?}"),
                        Piece::Expression(expression) => shown(expression),
                    })
                    .collect();
                format!("{text:?} => text {}", pieces.join(" + "))
            }
            Err(fault) => {
                format!(
                    "{text:?} => column {}: {}",
                    column(text, fault.offset),
                    fault.message
                )
            }
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn a_text_is_one_value_or_pieces() {
    check(
        &[
            " {{ a.b }} ",
            "{{a}}",
            "{{ a }}{{ b }}",
            "x {{ a }}",
            "plain",
            "",
            "{{ '}}' }}",
            "{{ {'a': {'b': 1}} }}",
            "{ a }",
            "Größe: {{ a }}",
        ],
        expect![[r#"
            " {{ a.b }} " => value a.b
            "{{a}}" => value a
            "{{ a }}{{ b }}" => text a + b
            "x {{ a }}" => text "x " + a
            "plain" => text "plain"
            "" => text 
            "{{ '}}' }}" => value "}}"
            "{{ {'a': {'b': 1}} }}" => value this expression
            "{ a }" => text "{ a }"
            "Größe: {{ a }}" => text "Größe: " + a"#]],
    );
}

#[test]
fn faults_have_a_column() {
    check(
        &[
            "x {{ a",
            "ä {{ a b }}",
            "{% if a %}",
            "{# no #}",
            "{{ }}",
            "a {{ b | nosuch }}",
        ],
        expect![[r#"
            "x {{ a" => column 3: this `{{` has no `}}`
            "ä {{ a b }}" => column 8: unexpected input after expression
            "{% if a %}" => column 1: `{%` is not available: there are no statements and comments, only `{{ expressions }}`; write `{{ '{%' }}` for the characters themselves
            "{# no #}" => column 1: `{#` is not available: there are no statements and comments, only `{{ expressions }}`; write `{{ '{#' }}` for the characters themselves
            "{{ }}" => column 3: there is no expression here
            "a {{ b | nosuch }}" => column 10: there is no filter `nosuch`; known are `abs`, `attr`, `batch`, `bool`, `capitalize`, `chain`, `count`, `d`, `default`, `dictsort`, `first`, `float`, `format`, `groupby`, `indent`, `int`, `items`, `join`, `keys`, `last` and 25 more"#]],
    );
}

fn condition(text: &str) -> String {
    match parse_condition(text) {
        Ok(expression) => shown(&expression),
        Err(fault) => format!("column {}: {}", column(text, fault.offset), fault.message),
    }
}

#[test]
fn conditions_are_expressions_with_or_without_braces() {
    let texts = [
        "{{ classifier.priority }} == 'high'",
        "{{ a.b }} or not {{ c.d }}",
        "{{ a.b == \"x\" }}",
        "a.b == 'x'",
        "'{{ a }}' == 'x'",
        "{{ a }} ==",
    ];
    let lines: Vec<String> = texts.iter().map(|text| condition(text)).collect();
    expect![[r#"
        classifier.priority == "high"
        a.b or not c.d
        a.b == "x"
        a.b == "x"
        column 2: `{{` stands inside quotes; a condition is an expression, compare the value itself: `{{ a.b }} == 'x'`
        column 9: unexpected end of input, expected expression"#]].assert_eq(&lines.join("\n"));
    assert!(matches!(
        parse_condition("{{ a }} or {{ b }}"),
        Ok(Expression::Or(..))
    ));
}
