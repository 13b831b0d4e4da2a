//! How deep values may be: deeper ones could be written to the journal and not be read again.

use serde_json::Value;

/// Lists and objects within each other. JSON readers, ours included, stop at 128, and events wrap values a few
/// times.
const DEPTH_MAX: usize = 100;

/// Checks a value on its way into an execution.
///
/// # Errors
/// What is wrong, for whoever made the value.
pub fn check_depth(value: &Value) -> Result<(), String> {
    if is_deeper(value, DEPTH_MAX) {
        return Err(format!(
            "the value is nested more than {DEPTH_MAX} deep; pass it on as a text"
        ));
    }
    Ok(())
}

fn is_deeper(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left == 0 || items.iter().any(|item| is_deeper(item, left - 1)),
        Value::Object(map) => left == 0 || map.values().any(|item| is_deeper(item, left - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::check_depth;

    #[test]
    fn what_could_not_be_read_again_is_refused() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |value, _| Value::Array(vec![value]));
        assert!(check_depth(&nested(100)).is_ok());
        assert!(check_depth(&nested(101)).is_err());
    }
}
