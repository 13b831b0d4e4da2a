//! Texts with expressions in them.

use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{Piece, Text, column, parse_condition, parse_text};
use crate::definition::{Definition, RequiredFields};
use crate::document::ResponseFormat;
use crate::duration::Timestamp;
use crate::event::{Event, EventKind, Side};
use crate::execution::{Command, Execution};
use crate::expression::{Expression, shown};
use crate::failure::{Code, Failure};
use crate::ids::ExecutionId;
use crate::interpret::interpret_text;

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

/// What a model, a person or a tool may say that must not be taken for anything but data.
fn hostile() -> Vec<Value> {
    [
        "{{ secret }}",
        "{{ v }}",
        "{% if true %}x{% endif %}",
        "{# no #}",
        "}}",
        "' or true or '",
        "\" or true or \"",
        "') or true or ('",
        "true or true",
        "\\",
        "\u{0}\u{7f}\u{2028}\u{feff}",
        "NaN",
        "-Infinity",
        "1e999",
        "null",
        "__class__",
        // JSON that is none: half of a pair.
        "{\"flag\": \"\\ud800\"}",
        "[\"\\udfff\\ud800\"]",
    ]
    .into_iter()
    .map(|text| {
        let read = interpret_text(
            text.to_owned(),
            &RequiredFields::default(),
            None,
            ResponseFormat::Auto,
        );
        read.unwrap().value
    })
    .collect()
}

