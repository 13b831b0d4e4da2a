//! Real logs of SQLite, damaged in every way, and what SQLite itself then shows.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::format::{Order, add_up, word};
use super::{WalState, inspect};

/// Commits in the log of [`Original::new`].
const COMMITS: u64 = 40;

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

/// A database in which every commit adds one row; its log holds the rows and nothing else.
struct Original {
    folder: TempDir,
    connection: Connection,
    page_bytes: usize,
}

fn log_of(database: &Path) -> PathBuf {
    database.with_file_name("journal.db-wal")
}

impl Original {
    fn empty(page_bytes: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let connection = Connection::open(folder.path().join("journal.db")).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {page_bytes}; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
                 PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (n INTEGER PRIMARY KEY, text BLOB);
                 PRAGMA wal_checkpoint(TRUNCATE)"
            ))
            .unwrap();
        Self {
            folder,
            connection,
            page_bytes,
        }
    }

    fn new(page_bytes: usize) -> Self {
        let original = Self::empty(page_bytes);
        original.commit(COMMITS);
        original
    }

    /// Transactions of one page and of several.
    fn commit(&self, count: u64) {
        for number in 0..count {
            let pages = [0, 0, 1, 3][usize::try_from(number % 4).unwrap()];
            let text = vec![7_u8; 20 + pages * self.page_bytes];
            self.connection
                .execute("INSERT INTO t (text) VALUES (?1)", [text])
                .unwrap();
        }
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(log_of(&self.folder.path().join("journal.db"))).unwrap()
    }

    fn frame_bytes(&self) -> usize {
        24 + self.page_bytes
    }

    /// What is found where the log is this one, and how many rows SQLite shows then.
    fn with_log(&self, log: &[u8]) -> (WalState, u64) {
        let folder = TempDir::new().unwrap();
        let database = folder.path().join("journal.db");
        std::fs::copy(self.folder.path().join("journal.db"), &database).unwrap();
        std::fs::write(log_of(&database), log).unwrap();
        let state = inspect(&database).unwrap();
        assert_eq!(std::fs::read(log_of(&database)).unwrap(), log);
        let connection = Connection::open(&database).unwrap();
        connection
            .pragma_update(None, "synchronous", "OFF")
            .unwrap();
        let rows = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        (state, rows.unwrap())
    }

    /// Which of a log's frames end a transaction, in order.
    fn commit_marks(&self, log: &[u8]) -> Vec<bool> {
        let frames = log[32..].chunks_exact(self.frame_bytes());
        frames.map(|frame| word(frame, 4) != 0).collect()
    }
}

fn count(marks: &[bool]) -> u64 {
    u64::try_from(marks.iter().filter(|is_commit| **is_commit).count()).unwrap()
}

fn number(value: usize) -> u64 {
    u64::try_from(value).unwrap()
}

#[test]
fn what_is_whole_is_sound() {
    for page_bytes in [512, 4096, 65_536] {
        let original = Original::new(page_bytes);
        let log = original.log();
        let sound = WalState::Sound {
            frames: number(original.commit_marks(&log).len()),
            commits: COMMITS,
        };
        assert_eq!(original.with_log(&log), (sound, COMMITS));
    }
}

#[test]
fn no_log_and_an_empty_one_are_none() {
    let original = Original::empty(4096);
    assert_eq!(original.with_log(&[]), (WalState::None, 0));
    let missing = original.folder.path().join("other.db");
    assert_eq!(inspect(&missing).unwrap(), WalState::None);
    std::fs::create_dir(original.folder.path().join("other.db-wal")).unwrap();
    assert!(inspect(&missing).is_err());
}

