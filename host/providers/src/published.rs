//! Dates as sources write them, made RFC 3339. Pure: nothing is guessed, what is not plainly a date is none.

/// `2026-03-01` or `2026-03-01T10:20:30`, with or without seconds, fraction and zone (none means UTC), as RFC 3339.
pub(crate) fn parse_date(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['"', '\'']).trim();
    let (date, rest) = text.split_at_checked("2026-03-01".len())?;
    let [year, month, day] = numbers(date, '-', &[4, 2, 2])?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > days {
        return None;
    }
    let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
        return rest.is_empty().then(|| format!("{date}T00:00:00Z"));
    };
    let (time, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    let (time, fraction) = time
        .trim_end()
        .split_once('.')
        .unwrap_or((time.trim_end(), ""));
    let time = if time.len() == "10:20".len() {
        format!("{time}:00")
    } else {
        time.to_owned()
    };
    let [hour, minute, second] = numbers(&time, ':', &[2, 2, 2])?;
    if hour > 23
        || minute > 59
        || second > 59
        || !fraction.bytes().all(|b| b.is_ascii_digit())
        || fraction.len() > 9
    {
        return None;
    }
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!(
        "{date}T{time}{point}{fraction}{}",
        parse_zone(zone)?
    ))
}

fn parse_zone(zone: &str) -> Option<String> {
    if matches!(zone, "" | "Z" | "z") {
        return Some("Z".to_owned());
    }
    let (sign, offset) = zone.split_at_checked(1)?;
    let offset = match offset.len() {
        2 => format!("{offset}:00"),
        4 => format!("{}:{}", offset.get(..2)?, offset.get(2..)?),
        _ => offset.to_owned(),
    };
    let [hours, minutes] = numbers(&offset, ':', &[2, 2])?;
    (hours <= 23 && minutes <= 59).then(|| format!("{sign}{offset}"))
}

/// `N` numbers between separators, each of a fixed number of digits.
fn numbers<const N: usize>(text: &str, separator: char, digits: &[usize; N]) -> Option<[u32; N]> {
    let mut out = [0; N];
    let mut parts = text.split(separator);
    for (place, digits) in out.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != *digits || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *place = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_sources_write() {
        for (text, date) in [
            ("2026-03-01", Some("2026-03-01T00:00:00Z")),
            (" '2024-02-29' ", Some("2024-02-29T00:00:00Z")),
            ("2026-03-01T10:20:30", Some("2026-03-01T10:20:30Z")),
            ("2026-03-01 10:20", Some("2026-03-01T10:20:00Z")),
            (
                "2026-03-01T10:20:30.5+05:30",
                Some("2026-03-01T10:20:30.5+05:30"),
            ),
            (
                "2026-03-01T10:20:30-0800",
                Some("2026-03-01T10:20:30-08:00"),
            ),
            ("2026-03-01T10:20:30+01", Some("2026-03-01T10:20:30+01:00")),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-03-01T25:00:00", None),
            ("2026-03-01 yesterday", None),
            ("01/03/2026", None),
            ("March 2026", None),
            ("2026-03-0ä", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text).as_deref(), date, "{text}");
        }
    }
}