/// The value of a template in a run with these inputs.
fn rendered(template: &Value, inputs: &Value) -> Result<Value, Failure> {
    let document = json!({"name": "t", "agents": [], "steps": [{"set": template}]});
    let kind = first_event(&document, inputs);
    match kind {
        EventKind::StepCompleted { output, .. } => Ok(output),
        EventKind::StepFailed { failure, .. } => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn first_event(document: &Value, inputs: &Value) -> EventKind {
    let definition =
        Arc::new(Definition::compile(document).unwrap_or_else(|faults| panic!("{faults}")));
    let at = Timestamp::from_millis(1);
    let kind = EventKind::ExecutionCreated {
        workflow: "t".to_owned(),
        digest: definition.digest().clone(),
        inputs: inputs.clone(),
        forked_from: None,
        kept: Vec::new(),
    };
    let id = ExecutionId::from_parts(1, 7);
    let execution = Execution::replay(id, definition, &[Event { at, kind }]).unwrap();
    match execution.decide(at).into_iter().next() {
        Some(Command::Record(kind)) => kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_stay_data() {
    for value in hostile() {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let inputs = json!({"v": value, "secret": "shown"});
        let template = json!({
            "secret": "{{ secret }}",
            "whole": "{{ v }}",
            "listed": ["{{ [v] }}", "{{ {'v': v} }}"],
            "written": "so: {{ v | default('-') }}!",
            "joined": "{{ 'so: ' ~ (v | default('-')) }}",
            "filtered": "{{ [v | default('-')] | map('string') | first }}",
        });
        let shown = if value.is_null() { "-" } else { text.as_str() };
        let expected = json!({
            "secret": "shown",
            "whole": value,
            "listed": [[value], {"v": value}],
            "written": format!("so: {shown}!"),
            "joined": format!("so: {shown}"),
            "filtered": shown,
        });
        assert_eq!(rendered(&template, &inputs), Ok(expected), "{value}");
        let inputs = json!({"v": {"{{ secret }}": value}, "secret": "shown"});
        let kept = rendered(&json!("{{ v }}"), &inputs);
        assert_eq!(
            kept.as_ref(),
            Ok(&inputs["v"]),
            "names of fields are data too"
        );
    }
}

#[test]
fn conditions_with_hostile_values_are_never_true() {
    let conditions = [
        "v",
        "{{ v }}",
        "not v and v",
        "v and true",
        "v == 'yes'",
        "{{ v }} == 'yes' or false",
        "'yes' in [v]",
        "true if v else false",
        "v | lower == 'yes'",
        "v | trim | bool and false",
        "v is eq('yes')",
        "v.flag",
        "v.flag | default(false)",
        "v | length < 0",
    ];
    for (value, condition) in hostile()
        .into_iter()
        .flat_map(|value| conditions.map(|condition| (value.clone(), condition)))
    {
        let document = json!({
            "name": "t", "agents": [], "steps": [{"condition": condition, "then": [{"set": 1}]}],
        });
        let kind = first_event(&document, &json!({"v": value}));
        let is_refused = match &kind {
            EventKind::BranchTaken { taken, .. } => *taken == Side::Else,
            EventKind::StepFailed { failure, .. } => {
                matches!(failure.code, Code::ConditionType | Code::TemplateFailed)
            }
            _ => false,
        };
        assert!(is_refused, "{condition} with {value}: {kind:?}");
    }
}

#[test]
fn what_grows_too_large_is_refused() {
    let large = "x".repeat(10 * 1024 * 1024);
    let deep = |depth: usize| (0..depth).fold(json!(1), |value, _| json!([value]));
    let inputs = json!({"v": large, "deep": deep(100), "many": vec![1; 1_200_000]});
    assert_eq!(rendered(&json!("{{ v }}"), &inputs), Ok(json!(large)));
    let templates = [
        json!("{{ v }}{{ v }}"),
        json!(["{{ v }}", "{{ v }}"]),
        json!("{{ v ~ v }}"),
        json!("{{ [v, v, v, v, v, v, v] | length }}"),
        json!("{{ (v ~ v) | length + (v ~ v) | length + (v ~ v) | length + (v ~ v) | length }}"),
        json!("{{ v | replace('x', v) }}"),
        json!("{{ [v] | map('replace', 'x', 'xxxxxxxxxxxxxxxxxxxx') | first }}"),
        json!(["{{ deep }}"]),
        json!("{{ [deep] }}"),
        json!("{{ many | map('abs') | list | length }}"),
        json!("{{ 9999999999 ** 9999999999 }}"),
        json!("{{ 'x' | indent(9999999999) }}"),
    ];
    let lines: Vec<String> = templates
        .iter()
        .map(|template| match rendered(template, &inputs) {
            Ok(value) => format!("{template} => {} bytes", super::size(&value)),
            Err(failure) => format!("{template} => {}: {failure}", failure.code),
        })
        .collect();
    expect![[r#"
        "{{ v }}{{ v }}" => template_failed: `set`: the result is larger than 16 MiB; pass on a part of it
        ["{{ v }}","{{ v }}"] => template_failed: `set`: the result is larger than 16 MiB; pass on a part of it
        "{{ v ~ v }}" => template_failed: `set`: the result is larger than 16 MiB; pass on a part of it
        "{{ [v, v, v, v, v, v, v] | length }}" => template_failed: `set`: the expression makes more than 64 MiB of values
        "{{ (v ~ v) | length + (v ~ v) | length + (v ~ v) | length + (v ~ v) | length }}" => template_failed: `set`: the expression makes more than 64 MiB of values
        "{{ v | replace('x', v) }}" => template_failed: `set`: filter `replace`: this takes too many steps over so much data; pass on a part of it
        "{{ [v] | map('replace', 'x', 'xxxxxxxxxxxxxxxxxxxx') | first }}" => template_failed: `set`: filter `map`: this takes too many steps over so much data; pass on a part of it
        ["{{ deep }}"] => template_failed: `set`: the value is nested more than 100 deep; pass it on as a text
        "{{ [deep] }}" => template_failed: `set`: the value is nested more than 100 deep; pass it on as a text
        "{{ many | map('abs') | list | length }}" => template_failed: `set`: filter `map`: this takes too many steps over so much data; pass on a part of it
        "{{ 9999999999 ** 9999999999 }}" => template_failed: `set`: unable to calculate 9999999999 ** 9999999999
        "{{ 'x' | indent(9999999999) }}" => template_failed: `set`: filter `indent`: this takes too many steps over so much data; pass on a part of it"#]].assert_eq(&lines.join("\n"));
}
