//! The format of SQLite's write-ahead log: its header, its frames, and their checksums. It judges nothing.

use std::io::{ErrorKind, Read};

/// Bytes of the log's header.
pub(super) const HEADER_BYTES: usize = 32;
/// Bytes of a frame's header, which its page follows.
const FRAME_HEADER_BYTES: usize = 24;
/// The first bytes of a log whose checksums are over little-endian words; one more is for big-endian ones.
const MAGIC: u32 = 0x377f_0682;
/// The only version of the format.
const VERSION: u32 = 3_007_000;
/// Sizes that a page may have, always a power of two. The largest one bounds the memory that a log can ask for.
const PAGE_BYTES: std::ops::RangeInclusive<u32> = 512..=65_536;
/// The place of the salts in a frame's header.
pub(super) const SALTS: std::ops::Range<usize> = 8..16;

/// Two random numbers, of which every generation of the log has its own.
pub(super) type Salts = [u8; 8];
pub(super) type Checksum = (u32, u32);

/// The order of bytes in the words that are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

/// The log's header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) order: Order,
    page_bytes: usize,
    pub(super) salts: Salts,
    pub(super) checksum: Checksum,
    /// Whether the checksum is that of the header.
    pub(super) fits: bool,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let order = match word(bytes, 0) {
            MAGIC => Order::Little,
            magic if magic == MAGIC + 1 => Order::Big,
            _ => return Err("it does not begin as a log of SQLite does"),
        };
        let page_bytes = word(bytes, 8);
        if !PAGE_BYTES.contains(&page_bytes) || !page_bytes.is_power_of_two() {
            return Err("it names a size of pages that cannot be");
        }
        let checksum = (word(bytes, 24), word(bytes, 28));
        let fits = add_up(order, (0, 0), &bytes[..24]) == checksum;
        if fits && word(bytes, 4) != VERSION {
            return Err("it is in a version of the format that is not known");
        }
        let mut salts = Salts::default();
        salts.copy_from_slice(&bytes[16..24]);
        Ok(Self {
            order,
            page_bytes: page_bytes as usize,
            salts,
            checksum,
            fits,
        })
    }

    pub(super) fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.page_bytes
    }

    /// Where the frame behind so many others begins.
    pub(super) fn offset(&self, frames: u64) -> u64 {
        HEADER_BYTES as u64 + frames * self.frame_bytes() as u64
    }
}

/// The frames of a log, one in memory at a time.
pub(super) struct Frames<R> {
    source: R,
    buffer: Vec<u8>,
    /// How much of the buffer the last reading filled; less than all of it at the end of the log.
    filled: usize,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(source: R, header: &Header) -> Self {
        Self {
            source,
            buffer: vec![0; header.frame_bytes()],
            filled: header.frame_bytes(),
        }
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Frame<'_>>> {
        let whole = self.buffer.len();
        if self.filled == whole {
            self.filled = fill(&mut self.source, &mut self.buffer)?;
        }
        Ok((self.filled == whole).then_some(Frame(&self.buffer)))
    }

    /// What is behind the last whole frame.
    pub(super) fn part(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

/// A whole frame: its header and its page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a>(&'a [u8]);

impl Frame<'_> {
    pub(super) fn page(self) -> u32 {
        word(self.0, 0)
    }

    /// Whether it ends a transaction: it has the database's size then, in pages.
    pub(super) fn is_commit(self) -> bool {
        word(self.0, 4) != 0
    }

    pub(super) fn salts(self) -> Salts {
        let mut salts = Salts::default();
        salts.copy_from_slice(&self.0[SALTS]);
        salts
    }

    pub(super) fn stored_checksum(self) -> Checksum {
        (word(self.0, 16), word(self.0, 20))
    }

    /// The checksum that it must have behind frames with the checksum `before`.
    pub(super) fn checksum(self, order: Order, before: Checksum) -> Checksum {
        let page = add_up(order, before, &self.0[..8]);
        add_up(order, page, &self.0[FRAME_HEADER_BYTES..])
    }
}

/// Adds bytes, a multiple of eight, to a checksum.
pub(super) fn add_up(order: Order, checksum: Checksum, bytes: &[u8]) -> Checksum {
    match order {
        Order::Little => add_words(checksum, bytes, u32::from_le_bytes),
        Order::Big => add_words(checksum, bytes, u32::from_be_bytes),
    }
}

fn add_words(checksum: Checksum, bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> Checksum {
    let (mut first, mut second) = checksum;
    let (pairs, _) = bytes.as_chunks::<8>();
    for &[a, b, c, d, e, f, g, h] in pairs {
        first = first.wrapping_add(word([a, b, c, d])).wrapping_add(second);
        second = second.wrapping_add(word([e, f, g, h])).wrapping_add(first);
    }
    (first, second)
}

/// A number of a header; all of them are big-endian.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

/// Fills a buffer as far as there is something to read, and says how far that was.
pub(super) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
