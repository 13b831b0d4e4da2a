//! Cuts and cleans text that came from outside. Pure; never cuts a character in half.

/// Most characters of a server's own words in an error message. It protects logs and the journal.
const MESSAGE_CHARS_MAX: usize = 500;

/// `text` on one line for a message: control characters and runs of white space become one space, cut at 500
/// characters.
pub(crate) fn one_line(text: &str) -> String {
    cut_chars(&squeeze(text), MESSAGE_CHARS_MAX)
}

/// Every run of white space and control characters as one space; none at either end.
pub(crate) fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// At most `chars_max` characters of `text`; what is cut shows as `…`.
pub(crate) fn cut_chars(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squeezes_and_cuts_between_characters() {
        assert_eq!(squeeze("  a\n\t b\u{0}\u{1b}c "), "a b c");
        assert_eq!(cut_chars("größe", 3), "grö…");
        assert_eq!(cut_chars("größe", 5), "größe");
        assert!(one_line(&"ä".repeat(10_000)).chars().count() <= 501);
    }
}
