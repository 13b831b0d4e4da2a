//! Cron expressions: the five fields of crontab(5), and the moments they mean in a time zone.
//!
//! Days and hours are those of the wall clock. Where it jumps, Vixie cron's rules hold: an expression whose minute or
//! hour begins with `*` follows real time, so that what it means in a skipped hour does not happen and what it means
//! in a repeated hour happens twice; any other happens once, right after a gap that swallowed it and the first of two
//! times.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};

mod field;

use field::{DAY, HOUR, MINUTE, MONTH, WEEKDAY};

/// Protects readers and the journal: lists of every minute and hour fit.
pub(super) const CRON_BYTES_MAX: usize = 256;

/// How far ahead a day is looked for: 41 years. The rarest day, 29 February on one weekday, comes within 40, for 2100
/// is no leap year. Bounds the search for days that never come.
const DAYS_AHEAD_MAX: usize = 15_000;

/// An expression, as its author wrote it and as sets of the values it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// From Sunday, 0, to Saturday.
    weekdays: u64,
    days_rule: DaysRule,
    pace: Pace,
}

/// How the day of the month and that of the week go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DaysRule {
    /// One of them begins with `*`.
    Both,
    /// Both are given: `0 0 13 * FRI` means every 13th and every Friday.
    Either,
}

/// What a jump of the wall clock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// The minute or the hour begins with `*`.
    RealTime,
    Fixed,
}

