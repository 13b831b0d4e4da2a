//! The moments of schedules, by tables and against a slow reading of the rules.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use proptest::prelude::*;
use serde_json::json;

use super::{at, schedule};
use crate::duration::Timestamp;
use crate::schedule::Schedule;

fn cron(expression: &str, zone: &str) -> Schedule {
    schedule(json!({ "cron": expression, "timezone": zone }))
}

/// The moments after a time, each as the wall clock shows it with its offset.
fn moments(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let zone = schedule.timezone.rules().clone();
    let mut moment: jiff::Timestamp = after.parse().unwrap();
    let mut found = Vec::new();
    for _ in 0..count {
        let next = schedule.next_after(
            Timestamp::from_millis(moment.as_millisecond()),
            Timestamp::default(),
        );
        moment = jiff::Timestamp::from_millisecond(next.unwrap().as_millis()).unwrap();
        found.push(
            moment
                .to_zoned(zone.clone())
                .strftime("%m-%d %H:%M %:z")
                .to_string(),
        );
    }
    found
}

#[test]
fn expressions_mean_what_crontab_says() {
    // After Wednesday, 25 November 2026, 10:07:30.
    let table: [(&str, [&str; 3]); 17] = [
        ("* * * * *", ["11-25 10:08", "11-25 10:09", "11-25 10:10"]),
        (
            "*/15 * * * *",
            ["11-25 10:15", "11-25 10:30", "11-25 10:45"],
        ),
        (
            "7-59/20 10 * * *",
            ["11-25 10:27", "11-25 10:47", "11-26 10:07"],
        ),
        (
            "0 9-17/4 * * *",
            ["11-25 13:00", "11-25 17:00", "11-26 09:00"],
        ),
        (
            "5,10 9,11 * * *",
            ["11-25 11:05", "11-25 11:10", "11-26 09:05"],
        ),
        ("0 0 1 * *", ["12-01 00:00", "01-01 00:00", "02-01 00:00"]),
        ("0 0 31 * *", ["12-31 00:00", "01-31 00:00", "03-31 00:00"]),
        (
            "30 8 * * MON-fri",
            ["11-26 08:30", "11-27 08:30", "11-30 08:30"],
        ),
        (
            "0 8 * * fri-SUN",
            ["11-27 08:00", "11-28 08:00", "11-29 08:00"],
        ),
        ("0 8 * * 7", ["11-29 08:00", "12-06 08:00", "12-13 08:00"]),
        (
            "0 8 * * 0,sat",
            ["11-28 08:00", "11-29 08:00", "12-05 08:00"],
        ),
        (
            "0 8 1 JAN,Mar *",
            ["01-01 08:00", "03-01 08:00", "01-01 08:00"],
        ),
        // Either of the two days where both are given, both where one begins with a star.
        (
            "0 8 13 * FRI",
            ["11-27 08:00", "12-04 08:00", "12-11 08:00"],
        ),
        (
            "0 8 */2 * FRI",
            ["11-27 08:00", "12-11 08:00", "12-25 08:00"],
        ),
        ("@hourly", ["11-25 11:00", "11-25 12:00", "11-25 13:00"]),
        ("@Weekly", ["11-29 00:00", "12-06 00:00", "12-13 00:00"]),
        ("@yearly", ["01-01 00:00", "01-01 00:00", "01-01 00:00"]),
    ];
    for (expression, expected) in table {
        let found = moments(&cron(expression, "UTC"), "2026-11-25T10:07:30Z", 3);
        let expected = expected.map(|moment| format!("{moment} +00:00"));
        assert_eq!(found, expected, "{expression}");
    }
}

#[test]
fn the_rarest_day_is_found() {
    let rare = cron("0 0 29 2 */7", "UTC");
    assert_eq!(
        rare.next_after(at("2088-02-29T00:00:00Z"), Timestamp::default()),
        Some(at("2128-02-29T00:00:00Z"))
    );
    assert_eq!(
        rare.next_after(at("9999-12-01T00:00:00Z"), Timestamp::default()),
        None
    );
}

