//! Damage in SQLite's write-ahead log, found before SQLite opens the database.
//!
//! SQLite ends reading its log at the first frame that does not fit, without a word: it takes what follows for the rest
//! of a transaction that was never committed. After a killed process that is right. After a bad disk it is not: every
//! commit behind the damage was acknowledged, and would be gone as if it had never been made. Here the log is read to its
//! end, so that the two can be told apart. Nothing is written, and the database's own file is not opened: closing it
//! would take away the locks that this process holds on it.
//!
//! The format is SQLite's documented one: a header, then frames of one page each. A frame carries the salts of the log's
//! generation and a checksum over all frames before it; the last frame of a transaction carries the database's size.
//! The log is written again from its start after a checkpoint, with new salts, and old frames remain behind the new.

mod format;

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use self::format::{Frame, Frames, HEADER_BYTES, Header, SALTS, Salts, fill};

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;
/// Damage counts when two readings in a row find the same: a process that writes at the same time changes what is found.
/// So many times it is read at most.
const READINGS_MAX: usize = 5;

/// What a log holds. Frames are counted from 1, as SQLite does; 0 is the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WalState {
    /// There is no log, or an empty one.
    None,
    /// Every frame of this generation fits, and the last one ends a transaction.
    Sound { frames: u64, commits: u64 },
    /// Behind the last commit are frames, or a part of one, and no sign that their transaction was committed: a process
    /// was killed, or undid a large transaction. Nothing that was acknowledged is lost, but for what [`inspect`] cannot
    /// see.
    Unfinished {
        frames_after_last_commit: u64,
        bytes: u64,
    },
    /// A frame of the last transaction does not fit, its commit was written, and nothing of this generation is behind
    /// it. Either the transaction was acknowledged and is lost, or nobody was told that it was committed: the machine
    /// lost its power while it was written, or the process was killed between the two halves of its last frame, in a log
    /// that is written again from its start. SQLite shows `commits_before` commits.
    Doubtful {
        frame: u64,
        offset: u64,
        commits_before: u64,
    },
    /// A frame, or the header, does not fit, and commits of this generation are lost with it of which at least one was
    /// acknowledged: its transaction was over when the frames behind it were written. SQLite shows `commits_before`
    /// commits, and none of the `commits_after`.
    Damaged {
        frame: u64,
        offset: u64,
        commits_before: u64,
        commits_after: u64,
    },
    /// This is no log that SQLite would read; it would take it for an empty one, or refuse it.
    Unreadable { reason: &'static str },
}

impl WalState {
    /// Whether it may be the doing of a process that writes while the log is read.
    fn is_fault(&self) -> bool {
        match self {
            Self::None | Self::Sound { .. } | Self::Unfinished { .. } => false,
            Self::Doubtful { .. } | Self::Damaged { .. } | Self::Unreadable { .. } => true,
        }
    }
}

/// Reads the log of a database to its end. What it says of acknowledged commits holds for a log that is written with
/// `PRAGMA synchronous = FULL`, where a commit is on disk before it is acknowledged.
///
/// What this cannot see:
/// - A log that is cut exactly behind a commit, or that was removed: nothing in the database says how long it was. One
///   that is cut elsewhere looks like that of a killed process, as does one from whose last transactions nothing is left
///   but zeros or frames of an older generation.
/// - A single flipped bit in the last frame that makes its mark of a commit zero: the frame then looks like one of a
///   transaction that was not committed.
/// - Damage in frames of an older generation, and in the database itself: `PRAGMA integrity_check` is for that.
///
/// What it takes for damage and is none: the rest of a transaction whose commit was written and failed at the very last,
/// when the disk was asked to keep it, and which a shorter transaction has overwritten in part.
///
/// # Errors
/// A file that is there and cannot be read, or that other processes write so fast that no two readings agree.
pub(crate) fn inspect(database: &Path) -> std::io::Result<WalState> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let path = Path::new(&path);
    let mut last = None;
    for _ in 0..READINGS_MAX {
        let state = read(path)?;
        if !state.is_fault() || last.as_ref() == Some(&state) {
            return Ok(state);
        }
        last = Some(state);
    }
    let text = "the log changes while it is read";
    Err(std::io::Error::new(ErrorKind::ResourceBusy, text))
}

