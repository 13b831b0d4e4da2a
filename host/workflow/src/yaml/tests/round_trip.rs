//! What is written, and that it is read back as it was.

use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use super::reads;
use crate::yaml::write::must_be_escaped;
use crate::yaml::{parse_yaml, to_yaml};

fn document() -> Value {
    json!({
        "name": "Content Moderation",
        "agents": [
            { "id": "moderator", "type": "llm", "system_prompt": "You judge texts.\n\n  Be strict.\n", "stop": [] },
            { "id": "coder", "code": "def go(x):\n\treturn x\n\nresult = go(input)", "limits": {} },
        ],
        "steps": [
            {
                "parallel": [
                    [{ "agent": "moderator", "action": "analyze", "input": "{{ content }}" }],
                    { "set": "{{ a == \"it's\" }}" },
                ],
            },
            { "condition": "moderator.priority == 'high'", "then": [{ "set": "Note: {{ x }}" }] },
        ],
        "config": { "on_error": "continue", "budget_usd": 1.0, "tokens": 1e21, "small": 1e-7 },
        "no": ["no", "On", "1", "1.5", "", " x", "x ", "2026-01-01", "a # b", "a#b", "a: b", "a:b", "a:", "- a", "é, [x]", "null", "~"],
        "texts": ["\n", "  a\nb\n", "a\n\n\n", "a\n \n", "a\r\nb", "a\u{0}b\u{2028}", "tab\there"],
    })
}

#[test]
fn what_is_written_is_pleasant_to_read() {
    let value = document();
    expect![[r#"
        name: Content Moderation
        agents:
          - id: moderator
            type: llm
            system_prompt: |
              You judge texts.

                Be strict.
            stop: []
          - id: coder
            code: |-
              def go(x):
              	return x

              result = go(input)
            limits: {}
        steps:
          - parallel:
              - - agent: moderator
                  action: analyze
                  input: "{{ content }}"
              - set: '{{ a == "it''s" }}'
          - condition: moderator.priority == 'high'
            then:
              - set: "Note: {{ x }}"
        config:
          on_error: continue
          budget_usd: 1.0
          tokens: 1.0e+21
          small: 1.0e-7
        "no":
          - "no"
          - "On"
          - "1"
          - "1.5"
          - ""
          - " x"
          - "x "
          - "2026-01-01"
          - "a # b"
          - a#b
          - "a: b"
          - a:b
          - "a:"
          - "- a"
          - é, [x]
          - "null"
          - "~"
        texts:
          - "\n"
          - |2
              a
            b
          - |+
            a


          - "a\n \n"
          - "a\r\nb"
          - "a\u0000b\u2028"
          - "tab\there"
    "#]]
    .assert_eq(&to_yaml(&value));
    reads(&to_yaml(&value), value);
}

#[test]
fn long_names_are_written_so_that_they_can_be_read() {
    let name = "{{ x".repeat(1000);
    for value in [
        json!(1),
        json!("a\nb\n"),
        json!([1, { "a": 2 }]),
        json!({ "a": [] }),
    ] {
        let object = json!({ "before": 0, name.clone(): value, "after": 0 });
        reads(&to_yaml(&object), object.clone());
        let list = json!([object]);
        reads(&to_yaml(&list), list);
    }
}

/// Texts in which much may go wrong: signs of the language, blanks, ends of lines, control characters.
fn any_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "\n",
        "\n\n",
        " ",
        "  ",
        "\t",
        "\r",
        "\r\n",
        ":",
        ": ",
        " #",
        "#",
        "-",
        "- ",
        "---",
        "...",
        "? ",
        "|",
        ">",
        "&a",
        "*a",
        "!t",
        "%",
        "@",
        "`",
        "'",
        "\"",
        "\\",
        "{",
        "}",
        "{{ x }}",
        "[",
        "]",
        ",",
        "<<",
        "~",
        "null",
        "true",
        "no",
        "1",
        "1e3",
        "0x1",
        ".inf",
        "=",
        "a",
        "word",
        "é",
        "\u{0}",
        "\u{1b}",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{2029}",
        "\u{feff}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{1f600}",
        "\u{10ffff}",
    ]);
    prop_oneof![
        prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat()),
        any::<String>(),
        "[ \\n\\ta-c]{0,12}",
        "[a-z ]{0,20}",
    ]
}

fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<u64>().prop_map(Number::from),
        any::<i64>().prop_map(Number::from),
        prop::sample::select(vec![u64::MAX, 0, 1]).prop_map(Number::from),
        prop::sample::select(vec![i64::MIN, -1]).prop_map(Number::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64),
        prop::sample::select(vec![
            0.0,
            -0.0,
            1.0,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            1e21,
            1e-7
        ])
        .prop_filter_map("finite", Number::from_f64),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any_number().prop_map(Value::Number),
        any_text().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let fields = prop::collection::vec((any_text(), inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::Array),
            fields.prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(value in any_value()) {
        let text = to_yaml(&value);
        let read = parse_yaml(&text);
        prop_assert_eq!(read.as_ref(), Ok(&value), "{}", text);
        // Equal, and also with the fields in their order and the numbers of their kinds.
        prop_assert_eq!(read.map(|read| read.to_string()), Ok(value.to_string()));
    }

    #[test]
    fn json_is_yaml(value in any_value()) {
        // JSON lets characters stand as they are which YAML does not print.
        let escape = |text: String| -> String {
            let escaped = |c| format!("\\u{:04x}", u32::from(c));
            let unprinted = |c| c != '\n' && must_be_escaped(c);
            text.chars().map(|c| if unprinted(c) { escaped(c) } else { c.into() }).collect()
        };
        prop_assert_eq!(parse_yaml(&escape(value.to_string())), Ok(value.clone()));
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(parse_yaml(&escape(pretty)), Ok(value));
    }

    #[test]
    fn any_text_is_read_or_refused(text in any_text()) {
        if let Err(fault) = parse_yaml(&text) {
            prop_assert!(fault.line >= 1 && fault.column >= 1 && !fault.message.is_empty());
        }
    }
}
