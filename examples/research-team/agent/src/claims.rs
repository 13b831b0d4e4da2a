//! Taking a text apart into statements that can be looked up.

/// Most statements that are checked: each costs a search and a question to a model.
const CLAIMS_MAX: usize = 8;

/// Fewest words of a statement; anything shorter is a heading or an aside.
const WORDS_MIN: usize = 5;

/// The first statements of a text, without its citations, headings and list of sources.
pub(crate) fn split(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !is_source_list(line));
    let prose = lines
        .filter(|line| !line.starts_with(['#', '[']))
        .map(|line| line.trim_start_matches(['-', '*', ' ']));
    let mut claims = Vec::new();
    for line in prose {
        claims.extend(sentences(&without_citations(line)));
    }
    claims.truncate(CLAIMS_MAX);
    claims
}

/// A line such as `Sources:` or `## References`, after which there are only links.
fn is_source_list(line: &str) -> bool {
    let word = line.trim_matches(|character: char| !character.is_alphabetic());
    ["sources", "references"]
        .iter()
        .any(|name| word.eq_ignore_ascii_case(name))
}

/// Removes citations such as `[2]` or `[1, 3]`.
fn without_citations(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        let number =
            |character: char| character.is_ascii_digit() || character == ',' || character == ' ';
        match after.split_once(']') {
            Some((inside, behind)) if inside.chars().all(number) => {
                kept.push_str(before.trim_end());
                rest = behind;
            }
            _ => {
                kept.push_str(before);
                kept.push('[');
                rest = after;
            }
        }
    }
    kept + rest
}

/// Splits at a full stop, exclamation or question mark that a blank and a capital letter follow, so that
/// `1.5 million` and `e.g. trees` stay whole.
fn sentences(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut sentence = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        sentence.push(character);
        if !matches!(character, '.' | '!' | '?') {
            continue;
        }
        let mut ahead = characters.clone();
        let ends = match (ahead.next(), ahead.next()) {
            (Some(' '), Some(next)) => next.is_uppercase() || next.is_numeric(),
            (following, _) => following.is_none(),
        };
        if ends {
            found.push(std::mem::take(&mut sentence));
        }
    }
    found.push(sentence);
    let trimmed = found.iter().map(|sentence| sentence.trim());
    let whole = trimmed.filter(|sentence| {
        sentence.split_whitespace().count() >= WORDS_MIN && !sentence.ends_with('?')
    });
    whole.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_becomes_statements() {
        let summary = "[a label]\n# Heat in cities\n\n\
            Trees cool a street by up to 2.5 degrees. [1] Green roofs hold back rain, e.g. in Basel [1, 2]. Why is that?\n\
            - White roofs reflect most of the sunlight [3].\n\nSources:\n[1] Trees in towns and their effect on heat\n";
        assert_eq!(
            split(summary),
            [
                "Trees cool a street by up to 2.5 degrees.",
                "Green roofs hold back rain, e.g. in Basel.",
                "White roofs reflect most of the sunlight.",
            ]
        );
    }

    #[test]
    fn brackets_that_cite_nothing_stay() {
        assert_eq!(
            without_citations("an array [of numbers] is [ open [12]"),
            "an array [of numbers] is [ open"
        );
    }

    #[test]
    fn there_is_an_upper_limit() {
        assert_eq!(
            split(&"This is one of many statements. ".repeat(50)).len(),
            CLAIMS_MAX
        );
        assert_eq!(split("Too short. Yes!"), Vec::<String>::new());
    }
}
