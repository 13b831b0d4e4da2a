//! A journal's file with a flipped bit, or a log that was cut: what is damaged is named, never followed, and never
//! read as something else; what is not damaged goes on.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails has failed its test"
)]

use std::path::Path;

use e2e::journal::samples::{at, by_owner, ending, id, large, new, put, skipped};
use e2e::troupe::{Workplace, text};
use serde_json::json;
use tempfile::TempDir;
use troupe_journal::{Append, Journal as _, Listing, OpenError, RecordListing, SqliteJournal};
use troupe_workflow::{Event, Snapshot};

/// Executions of the journal that is damaged.
const EXECUTIONS: u64 = 12;
/// Bits that are flipped anywhere.
const FLIPS: u64 = 40;

/// A journal with events, values that are stored apart, snapshots, records and indexes, as one file.
async fn make(folder: &Path) -> (Vec<u8>, Vec<Vec<Event>>) {
    let data = folder.join("made");
    let journal = SqliteJournal::open(&data, "maker".to_owned(), None).unwrap();
    for number in 1..=EXECUTIONS {
        let epoch = journal.create(new(number)).await.unwrap();
        let millis = i64::try_from(number).unwrap();
        // Each has a value of its own.
        let bytes = 10_000 + usize::try_from(number).unwrap() * 8;
        let events = [skipped(millis), large(millis, bytes), skipped(millis)];
        let snapshot = Snapshot {
            build: Snapshot::BUILD.to_owned(),
            version: 3,
            state: json!({ "snapshot of": number }).to_string(),
        };
        let append = Append {
            snapshot: Some(snapshot),
            records: vec![put(
                &format!("r{number}"),
                0,
                &json!({ "r": number }).to_string(),
            )],
            ..ending(by_owner(number, 1, epoch, &events))
        };
        journal.append(append).await.unwrap();
    }
    let mut all = Vec::new();
    for number in 1..=EXECUTIONS {
        all.push(journal.all_events(id(number)).await.unwrap());
    }
    let file = folder.join("made.db");
    SqliteJournal::back_up(&data, &file).unwrap();
    (std::fs::read(file).unwrap(), all)
}

/// The same numbers on every machine.
fn random(seed: u64) -> u64 {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

fn flip(bytes: &[u8], bit: u64) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    let place = usize::try_from(bit / 8).unwrap() % flipped.len();
    flipped[place] ^= 1 << (bit % 8);
    flipped
}

/// Where a text begins.
fn places(bytes: &[u8], text: &str) -> Vec<u64> {
    let windows = bytes.windows(text.len()).enumerate();
    windows
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(place, _)| u64::try_from(place).unwrap())
        .collect()
}

/// What reading a damaged file says: how many executions are whole, and whether anything was named.
async fn read(file: &Path, events: &[Vec<Event>]) -> (usize, bool) {
    let Ok(journal) = SqliteJournal::inspect(file) else {
        return (0, true);
    };
    let mut is_named = !journal
        .check_file()
        .await
        .is_ok_and(|faults| faults.is_empty());
    let mut whole = 0;
    for (number, expected) in (1..).zip(events) {
        match journal.all_events(id(number)).await {
            Ok(found) if found == *expected => whole += 1,
            // Those at the end may be missing: the row says how many there were.
            Ok(found) => {
                assert!(expected.starts_with(&found), "other events are read");
                assert!(
                    journal.load(id(number)).await.is_err(),
                    "{number} loads without a word"
                );
                is_named = true;
            }
            Err(_) => is_named = true,
        }
        match journal.snapshot(id(number)).await {
            Ok(Some(snapshot)) => {
                let state = json!({ "snapshot of": number }).to_string();
                is_named |= snapshot.version != 3 || snapshot.build != Snapshot::BUILD;
                assert_eq!(snapshot.state, state, "another snapshot is read");
            }
            Ok(None) | Err(_) => is_named = true,
        }
    }
    (whole, is_named)
}

#[tokio::test]
async fn a_flipped_bit_is_named_or_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (bytes, events) = make(folder.path()).await;
    let all = events.len();
    let file = folder.path().join("flipped.db");
    let bits = u64::try_from(bytes.len()).unwrap() * 8;
    for seed in 0..FLIPS {
        let bit = random(seed) % bits;
        std::fs::write(&file, flip(&bytes, bit)).unwrap();
        let (whole, is_named) = read(&file, &events).await;
        assert!(whole == all || is_named, "seed {seed}, bit {bit}");
    }
    // The header, bit by bit of some bytes.
    for bit in (0..100 * 8).step_by(37) {
        std::fs::write(&file, flip(&bytes, bit)).unwrap();
        let (whole, is_named) = read(&file, &events).await;
        assert!(whole == all || is_named, "bit {bit}");
    }
}

