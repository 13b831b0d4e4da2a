//! Finds a secret in what a service answers, however its characters are written there, and puts something else in its
//! place. It never prints one, and knows nothing of requests.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use regex::bytes::{Regex, RegexBuilder};
use troupe_providers::Secret;

/// Characters of one pattern, and bytes that it may take compiled. Protects the host from a secret that is made of
/// beginnings of escapes alone.
const PATTERN_CHARS_MAX: usize = 256 << 10;
const PATTERN_BYTES_MAX: usize = 16 << 20;
/// Bytes of what is kept of a pattern's search, so that the next is faster. Protects the host, which keeps it.
const CACHE_BYTES_MAX: usize = 2 << 20;
/// Bytes that a search may look at for each byte of a text, and for any text. One that is meant well takes two or three; one
/// that is made for it could take for days.
const WORK_FOR_A_BYTE: usize = 8;
const WORK_ALWAYS: usize = 1 << 20;
/// What it costs to look whether one form is at a place.
const WORK_FOR_A_FORM: usize = 16;
/// Bytes of one part of a secret, however it is written. Bounds a look that finds nothing.
const PART_BYTES_MAX: usize = 4 << 10;
/// Parts of a secret by which its beginning is found; the rest is compared there.
const PARTS_SOUGHT: usize = 16;
/// Line breaks within base64, also escaped ones.
const LINE_BREAKS: &str = r"(?:[\r\n]|\\+[rn]|%0[AaDd])*";

/// A text takes too much work to be searched: somebody made it so.
#[derive(Debug)]
pub(crate) struct TooCostly;

/// A secret, and how it is found.
pub(crate) struct SecretSearch {
    secret: Secret,
    /// Where it may begin, in any form.
    beginnings: Regex,
    forms: Vec<Form>,
}

/// One form in which a secret comes back: itself, or its base64 at one of three places among the bytes around it. Its
/// parts follow each other, and each ends in one way only.
type Form = Vec<Arc<Regex>>;

impl SecretSearch {
    /// Makes ready to find a secret.
    ///
    /// # Errors
    /// It takes too much memory.
    pub(crate) fn new(secret: Secret) -> Result<Self, String> {
        let bytes = secret.expose().as_bytes();
        let forms = [
            parts_as_itself(bytes),
            parts_in_base64(bytes, 0),
            parts_in_base64(bytes, 1),
            parts_in_base64(bytes, 2),
        ];
        let begin = |parts: &Vec<String>| parts.iter().take(PARTS_SOUGHT).cloned().collect();
        let beginnings: Vec<String> = forms.iter().map(begin).collect();
        let beginnings = compiled(&beginnings.join("|"))?;
        let mut known = BTreeMap::new();
        let forms = forms
            .into_iter()
            .map(|parts| form_of(parts, &mut known))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            secret,
            beginnings,
            forms,
        })
    }

    /// The secret itself, for the one header that carries it.
    pub(crate) fn expose(&self) -> &str {
        self.secret.expose()
    }

    /// Whether a header's name tells the secret: names are read in lower case.
    pub(crate) fn is_in_name(&self, name: &str) -> bool {
        name.contains(&self.expose().to_ascii_lowercase())
            || !self
                .places(name.as_bytes())
                .is_ok_and(|places| places.is_empty())
    }

    /// Where it is, in order. Places that overlap are one.
    fn places(&self, text: &[u8]) -> Result<Vec<Range<usize>>, TooCostly> {
        let mut places: Vec<Range<usize>> = Vec::new();
        let mut work_left = text.len().saturating_mul(WORK_FOR_A_BYTE) + WORK_ALWAYS;
        let mut at = 0;
        while let Some(found) = self.beginnings.find_at(text, at) {
            let start = found.start();
            let mut work = found.end() - at;
            // Not behind it: the next may begin within this one.
            at = start + 1;
            let mut ends = None;
            for form in &self.forms {
                let (end, is_whole) = follow(form, text, start);
                work += end - start + WORK_FOR_A_FORM;
                ends = ends.max(is_whole.then_some(end));
            }
            work_left = work_left.checked_sub(work).ok_or(TooCostly)?;
            let Some(end) = ends else { continue };
            match places.last_mut() {
                Some(last) if start < last.end => last.end = last.end.max(end),
                _ => places.push(start..end),
            }
        }
        Ok(places)
    }
}

