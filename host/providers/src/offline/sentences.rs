//! Cuts text into whole sentences and tells those that can be quoted alone. Pure.

use super::words;

/// Words before a point that do not end a sentence.
const ABBREVIATIONS: [&str; 34] = [
    "approx", "apr", "aug", "ca", "cf", "co", "corp", "dec", "dr", "ed", "eds", "e.g", "et al",
    "feb", "fig", "i.e", "inc", "jan", "jr", "ltd", "mr", "mrs", "ms", "no", "nos", "nov", "oct",
    "p", "pp", "prof", "sept", "st", "u.s", "vs",
];
/// Openings that lean on a sentence before them.
const LEANING: [&str; 42] = [
    "accordingly",
    "additionally",
    "also",
    "and",
    "another",
    "because",
    "both",
    "but",
    "consequently",
    "finally",
    "furthermore",
    "he",
    "hence",
    "here",
    "however",
    "instead",
    "it",
    "its",
    "likewise",
    "meanwhile",
    "moreover",
    "nevertheless",
    "nor",
    "note",
    "or",
    "otherwise",
    "she",
    "similarly",
    "so",
    "specifically",
    "still",
    "such",
    "that",
    "their",
    "then",
    "therefore",
    "these",
    "they",
    "this",
    "those",
    "thus",
    "yet",
];
/// The same, behind `the`.
const LEANING_AFTER_THE: [&str; 8] = [
    "above",
    "first",
    "following",
    "former",
    "latter",
    "reason",
    "same",
    "second",
];
/// Shortest and longest sentence, in characters, that reads well alone.
const QUOTABLE_CHARS: std::ops::RangeInclusive<usize> = 40..=420;
const QUOTABLE_WORDS_MIN: usize = 6;

/// The sentences of a text, in order, each on one line. Paragraphs, lines of lists and headings end one.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for block in blocks(text) {
        let mut start = 0;
        for (at, end) in block
            .char_indices()
            .filter(|(_, c)| matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？'))
        {
            let after = at + end.len_utf8();
            let closing = block[after..]
                .chars()
                .take_while(|c| matches!(c, '"' | '”' | '’' | '\'' | ')' | ']'));
            let after = after + closing.map(char::len_utf8).sum::<usize>();
            if after > start && ends_here(&block[start..at], end, &block[after..]) {
                out.push(block[start..after].trim().to_owned());
                start = after;
            }
        }
        out.push(block[start..].trim().to_owned());
    }
    out.retain(|sentence| !sentence.is_empty());
    out
}

/// Paragraphs, and lines of lists, each on one line.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines().map(crate::text::squeeze) {
        let item = line
            .trim_start_matches(['-', '*', '•', '+', '#', '>'])
            .trim_start();
        let is_item = item.len() < line.len()
            && line.as_bytes().get(line.len() - item.len() - 1) == Some(&b' ');
        match blocks
            .last_mut()
            .filter(|_| open && !is_item && !line.is_empty())
        {
            Some(last) => {
                last.push(' ');
                last.push_str(&line);
            }
            None if !line.is_empty() => blocks.push(if is_item {
                item.to_owned()
            } else {
                line.clone()
            }),
            None => {}
        }
        open = !line.is_empty();
    }
    blocks
}

/// Whether the mark after `before` ends a sentence.
fn ends_here(before: &str, mark: char, after: &str) -> bool {
    if matches!(mark, '。' | '！' | '？') {
        return true;
    }
    let Some(next) = after
        .strip_prefix(' ')
        .and_then(|after| after.chars().next())
    else {
        return after.is_empty();
    };
    if next.is_lowercase() {
        return false;
    }
    if mark != '.' {
        return true;
    }
    let last = before
        .rsplit([' ', '('])
        .next()
        .unwrap_or(before)
        .to_lowercase();
    let initial = last.chars().count() == 1 && last.chars().all(char::is_alphabetic);
    let next_is_number =
        next.is_numeric() && matches!(last.as_str(), "no" | "nos" | "fig" | "p" | "pp");
    !initial
        && !next_is_number
        && (!ABBREVIATIONS.contains(&last.as_str())
            || last == "no"
            || last == "co"
            || last == "inc")
}

/// Whether a sentence can be quoted: whole, readable, no markup, no menu, no table.
pub(super) fn is_quotable(sentence: &str) -> bool {
    let chars = sentence.chars().count();
    let letters = sentence
        .chars()
        .filter(|c| c.is_alphabetic() || *c == ' ')
        .count();
    let first = sentence
        .trim_start_matches(['"', '“', '(', '\'', '['])
        .chars()
        .next();
    let ends_well = sentence
        .trim_end_matches(['"', '”', '’', '\'', ')', ']'])
        .ends_with(['.', '!', '?', '。', '！', '？']);
    QUOTABLE_CHARS.contains(&chars)
        && ends_well
        && !sentence.ends_with("...")
        && first.is_some_and(|c| c.is_uppercase() || c.is_numeric() || !c.is_ascii())
        && letters * 10 >= chars * 7
        && words::split(sentence).take(QUOTABLE_WORDS_MIN).count() >= QUOTABLE_WORDS_MIN
        && !sentence.contains(['|', '{', '}', '<', '>', '\\', '`', '\u{fffd}'])
        && !sentence.contains("://")
        && is_balanced(sentence)
}

/// Whether a sentence needs the one before it to be understood.
pub(super) fn leans(sentence: &str) -> bool {
    let stem = |word: &str| {
        word.to_lowercase()
            .split(['\'', '’'])
            .next()
            .unwrap_or_default()
            .to_owned()
    }; // it's: it
    let mut words = words::split(sentence).map(stem);
    let (first, second) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    LEANING.contains(&first.as_str())
        || (first == "the" && LEANING_AFTER_THE.contains(&second.as_str()))
}

fn is_balanced(sentence: &str) -> bool {
    let count = |c: char| sentence.matches(c).count();
    count('(') == count(')')
        && count('[') == count(']')
        && count('“') == count('”')
        && count('"').is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_sentences_where_readers_do() {
        let text = "Sales rose 3.5 percent in the U.S. market, e.g. in Ohio. Dr. Rao said \"It works.\" See Fig. 3 for more! \
                    Is it so? J. Smith agrees.\n\nHeading\n\n- First item of two\n- Second item.\nIt goes on";
        let expected = [
            "Sales rose 3.5 percent in the U.S. market, e.g. in Ohio.",
            "Dr. Rao said \"It works.\"",
            "See Fig. 3 for more!",
            "Is it so?",
            "J. Smith agrees.",
            "Heading",
            "First item of two",
            "Second item.",
            "It goes on",
        ];
        assert_eq!(split(text), expected);
    }

    #[test]
    fn quotes_whole_readable_sentences_only() {
        assert!(is_quotable(
            "Electric scooters made up more than half of all sales in the year 2025."
        ));
        for bad in [
            "Home Products About us Contact",
            "electric scooters made up more than half of all sales in the year 2025.",
            "Electric scooters made up more than half of all sales in the year...",
            "| Scooters | 120 | 340 | of all sales in the year 2025 and so on.",
            "Electric scooters (as they are called made up more than half of all sales.",
            "See https://example.com/page for more than half of all the sales in 2025.",
            "Short one here.",
        ] {
            assert!(!is_quotable(bad), "{bad}");
        }
        assert!(
            leans("However, sales fell.")
                && leans("It’s so.")
                && leans("The latter fell.")
                && !leans("Sales fell.")
        );
    }
}
