//! Makes full-text queries of what a user typed. Pure: every word is quoted, so nothing a user or a model writes is
//! ever syntax.

/// Most words of a query. It protects the index from a page of text as a query.
const WORDS_MAX: usize = 32;

/// Words too common to search for, unless there are no others.
const STOP_WORDS: [&str; 58] = [
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "by", "can", "could", "did", "do",
    "does", "for", "from", "had", "has", "have", "how", "i", "in", "into", "is", "it", "its", "me",
    "my", "not", "of", "on", "or", "our", "please", "should", "tell", "than", "that", "the",
    "their", "them", "there", "these", "they", "this", "to", "was", "we", "were", "what", "when",
    "where", "which", "who", "why", "will", "with",
];

/// How the words of a query have to be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    All,
    Any,
}

/// The words of a query, in order, each once.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        let word = word.to_lowercase();
        if words.len() < 4 * WORDS_MAX && !words.contains(&word) {
            words.push(word);
        }
    }
    let content: Vec<String> = words
        .iter()
        .filter(|word| !STOP_WORDS.contains(&word.as_str()))
        .cloned()
        .collect();
    let mut words = if content.is_empty() { words } else { content };
    words.truncate(WORDS_MAX);
    words
}

/// The query in FTS5's language; none without words.
pub(super) fn fts(words: &[String], matching: Match) -> Option<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let operator = match matching {
        Match::All => " AND ",
        Match::Any => " OR ",
    };
    (!quoted.is_empty()).then(|| quoted.join(operator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_words_and_nothing_else() {
        let query = |text: &str| fts(&words(text), Match::All);
        assert_eq!(
            query("What is the solar POWER of India?").as_deref(),
            Some("\"solar\" AND \"power\" AND \"india\"")
        );
        assert_eq!(
            query("NEAR(a b) OR title:x* \"unbalanced").as_deref(),
            Some("\"near\" AND \"b\" AND \"title\" AND \"x\" AND \"unbalanced\"")
        );
        assert_eq!(
            query("what is it").as_deref(),
            Some("\"what\" AND \"is\" AND \"it\"")
        );
        assert_eq!(query("größe größe").as_deref(), Some("\"größe\""));
        assert_eq!(query("?!\"'"), None);
        assert_eq!(words(&"a1 b2 c3 d4 ".repeat(1_000)).len(), 4);
    }
}
