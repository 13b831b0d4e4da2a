//! What is read, and what is refused with which words.

mod round_trip;

use std::fmt::Write;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{NESTING_MAX, parse_yaml, to_yaml};

fn reads(text: &str, value: Value) {
    assert_eq!(parse_yaml(text), Ok(value), "{text}");
}

fn refuses(texts: &[&str], faults: Expect) {
    let mut lines = String::new();
    for text in texts {
        match parse_yaml(text) {
            Ok(value) => panic!("{text:?} is read as {value}"),
            Err(fault) => writeln!(lines, "{text:?}\n  {fault}").unwrap(),
        }
    }
    faults.assert_eq(&lines);
}

#[test]
fn a_workflow_is_read_with_its_fields_in_order() {
    let text = r#"
# A comment
name: Content Moderation
agents:
- id: moderator
  type: llm
  system_prompt: |
    You judge texts.
      Be strict.
  temperature: 0.5
- { id: human, type: human, assignees: ["ann@example.com"], timeout_hours: 24 }
steps:
  - agent: moderator
    action: analyze
    input: "{{ content }}"
    on_error: continue
    condition: >
      {{ content }} != ''
      and true
"#;
    let value = json!({
        "name": "Content Moderation",
        "agents": [
            { "id": "moderator", "type": "llm", "system_prompt": "You judge texts.\n  Be strict.\n", "temperature": 0.5 },
            { "id": "human", "type": "human", "assignees": ["ann@example.com"], "timeout_hours": 24 },
        ],
        "steps": [{
            "agent": "moderator",
            "action": "analyze",
            "input": "{{ content }}",
            "on_error": "continue",
            "condition": "{{ content }} != '' and true\n",
        }],
    });
    let read = parse_yaml(text).unwrap();
    assert_eq!(read.to_string(), value.to_string());
}

#[test]
fn words_mean_what_yaml_1_2_says() {
    reads(
        "[no, yes, on, off, y, n, No, ON, tRUE, nULL, 12:30:45, 2026-01-01, 1_000, 0b1, =, .5.1, 0x, 1e, +, -0x1]",
        json!([
            "no",
            "yes",
            "on",
            "off",
            "y",
            "n",
            "No",
            "ON",
            "tRUE",
            "nULL",
            "12:30:45",
            "2026-01-01",
            "1_000",
            "0b1",
            "=",
            ".5.1",
            "0x",
            "1e",
            "+",
            "-0x1"
        ]),
    );
    reads(
        "[true, False, TRUE, ~, null, '', \"1\", 'true']",
        json!([true, false, true, null, null, "", "1", "true"]),
    );
    reads(
        "[0, -1, +7, 007, 0x1F, 0o17, 18446744073709551615, -9223372036854775808, 18446744073709551616]",
        json!([
            0,
            -1,
            7,
            7,
            31,
            15,
            u64::MAX,
            i64::MIN,
            18_446_744_073_709_551_616.0
        ]),
    );
    reads(
        "[1.0, -.5, 2., 1e3, 1.5E-3]",
        json!([1.0, -0.5, 2.0, 1000.0, 0.0015]),
    );
    reads("on: 1\nno: 2\n", json!({ "on": 1, "no": 2 }));
    reads("a:\nb:", json!({ "a": null, "b": null }));
    reads("--- just a text\n...\n", json!("just a text"));
}

#[test]
fn aliases_and_merge_keys_stand_for_what_they_name() {
    reads(
        "base: &base {model: m, max_tokens: 5}\nlist: [*base, *base]\nname: &n x\n*n : 1\n",
        json!({
            "base": { "model": "m", "max_tokens": 5 },
            "list": [{ "model": "m", "max_tokens": 5 }, { "model": "m", "max_tokens": 5 }],
            "name": "x",
            "x": 1,
        }),
    );
    reads(
        "- &a {x: 1, y: 1}\n- &b {y: 2, z: 2}\n- {<<: [*a, *b], x: 0}\n- {z: 3, <<: *b}\n",
        json!([{ "x": 1, "y": 1 }, { "y": 2, "z": 2 }, { "x": 0, "y": 1, "z": 2 }, { "z": 3, "y": 2 }]),
    );
    reads(
        "- '<<'\n- <<\n- {'<<': 1}\n",
        json!(["<<", "<<", { "<<": 1 }]),
    );
}