#[tokio::test]
async fn damaged_events_and_values_spoil_their_own_execution_alone() {
    let folder = TempDir::new().unwrap();
    let (bytes, events) = make(folder.path()).await;
    let file = folder.path().join("flipped.db");
    let mut flips = 0;
    for (word, spoils) in [
        ("step_skipped", 1),
        ("execution_created", 1),
        ("execution_completed", 1),
        ("\\u0000", 1),
        ("snapshot of", 0),
    ] {
        let found = places(&bytes, word);
        assert!(!found.is_empty(), "{word}");
        for place in found.iter().step_by(found.len().div_ceil(8)) {
            let bit = (place + 2) * 8 + random(*place) % 5;
            std::fs::write(&file, flip(&bytes, bit)).unwrap();
            let (whole, is_named) = read(&file, &events).await;
            // The unused part of a page may hold a copy that nobody reads.
            if (whole, is_named) != (events.len(), false) {
                assert_eq!(
                    (whole, is_named),
                    (events.len() - spoils, true),
                    "{word} at {place}"
                );
                flips += 1;
            }
        }
    }
    assert!(flips >= 15, "{flips}");
}

#[tokio::test]
async fn a_damaged_snapshot_is_not_used() {
    let folder = TempDir::new().unwrap();
    let (bytes, events) = make(folder.path()).await;
    let place = places(&bytes, "{\"snapshot of\":3}")[0];
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("journal.db"), flip(&bytes, (place + 4) * 8)).unwrap();
    let journal = SqliteJournal::open(&data, "a".to_owned(), None).unwrap();
    let stored = journal.load(id(3)).await.unwrap();
    assert_eq!((stored.snapshot, &stored.events), (None, &events[2]));
    assert!(journal.load(id(4)).await.unwrap().snapshot.is_some());
    let error = journal.snapshot(id(3)).await.unwrap_err();
    assert!(
        error.to_string().contains("the snapshot of exec_"),
        "{error}"
    );
}

#[tokio::test]
async fn damaged_settings_and_records_are_named_and_the_others_read() {
    let folder = TempDir::new().unwrap();
    let (bytes, _) = make(folder.path()).await;
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let file = data.join("journal.db");
    let all = usize::try_from(EXECUTIONS).unwrap();
    let listing = || Listing {
        limit: 5,
        ..Listing::default()
    };
    // The first of a page, and one in its middle.
    for number in [12, 10] {
        let setting = places(&bytes, &format!("{{\"n\":{number}}}"))[0];
        std::fs::write(&file, flip(&bytes, (setting + 1) * 8)).unwrap();
        let journal = SqliteJournal::open(&data, format!("s{number}"), None).unwrap();
        let error = journal.find(id(number)).await.unwrap_err();
        let expected = format!("the row of {}: its checksum does not fit", id(number));
        assert!(error.to_string().contains(&expected), "{error}");
        journal.load(id(number)).await.unwrap_err();
        let page = journal.list(listing()).await.unwrap();
        let page: Vec<_> = page.iter().map(|row| row.id).collect();
        let mut expected: Vec<_> = (1..=EXECUTIONS).rev().collect();
        expected.retain(|other| *other != number);
        let expected: Vec<_> = expected.into_iter().take(5).map(id).collect();
        assert_eq!(page, expected);
    }
    // A letter of a record's body, and one of its id.
    for (word, letter) in [("{\"r\":7}", 2), ("thingr7", 6)] {
        let place = places(&bytes, word)[0] + letter;
        std::fs::write(&file, flip(&bytes, place * 8)).unwrap();
        let journal = SqliteJournal::open(&data, format!("r{place}"), None).unwrap();
        let lying = journal.all_records(None, 99).await.unwrap();
        let damaged: Vec<_> = lying.iter().filter(|record| record.is_err()).collect();
        assert_eq!((lying.len(), damaged.len()), (all, 1), "{word}: {lying:?}");
        let sound = RecordListing {
            kind: "thing",
            due: None,
            after: None,
            limit: 99,
        };
        assert_eq!(journal.records(sound).await.unwrap().len(), all - 1);
        let found = journal.record("thing", "r7".to_owned()).await;
        assert!(!matches!(found, Ok(Some(_))), "{word}: {found:?}");
    }
}

