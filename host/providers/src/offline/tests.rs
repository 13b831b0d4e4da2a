//! What the built-in model answers, as a user would see it.

use serde_json::{Value, json};

use super::*;
use crate::model::{Schema, Strictness};
use crate::testing::request;

fn ask(text: &str) -> String {
    Offline::new("offline").complete(&request(text)).text
}

fn fill(schema: Value, text: &str) -> Value {
    let schema = Some(Schema {
        name: "answer".to_owned(),
        json: schema,
        strictness: Strictness::Strict,
    });
    let completion = Offline::new("offline").complete(&ModelRequest {
        schema,
        ..request(text)
    });
    assert_eq!(completion.model, OFFLINE_MODEL);
    serde_json::from_str(&completion.text).unwrap()
}

fn source(title: &str, url: &str, snippet: &str) -> Value {
    json!({"title": title, "url": url, "snippet": snippet, "source": "document", "query": "q", "published_at": null, "score": 900})
}

fn sources() -> Value {
    json!([
        source(
            "EV market report",
            "file:///docs/market.md",
            "EV market report\n\nElectric vehicle sales in India reached two million units in 2025, led by two-wheelers. \
             Electric scooters made up more than half of all electric vehicle sales in the country. However, cars lag behind. \
             Subscribe to our newsletter for more",
        ),
        source(
            "Charging networks",
            "https://example.org/charging",
            "Public charging points in India tripled between 2023 and 2025 as states subsidised them. Most electric vehicle \
             owners in India still charge at home overnight. | Home | About | Contact |",
        ),
        source(
            "EV market report (copy)",
            "https://example.org/copy",
            "Electric vehicle sales in India reached two million units in 2025, led by two-wheelers.",
        ),
        source(
            "Gardening",
            "https://example.org/garden",
            "Tomatoes need plenty of water and sun during the summer months."
        ),
    ])
}

#[test]
fn cites_whole_sentences_of_several_sources() {
    let input = format!(
        "Topic: Electric vehicle adoption in India 2026\n\nSearch Results:\n{}",
        sources()
    );
    let expected = "[offline extractive summary: no language model was used]\n\n\
        Electric vehicle sales in India reached two million units in 2025, led by two-wheelers. [1] Electric scooters made up \
        more than half of all electric vehicle sales in the country. [1]\n\n\
        Public charging points in India tripled between 2023 and 2025 as states subsidised them. [2] Most electric vehicle \
        owners in India still charge at home overnight. [2]\n\n\
        Sources:\n[1] EV market report file:///docs/market.md\n[2] Charging networks https://example.org/charging";
    assert_eq!(ask(&input), expected);
    assert_eq!(ask(&input), ask(&input));
}

#[test]
fn says_what_is_missing() {
    let label = "[offline extractive summary: no language model was used]\n\n";
    assert_eq!(
        ask("Topic: Tides\n\nSearch Results:\n[]"),
        format!("{label}No sources were found about “Tides”.")
    );
    let lines = ask(
        "Topic: Tides\n\nSearch Results:\n[{\"title\":\"Menu\",\"url\":\"https://a.org\",\"snippet\":\"Home | About\"}]",
    );
    assert_eq!(
        lines,
        format!(
            "{label}The sources found about “Tides” hold no whole sentence to quote.\n\nSources:\n[1] Menu https://a.org"
        )
    );
    assert_eq!(
        ask(""),
        format!("{label}The input holds no text to summarise.")
    );
    assert_eq!(
        ask("solar panel cost, wind power"),
        format!(
            "{label}The input holds no whole sentence to quote. Its key phrases: solar panel cost, wind power."
        )
    );
}

#[test]
fn summarises_prose_in_its_own_order() {
    let text = "The committee met on Tuesday to discuss the new bridge over the river. Coffee was served at ten o'clock in the hall. \
                The new bridge will carry two lanes of traffic and a path for bicycles across the river. Members agreed that the \
                bridge should be finished before the winter floods reach the river valley.";
    let answer = ask(text);
    let first = answer.find("The committee met").unwrap();
    let last = answer.find("Members agreed").unwrap();
    assert!(first < last && !answer.contains("Sources:"), "{answer}");
}

#[test]
fn keeps_to_a_limit_and_to_stops() {
    let input = format!("Topic: Electric vehicle adoption\n\n{}", sources());
    let short = Offline::new("offline").complete(&ModelRequest {
        max_tokens: Some(40),
        ..request(&input)
    });
    assert_eq!(short.text.matches(" [1]").count(), 1, "{}", short.text);
    let stopped = Offline::new("offline").complete(&ModelRequest {
        stop: vec!["Sources:".to_owned()],
        ..request(&input)
    });
    assert!(!stopped.text.contains("Sources:"));
    assert_eq!(tokens(9), 3);
}