fn read(path: &Path) -> std::io::Result<WalState> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(WalState::None),
        other => other?,
    };
    // What is added from here on belongs to who adds it.
    let length = file.metadata()?.len();
    let mut source = BufReader::with_capacity(READ_BYTES, file.take(length));
    let mut bytes = [0; HEADER_BYTES];
    match fill(&mut source, &mut bytes)? {
        0 => return Ok(WalState::None),
        HEADER_BYTES => {}
        part => {
            return Ok(WalState::Unfinished {
                frames_after_last_commit: 0,
                bytes: part as u64,
            });
        }
    }
    let header = match Header::parse(&bytes) {
        Ok(header) => header,
        Err(reason) => return Ok(WalState::Unreadable { reason }),
    };
    let frames = Frames::new(source, &header);
    if header.fits {
        judge(&header, frames)
    } else {
        judge_without_header(&header, frames)
    }
}

/// Follows the frames as SQLite does; from the first that does not fit, looks for what is behind it.
fn judge(header: &Header, mut frames: Frames<impl Read>) -> std::io::Result<WalState> {
    let mut checksum = header.checksum;
    let (mut fitting, mut committed, mut commits) = (0_u64, 0_u64, 0_u64);
    let mut behind = Behind::default();
    while let Some(frame) = frames.next()? {
        let computed = frame.checksum(header.order, checksum);
        let fits = computed == frame.stored_checksum();
        if !fits || frame.salts() != header.salts || frame.page() == 0 {
            // The salts are not under the checksum: a frame with the right checksum is of this generation, whatever its
            // salts say.
            if fits || frame.salts() == header.salts {
                behind.add(frame);
            } else {
                behind.is_over = true;
            }
            break;
        }
        checksum = computed;
        fitting += 1;
        if frame.is_commit() {
            (committed, commits) = (fitting, commits + 1);
        }
    }
    behind.read(header.salts, &mut frames)?;
    let open = fitting - committed + behind.frames;
    let (frame, offset) = (fitting + 1, header.offset(fitting));
    Ok(match behind.commits {
        0 if open == 0 && behind.part_bytes == 0 => WalState::Sound {
            frames: committed,
            commits,
        },
        0 => WalState::Unfinished {
            frames_after_last_commit: open,
            bytes: open * header.frame_bytes() as u64 + behind.part_bytes,
        },
        1 if behind.ends_with_commit() => WalState::Doubtful {
            frame,
            offset,
            commits_before: commits,
        },
        commits_after => WalState::Damaged {
            frame,
            offset,
            commits_before: commits,
            commits_after,
        },
    })
}

/// A header that does not fit loses every frame. Its salts may be what is wrong, so that the first frame's count.
fn judge_without_header(
    header: &Header,
    mut frames: Frames<impl Read>,
) -> std::io::Result<WalState> {
    let mut behind = Behind::default();
    let mut salts = header.salts;
    if let Some(first) = frames.next()? {
        salts = first.salts();
        behind.add(first);
    }
    behind.read(salts, &mut frames)?;
    Ok(match behind.commits {
        0 => WalState::Unfinished {
            frames_after_last_commit: behind.frames,
            bytes: header.offset(behind.frames) + behind.part_bytes,
        },
        commits_after => WalState::Damaged {
            frame: 0,
            offset: 0,
            commits_before: 0,
            commits_after,
        },
    })
}

/// What is of the log's generation from the first frame on that does not fit.
#[derive(Debug, Default)]
struct Behind {
    frames: u64,
    commits: u64,
    /// Whether the last frame of all is of an older generation, as what is cut off behind it then is.
    is_over: bool,
    last_is_commit: bool,
    /// Bytes of a frame that the end of the log cuts off.
    part_bytes: u64,
}

impl Behind {
    /// Counts a frame of this generation.
    fn add(&mut self, frame: Frame<'_>) {
        self.frames += 1;
        self.commits += u64::from(frame.is_commit());
        self.last_is_commit = frame.is_commit();
        self.is_over = false;
    }

    /// Goes to the end of the log. That other frames fit to one another is not asked: one may be damaged too.
    fn read(&mut self, salts: Salts, frames: &mut Frames<impl Read>) -> std::io::Result<()> {
        while let Some(frame) = frames.next()? {
            if frame.salts() == salts {
                self.add(frame);
            } else {
                self.is_over = true;
            }
        }
        let part = frames.part();
        let is_own = match part.get(SALTS) {
            Some(found) => found == salts.as_slice(),
            // Too short to tell whose it is.
            None => !self.is_over,
        };
        if is_own {
            self.part_bytes = part.len() as u64;
        }
        Ok(())
    }

    /// Whether nothing was written behind the last commit.
    fn ends_with_commit(&self) -> bool {
        self.last_is_commit && self.part_bytes == 0
    }
}

#[cfg(test)]
mod tests;
