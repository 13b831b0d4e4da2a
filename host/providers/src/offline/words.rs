//! Words of a text: which ones carry meaning, and which ones are the same. Pure; made for English, harmless elsewhere.

/// Words that carry no topic of their own.
const STOP_WORDS: &[&str] = &[
    "a", "about", "above", "across", "after", "again", "against", "all", "almost", "along",
    "already", "also", "although", "always", "am", "among", "an", "and", "another", "any", "are",
    "around", "as", "at", "back", "be", "became", "because", "become", "been", "before", "being",
    "below", "between", "both", "but", "by", "can", "cannot", "could", "did", "do", "does",
    "doing", "done", "down", "due", "during", "each", "either", "etc", "even", "ever", "every",
    "few", "for", "from", "further", "get", "give", "given", "go", "had", "has", "have", "having",
    "he", "her", "here", "hers", "him", "his", "how", "however", "i", "if", "in", "into", "is",
    "it", "its", "itself", "just", "least", "less", "let", "like", "made", "make", "many", "may",
    "me", "might", "more", "most", "much", "must", "my", "neither", "no", "nor", "not", "now",
    "of", "off", "often", "on", "once", "one", "only", "or", "other", "others", "our", "out",
    "over", "own", "per", "perhaps", "please", "rather", "said", "same", "say", "see", "she",
    "should", "since", "so", "some", "still", "such", "take", "than", "that", "the", "their",
    "them", "then", "there", "these", "they", "this", "those", "through", "to", "too", "under",
    "until", "up", "upon", "us", "use", "used", "using", "very", "was", "we", "well", "were",
    "what", "when", "where", "whether", "which", "while", "who", "whom", "whose", "why", "will",
    "with", "within", "without", "would", "yet", "you", "your",
];

/// Whether a word, in lower case, carries no topic.
pub(super) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
        || (word.len() == 1 && !word.starts_with(|c: char| c.is_ascii_digit()))
}

/// The words of a text as they stand: letters and digits, with hyphens, apostrophes and points inside.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '\'' | '’' | '.' | '&');
    text.split(move |c: char| !inside(c))
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
}

/// The stem of a word: lower case, without the endings of plurals and possessives.
pub(super) fn stem(word: &str) -> String {
    let word = word.to_lowercase();
    let word = word
        .strip_suffix("'s")
        .or_else(|| word.strip_suffix("’s"))
        .unwrap_or(&word);
    let long = word.chars().count() > 3;
    match word.strip_suffix("ies") {
        Some(stem) if long => format!("{stem}y"),
        _ if long
            && (word.ends_with("sses")
                || word.ends_with("xes")
                || word.ends_with("ches")
                || word.ends_with("shes")) =>
        {
            word[..word.len() - 2].to_owned()
        }
        _ if long
            && word.ends_with('s')
            && !word.ends_with("ss")
            && !word.ends_with("us")
            && !word.ends_with("is") =>
        {
            word[..word.len() - 1].to_owned()
        }
        _ => word.to_owned(),
    }
}

/// The stems of the words of a text that carry meaning.
pub(super) fn content_stems(text: &str) -> Vec<String> {
    split(text)
        .filter(|word| !is_stop_word(&word.to_lowercase()))
        .map(stem)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stop_words_are_in_order() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn finds_the_words_that_mean_something() {
        let stems = content_stems(
            "The battery's 2.5-litre batteries, buses and boxes of the U.S. process: what is it?",
        );
        assert_eq!(
            stems,
            [
                "battery",
                "2.5-litre",
                "battery",
                "buse",
                "box",
                "u.s",
                "process"
            ]
        );
    }
}
