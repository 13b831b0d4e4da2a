//! How wide a text is, and how to make it fit.
//!
//! The reader's font is not known here. The estimate is that of a wide one (DejaVu Sans, which many Linux
//! systems put in place of the fonts that are asked for), so that in any other the text is rather too narrow.

/// The sizes of letters in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Font {
    /// The name of a step: bold.
    Name,
    /// The heading of a frame: bold, but small.
    Heading,
    /// All other text.
    Detail,
}

impl Font {
    /// The height of its letters.
    pub(super) fn size(self) -> i32 {
        match self {
            Self::Name => 13,
            Self::Heading | Self::Detail => 11,
        }
    }

    /// The distance between two lines.
    pub(super) fn line_height(self) -> i32 {
        match self {
            Self::Name => 18,
            Self::Heading | Self::Detail => 15,
        }
    }

    /// The name of its style.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Heading => "heading",
            Self::Detail => "detail",
        }
    }

    /// The width of one character in hundredths of a pixel.
    fn advance(self, c: char) -> i32 {
        let weight = match self {
            Self::Name | Self::Heading => 116,
            Self::Detail => 100,
        };
        em_hundredths(c) * weight * self.size() / 100
    }
}

/// The width of a text in whole pixels.
pub(super) fn width(text: &str, font: Font) -> i32 {
    let sum = text
        .chars()
        .fold(0_i32, |sum, c| sum.saturating_add(font.advance(c)));
    sum.saturating_add(99) / 100
}

/// Cuts a text so that it fits, and says so with a `…`.
pub(super) fn shorten(text: &str, font: Font, width_max: i32) -> String {
    let limit = width_max.saturating_mul(100);
    let mut sum = 0_i32;
    // The end of the longest start that leaves room for the `…`.
    let mut fits = 0;
    for (index, c) in text.char_indices() {
        if sum.saturating_add(font.advance('…')) <= limit {
            fits = index;
        }
        sum = sum.saturating_add(font.advance(c));
        if sum > limit {
            let start = text.get(..fits).unwrap_or_default();
            return format!("{}…", start.trim_end());
        }
    }
    text.to_owned()
}

/// Breaks a text into lines that fit, between words where it can. What does not fit into so many lines is cut.
pub(super) fn wrap(text: &str, font: Font, width_max: i32, lines_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if lines.len() + 1 >= lines_max {
            lines.push(shorten(rest, font, width_max));
            break;
        }
        let end = line_end(rest, font, width_max);
        let (line, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        lines.push(line.trim_end().to_owned());
        rest = after.trim_start();
    }
    lines
}

/// Where the first line of a text ends: after its last word that fits, or within a word that is too long. It is
/// at least one character, or wrapping would not end.
fn line_end(text: &str, font: Font, width_max: i32) -> usize {
    let limit = width_max.saturating_mul(100);
    let mut sum = 0_i32;
    let mut after_word = 0;
    for (index, c) in text.char_indices() {
        if c == ' ' {
            after_word = index;
        }
        sum = sum.saturating_add(font.advance(c));
        if sum > limit {
            return match (after_word, index) {
                (0, 0) => c.len_utf8(),
                (0, _) => index,
                _ => after_word,
            };
        }
    }
    text.len()
}

/// The width of a character in hundredths of the font's size.
fn em_hundredths(c: char) -> i32 {
    match c {
        'i' | 'j' | 'l' | '\'' | '|' => 34,
        ' ' | '.' | ',' | ':' | ';' | 'I' | '·' => 35,
        'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '/' | '\\' | '-' | '!' => 43,
        '"' | '*' | '_' | '`' | '?' => 54,
        's' | 'c' | 'z' | 'J' => 56,
        '{' | '}' | 'a' | 'e' | 'g' | 'k' | 'o' | 'v' | 'x' | 'y' | '0'..='9' => 64,
        'b' | 'd' | 'h' | 'n' | 'p' | 'q' | 'u' | '$' | '#' => 66,
        'w' | '+' | '<' | '=' | '>' | '~' | '^' => 84,
        'm' | 'M' | 'W' | '%' | '@' | '…' => 102,
        'A'..='Z' | '&' => 79,
        // Marks that stand on the letter before them, and the joiner of emoji.
        '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{a0}'..='\u{52f}' => 80,
        // Everything else may be as wide as an emoji.
        _ => 135,
    }
}