impl Cron {
    /// Reads five fields, or a word such as `@daily`; the error says what is wrong and what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > CRON_BYTES_MAX {
            return Err(format!("an expression has at most {CRON_BYTES_MAX} bytes"));
        }
        let written = text.trim();
        let expression = if written.starts_with('@') {
            word(written)?
        } else {
            written
        };
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!(
                "a cron expression has five fields (minute, hour, day of the month, month, day of the week), this one has {}{}",
                fields.len(),
                if fields.len() == 6 {
                    "; for what happens more than once a minute use `every_s`"
                } else {
                    ""
                }
            ));
        };
        let is_star = |text: &str| text.starts_with('*');
        let cron = Self {
            text: written.to_owned(),
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: sunday_once(WEEKDAY.parse(weekday)?),
            days_rule: if is_star(day) || is_star(weekday) {
                DaysRule::Both
            } else {
                DaysRule::Either
            },
            pace: if is_star(minute) || is_star(hour) {
                Pace::RealTime
            } else {
                Pace::Fixed
            },
        };
        // Nobody means it; it is better said now than never.
        if cron
            .next_after(Timestamp::UNIX_EPOCH, &TimeZone::UTC)
            .is_none()
        {
            return Err(format!("`{written}` names a day that never comes"));
        }
        Ok(cron)
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first moment after `after`, if one comes within 41 years and before the end of the year 9999.
    pub(super) fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let today = zone.to_datetime(after).date();
        // Where the clock is put back over midnight, some of yesterday is still to come.
        let mut day = today.yesterday().unwrap_or(today);
        for _ in 0..DAYS_AHEAD_MAX {
            let tomorrow = day.tomorrow().ok();
            if let Some(found) = self.first_of_day(day, after, zone) {
                // For the same reason the first moment of tomorrow may come before it.
                let other = tomorrow.and_then(|day| self.first_of_day(day, after, zone));
                return Some(other.map_or(found, |other| other.min(found)));
            }
            day = tomorrow?;
        }
        None
    }

    fn is_day(&self, day: Date) -> bool {
        let in_month = has(self.days, day.day());
        let in_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        has(self.months, day.month())
            && match self.days_rule {
                DaysRule::Both => in_month && in_week,
                DaysRule::Either => in_month || in_week,
            }
    }

    fn first_of_day(&self, day: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if !self.is_day(day) {
            return None;
        }
        let start = DateTime::from(day);
        match plain_day(day, zone) {
            Some(offset) => {
                let begins = offset.to_timestamp(start).ok()?;
                let minute = if after < begins {
                    0
                } else {
                    let passed = after.duration_since(begins).as_secs() / 60;
                    u32::try_from(passed).ok()?.checked_add(1)?
                };
                let (hour, minute) = self.first_time(minute)?;
                offset.to_timestamp(day.at(hour, minute, 0, 0)).ok()
            }
            None => self
                .times()
                .filter_map(|(hour, minute)| self.moment(day.at(hour, minute, 0, 0), after, zone))
                .min(),
        }
    }

    /// The first time of a day at or after this minute of it.
    fn first_time(&self, minute_of_day: u32) -> Option<(i8, i8)> {
        let (hour, minute) = (minute_of_day / 60, minute_of_day % 60);
        let same_hour = first_from(self.hours, hour)
            .filter(|found| u32::from(found.unsigned_abs()) == hour)
            .and_then(|hour| Some((hour, first_from(self.minutes, minute)?)));
        same_hour.or_else(|| {
            Some((
                first_from(self.hours, hour + 1)?,
                first_from(self.minutes, 0)?,
            ))
        })
    }

    fn times(&self) -> impl Iterator<Item = (i8, i8)> {
        let hours = (0..24).filter(|hour| has(self.hours, *hour));
        hours.flat_map(|hour| {
            (0..60)
                .filter(|minute| has(self.minutes, *minute))
                .map(move |minute| (hour, minute))
        })
    }

    /// The moment after `after` at which a time of the wall clock happens, on a day on which the clock may jump.
    fn moment(&self, time: DateTime, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let ambiguous = zone.to_ambiguous_timestamp(time);
        let moments = match (ambiguous.offset(), self.pace) {
            (AmbiguousOffset::Unambiguous { offset }, _) => [offset.to_timestamp(time).ok(), None],
            (AmbiguousOffset::Gap { .. }, Pace::RealTime) => [None, None],
            (AmbiguousOffset::Gap { before, .. }, Pace::Fixed) => {
                // By the clock that was not put forward the time lies after the jump.
                let within = before.to_timestamp(time).ok()?;
                let jump = zone.preceding(within + jiff::SignedDuration::from_nanos(1));
                [jump.map(|jump| jump.timestamp()).next(), None]
            }
            (AmbiguousOffset::Fold { before, .. }, Pace::Fixed) => {
                [before.to_timestamp(time).ok(), None]
            }
            (AmbiguousOffset::Fold { before, after }, Pace::RealTime) => [
                before.to_timestamp(time).ok(),
                after.to_timestamp(time).ok(),
            ],
        };
        moments
            .into_iter()
            .flatten()
            .filter(|moment| *moment > after)
            .min()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The offset of a day on which the clock does not jump.
fn plain_day(day: Date, zone: &TimeZone) -> Option<jiff::tz::Offset> {
    let at = |day: Date| match zone.to_ambiguous_timestamp(DateTime::from(day)).offset() {
        AmbiguousOffset::Unambiguous { offset } => Some(offset),
        AmbiguousOffset::Gap { .. } | AmbiguousOffset::Fold { .. } => None,
    };
    let offset = at(day)?;
    let tomorrow = day.tomorrow().ok()?;
    if at(tomorrow)? != offset {
        return None;
    }
    let begins = offset.to_timestamp(DateTime::from(day)).ok()?;
    let ends = offset.to_timestamp(DateTime::from(tomorrow)).ok()?;
    let jump = zone.following(begins).next();
    jump.is_none_or(|jump| jump.timestamp() >= ends)
        .then_some(offset)
}

/// The expressions that have a name.
fn word(text: &str) -> Result<&'static str, String> {
    const WORDS: [(&str, &str); 7] = [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ];
    let found = WORDS
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, expression)| *expression).ok_or_else(|| {
        let known = crate::fault::suggestion(text, WORDS.iter().map(|(word, _)| *word));
        format!("`{text}` is not known here{known}")
    })
}

/// Sunday is 0 and 7.
fn sunday_once(weekdays: u64) -> u64 {
    (weekdays | (weekdays >> 7)) & 0b111_1111
}

fn has(set: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| set.checked_shr(value).unwrap_or(0) & 1 == 1)
}

/// The least value of a set from this one on.
fn first_from(set: u64, least: u32) -> Option<i8> {
    let rest = set.checked_shr(least)?;
    if rest == 0 {
        return None;
    }
    i8::try_from(least + rest.trailing_zeros()).ok()
}
