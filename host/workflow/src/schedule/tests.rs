//! Schedules: what is read, which moments they mean, and what a node does about them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Firing, LastRun, MISSED_COUNTED_MAX, Schedule, Standing, schedule_schema};
use crate::duration::Timestamp;

mod moments;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap_or_else(|| panic!("{text} is no time"))
}

fn schedule(changes: Value) -> Schedule {
    let mut value = json!({ "workflow_id": "wf_1", "cron": "*/10 * * * *" });
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    Schedule::read(&value).unwrap_or_else(|faults| panic!("{value}: {faults}"))
}

fn faults_of(value: &Value) -> String {
    Schedule::read(value).unwrap_err().to_string()
}

#[test]
fn what_is_read_is_written_with_its_defaults_and_read_again() {
    let read = schedule(json!({ "timezone": "europe/berlin" }));
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(
        written,
        json!({
            "workflow_id": "wf_1", "cron": "*/10 * * * *", "timezone": "Europe/Berlin", "inputs": {},
            "overlap": "skip", "missed": "once", "paused": false
        })
    );
    assert_eq!(serde_json::from_value::<Schedule>(written).unwrap(), read);

    let all = json!({
        "workflow_id": "wf_1", "every_s": 90, "timezone": "UTC", "inputs": { "topic": [1] },
        "config": { "budget_usd": 2 }, "overlap": "queue", "missed": "skip", "paused": true
    });
    let read = Schedule::read(&all).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), all);
    let schema = schedule_schema();
    assert!(jsonschema::is_valid(&schema, &all), "{schema:#}");
    assert!(!jsonschema::is_valid(
        &schema,
        &json!({ "workflow_id": "wf_1", "crom": "" })
    ));
}

#[test]
fn all_faults_are_told_with_their_places() {
    let value = json!({
        "cron": "61 * * * *", "timezone": "Europe/Berln", "inputs": [], "config": { "max_retrys": 1 },
        "overlap": "skipp", "missed": 3, "paused": "no", "until": 1
    });
    let faults = faults_of(&value);
    let expected = [
        "/: `workflow_id` is missing",
        "/cron: the minute: `61` is not a number from 0 to 59",
        "/timezone: there is no time zone `Europe/Berln`; did you mean `Europe/Berlin`?",
        "/inputs: this is a list, it must be an object",
        "/config/max_retrys: the field `max_retrys` is not known here; did you mean `max_retries`?",
        "/overlap: `skipp` is not known here; did you mean `skip`?",
        "/missed: this is the number 3, it must be a text",
        "/paused: this is a text, it must be true or false",
        "/until: the field `until` is not known here",
    ];
    for (line, expected) in faults.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
    assert_eq!(faults.lines().count(), expected.len());
}

#[test]
fn a_schedule_has_one_timing_within_its_limits() {
    let with = |timing: Value| {
        let mut value = timing;
        value["workflow_id"] = json!("wf_1");
        faults_of(&value)
    };
    assert_eq!(with(json!({})), "/: `cron` or `every_s` is missing");
    assert!(
        with(json!({ "cron": "@daily", "every_s": 5 })).starts_with("/every_s: there is a `cron`")
    );
    for every in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(316_224_001),
        json!("5"),
    ] {
        assert!(with(json!({ "every_s": every })).starts_with("/every_s: this is"));
    }
    let deep = (0..200).fold(json!(1), |value, _| json!([value]));
    assert!(
        faults_of(&json!({ "workflow_id": "wf_1", "every_s": 1, "inputs": { "a": deep } }))
            .starts_with("/inputs: the value is nested")
    );
    assert_eq!(
        faults_of(&json!([])),
        "/: this is a list, it must be an object"
    );
}