impl fmt::Debug for SecretSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[a secret]")
    }
}

/// The bytes with something else where a secret is. Where secrets overlap, it is what stands for the first of them, or
/// for the longest that begins there.
pub(crate) fn masked(bytes: &Bytes, secrets: &[(&SecretSearch, &str)]) -> Result<Bytes, TooCostly> {
    let mut found = Vec::new();
    for (secret, instead) in secrets {
        let places = secret.places(bytes)?.into_iter();
        found.extend(places.map(|place| (place, *instead)));
    }
    if found.is_empty() {
        return Ok(bytes.clone());
    }
    found.sort_by_key(|(place, _)| (place.start, Reverse(place.end)));
    let mut whole = Vec::with_capacity(bytes.len());
    let mut end = 0;
    for (place, instead) in found {
        if place.start >= end {
            whole.extend_from_slice(&bytes[end..place.start]);
            whole.extend_from_slice(instead.as_bytes());
        }
        end = end.max(place.end);
    }
    whole.extend_from_slice(&bytes[end..]);
    Ok(Bytes::from(whole))
}

/// How far a form goes that begins at a place, and whether that is all of it.
fn follow(form: &Form, text: &[u8], start: usize) -> (usize, bool) {
    let mut at = start;
    for part in form {
        let end = text.len().min(at + PART_BYTES_MAX);
        match part.find(&text[at..end]) {
            Some(found) => at += found.end(),
            None => return (at, false),
        }
    }
    (at, true)
}

/// The parts of a form, each compiled once.
fn form_of(parts: Vec<String>, known: &mut BTreeMap<String, Arc<Regex>>) -> Result<Form, String> {
    let parts = parts.into_iter().map(|part| {
        if let Some(known) = known.get(&part) {
            return Ok(Arc::clone(known));
        }
        let regex = Arc::new(compiled(&format!(r"\A(?:{part})"))?);
        known.insert(part, Arc::clone(&regex));
        Ok(regex)
    });
    parts.collect()
}

/// The error is our own: the library's shows the pattern, which is the secret.
fn compiled(pattern: &str) -> Result<Regex, String> {
    let refused = || "it is such that it cannot be searched for in responses".to_owned();
    if pattern.len() > PATTERN_CHARS_MAX {
        return Err(refused());
    }
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .build()
        .map_err(|_shows_it| refused())
}

/// A secret as it is, each of its bytes in any way of writing it.
fn parts_as_itself(secret: &[u8]) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut is_open = false;
    for (index, &byte) in secret.iter().enumerate() {
        part.push_str(&written(byte, again_in(index)));
        // What begins an escape may be itself or the beginning of its own escape: which of both shows behind the last
        // character that such an escape may have.
        is_open = b"%\\&".contains(&byte)
            || is_open && b"#;02356789abcmpux".contains(&byte.to_ascii_lowercase());
        if !is_open {
            parts.push(std::mem::take(&mut part));
        }
    }
    parts.extend((!part.is_empty()).then_some(part));
    parts
}