#[test]
fn a_time_that_does_not_exist_happens_once_right_after_the_gap() {
    let table: [(&str, &str, &str, &[&str]); 9] = [
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["03-29 03:00 +02:00", "03-30 02:30 +02:00"],
        ),
        (
            "0,15,30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["03-29 03:00 +02:00", "03-30 02:00 +02:00"],
        ),
        (
            "0 1-4 * * *",
            "Europe/Berlin",
            "2026-03-28T23:30:00Z",
            &[
                "03-29 01:00 +01:00",
                "03-29 03:00 +02:00",
                "03-29 04:00 +02:00",
                "03-30 01:00 +02:00",
            ],
        ),
        // What follows real time just goes on.
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            &["03-29 01:30 +01:00", "03-29 03:00 +02:00"],
        ),
        (
            "30 */2 * * *",
            "Europe/Berlin",
            "2026-03-28T23:00:00Z",
            &["03-29 00:30 +01:00", "03-29 04:30 +02:00"],
        ),
        (
            "0 2 * * *",
            "America/New_York",
            "2026-03-07T12:00:00Z",
            &["03-08 03:00 -04:00", "03-09 02:00 -04:00"],
        ),
        (
            "59 1 * * *",
            "America/New_York",
            "2026-03-08T06:00:00Z",
            &["03-08 01:59 -05:00", "03-09 01:59 -04:00"],
        ),
        // Half an hour: 02:00 to 02:30.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            &["10-04 02:30 +11:00", "10-05 02:15 +11:00"],
        ),
        // A whole day that an island left out.
        (
            "0 9 30 12 *",
            "Pacific/Apia",
            "2011-12-01T00:00:00Z",
            &["12-31 00:00 +14:00", "12-30 09:00 +14:00"],
        ),
    ];
    for (expression, zone, after, expected) in table {
        assert_eq!(
            moments(&cron(expression, zone), after, expected.len()),
            expected,
            "{expression}"
        );
    }
}

#[test]
fn a_time_that_exists_twice_happens_once() {
    let table: [(&str, &str, &str, &[&str]); 8] = [
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["10-25 02:30 +02:00", "10-26 02:30 +01:00"],
        ),
        (
            "0,30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &[
                "10-25 02:00 +02:00",
                "10-25 02:30 +02:00",
                "10-26 02:00 +01:00",
            ],
        ),
        // Asked between the two, or at the second.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T00:45:00Z",
            &["10-26 02:30 +01:00"],
        ),
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T01:30:00Z",
            &["10-26 02:30 +01:00"],
        ),
        // What follows real time has no pause.
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-24T23:30:00Z",
            &[
                "10-25 02:00 +02:00",
                "10-25 02:00 +01:00",
                "10-25 03:00 +01:00",
            ],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T12:00:00Z",
            &["11-01 01:30 -04:00", "11-02 01:30 -05:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            &["04-05 01:45 +11:00", "04-06 01:45 +10:30"],
        ),
        (
            "15,45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T14:00:00Z",
            &[
                "04-05 01:15 +11:00",
                "04-05 01:45 +11:00",
                "04-06 01:15 +10:30",
            ],
        ),
    ];
    for (expression, zone, after, expected) in table {
        assert_eq!(
            moments(&cron(expression, zone), after, expected.len()),
            expected,
            "{expression}"
        );
    }
}

#[test]
fn a_clock_that_is_put_back_over_midnight_loses_nothing() {
    // 00:01 became 23:01 of the day before.
    let zone = "America/St_Johns";
    let hourly = moments(&cron("0,30 * * * *", zone), "2010-11-07T01:45:00Z", 5);
    assert_eq!(
        hourly,
        [
            "11-06 23:30 -02:30",
            "11-07 00:00 -02:30",
            "11-06 23:30 -03:30",
            "11-07 00:00 -03:30",
            "11-07 00:30 -03:30"
        ]
    );
    let daily = moments(&cron("0 0 * * 0", zone), "2010-11-06T12:00:00Z", 2);
    assert_eq!(daily, ["11-07 00:00 -02:30", "11-14 00:00 -03:30"]);
}

#[test]
fn every_counts_from_its_anchor() {
    let every = schedule(json!({ "cron": null, "every_s": 90 }));
    let anchor = at("2026-11-25T00:00:10Z");
    let table = [
        ("2026-11-24T00:00:00Z", "2026-11-25T00:01:40Z"),
        ("2026-11-25T00:00:10Z", "2026-11-25T00:01:40Z"),
        ("2026-11-25T00:01:39.999Z", "2026-11-25T00:01:40Z"),
        ("2026-11-25T00:01:40Z", "2026-11-25T00:03:10Z"),
    ];
    for (after, expected) in table {
        assert_eq!(
            every.next_after(at(after), anchor),
            Some(at(expected)),
            "{after}"
        );
    }
}

/// A field as it is written, and the values it means.
type Written = (&'static str, &'static [i8]);

