//! A short run of what the fuzz targets do at length: any bytes are a document, a template or YAML, or they are not.

use proptest::prelude::*;
use proptest::sample::{Index, select};

#[allow(unreachable_pub, reason = "in its own crate it is reached")]
#[path = "../../fuzz/src/lib.rs"]
mod checks;

/// A document with every form.
const FORMS: &str = include_str!("../../fuzz/seeds/document/forms.json");
const DICTIONARY: &str = include_str!("../../fuzz/dictionaries/template.dict");

/// Changes to a text: pieces of it are left out, doubled, or replaced.
fn changes() -> impl Strategy<Value = Vec<(Index, Index, u8, String)>> {
    let token = select(vec![
        "null",
        "true",
        "-1",
        "1e400",
        "\"x\"",
        "\"{{ one }}\"",
        "[]",
        "{}",
        "\"\\ud800\"",
        "\"a\":1,",
        "}",
        "\"",
        "0.5",
        "18446744073709551616",
        "\"condition\":\"one.n\",",
    ]);
    let change = (
        any::<Index>(),
        any::<Index>(),
        0_u8..4,
        token.prop_map(str::to_owned),
    );
    prop::collection::vec(change, 0..5)
}

/// The tokens of a JSON text, so that many changes of it are JSON still.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut is_quoted = false;
    for character in text.chars() {
        let joins = is_quoted || character.is_alphanumeric() || character == '.';
        match tokens.last_mut() {
            Some(last) if joins && (is_quoted || last.ends_with(char::is_alphanumeric)) => {
                last.push(character);
            }
            _ => tokens.push(character.to_string()),
        }
        if character == '"' {
            is_quoted = !is_quoted;
        }
    }
    tokens
}

fn changed(changes: &[(Index, Index, u8, String)]) -> String {
    let mut tokens = tokens(FORMS);
    for (at, from, kind, token) in changes {
        let (at, from) = (at.index(tokens.len()), from.index(tokens.len()));
        match kind {
            0 => tokens[at].clone_from(token),
            1 => tokens[at] = tokens[from].clone(),
            2 => tokens.swap(at, from),
            _ => drop(tokens.remove(at)),
        }
    }
    tokens.concat()
}

fn template() -> impl Strategy<Value = String> {
    let words: Vec<String> = DICTIONARY
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'))
        .map(|word| word.replace("\\\"", "\"").replace("\\\\", "\\"))
        .collect();
    let piece = prop_oneof![4 => select(words), 1 => any::<String>()];
    let pieces = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    (pieces, any::<bool>()).prop_map(|(text, is_whole)| {
        if is_whole {
            format!("{{{{ {text} }}}}")
        } else {
            text
        }
    })
}

#[test]
fn the_document_with_every_form_compiles() {
    let document = serde_json::from_str(FORMS).unwrap();
    troupe_workflow::Definition::compile(&document).unwrap();
    assert_eq!(tokens(FORMS).concat(), FORMS);
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn any_document_is_run_or_refused(changes in changes()) {
        checks::check_document(changed(&changes).as_bytes());
    }

    #[test]
    fn any_text_is_a_template_or_refused(text in template()) {
        checks::check_template(&text);
    }

    #[test]
    fn any_bytes_are_yaml_or_refused(changes in changes(), text: String) {
        checks::check_yaml(&changed(&changes));
        checks::check_yaml(&text);
    }
}