/// The base64 of a secret behind so many bytes of a group of three: the characters that tell of it alone, with those at
/// both ends that tell of it among others where they are there.
fn parts_in_base64(secret: &[u8], before: usize) -> Vec<String> {
    let among = |filling: u8| {
        let mut bytes = vec![filling; before];
        bytes.extend_from_slice(secret);
        bytes.resize(bytes.len().next_multiple_of(3), filling);
        BASE64.encode(bytes).into_bytes()
    };
    let (zeros, ones) = (among(0), among(0xff));
    let mut parts: Vec<String> = Vec::new();
    let mut first = String::new();
    for (&low, &high) in zeros.iter().zip(&ones) {
        if low == high {
            let before = match parts.is_empty() {
                true => std::mem::take(&mut first),
                false => LINE_BREAKS.to_owned(),
            };
            let character = written_in_base64(low, again_in(parts.len()));
            parts.push(before + &character);
            continue;
        }
        if (low, high) == (b'A', b'/') {
            continue; // It tells of other bytes alone.
        }
        let edge = edge_in_base64(low, high);
        match parts.last_mut() {
            Some(last) => last.push_str(&format!("(?:{LINE_BREAKS}{edge})?")),
            None => first = format!("(?:{edge}{LINE_BREAKS})?"),
        }
    }
    if let Some(last) = parts.last_mut() {
        last.push_str(&format!("(?:{}){{0,2}}", written(b'=', again_in(1))));
    }
    parts
}

/// The characters of which some bits are a secret's, from the one that has zeros for the others to the one that has ones.
fn edge_in_base64(low: u8, high: u8) -> String {
    let alphabet = alphabet::STANDARD.as_str().as_bytes();
    let value = |character: u8| alphabet.iter().position(|known| *known == character);
    let (low, high) = (value(low).unwrap_or(0), value(high).unwrap_or(0));
    let others = low ^ high;
    let either = alphabet.iter().enumerate();
    let either = either.filter(|(value, _)| value & !others == low);
    let either: String = either
        .map(|(_, &character)| match character {
            b'+' => "+\\-".to_owned(),
            b'/' => "/_".to_owned(),
            character => char::from(character).to_string(),
        })
        .collect();
    format!("[{either}]")
}

/// A character of base64 in both alphabets.
fn written_in_base64(character: u8, again: &str) -> String {
    let [one, other] = match character {
        b'+' => [b'+', b'-'],
        b'/' => [b'/', b'_'],
        plain => return char::from(plain).to_string(),
    };
    format!("(?:{}|{})", written(one, again), written(other, again))
}

/// A byte in any way of writing it: in HTML, in JSON, in an address, as itself. Where one way begins like another, the
/// longer is first.
fn written(byte: u8, again: &str) -> String {
    let percent = format!("%(?:25){again}");
    let backslash = format!(r"(?i:\\|{percent}5c)");
    let backslashes = format!("{backslash}{backslash}{again}");
    let semicolon = format!("(?:;|{percent}3b)");
    let ampersand = format!("(?:&|{backslashes}u0026|{percent}26)(?:amp{semicolon}){again}");
    let number = format!("(?:#|{percent}23)(?:0{again}{byte}|x0{again}{byte:02x})");
    let name = match byte {
        b'"' => "|quot",
        b'&' => "|amp",
        b'\'' => "|apos",
        b'<' => "|lt",
        b'>' => "|gt",
        _ => "",
    };
    // No letter and no digit is escaped by a backslash alone.
    let escapes = match byte.is_ascii_alphanumeric() {
        true => String::new(),
        false => format!("{backslash}{again}"),
    };
    let itself = match byte {
        b' ' => r"\x20|\+".to_owned(),
        byte => format!(r"\x{byte:02x}"),
    };
    format!(
        "{escapes}(?:(?i:{ampersand}(?:{number}{name}){semicolon}|{backslashes}(?:u00|x){byte:02x}|{percent}{byte:02x})|{itself})"
    )
}

/// How often an escape may be escaped again. Where the secret begins there is a bound: without it a long run of escapes
/// would have as many beginnings as characters.
fn again_in(part: usize) -> &'static str {
    match part {
        0 => "{0,8}",
        _ => "*",
    }
}

#[cfg(test)]
mod tests;
