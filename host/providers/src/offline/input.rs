//! Reads an input: its topic, its sources (search results as JSON) and its prose. Pure; what is no JSON is prose.

use serde_json::Value;

/// Labels of a line that names the topic.
const TOPIC_LABELS: [&str; 8] = [
    "topic",
    "question",
    "query",
    "subject",
    "research topic",
    "about",
    "goal",
    "title",
];
/// Labels of a line that says what to do rather than what about.
const TASK_LABELS: [&str; 4] = ["action", "task", "step", "instruction"];
/// Labels of material: they say nothing themselves.
const MATERIAL_LABELS: [&str; 12] = [
    "content",
    "context",
    "data",
    "document",
    "documents",
    "input",
    "material",
    "results",
    "search results",
    "source",
    "sources",
    "text",
];
/// Most places where JSON is tried to begin. It bounds the time for a text full of brackets.
const JSON_STARTS_MAX: usize = 64;
/// Longest label, in characters: what is longer is a sentence with a colon.
const LABEL_CHARS_MAX: usize = 40;
/// Longest prose that is taken as a topic as a whole.
const TOPIC_CHARS_MAX: usize = 200;
/// Deepest JSON that is read; deeper values are left out.
const DEPTH_MAX: usize = 16;

/// An input, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Input {
    /// What it is about, where it says or is short; else empty.
    pub(super) topic: String,
    /// Search results.
    pub(super) sources: Vec<Source>,
    /// Whether there was a place for search results, filled or not.
    pub(super) asks_for_sources: bool,
    /// Everything else.
    pub(super) prose: String,
    /// `name: value` of its lines and of its JSON, names in lower case.
    pub(super) fields: Vec<(String, String)>,
}

/// A search result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) title: String,
    pub(super) url: String,
    pub(super) text: String,
}

impl Input {
    /// The value of the first field of that name.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let name = name.replace(['_', '-'], " ").to_lowercase();
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value.as_str())
    }

    /// All text: topic, prose and sources.
    pub(super) fn all_text(&self) -> String {
        let sources = self
            .sources
            .iter()
            .flat_map(|source| [source.title.as_str(), source.text.as_str()]);
        [self.topic.as_str(), self.prose.as_str()]
            .into_iter()
            .chain(sources)
            .collect::<Vec<_>>()
            .join("\n\n")
    }
}

/// Takes an input apart.
pub(super) fn parse(text: &str) -> Input {
    let mut input = Input::default();
    let mut rest = text;
    let mut prose = String::new();
    for _ in 0..JSON_STARTS_MAX {
        let Some((before, value, after)) = next_json(rest) else {
            break;
        };
        prose.push_str(before);
        input.take_json(&value, 0);
        rest = after;
    }
    prose.push_str(rest);
    input.take_prose(&prose);
    input
}

/// The first JSON list or object of a text that stands at the start of a line or after a blank, and what is around it.
fn next_json(text: &str) -> Option<(&str, Value, &str)> {
    let starts = text.match_indices(['[', '{']).filter(|(at, _)| {
        text[..*at]
            .chars()
            .next_back()
            .is_none_or(char::is_whitespace)
    });
    for (at, _) in starts.take(JSON_STARTS_MAX) {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
        if let Some(Ok(value)) = values.next() {
            let is_citation = matches!(&value, Value::Array(items) if items.iter().all(Value::is_number) && !items.is_empty());
            if !is_citation {
                return Some((&text[..at], value, &text[at + values.byte_offset()..]));
            }
        }
    }
    None
}