#[test]
fn plans_distinct_searches_from_a_topic() {
    let schema = json!({"type": "object", "properties": {"queries": {"type": "array", "items": {"type": "string"}}}, "required": ["queries"]});
    let answer = fill(
        schema,
        "Research topic: Electric vehicle adoption in India 2026",
    );
    let expected = json!({"queries": [
        "Electric vehicle adoption in India 2026", "Electric vehicle adoption", "India 2026", "Electric vehicle 2026", "vehicle adoption India",
    ]});
    assert_eq!(answer, expected);
    // A derived schema may allow anything: the plural says that it is a list.
    let any = fill(
        json!({"type": "object", "properties": {"queries": {}}, "required": ["queries"]}),
        "Research topic: Tidal power",
    );
    assert_eq!(any, json!({"queries": ["Tidal power"]}));
}

#[test]
fn fills_values_from_the_input() {
    let schema = json!({"type": "object", "properties": {
        "priority": {"enum": ["low", "high", "medium"]},
        "requires_human_review": {"type": "boolean"},
        "urgent": {"type": "boolean"},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "price": {"type": "number"},
        "tags": {"type": "array", "items": {"enum": ["billing", "bug", "praise"]}},
        "note": {"type": ["string", "null"], "maxLength": 20},
        "nested": {"$ref": "#/$defs/inner"},
    }, "$defs": {"inner": {"type": "object", "properties": {"kind": {"const": "x"}}}}});
    let text = "Priority is high: the customer reports a bug in billing and asks for human review. It is not urgent. They gave 2 stars \
                after paying a price of 19.99 dollars.\nNote: refund soon";
    let answer = fill(schema, text);
    let expected = json!({
        "priority": "high", "requires_human_review": true, "urgent": false, "stars": 2, "price": 19.99,
        "tags": ["billing", "bug"], "note": "refund soon", "nested": {"kind": "x"},
    });
    assert_eq!(answer, expected);
}

#[test]
fn text_fields_carry_the_label() {
    let answer = fill(
        json!({"type": "object", "properties": {"summary": {"type": "string"}}}),
        &sources().to_string(),
    );
    assert!(
        answer["summary"]
            .as_str()
            .unwrap()
            .starts_with("[offline extractive summary")
    );
}

#[test]
fn lists_of_objects_come_from_the_sources() {
    let schema = json!({"type": "array", "maxItems": 2, "items": {"type": "object", "properties": {"title": {"type": "string"}, "url": {"type": "string"}}}});
    let expected = json!([
        {"title": "EV market report", "url": "file:///docs/market.md"},
        {"title": "Charging networks", "url": "https://example.org/charging"},
    ]);
    assert_eq!(fill(schema, &sources().to_string()), expected);
}

#[test]
fn schemas_without_end_or_sense_are_answered_too() {
    let schemas = [
        json!({"$ref": "#"}),
        json!({"type": "object", "properties": {"child": {"$ref": "#"}}, "required": ["child"]}),
        json!({"type": "array", "items": {"$ref": "#"}, "minItems": 4}),
        json!({"type": "array", "items": {"type": "array", "minItems": 20, "items": {"type": "array", "minItems": 20}}, "minItems": 1_000_000}),
        json!({"type": "integer", "minimum": 9, "maximum": 1}),
        json!({"type": "integer", "minimum": 1e300}),
        json!({"type": "string", "minLength": 1_000_000_000_u64, "maxLength": 3}),
        json!({"enum": []}),
        json!({"anyOf": []}),
        json!(true),
        json!({"type": "nonsense", "$ref": 5}),
    ];
    for schema in schemas {
        fill(schema, "Some text of no great length.");
    }
}

#[test]
fn any_input_is_answered() {
    for text in [
        "\u{0}\u{1}",
        "....",
        "[[[[",
        "a.b.c",
        "İ. ß. ﬁ.",
        "…",
        "\u{202e}abc.",
        "- - - -",
        ":",
        "::::",
        "{}",
        "[null]",
        "日本語。テスト。",
    ] {
        assert!(ask(text).starts_with("[offline extractive"));
        fill(json!({"type": "array", "items": {"type": "string"}}), text);
    }
    ask(&"word ".repeat(300_000));
    ask(&"A sentence that can be quoted has six words. ".repeat(10_000));
}
