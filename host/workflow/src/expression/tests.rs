//! Expressions over finished values.

use std::borrow::Cow;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{EvaluationError, Scope, evaluate, parse};

struct Names(Value);

impl Scope for Names {
    fn name(&self, name: &str) -> Result<Cow<'_, Value>, EvaluationError> {
        self.0
            .get(name)
            .map(Cow::Borrowed)
            .ok_or_else(|| EvaluationError::Missing(format!("no `{name}`")))
    }

    fn spend(&self, _: usize) -> Result<(), EvaluationError> {
        Ok(())
    }

    fn accessor(&self, _: &str, _: &str) -> Option<Cow<'_, Value>> {
        None
    }
}

fn check(expressions: &[&str], expected: Expect) {
    let names = Names(json!({
        "a": { "b": 1, "list": [1, 2, 3], "s": "x{{y}}", "n": null, "yes": "true" },
        "nothing": null,
        "t": "text",
    }));
    let lines: Vec<String> = expressions
        .iter()
        .map(|text| {
            let outcome = match parse(text) {
                Err(fault) => format!("syntax: {}", fault.message),
                Ok(expression) => match evaluate(&expression, &names) {
                    Ok(value) => value.to_string(),
                    Err(error) => format!("error: {}", error.message()),
                },
            };
            format!("{text} => {outcome}")
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn values_keep_their_types() {
    check(
        &[
            "a.b",
            "a.list",
            "a['s']",
            "a.list[-1]",
            "a.list[1:]",
            "[a.b, 'x']",
            "{'k': t}",
            "a.b + 1.5",
            "t ~ a.b",
            "a.list | length",
            "a.list | join('-')",
            "a.b in a.list",
            "4 not in a.list",
            "'x' if a.b == 1 else 'y'",
            "1 < 2 < 3",
            "a.b == 1.0",
            "-a.b",
            "7 // 2",
            "t | upper",
            "a.list | map('abs') | list",
            "{'b': 1, 'a': 2} | tojson",
        ],
        expect![[r#"
            a.b => 1
            a.list => [1,2,3]
            a['s'] => "x{{y}}"
            a.list[-1] => 3
            a.list[1:] => [2,3]
            [a.b, 'x'] => [1,"x"]
            {'k': t} => {"k":"text"}
            a.b + 1.5 => 2.5
            t ~ a.b => "text1"
            a.list | length => 3
            a.list | join('-') => "1-2-3"
            a.b in a.list => true
            4 not in a.list => true
            'x' if a.b == 1 else 'y' => "x"
            1 < 2 < 3 => true
            a.b == 1.0 => true
            -a.b => -1
            7 // 2 => 3
            t | upper => "TEXT"
            a.list | map('abs') | list => [1,2,3]
            {'b': 1, 'a': 2} | tojson => "{\"b\": 1, \"a\": 2}""#]],
    );
}

#[test]
fn what_is_missing_is_an_error_unless_there_is_a_default() {
    check(
        &[
            "a.c",
            "a.c.d",
            "nothing.c",
            "nothing.c.d",
            "a.c | default('x')",
            "a.c.d | default('x')",
            "a.n | default(3)",
            "a.list[9]",
            "t.x",
            "a.c is defined",
            "a.b is defined",
            "nothing is none",
        ],
        expect![[r#"
            a.c => error: `a` has no field `c`; it has `b`, `list`, `s`, `n` and `yes`
            a.c.d => error: `a` has no field `c`; it has `b`, `list`, `s`, `n` and `yes`
            nothing.c => null
            nothing.c.d => null
            a.c | default('x') => "x"
            a.c.d | default('x') => "x"
            a.n | default(3) => 3
            a.list[9] => error: `a.list` has no item 9; it has 3 items
            t.x => error: `t` is the text "text", it has no field `x`
            a.c is defined => false
            a.b is defined => true
            nothing is none => true"#]],
    );
}

#[test]
fn conditions_take_booleans_only() {
    check(
        &[
            "nothing or not nothing",
            "a.yes and true",
            "t and true",
            "not a.b",
            "a.b == 1 or t",
            "1 if t else 2",
        ],
        expect![[r#"
            nothing or not nothing => true
            a.yes and true => true
            t and true => error: `t` is the text "text", a condition needs true or false; compare it, for example `t == …`
            not a.b => error: `a.b` is the number 1, a condition needs true or false; compare it, for example `a.b == …`
            a.b == 1 or t => true
            1 if t else 2 => error: `t` is the text "text", a condition needs true or false; compare it, for example `t == …`"#]],
    );
}

#[test]
fn what_cannot_be_is_refused() {
    check(
        &[
            "range(3)",
            "a.b.upper()",
            "t | uper",
            "a is even_",
            "1 +",
            "",
            "t * 1000000",
            "2 ** 100000",
            "t < 1",
            "a.list | batch(0)",
        ],
        expect![[r#"
            range(3) => syntax: there are no functions here; filters are written `value | name(…)`
            a.b.upper() => syntax: there are no functions here; filters are written `value | name(…)`
            t | uper => syntax: there is no filter `uper`; did you mean `upper`?
            a is even_ => syntax: there is no test `even_`; did you mean `even`?
            1 + => syntax: unexpected end of input, expected expression
             => syntax: there is no expression here
            t * 1000000 => error: `*` multiplies numbers, not a text and the number 1000000
            2 ** 100000 => error: unable to calculate 2 ** 100000
            t < 1 => error: the text "text" and the number 1 cannot be put in order; compare two numbers or two texts
            a.list | batch(0) => error: filter `batch`: count cannot be 0"#]],
    );
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let long = format!("1{}", " + 1".repeat(5_000));
    let lists = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let fields = format!("a{}", ".b".repeat(120));
    let nots = format!("{}true", "not ".repeat(120));
    let huge = format!("'{}'", "x".repeat(70_000));
    let messages: Vec<String> = [deep, long, lists, fields, nots, huge]
        .iter()
        .map(|text| parse(text).map_or_else(|fault| fault.message, |_| "parsed".to_owned()))
        .collect();
    expect![[r#"
        template exceeds maximum recursion limits
        expressions are nested at most 100 deep
        template exceeds maximum recursion limits
        expressions are nested at most 100 deep
        expressions are nested at most 100 deep
        an expression has at most 65536 bytes"#]]
    .assert_eq(&messages.join("\n"));
}
