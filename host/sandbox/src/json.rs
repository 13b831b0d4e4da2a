//! Looks at JSON text without building a value of it, which may take many times the bytes of the text.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Checks that a text is one JSON document of at most 127 levels, which is what others parse again later.
pub(crate) fn check(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<Checked>(text).map(|Checked| ())
}

/// Any JSON value. Other than serde's `IgnoredAny` it asks for each value by its type, so that serde_json counts levels
/// and looks at numbers and escapes.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CheckedVisitor)
    }
}

struct CheckedVisitor;

impl<'de> Visitor<'de> for CheckedVisitor {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        while items.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Checked, A::Error> {
        while fields.next_key::<IgnoredAny>()?.is_some() {
            fields.next_value::<Checked>()?;
        }
        Ok(Checked)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn it_agrees_with_the_parser_that_others_use() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let texts = [
            "null",
            "true",
            "-1",
            "18446744073709551615",
            "1e400",
            "1.5",
            "\"a\\u0000\"",
            "\"\\ud800\"",
            "[1, {\"a\": []}]",
            "{\"a\": 1, \"a\": 2}",
            "",
            "{}{}",
            "[1,]",
            "{1: 2}",
            "nul",
            "\u{feff}1",
            " 1 ",
            "01",
            "{\"\\ud800\": 1}",
        ];
        let deepest = [deep(127), deep(128), deep(100_000)];
        for text in texts.into_iter().chain(deepest.iter().map(String::as_str)) {
            let parsed = serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
            let checked = check(text).map_err(|error| error.to_string());
            assert_eq!(
                checked.is_ok(),
                parsed.is_ok(),
                "{text:.40}: {checked:?} {parsed:?}"
            );
        }
    }
}