#[test]
fn what_is_wrong_with_an_expression_is_said_with_the_way_out() {
    let table = [
        (
            "* * * *",
            "a cron expression has five fields (minute, hour, day of the month, month, day of the week), this one has 4",
        ),
        (
            "0 0 * * * *",
            "this one has 6; for what happens more than once a minute use `every_s`",
        ),
        ("", "this one has 0"),
        ("* 24 * * *", "the hour: `24` is not a number from 0 to 23"),
        ("* * 0 * *", "the day of the month: `0` is not"),
        (
            "* * * foo *",
            "the month: `foo` is not a number from 1 to 12, or a name from `jan` to `dec`",
        ),
        ("* * * * 8", "the day of the week: `8` is not"),
        ("*/0 * * * *", "the minute: `0` is no step"),
        (
            "5/15 * * * *",
            "the minute: a step needs a range: write `5-59/15`",
        ),
        (
            "0 22-2 * * *",
            "the hour: the range `22-2` goes backwards; write `22-23,0-2`",
        ),
        ("1,,2 * * * *", "the minute: `` is not"),
        ("+1 * * * *", "the minute: `+1` is not"),
        ("300 * * * *", "the minute: `300` is not"),
        ("*-5 * * * *", "the minute: `*` is not"),
        ("1-2-3 * * * *", "the minute: `2-3` is not"),
        ("0 0 30 2 *", "`0 0 30 2 *` names a day that never comes"),
        ("0 0 31 4,6,9,11 *", "names a day that never comes"),
        ("@reboot", "`@reboot` is not known here"),
        ("@dayly", "did you mean `@daily`?"),
    ];
    for (cron, expected) in table {
        let faults = faults_of(&json!({ "workflow_id": "wf_1", "cron": cron }));
        assert!(
            faults.starts_with("/cron: ") && faults.contains(expected),
            "{cron}: {faults}"
        );
    }
    let long = "1,".repeat(200) + "1 * * * *";
    assert!(
        faults_of(&json!({ "workflow_id": "wf_1", "cron": long })).contains("at most 256 bytes")
    );
}

/// Checks rows of `overlap missed last queued now | start queued missed`, for a schedule that starts an execution
/// every ten minutes and had planned one for 12:00 on a day. `-` is none.
fn check(rows: &str) {
    let moment = |time: &str| (time != "-").then(|| at(&format!("2026-11-25T{time}Z")));
    let shown = |moment: Option<Timestamp>| {
        moment.map_or("-".to_owned(), |moment| {
            moment.to_string()[11..19].to_owned()
        })
    };
    for row in rows.trim().lines() {
        let (given, expected) = row.split_once('|').unwrap();
        let given: Vec<&str> = given.split_whitespace().collect();
        let &[overlap, missed, last, queued, now] = given.as_slice() else {
            panic!("{row}");
        };
        let schedule = schedule(json!({ "overlap": overlap, "missed": missed }));
        let standing = Standing {
            planned: moment("12:00:00"),
            queued: moment(queued),
            last: match last {
                "running" => LastRun::Running,
                _ => LastRun::Ended,
            },
        };
        let now = moment(now).unwrap();
        let firing = schedule.due(&standing, now, Timestamp::default());
        let (start, queued, missed) = (shown(firing.start), shown(firing.queued), firing.missed);
        let found = format!("{start} {queued} {missed}");
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(found, expected.join(" "), "{row}");
        let from = standing.planned.filter(|planned| *planned > now);
        assert_eq!(
            firing.next,
            from.or(schedule.next_after(now, Timestamp::default()))
        );
    }
}

#[test]
fn moments_that_passed_get_one_start_or_none() {
    check(
        "
        skip once ended - 12:00:00 | 12:00:00 - 0
        skip skip ended - 12:00:01 | 12:00:00 - 0
        skip once ended - 11:59:59 | - - 0
        skip skip ended - 12:01:00 | 12:00:00 - 0
        skip skip ended - 12:01:01 | - - 1
        skip once ended - 12:09:00 | 12:00:00 - 0
        skip once ended - 12:35:00 | 12:30:00 - 3
        skip skip ended - 12:35:00 | - - 4
        skip skip ended - 12:30:30 | 12:30:00 - 3
        ",
    );
}