/// What must be found where the first frame that does not fit is this one, counted from 0: everything that can be known
/// about it is in the marks of commits, of which the last frame of the whole log is one.
fn broken_at(original: &Original, log: &[u8], frame: usize) -> WalState {
    let marks = original.commit_marks(log);
    let (before, behind) = marks.split_at(frame);
    let (commits_before, commits_after) = (count(before), count(behind));
    let offset = number(32 + frame * original.frame_bytes());
    let open = before.iter().rev().take_while(|is_commit| !**is_commit);
    let frames_after_last_commit = number(open.count() + behind.len());
    let ends_with_commit = behind.last() == Some(&true);
    let frame = number(frame + 1);
    match commits_after {
        0 => WalState::Unfinished {
            frames_after_last_commit,
            bytes: frames_after_last_commit * number(original.frame_bytes()),
        },
        1 if ends_with_commit => WalState::Doubtful {
            frame,
            offset,
            commits_before,
        },
        _ => WalState::Damaged {
            frame,
            offset,
            commits_before,
            commits_after,
        },
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let mut random = Random(1);
    for (page_bytes, flips) in [(512, 300), (4096, 200)] {
        let original = Original::new(page_bytes);
        let log = original.log();
        let marks = original.commit_marks(&log);
        let last_begins = last_transaction(&marks);
        for flip in 0..flips {
            let frame = match flip % 4 {
                // The last transaction is small beside the others.
                0 => last_begins + random.below(marks.len() - last_begins),
                _ => random.below(marks.len()),
            };
            // The header of a frame is small beside its page.
            let span = if flip % 2 == 0 {
                24
            } else {
                original.frame_bytes()
            };
            let at = 32 + frame * original.frame_bytes() + random.below(span);
            let mut damaged = log.clone();
            damaged[at] ^= 1 << random.below(8);
            let (state, rows) = original.with_log(&damaged);
            let place = format!(
                "byte {} of frame {}",
                (at - 32) % original.frame_bytes(),
                frame + 1
            );
            assert_eq!(state, broken_at(&original, &damaged, frame), "{place}");
            assert_eq!(rows, count(&marks[..frame]), "{place}");
            match state {
                WalState::Damaged { .. } => assert!(frame < last_begins || rows == COMMITS - 1),
                WalState::Doubtful { .. } => assert!(frame >= last_begins),
                // Only where the flip has taken away the mark of the last commit.
                WalState::Unfinished { .. } => assert_eq!(frame, marks.len() - 1),
                other => panic!("{place}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_bit_of_a_frames_header_counts() {
    let original = Original::new(512);
    let log = original.log();
    let marks = original.commit_marks(&log);
    for frame in [0, 1, marks.len() / 2, marks.len() - 2, marks.len() - 1] {
        for bit in 0..24 * 8 {
            let mut damaged = log.clone();
            damaged[32 + frame * original.frame_bytes() + bit / 8] ^= 1 << (bit % 8);
            let (state, rows) = original.with_log(&damaged);
            assert_eq!(
                state,
                broken_at(&original, &damaged, frame),
                "frame {frame}, bit {bit}"
            );
            assert_eq!(rows, count(&marks[..frame]));
        }
    }
}

#[test]
fn every_bit_of_the_logs_header_counts() {
    let original = Original::new(512);
    let log = original.log();
    for bit in 0..32 * 8 {
        let mut damaged = log.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (state, rows) = original.with_log(&damaged);
        assert_eq!(rows, 0, "SQLite ignores the whole log");
        let lost = WalState::Damaged {
            frame: 0,
            offset: 0,
            commits_before: 0,
            commits_after: COMMITS,
        };
        match bit / 8 {
            0..4 | 8..12 if matches!(state, WalState::Unreadable { .. }) => {}
            _ => assert_eq!(state, lost, "bit {bit}"),
        }
    }
}

/// The first frame of the last transaction, counted from 0.
fn last_transaction(marks: &[bool]) -> usize {
    let mut commits = (0..marks.len()).rev().filter(|frame| marks[*frame]);
    commits.nth(1).unwrap() + 1
}

#[test]
fn sectors_that_are_lost_are_found() {
    let original = Original::new(4096);
    let log = original.log();
    let marks = original.commit_marks(&log);
    let mut random = Random(2);
    for fill in [0, 0xff, 0x37] {
        for _ in 0..60 {
            let sector = 1 + random.below(log.len() / 512 - 1);
            let mut damaged = log.clone();
            damaged[sector * 512..(sector + 1) * 512].fill(fill);
            let Some(first) = (32..log.len()).find(|at| damaged[*at] != log[*at]) else {
                continue; // It held the same bytes.
            };
            let frame = (first - 32) / original.frame_bytes();
            let (state, rows) = original.with_log(&damaged);
            assert_eq!(rows, count(&marks[..frame]));
            match state {
                WalState::Damaged {
                    frame: found,
                    commits_before,
                    ..
                }
                | WalState::Doubtful {
                    frame: found,
                    commits_before,
                    ..
                } => {
                    assert_eq!((found, commits_before), (number(frame + 1), rows));
                }
                // Only where the commit's own frame is lost.
                other => assert!(
                    frame >= last_transaction(&marks),
                    "sector {sector}: {other:?}"
                ),
            }
        }
    }
}

#[test]
fn a_log_that_is_cut_is_unfinished_but_where_a_commit_ends() {
    let original = Original::new(512);
    let log = original.log();
    let marks = original.commit_marks(&log);
    let frame_bytes = original.frame_bytes();
    let mut lengths: Vec<usize> = (1..=33).collect();
    for frame in 0..=marks.len() {
        let end = 32 + frame * frame_bytes;
        lengths.extend([
            end,
            end + 1,
            end + 15,
            end + 16,
            end + 24,
            end + 25,
            end + frame_bytes - 1,
        ]);
    }
    for length in lengths.into_iter().filter(|length| *length <= log.len()) {
        let (state, rows) = original.with_log(&log[..length]);
        let whole = length.saturating_sub(32) / frame_bytes;
        let part = if length < 32 {
            length
        } else {
            (length - 32) % frame_bytes
        };
        let open = marks[..whole]
            .iter()
            .rev()
            .take_while(|mark| !**mark)
            .count();
        let commits = count(&marks[..whole]);
        let expected = if open + part == 0 {
            WalState::Sound {
                frames: number(whole),
                commits,
            }
        } else {
            WalState::Unfinished {
                frames_after_last_commit: number(open),
                bytes: number(open * frame_bytes + part),
            }
        };
        assert_eq!((state, rows), (expected, commits), "cut to {length} bytes");
    }
}

#[test]
fn frames_of_an_older_generation_are_no_damage() {
    let original = Original::new(512);
    let older = original.log();
    let pages: i64 = original
        .connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))
        .unwrap();
    assert_eq!(
        number(original.commit_marks(&older).len()),
        u64::try_from(pages).unwrap()
    );
    original.commit(7);
    let log = original.log();
    assert_eq!(
        log.len(),
        older.len(),
        "the log was written again from its start"
    );
    let frame_bytes = original.frame_bytes();
    let salts = |log: &[u8], frame: usize| log[32 + frame * frame_bytes + 8..][..8].to_vec();
    let marks = original.commit_marks(&log);
    let new = (0..marks.len())
        .find(|frame| salts(&log, *frame) != log[16..24])
        .unwrap();
    let sound = WalState::Sound {
        frames: number(new),
        commits: 7,
    };
    let end = 32 + new * frame_bytes;
    assert_eq!(original.with_log(&log), (sound.clone(), COMMITS + 7));
    for cut in [end + 1, end + 17, end + frame_bytes + 3, log.len() - 5] {
        let (state, rows) = original.with_log(&log[..cut]);
        // Less than a header of the older frame tells nothing about whose it is.
        if cut == end + 1 {
            assert!(
                matches!(state, WalState::Unfinished { bytes: 1, .. }),
                "{state:?}"
            );
        } else {
            assert_eq!(state, sound);
        }
        assert_eq!(rows, COMMITS + 7);
    }
    let mut random = Random(3);
    for _ in 0..60 {
        let at = 32 + random.below(log.len() - 32);
        let mut damaged = log.clone();
        damaged[at] ^= 1 << random.below(8);
        let (state, rows) = original.with_log(&damaged);
        let frame = (at - 32) / frame_bytes;
        if frame >= new {
            assert_eq!((state, rows), (sound.clone(), COMMITS + 7));
        } else {
            assert_eq!(rows, COMMITS + count(&marks[..frame]));
            assert_eq!(state, broken_at(&original, &damaged[..end], frame));
        }
    }
}

#[test]
fn what_was_never_committed_is_unfinished() {
    let original = Original::new(512);
    let committed = original.commit_marks(&original.log()).len();
    // More than the cache holds is written to the log before it is committed.
    original
        .connection
        .execute_batch(
            "PRAGMA cache_size = 5; BEGIN; INSERT INTO t (text) VALUES (zeroblob(100000))",
        )
        .unwrap();
    let log = original.log();
    let open = number(original.commit_marks(&log).len() - committed);
    assert!(open > 100);
    let unfinished = |frames: u64| WalState::Unfinished {
        frames_after_last_commit: frames,
        bytes: frames * number(original.frame_bytes()),
    };
    assert_eq!(original.with_log(&log), (unfinished(open), COMMITS));

    // What was undone remains behind shorter transactions, and is of the same generation.
    original.connection.execute_batch("ROLLBACK").unwrap();
    original.commit(2);
    let log = original.log();
    assert_eq!(
        original.commit_marks(&log).len(),
        committed + usize::try_from(open).unwrap()
    );
    let written = original.commit_marks(&log)[committed..]
        .iter()
        .rposition(|mark| *mark);
    let left = open - number(written.unwrap() + 1);
    assert_eq!(original.with_log(&log), (unfinished(left), COMMITS + 2));
}

/// A log with the checksums that a machine with the other order of bytes would write.
fn in_order(log: &[u8], frame_bytes: usize, order: Order) -> Vec<u8> {
    let mut log = log.to_vec();
    log[3] = if order == Order::Big { 0x83 } else { 0x82 };
    let mut checksum = add_up(order, (0, 0), &log[..24]);
    let store = |bytes: &mut [u8], (first, second): (u32, u32)| {
        bytes[..4].copy_from_slice(&first.to_be_bytes());
        bytes[4..8].copy_from_slice(&second.to_be_bytes());
    };
    store(&mut log[24..32], checksum);
    for frame in log[32..].chunks_exact_mut(frame_bytes) {
        checksum = add_up(order, checksum, &frame[..8]);
        checksum = add_up(order, checksum, &frame[24..]);
        store(&mut frame[16..24], checksum);
    }
    log
}

#[test]
fn both_orders_of_bytes_are_read() {
    let original = Original::new(4096);
    let log = original.log();
    for order in [Order::Little, Order::Big] {
        let log = in_order(&log, original.frame_bytes(), order);
        let (state, rows) = original.with_log(&log);
        assert!(
            matches!(
                state,
                WalState::Sound {
                    commits: COMMITS,
                    ..
                }
            ),
            "{state:?}"
        );
        assert_eq!(rows, COMMITS);
        let mut damaged = log;
        damaged[40 + original.frame_bytes()] ^= 1;
        let (state, _) = original.with_log(&damaged);
        assert!(
            matches!(state, WalState::Damaged { frame: 2, .. }),
            "{state:?}"
        );
    }
}

#[test]
fn garbage_is_read_without_harm() {
    let original = Original::new(512);
    let log = original.log();
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("journal.db");
    let mut random = Random(4);
    for round in 0..200 {
        let mut garbage: Vec<u8> = (0..random.below(5000))
            .map(|_| random.next().to_be_bytes()[0])
            .collect();
        let real = [0, 4, 12, 24, 32][round % 5].min(garbage.len());
        garbage[..real].copy_from_slice(&log[..real]);
        std::fs::write(log_of(&database), &garbage).unwrap();
        match inspect(&database).unwrap() {
            WalState::None => assert!(garbage.is_empty()),
            WalState::Unreadable { .. } => assert!(real < 32),
            // Frames behind a real header that are not of its generation.
            WalState::Sound { frames, commits } => assert_eq!((frames, commits, real), (0, 0, 32)),
            WalState::Unfinished { .. } | WalState::Damaged { frame: 0, .. } => {}
            other => panic!("round {round}: {other:?}"),
        }
    }
}

#[test]
fn a_log_that_is_being_written_shows_no_damage() {
    let original = Original::empty(512);
    original
        .connection
        .execute_batch("PRAGMA wal_autocheckpoint = 20")
        .unwrap();
    let database = original.folder.path().join("journal.db");
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                let state = inspect(&database);
                if let Ok(WalState::Damaged { .. } | WalState::Unreadable { .. }) = state {
                    return false;
                }
            }
            true
        });
        original.commit(3000);
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap());
    });
}
