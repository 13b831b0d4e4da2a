//! What is read is what was written, and nothing else is taken for it.

use serde_json::{Value, json};
use troupe_workflow::{Event, EventKind, ExecutionId, StepPath, StepUsage, Timestamp};

use super::{Blob, EventRow, decode, encode};

fn id() -> ExecutionId {
    ExecutionId::from_parts(1, 2)
}

fn completed(output: Value) -> Event {
    Event {
        at: Timestamp::from_millis(5),
        kind: EventKind::StepCompleted {
            path: StepPath::new("s"),
            attempt: 1,
            output,
            text: None,
            usage: StepUsage::default(),
        },
    }
}

fn read(row: &EventRow, blobs: &[Blob]) -> Result<Event, String> {
    let find = |digest: &str| {
        let found = blobs.iter().find(|blob| blob.digest == digest);
        Ok(found.map(|blob| blob.text.clone()))
    };
    decode(id(), row, find).map_err(|error| error.to_string())
}

#[test]
fn small_events_are_one_row_and_large_values_lie_apart_once() {
    let large = json!({ "text": "x".repeat(9_000), "number": 1.5 });
    let events = [
        completed(json!(1)),
        completed(large.clone()),
        completed(large),
    ];
    let (rows, blobs) = encode(id(), 4, &events).unwrap();
    assert_eq!(
        rows.iter().map(|row| row.position).collect::<Vec<_>>(),
        [5, 6, 7]
    );
    assert_eq!(rows[0].payloads, None);
    assert!(rows[1].body.len() < 200, "{}", rows[1].body);
    assert_eq!(blobs[0], blobs[1]);
    for (row, event) in rows.iter().zip(&events) {
        assert_eq!(read(row, &blobs).unwrap(), *event);
    }
}

#[test]
fn what_lies_apart_is_the_text_that_the_value_has_and_the_rest_keeps_its_order() {
    let text = "é\"\\\u{1}\n".repeat(2_000);
    let large = json!({ "z": text, "a": [1.0, -0.0, 1e300, 9_007_199_254_740_993_u64, null] });
    let event = completed(large.clone());
    let (rows, blobs) = encode(id(), 0, std::slice::from_ref(&event)).unwrap();
    assert_eq!(blobs[0].text, large.to_string());
    assert_eq!(blobs[0].digest, super::digest_of(&large.to_string()));
    let mut left = serde_json::to_value(&event).unwrap();
    let fields = left.as_object_mut().unwrap();
    fields.shift_remove("output");
    assert_eq!(rows[0].body, left.to_string());
    assert_eq!(read(&rows[0], &blobs).unwrap(), event);
}

#[test]
fn a_changed_row_is_named() {
    let (rows, blobs) = encode(id(), 0, &[completed(json!("y".repeat(9_000)))]).unwrap();
    let row = &rows[0];
    let damaged = [
        EventRow {
            position: 2,
            ..row.clone()
        },
        EventRow {
            body: row.body.replace('1', "2"),
            ..row.clone()
        },
        EventRow {
            payloads: None,
            ..row.clone()
        },
        EventRow {
            checksum: row.checksum ^ 1,
            ..row.clone()
        },
    ];
    for row in damaged {
        assert!(read(&row, &blobs).unwrap_err().contains("checksum"));
    }
    assert!(read(row, &[]).unwrap_err().contains("`output` is missing"));
    let mut changed = blobs.clone();
    changed[0].text.push(' ');
    assert!(
        read(row, &changed)
            .unwrap_err()
            .contains("not what was stored")
    );
}
