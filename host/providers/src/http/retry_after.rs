//! Reads how long a provider asks to wait. Pure: a date is taken relative to the answer's own `Date` header, so that
//! no clock is read and a wrong clock on either side does no harm.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// Longest wait that is believed. It protects an execution from a provider that asks for years.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// The wait that `retry-after-ms` (in milliseconds) or `Retry-After` (in seconds or as a date) asks for.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    if let Some(wait) = text("retry-after-ms").and_then(|ms| parse_units(ms, 1)) {
        return Some(wait);
    }
    let now = text(DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
    parse_retry_after(text(RETRY_AFTER.as_str())?, now)
}

/// Parses a `Retry-After` value; a date needs `now` and one in the past means no wait.
pub(crate) fn parse_retry_after(value: &str, now: Option<SystemTime>) -> Option<Duration> {
    if let Some(wait) = parse_units(value, 1000) {
        return Some(wait);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(
        at.duration_since(now?)
            .unwrap_or(Duration::ZERO)
            .min(RETRY_AFTER_MAX),
    )
}

/// A number with an optional fraction, in units of `unit_ms` milliseconds; rounded up to a millisecond.
fn parse_units(value: &str, unit_ms: u64) -> Option<Duration> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole_ms = whole
        .parse::<u64>()
        .unwrap_or(u64::MAX)
        .saturating_mul(unit_ms);
    let thousandths: u64 = format!("{:0<3}", fraction.get(..3).unwrap_or(fraction))
        .parse()
        .ok()?;
    let fraction_ms = (thousandths * unit_ms).div_ceil(1000);
    Some(Duration::from_millis(whole_ms.saturating_add(fraction_ms)).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE_HEADER: &str = "Sun, 22 Nov 2026 10:00:00 GMT";

    #[test]
    fn reads_seconds_milliseconds_and_dates() {
        let now = httpdate::parse_http_date(DATE_HEADER).ok();
        let cases = [
            ("7", Some(7_000)),
            ("0.25", Some(250)),
            ("1.0004", Some(1_000)),
            ("Sun, 22 Nov 2026 10:00:30 GMT", Some(30_000)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
            ("99999999999999999999", Some(86_400_000)),
            ("soon", None),
            ("-3", None),
            ("", None),
        ];
        for (value, ms) in cases {
            assert_eq!(
                parse_retry_after(value, now),
                ms.map(Duration::from_millis),
                "{value}"
            );
        }
        assert_eq!(
            parse_retry_after("Sun, 22 Nov 2026 10:00:30 GMT", None),
            None,
            "a date alone says nothing"
        );
    }

    #[test]
    fn takes_a_date_relative_to_the_answer() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, DATE_HEADER.parse().unwrap());
        headers.insert(
            RETRY_AFTER,
            "Sun, 22 Nov 2026 10:01:00 GMT".parse().unwrap(),
        );
        assert_eq!(from_headers(&headers), Some(Duration::from_secs(60)));
        headers.insert("retry-after-ms", "1500".parse().unwrap());
        assert_eq!(from_headers(&headers), Some(Duration::from_millis(1500)));
    }
}