#[test]
fn a_moment_finds_the_last_execution_running() {
    check(
        "
        skip  once running - 12:00:01 | - - 1
        allow once running - 12:00:01 | 12:00:00 - 0
        queue once running - 12:00:01 | - 12:00:00 0
        queue once running - 12:35:00 | - 12:30:00 3
        queue skip running - 12:05:00 | - - 1
        queue once running 11:50:00 12:00:01 | - 11:50:00 1
        queue once running 11:50:00 11:55:00 | - 11:50:00 0
        ",
    );
}

#[test]
fn what_was_queued_starts_when_the_last_execution_has_ended() {
    check(
        "
        queue once ended 11:50:00 11:55:00 | 11:50:00 - 0
        queue once ended 11:50:00 12:00:01 | 11:50:00 12:00:00 0
        queue skip ended 11:50:00 12:09:00 | 11:50:00 - 1
        skip  once ended 11:50:00 11:55:00 | 11:50:00 - 0
        skip  once ended 11:50:00 12:00:01 | 12:00:00 - 0
        allow once ended 11:50:00 11:55:00 | 11:50:00 - 0
        skip  once running 11:50:00 11:55:00 | - 11:50:00 0
        ",
    );
}

#[test]
fn a_pause_is_not_made_up_for() {
    let paused = schedule(json!({ "paused": true }));
    let planned = at("2026-11-25T12:00:00Z");
    let standing = Standing {
        planned: Some(planned),
        queued: Some(planned),
        last: LastRun::Ended,
    };
    let firing = paused.due(&standing, at("2026-11-25T12:31:00Z"), planned);
    let expected = Firing {
        start: None,
        queued: Some(planned),
        next: Some(at("2026-11-25T12:40:00Z")),
        missed: 0,
    };
    assert_eq!(firing, expected);
}

#[test]
fn years_of_absence_are_caught_up_with_at_once() {
    for timing in [
        json!({ "cron": "* * * 1-6 *" }),
        json!({ "cron": null, "every_s": 1 }),
    ] {
        let schedule = schedule(timing);
        let anchor = at("2020-01-01T00:00:00Z");
        let planned = schedule.next_after(anchor, anchor);
        let standing = Standing {
            planned,
            queued: None,
            last: LastRun::Ended,
        };
        let now = at("2026-11-25T12:00:00.5Z");
        let firing = schedule.due(&standing, now, anchor);
        let start = firing.start.unwrap();
        assert!(start <= now && schedule.next_after(start, anchor).unwrap() > now);
        assert_eq!(firing.missed, MISSED_COUNTED_MAX - 1);
    }
}

#[test]
fn nothing_overflows_at_the_ends_of_time() {
    let ends =
        [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX].map(Timestamp::from_millis);
    for timing in [json!({}), json!({ "cron": null, "every_s": 316_224_000 })] {
        let schedule = schedule(timing);
        for (now, anchor) in ends
            .iter()
            .flat_map(|now| ends.iter().map(move |anchor| (*now, *anchor)))
        {
            let next = schedule.next_after(now, anchor);
            assert!(next.is_none_or(|next| next > now));
            let standing = Standing {
                planned: Some(anchor),
                queued: None,
                last: LastRun::Ended,
            };
            schedule.due(&standing, now, anchor);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_breaks_the_reader(text in "[*@0-9a-zA-Z,/# ?-]{0,40}|\\PC{0,40}|([*0-9]{1,3}[,/-]?[0-9]{0,3} ){5}") {
        let value = json!({ "workflow_id": "wf_1", "cron": text, "timezone": text });
        let faults = Schedule::read(&value);
        prop_assert!(faults.is_err());
        if let Ok(schedule) = Schedule::read(&json!({ "workflow_id": "wf_1", "cron": text })) {
            prop_assert!(schedule.next_after(Timestamp::default(), Timestamp::default()).is_some());
        }
    }
}