#[test]
fn what_json_cannot_say_is_refused() {
    refuses(
        &[
            "",
            "# nothing\n",
            "a: 1\n---\nb: 2\n",
            "a: 1\nb: 2\na: 3\n",
            "{a: 1, \"a\": 2}",
            "1: x\n",
            "true: x\n",
            "? [a, b]\n: x\n",
            "a: !!str 5\n",
            "a: !include other.yaml\n",
            "a: .inf\n",
            "a: -.INF\n",
            "a: .nan\n",
            "a: 1e999\n",
            "a: 0xfffffffffffffffff\n",
            "<<: 1\n",
            "<<: [{a: 1}, 2]\n",
            "<<: {a: 1}\n<<: {b: 1}\n",
        ],
        expect![[r##"
            ""
              line 1, column 1: there is no document
            "# nothing\n"
              line 1, column 1: there is no document
            "a: 1\n---\nb: 2\n"
              line 2, column 1: a second document begins here; one is allowed
            "a: 1\nb: 2\na: 3\n"
              line 3, column 1: the field `a` is there twice
            "{a: 1, \"a\": 2}"
              line 1, column 8: the field `a` is there twice
            "1: x\n"
              line 1, column 1: the name of a field must be a text: put 1 in quotes
            "true: x\n"
              line 1, column 1: the name of a field must be a text: put true in quotes
            "? [a, b]\n: x\n"
              line 1, column 3: the name of a field must be a text, not a list
            "a: !!str 5\n"
              line 1, column 4: `tag:yaml.org,2002:str` is a tag; there are none here, and a text that begins with `!` must be in quotes
            "a: !include other.yaml\n"
              line 1, column 4: `!include` is a tag; there are none here, and a text that begins with `!` must be in quotes
            "a: .inf\n"
              line 1, column 4: `.inf` is no number that JSON can say
            "a: -.INF\n"
              line 1, column 4: `-.INF` is no number that JSON can say
            "a: .nan\n"
              line 1, column 4: `.nan` is no number that JSON can say
            "a: 1e999\n"
              line 1, column 4: the number 1e999 is too large
            "a: 0xfffffffffffffffff\n"
              line 1, column 4: the number 0xfffffffffffffffff is too large
            "<<: 1\n"
              line 1, column 5: `<<` takes an object or a list of objects
            "<<: [{a: 1}, 2]\n"
              line 1, column 15: `<<` takes an object or a list of objects
            "<<: {a: 1}\n<<: {b: 1}\n"
              line 2, column 1: `<<` is there twice; give it a list
        "##]],
    );
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    refuses(
        &[
            "a: [1, 2\nb: 3\n",
            "a: 'x\n",
            "a: b: c\n",
            "a:\n\t- b\n",
            "a: *nowhere\n",
            "a: &a [*a]\n",
            "a: 1\n b: 2\n",
            "steps:\n  - input: {{ topic }}\n",
            "steps:\n  - input: {{ topic }} and more\n",
            "- {{ topic }} and more\n- x\n",
            "condition: {{ a.b == \"x\" }} or {{ c }}\n",
            "input: {{ a | join(\", \") }}\n",
            "input: {{ a[0] }}\n",
            "input: {{ 'a: b' }}: {{ c }}\n",
            "input: Topic: {{ topic }}\n",
            "a: @b\n",
            "a: `b`\n",
            "a: %b\n",
            "a: \"\\q\"\n",
            "a: \0\n",
        ],
        expect![[r#"
            "a: [1, 2\nb: 3\n"
              line 2, column 2: illegal placement of ':' indicator
            "a: 'x\n"
              line 1, column 4: unclosed quote
            "a: b: c\n"
              line 1, column 5: no field can be here; a text that has `: ` in it must be in quotes
            "a:\n\t- b\n"
              line 2, column 2: tabs disallowed within this context (block indentation)
            "a: *nowhere\n"
              line 1, column 4: no anchor (`&name`) before this alias has its name
            "a: &a [*a]\n"
              line 1, column 8: this alias stands within the value that it names
            "a: 1\n b: 2\n"
              line 2, column 3: no field can be here; a text that has `: ` in it must be in quotes
            "steps:\n  - input: {{ topic }}\n"
              line 2, column 13: the name of a field must be a text, not an object; a text that begins with `{{` must be in quotes
            "steps:\n  - input: {{ topic }} and more\n"
              line 2, column 13: the name of a field must be a text, not an object; a text that begins with `{{` must be in quotes
            "- {{ topic }} and more\n- x\n"
              line 1, column 4: the name of a field must be a text, not an object; a text that begins with `{{` must be in quotes
            "condition: {{ a.b == \"x\" }} or {{ c }}\n"
              line 1, column 13: the name of a field must be a text, not an object; a text that begins with `{{` must be in quotes
            "input: {{ a | join(\", \") }}\n"
              line 1, column 23: unclosed quote; a text that begins with `{{` must be in quotes
            "input: {{ a[0] }}\n"
              line 1, column 9: the name of a field must be a text, not an object; a text that begins with `{{` must be in quotes
            "input: {{ 'a: b' }}: {{ c }}\n"
              line 1, column 9: the name of a field must be a text, not an object; a text that begins with `{{` must be in quotes
            "input: Topic: {{ topic }}\n"
              line 1, column 13: no field can be here; a text that has `: ` in it must be in quotes
            "a: @b\n"
              line 1, column 4: the character '@' cannot stand here; put the text in quotes
            "a: `b`\n"
              line 1, column 4: the character '`' cannot stand here; put the text in quotes
            "a: %b\n"
              line 1, column 4: the character '%' cannot stand here; put the text in quotes
            "a: \"\\q\"\n"
              line 1, column 4: while parsing a quoted scalar, found unknown escape character
            "a: \0\n"
              line 1, column 4: the character '\0' cannot stand here; put the text in quotes
        "#]],
    );
}

#[test]
fn aliases_cannot_explode() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..20 {
        let inner = format!("*a{}, ", level - 1).repeat(9);
        writeln!(laughs, "a{level}: &a{level} [{inner}]").unwrap();
    }
    let long_text = format!(
        "a: &a {}\nb: [{}]",
        "x".repeat(100_000),
        "*a, ".repeat(100_000)
    );
    let nested_anchors = format!(
        "{}{}{}",
        "&a [".repeat(100),
        "x".repeat(100_000),
        "]".repeat(100)
    );
    for (text, line) in [(laughs, 5), (long_text, 2), (nested_anchors, 1)] {
        let fault = parse_yaml(&text).unwrap_err();
        assert!(fault.message.contains("more than 4 MiB"), "{fault}");
        assert_eq!(fault.line, line, "{fault}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let message = "lists and objects are nested at most 127 deep";
    for open in ["[", "{a: ", "- ", "[{a: "] {
        for times in [200, 100_000] {
            let fault = parse_yaml(&open.repeat(times)).unwrap_err();
            assert_eq!(fault.message, message, "{open}");
        }
    }
    let stairs: String = (0..200)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    assert_eq!(parse_yaml(&stairs).unwrap_err().message, message);
    let deep_alias = format!(
        "- &a {}\n- {}*a{}\n",
        nest("[", "]", 120),
        "[".repeat(10),
        "]".repeat(10)
    );
    assert_eq!(parse_yaml(&deep_alias).unwrap_err().message, message);

    let deepest = (0..NESTING_MAX).fold(json!(1), |value, level| match level % 3 {
        0 => json!([value]),
        1 => json!({ "a": value }),
        _ => json!({ "b": 0, "c": value }),
    });
    reads(&to_yaml(&deepest), deepest.clone());
    reads(&deepest.to_string(), deepest.clone());
    assert!(serde_json::from_str::<Value>(&deepest.to_string()).is_ok());
    assert!(parse_yaml(&to_yaml(&json!([deepest]))).is_err());
}

fn nest(open: &str, close: &str, times: usize) -> String {
    format!("{}{}", open.repeat(times), close.repeat(times))
}
