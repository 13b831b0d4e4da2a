//! Short phrases out of the document's texts: expressions without their braces, waits in words, one line each.

use serde_json::Value;

/// Puts a text on one line: runs of blanks become one blank. Characters that show nothing, or that would turn
/// the text around them (an author could make a picture lie with those), are left out.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let shown = word.chars().filter(|c| !is_invisible(*c));
        let before = line.len();
        if before > 0 {
            line.push(' ');
        }
        let start = line.len();
        line.extend(shown);
        if line.len() == start {
            line.truncate(before);
        }
    }
    line
}

/// Directions of writing, marks and characters that XML does not allow. The joiner of emoji is none of them.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}'
    )
}

/// An expression as a reader wants to see it. `{{ a.b }} == 'x'` is `a.b == 'x'`: braces mean no more than
/// parentheses do, and those are kept where leaving them out could change the meaning.
pub(super) fn expression(text: &str) -> String {
    let line = one_line(text);
    let mut shown = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inner, after)) = after.split_once("}}") else {
            return line;
        };
        let inner = inner.trim();
        let is_all = before.is_empty() && shown.is_empty() && after.is_empty();
        shown.push_str(before);
        if is_all
            || inner
                .chars()
                .all(|c| c.is_alphanumeric() || "_.[]".contains(c))
        {
            shown.push_str(inner);
        } else {
            shown.push('(');
            shown.push_str(inner);
            shown.push(')');
        }
        rest = after;
    }
    shown.push_str(rest);
    // A brace within a text of the expression was taken for one of the template's.
    if shown.contains("{{") || shown.contains("}}") {
        return line;
    }
    shown
}

/// Words with dots between them; empty ones are left out.
pub(super) fn joined(words: &[&str]) -> String {
    let words: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" · ")
}

/// A text or a number of the document as an expression; none for anything else.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(expression(text)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(answer) => Some(answer.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A timer in words.
pub(super) fn wait(settings: &Value) -> String {
    if let Some(until) = settings.get("until").and_then(scalar) {
        return format!("wait until {until}");
    }
    match settings.get("seconds") {
        Some(Value::Number(number)) => match number.as_u64() {
            Some(seconds) => format!("wait {}", duration(seconds)),
            None => format!("wait {number} s"),
        },
        Some(value) => match scalar(value) {
            Some(seconds) => format!("wait {seconds} s"),
            None => "wait".to_owned(),
        },
        None => "wait".to_owned(),
    }
}

/// The largest unit in which a number of seconds is whole.
fn duration(seconds: u64) -> String {
    for (length, one, many) in [
        (86_400, "day", "days"),
        (3_600, "hour", "hours"),
        (60, "min", "min"),
    ] {
        if seconds >= length && seconds.is_multiple_of(length) {
            let count = seconds / length;
            let unit = if count == 1 { one } else { many };
            return format!("{count} {unit}");
        }
    }
    format!("{seconds} s")
}

/// What a loop repeats for, and how often or how many at once.
pub(super) fn repetition(settings: &Value) -> Vec<String> {
    let text = |field: &str| settings.get(field).and_then(scalar);
    let mut phrases = Vec::new();
    let subject = text("as").unwrap_or_else(|| "item".to_owned());
    match settings.get("items") {
        Some(Value::Array(items)) => {
            phrases.push(format!("for each {subject} of {}", items.len()));
        }
        Some(value) => phrases.push(match scalar(value) {
            Some(items) => format!("for each {subject} in {items}"),
            None => format!("for each {subject}"),
        }),
        None => {}
    }
    phrases.extend(text("until").map(|condition| format!("until {condition}")));
    phrases.extend(text("while").map(|condition| format!("while {condition}")));
    if phrases.is_empty() {
        phrases.push("loop".to_owned());
    }
    match text("concurrency") {
        Some(count) if count != "1" => phrases.push(format!("{count} at once")),
        Some(_) | None => {}
    }
    phrases.extend(text("max_iterations").map(|count| {
        let unit = if count == "1" { "round" } else { "rounds" };
        format!("at most {count} {unit}")
    }));
    phrases
}

/// A value that is set, in words: its fields, or the template itself.
pub(super) fn set(value: &Value) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let names: Vec<String> = fields.keys().map(|name| one_line(name)).collect();
            format!("set {}", names.join(", "))
        }
        Value::Object(_) | Value::Array(_) | Value::Null => "set".to_owned(),
        Value::String(_) | Value::Number(_) | Value::Bool(_) => match scalar(value) {
            Some(text) if !text.is_empty() => format!("set = {text}"),
            Some(_) | None => "set".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{expression, one_line, repetition, set, wait};

    #[test]
    fn a_text_is_one_line_of_what_can_be_seen() {
        for (text, line) in [
            ("a\n  b\t\r\nc ", "a b c"),
            ("\u{202e}evil\u{0}\u{8}\u{ffff} x", "evil x"),
            ("\u{200b}", ""),
            ("👩\u{200d}👧", "👩\u{200d}👧"),
        ] {
            assert_eq!(one_line(text), line, "{text:?}");
        }
    }

    #[test]
    fn braces_go_where_the_meaning_stays() {
        for (text, shown) in [
            ("{{ a.b }} == 'high'", "a.b == 'high'"),
            ("{{ a or b }}", "a or b"),
            ("{{ a or b }} and {{ c[0].d }}", "(a or b) and c[0].d"),
            ("a {{ b", "a {{ b"),
            ("{{ '}}' }}", "{{ '}}' }}"),
            ("", ""),
        ] {
            assert_eq!(expression(text), shown, "{text:?}");
        }
    }

    #[test]
    fn timers_are_words() {
        for (settings, words) in [
            (json!({"seconds": 90}), "wait 90 s"),
            (json!({"seconds": 60}), "wait 1 min"),
            (json!({"seconds": 7200}), "wait 2 hours"),
            (json!({"seconds": 86400}), "wait 1 day"),
            (json!({"seconds": 0}), "wait 0 s"),
            (json!({"seconds": 0.5}), "wait 0.5 s"),
            (json!({"seconds": "{{ pause }}"}), "wait pause s"),
            (json!({"until": "{{ a.when }}"}), "wait until a.when"),
            (json!([]), "wait"),
        ] {
            assert_eq!(wait(&settings), words);
        }
    }

    #[test]
    fn loops_and_sets_are_words() {
        for (settings, words) in [
            (
                json!({"items": "{{ s.chunks }}", "as": "chunk", "concurrency": 4}),
                "for each chunk in s.chunks · 4 at once",
            ),
            (
                json!({"items": [1, 2], "as": "n", "concurrency": 1}),
                "for each n of 2",
            ),
            (
                json!({"until": "{{ ok }}", "max_iterations": 5}),
                "until ok · at most 5 rounds",
            ),
            (
                json!({"while": "more", "max_iterations": 1}),
                "while more · at most 1 round",
            ),
            (json!(null), "loop"),
        ] {
            assert_eq!(repetition(&settings).join(" · "), words);
        }
        assert_eq!(set(&json!({"a": 1, "b": 2})), "set a, b");
        assert_eq!(set(&json!("{{ a.x }}")), "set = a.x");
        assert_eq!(set(&json!([])), "set");
    }
}