const ALL: &[i8] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49,
    50, 51, 52, 53, 54, 55, 56, 57, 58, 59,
];
const MINUTES: [Written; 6] = [
    ("*", ALL),
    ("0", &[0]),
    ("30", &[30]),
    ("*/20", &[0, 20, 40]),
    ("1,59", &[1, 59]),
    ("15-45/15", &[15, 30, 45]),
];
const HOURS: [Written; 6] = [
    ("*", ALL),
    ("0", &[0]),
    ("2", &[2]),
    ("*/6", &[0, 6, 12, 18]),
    ("1-3", &[1, 2, 3]),
    ("23,0", &[0, 23]),
];
const DAYS: [Written; 4] = [
    ("*", ALL),
    ("1", &[1]),
    ("25-31", &[25, 26, 27, 28, 29, 30, 31]),
    ("*/9", &[1, 10, 19, 28]),
];
const MONTHS: [Written; 3] = [
    ("*", ALL),
    ("3,10", &[3, 10]),
    ("apr-nov/2", &[4, 6, 8, 10]),
];
const WEEKDAYS: [Written; 3] = [("*", ALL), ("sun", &[0]), ("MON-FRI", &[1, 2, 3, 4, 5])];
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Apia",
    "America/Havana",
    "Africa/Casablanca",
];

/// The rules, read off minute by minute.
struct Slow {
    fields: [Written; 5],
    zone: TimeZone,
}

impl Slow {
    fn allows(&self, time: DateTime) -> bool {
        let [minute, hour, day, month, weekday] = self.fields.map(|(_, values)| values);
        let in_month = day.contains(&time.day());
        let in_week = weekday.contains(&time.weekday().to_sunday_zero_offset());
        let is_free = [2, 4]
            .iter()
            .any(|field| self.fields[*field].0.starts_with('*'));
        minute.contains(&time.minute())
            && hour.contains(&time.hour())
            && month.contains(&time.month())
            && if is_free {
                in_month && in_week
            } else {
                in_month || in_week
            }
    }

    fn happens(&self, moment: jiff::Timestamp) -> bool {
        let minute = SignedDuration::from_mins(1);
        let time = self.zone.to_datetime(moment);
        if [0, 1]
            .iter()
            .any(|field| self.fields[*field].0.starts_with('*'))
        {
            return self.allows(time);
        }
        let mut skipped = self.zone.to_datetime(moment - minute) + minute;
        while skipped < time {
            if self.allows(skipped) {
                return true;
            }
            skipped += minute;
        }
        let is_second = match self.zone.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Fold { after, .. } => self.zone.to_offset(moment) == after,
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => false,
        };
        self.allows(time) && !is_second
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_moment_is_later_and_nothing_lies_between(
        fields in (0..MINUTES.len(), 0..HOURS.len(), 0..DAYS.len(), 0..MONTHS.len(), 0..WEEKDAYS.len()),
        zone in 0..ZONES.len(),
        jump in any::<prop::sample::Index>(),
        before in 0_i64..3 * 86_400_000,
    ) {
        let fields = [MINUTES[fields.0], HOURS[fields.1], DAYS[fields.2], MONTHS[fields.3], WEEKDAYS[fields.4]];
        let text = fields.map(|(text, _)| text).join(" ");
        let zone = TimeZoneDatabase::bundled().get(ZONES[zone]).unwrap();
        let schedule = cron(&text, zone.iana_name().unwrap_or("UTC"));
        // Near one of the jumps of the clock, where there is one.
        let start: jiff::Timestamp = "2005-01-01T00:00:00Z".parse().unwrap();
        let jumps: Vec<_> = zone.following(start).take(60).map(|jump| jump.timestamp()).collect();
        let near = if jumps.is_empty() { start } else { *jump.get(&jumps) };
        let from = near - SignedDuration::from_millis(before);
        let slow = Slow { fields, zone };

        let days = 4 * 24 * 60;
        let first = jiff::Timestamp::from_second(from.as_second().div_euclid(60) * 60).unwrap();
        let expected: BTreeSet<i64> = (0..days)
            .map(|minute| first + SignedDuration::from_mins(minute))
            .filter(|moment| *moment > from && slow.happens(*moment))
            .map(|moment| moment.as_millisecond())
            .collect();
        let end = (first + SignedDuration::from_mins(days)).as_millisecond();
        let mut found = BTreeSet::new();
        let mut moment = Timestamp::from_millis(from.as_millisecond());
        while let Some(next) = schedule.next_after(moment, Timestamp::default()) {
            prop_assert!(next > moment);
            // Whoever asks between the two gets the same answer.
            let middle = Timestamp::from_millis(moment.as_millis().midpoint(next.as_millis() - 1));
            prop_assert_eq!(schedule.next_after(middle, Timestamp::default()), Some(next));
            if next.as_millis() >= end {
                break;
            }
            found.insert(next.as_millis());
            moment = next;
        }
        prop_assert_eq!(found, expected, "{} in {:?}", text, slow.zone.iana_name());
    }
}
