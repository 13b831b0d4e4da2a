//! What a word without quotes means: the core schema of YAML 1.2.

use serde_json::{Number, Value};

use super::read::shortened;

/// The value of a text without quotes.
///
/// # Errors
/// The text is a number that JSON lacks.
pub(super) fn resolve(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if is_not_finite(text) {
        return Err(format!("`{text}` is no number that JSON can say"));
    }
    let number = match text.split_at_checked(2) {
        Some(("0x", digits)) => of_radix(digits, 16),
        Some(("0o", digits)) => of_radix(digits, 8),
        _ if is_whole(text) => whole(text),
        _ if is_decimal(text) => decimal(text),
        _ => return Ok(Value::String(text.to_owned())),
    };
    match number {
        Some(Ok(number)) => Ok(Value::Number(number)),
        Some(Err(TooLarge)) => Err(format!("the number {} is too large", shortened(text))),
        None => Ok(Value::String(text.to_owned())),
    }
}

struct TooLarge;

fn is_not_finite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// A hexadecimal or octal number; none where the text has other characters.
fn of_radix(digits: &str, radix: u32) -> Option<Result<Number, TooLarge>> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(match u64::from_str_radix(digits, radix) {
        Ok(number) => Ok(number.into()),
        Err(_) => Err(TooLarge),
    })
}

fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number that no integer holds is the nearest float, as in JSON.
fn whole(text: &str) -> Option<Result<Number, TooLarge>> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(Ok(number.into()));
    }
    match text.parse::<u64>() {
        Ok(number) => Some(Ok(number.into())),
        Err(_) => decimal(text),
    }
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    are_digits(before)
        && are_digits(after)
        && !(before.is_empty() && after.is_empty())
        && exponent.is_none_or(is_whole)
}

fn decimal(text: &str) -> Option<Result<Number, TooLarge>> {
    let number = text.parse::<f64>().ok()?;
    Some(Number::from_f64(number).ok_or(TooLarge))
}
