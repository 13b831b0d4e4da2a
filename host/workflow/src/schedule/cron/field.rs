//! One field of a cron expression: `*`, values, ranges, steps and lists of them, as a set of bits.

/// What a field may hold.
pub(super) struct Field {
    /// As a message calls it.
    name: &'static str,
    least: u8,
    most: u8,
    /// Names of the values, from `least` on.
    names: &'static [&'static str],
}

pub(super) const MINUTE: Field = Field {
    name: "minute",
    least: 0,
    most: 59,
    names: &[],
};
pub(super) const HOUR: Field = Field {
    name: "hour",
    least: 0,
    most: 23,
    names: &[],
};
pub(super) const DAY: Field = Field {
    name: "day of the month",
    least: 1,
    most: 31,
    names: &[],
};
pub(super) const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
/// Sunday is 0 and 7; by its name it is 7 where a range ends with it.
pub(super) const WEEKDAY: Field = Field {
    name: "day of the week",
    least: 0,
    most: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Field {
    /// The values that a field's text allows, as bits.
    pub(super) fn parse(&self, text: &str) -> Result<u64, String> {
        let mut set = 0;
        for part in text.split(',') {
            set |= self.part(part)?;
        }
        Ok(set)
    }

    /// `*`, `5`, `1-5`, `*/10` or `1-5/2`.
    fn part(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (text, None),
        };
        let (first, last) = if range == "*" {
            (self.least, self.most)
        } else if let Some((first, last)) = range.split_once('-') {
            (self.value(first)?, self.last(last)?)
        } else {
            let value = self.value(range)?;
            if step.is_some() {
                let most = self.most;
                return Err(format!(
                    "the {}: a step needs a range: write `{value}-{most}{}`",
                    self.name,
                    text.get(range.len()..).unwrap_or_default()
                ));
            }
            (value, value)
        };
        if first > last {
            return Err(format!(
                "the {}: the range `{range}` goes backwards; write `{first}-{},{}-{last}`",
                self.name, self.most, self.least
            ));
        }
        let values = (first..=last).step_by(usize::from(step.unwrap_or(1)));
        Ok(values.fold(0, |set, value| set | 1 << value))
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        let step = digits(text).filter(|step| *step > 0);
        step.ok_or_else(|| {
            format!(
                "the {}: `{}` is no step; write a number from 1 to {}",
                self.name,
                shown(text),
                self.most
            )
        })
    }

    /// The end of a range.
    fn last(&self, text: &str) -> Result<u8, String> {
        let is_sunday = self.most == WEEKDAY.most && text.eq_ignore_ascii_case("sun");
        if is_sunday {
            Ok(self.most)
        } else {
            self.value(text)
        }
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let named = (self.least..)
            .zip(self.names)
            .find(|(_, name)| name.eq_ignore_ascii_case(text))
            .map(|(value, _)| value);
        let value = named.or_else(|| digits(text));
        let value = value.filter(|value| (self.least..=self.most).contains(value));
        value.ok_or_else(|| {
            let names = match self.names {
                [first, .., last] => format!(", or a name from `{first}` to `{last}`"),
                _ => String::new(),
            };
            format!(
                "the {}: `{}` is not a number from {} to {}{names}",
                self.name,
                shown(text),
                self.least,
                self.most
            )
        })
    }
}

/// A number without a sign; none where it is larger than any field holds.
fn digits(text: &str) -> Option<u8> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// The start of what an author wrote, for a message.
fn shown(text: &str) -> String {
    text.chars().take(20).collect()
}