#[tokio::test]
async fn others_are_written_beside_a_damaged_one() {
    let folder = TempDir::new().unwrap();
    let (bytes, events) = make(folder.path()).await;
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // The unused part of a page may hold a copy that nobody reads.
    for place in places(&bytes, "step_skipped") {
        std::fs::write(data.join("journal.db"), flip(&bytes, place * 8)).unwrap();
        if read(&data.join("journal.db"), &events).await.1 {
            break;
        }
    }
    let journal = SqliteJournal::open(&data, "a".to_owned(), None).unwrap();
    let epoch = journal.create(new(50)).await.unwrap();
    let events = [skipped(50)];
    journal
        .append(by_owner(50, 1, epoch, &events))
        .await
        .unwrap();
    assert_eq!(journal.all_events(id(50)).await.unwrap().len(), 2);
    let mut damaged = 0;
    for number in 1..=EXECUTIONS {
        damaged += u32::from(journal.all_events(id(number)).await.is_err());
    }
    assert_eq!(damaged, 1);
    assert_eq!(journal.next_due().await.unwrap(), None);
    assert_eq!(journal.beat(at(60)).await.unwrap().freed, 0);
}

#[tokio::test]
async fn a_log_that_is_damaged_in_the_middle_is_not_opened() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let journal = SqliteJournal::open(&data, "a".to_owned(), None).unwrap();
    for number in 1..=20 {
        journal.create(new(number)).await.unwrap();
    }
    // As a killed process leaves it.
    let log = std::fs::read(data.join("journal.db-wal")).unwrap();
    let base = std::fs::read(data.join("journal.db")).unwrap();
    let open = |log: &[u8], name: &str| {
        let data = folder.path().join(name);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("journal.db"), &base).unwrap();
        std::fs::write(data.join("journal.db-wal"), log).unwrap();
        SqliteJournal::open(&data, "b".to_owned(), None)
    };
    let middle = u64::try_from(log.len() / 2).unwrap() * 8;
    let refused = open(&flip(&log, middle), "flipped").err().unwrap();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    // A log that was cut is that of a process that was killed: what was whole is there, in order.
    let cut = open(&log[..log.len() - 1_000], "cut").unwrap();
    let ids = cut.ids(None, 99).await.unwrap();
    let expected: Vec<_> = (1..=20).map(|number| id(number).to_string()).collect();
    assert!(expected.starts_with(&ids) && ids.len() >= 19, "{ids:?}");
    drop(journal);
}

#[tokio::test]
async fn the_command_names_what_is_damaged() {
    let place = Workplace::new();
    let document =
        json!({ "name": "Note", "steps": [{ "id": "said", "set": "{{ text }}!" }], "agents": [] });
    let file = place.write("note.json", document.to_string());
    let long = "long ".repeat(4_000);
    let mut ids = Vec::new();
    for said in ["first", "second", long.as_str()] {
        let said = format!("text={said}");
        let ran = place.troupe(["run", &text(&file), "-i", &said]).end().await;
        ids.push(ran.expect_code(0).id());
    }
    ends(&place, &["backup", "copy.db"], 0).await;
    let bytes = std::fs::read(place.path("copy.db")).unwrap();
    for (word, expected) in [
        (
            "second",
            format!("of {}: its checksum does not fit", ids[1]),
        ),
        ("long long long", format!("of {}: its `", ids[2])),
        ("{{ text", "its digest does not fit".to_owned()),
        ("completed\u{3}", format!("the row of {}: ", ids[0])),
    ] {
        // In the tables; indexes have the same words.
        let found = places(&bytes, word);
        assert!(!found.is_empty(), "{word}");
        let mut says = String::new();
        let some = found.iter().step_by(found.len().div_ceil(6));
        for bit in some.map(|place| (place + 3) * 8) {
            place.write("flipped.db", flip(&bytes, bit));
            let said = place.troupe(["verify", "flipped.db"]).end().await;
            let is_fault = !said.stdout.contains("; faults: 0");
            let said = said.expect_code(i32::from(is_fault));
            says.push_str(&said.stdout);
        }
        assert!(says.contains(&expected), "{word}: {expected}\n{says}");
    }
    place.write("cut.db", &bytes[..bytes.len() / 2]);
    ends(&place, &["verify", "cut.db"], 1).await;
    place.write("text.db", "no database at all");
    ends(&place, &["verify", "text.db"], 1).await;
    place.write("empty.db", "");
    ends(&place, &["verify", "empty.db"], 1).await;
    ends(&place, &["verify", "none.db"], 2).await;
}

async fn ends(place: &Workplace, arguments: &[&str], code: i32) {
    drop(place.troupe(arguments).end().await.expect_code(code));
}