impl Input {
    fn take_json(&mut self, value: &Value, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        match value {
            Value::Array(items) if items.is_empty() => self.asks_for_sources = true,
            Value::Array(items) => items
                .iter()
                .for_each(|item| self.take_json(item, depth + 1)),
            Value::Object(fields) => match as_source(value) {
                Some(source) => {
                    self.asks_for_sources = true;
                    self.take_source(source);
                }
                None => {
                    for (name, value) in fields {
                        self.take_field(name, value, depth);
                    }
                }
            },
            Value::String(text) => self.add_prose(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn take_field(&mut self, name: &str, value: &Value, depth: usize) {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null => return,
            Value::Array(_) | Value::Object(_) => return self.take_json(value, depth + 1),
        };
        if value.is_string() {
            self.add_prose(&text);
        }
        self.fields
            .push((name.replace(['_', '-'], " ").to_lowercase(), text));
    }

    /// Results of one address belong together: a passage more of the same source.
    fn take_source(&mut self, source: Source) {
        let same = self
            .sources
            .iter_mut()
            .find(|known| !source.url.is_empty() && known.url == source.url);
        match same {
            Some(known) if known.text.contains(&source.text) => {}
            Some(known) => {
                known.text.push_str("\n\n");
                known.text.push_str(&source.text);
            }
            None => self.sources.push(source),
        }
    }

    fn add_prose(&mut self, text: &str) {
        if !self.prose.is_empty() {
            self.prose.push_str("\n\n");
        }
        self.prose.push_str(text.trim());
    }

    fn take_prose(&mut self, prose: &str) {
        let mut kept = Vec::new();
        for line in prose.lines() {
            // What this model wrote in an earlier step says nothing of its own here.
            if line.trim() == super::LABEL || is_listed_source(line) {
                continue;
            }
            let (label, value) = label_of(line).unwrap_or(("", line));
            let label = label.to_lowercase();
            let is_one_of = |labels: &[&str]| labels.contains(&label.as_str());
            if !label.is_empty() && !value.is_empty() {
                self.fields.push((label.clone(), value.to_owned()));
            }
            if is_one_of(&TOPIC_LABELS) && !value.is_empty() && self.topic.is_empty() {
                value.clone_into(&mut self.topic);
            } else if is_one_of(&MATERIAL_LABELS) {
                kept.push(value);
            } else if !is_one_of(&TASK_LABELS) {
                kept.push(line);
            }
        }
        let kept = kept.join("\n");
        let kept = kept.trim();
        if self.topic.is_empty() && kept.chars().count() <= TOPIC_CHARS_MAX && !kept.is_empty() {
            self.topic = crate::text::squeeze(kept)
                .trim_end_matches(['.', ':', '!'])
                .to_owned();
        }
        if !kept.is_empty() {
            let of_json = std::mem::take(&mut self.prose);
            kept.clone_into(&mut self.prose);
            if !of_json.is_empty() {
                self.add_prose(&of_json);
            }
        }
    }
}

/// Whether a line is an entry of a list of sources, as summaries end with it: `[2] Title address`.
fn is_listed_source(line: &str) -> bool {
    let Some((number, rest)) = line
        .trim()
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    else {
        return false;
    };
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && rest.contains("://")
}

/// `Label: value` of a line, where the label is a few plain words.
fn label_of(line: &str) -> Option<(&str, &str)> {
    let (label, value) = line.split_once(':')?;
    let label = label
        .trim()
        .trim_start_matches(['#', '*', '-', ' '])
        .trim_end_matches('*');
    let plain = label
        .chars()
        .all(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-'));
    let is_label = !label.is_empty()
        && plain
        && label.chars().count() <= LABEL_CHARS_MAX
        && !value.starts_with("//");
    (is_label && label.split(' ').count() <= 4)
        .then(|| (label, value.trim().trim_start_matches('*').trim()))
}

/// An object with an address or a title, and a text: a search result, whatever its fields are called.
fn as_source(value: &Value) -> Option<Source> {
    let text = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| value.get(name)?.as_str().map(str::trim))
            .unwrap_or_default()
    };
    let source = Source {
        title: text(&["title", "name"]).to_owned(),
        url: text(&["url", "link", "href"]).to_owned(),
        text: text(&["snippet", "content", "text", "abstract", "summary", "body"]).to_owned(),
    };
    let named =
        value.get("url").is_some() || value.get("link").is_some() || value.get("snippet").is_some();
    (named && !(source.url.is_empty() && source.title.is_empty())).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_topic_and_search_results() {
        let input = parse(
            "Topic: Solar power in India\n\nSearch Results:\n[{\"title\":\"A\",\"url\":\"https://a\",\"snippet\":\"One [1] two.\"},\
             {\"title\":\"A again\",\"url\":\"https://a\",\"snippet\":\"Three.\"},{\"title\":\"B\",\"url\":\"https://b\",\"snippet\":\"\"}]\nThanks.",
        );
        assert_eq!(input.topic, "Solar power in India");
        assert_eq!(input.sources.len(), 2);
        assert_eq!(input.sources[0].text, "One [1] two.\n\nThree.");
        assert_eq!(input.prose, "Thanks.");
        assert!(input.asks_for_sources);
    }

    #[test]
    fn short_prose_is_its_own_topic() {
        let input =
            parse("Action: generate\n\nResearch topic: Electric vehicle adoption in India 2026");
        assert_eq!(input.topic, "Electric vehicle adoption in India 2026");
        assert_eq!(
            parse("Compare battery chemistries.").topic,
            "Compare battery chemistries"
        );
        assert_eq!(parse(&"A long text. ".repeat(50)).topic, "");
    }

    #[test]
    fn reads_fields_of_json_and_lines() {
        let input = parse(
            "Score: 7\n{\"requires_review\": true, \"note\": \"Looks fine to me.\", \"deep\": {\"n\": 3}}",
        );
        assert_eq!(input.field("score"), Some("7"));
        assert_eq!(input.field("requires_review"), Some("true"));
        assert_eq!(input.field("n"), Some("3"));
        assert!(input.prose.contains("Looks fine to me."));
    }

    #[test]
    fn brackets_that_are_no_json_are_prose() {
        let input = parse("See [1] and [note] and {x}.\nResults: []");
        assert!(input.prose.contains("[1] and [note] and {x}"));
        assert!(input.asks_for_sources && input.sources.is_empty());
        parse(&"[ ".repeat(20_000));
        parse(&"{\"a\":".repeat(20_000));
    }
}
