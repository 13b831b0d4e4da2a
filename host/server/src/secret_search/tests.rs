//! Secrets in every way of writing them: each is found, and nothing else is.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn search(secret: &str) -> SecretSearch {
    SecretSearch::new(Secret::new(secret)).unwrap()
}

fn without(secret: &SecretSearch, text: impl AsRef<[u8]>) -> String {
    let text = Bytes::copy_from_slice(text.as_ref());
    let masked = masked(&text, &[(secret, "{{S}}")]).unwrap();
    String::from_utf8_lossy(&masked).into_owned()
}

/// As Python's `urllib.parse.quote` does it.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-~/".contains(c);
    let write = |c: char| match is_plain(c) {
        true => c.to_string(),
        false => format!("%{:02X}", u32::from(c)),
    };
    text.chars().map(write).collect()
}

#[test]
fn a_secret_is_found_in_the_forms_in_which_it_comes_back() {
    let (short, long) = (search("ab/cd+ef=="), search("ab/cd+ef==gh"));
    for (text, expected) in [
        ("x ab/cd+ef== y", "x {{S}} y"),
        ("x ab/cd+ef==gh y", "x {{L}} y"),
        (r#"{"a": "ab\/cd+ef=="}"#, r#"{"a": "{{S}}"}"#),
        ("a=ab%2Fcd%2Bef%3D%3D", "a={{S}}"),
        ("a=ab%2fcd%2bef%3d%3dgh", "a={{L}}"),
        ("YWIvY2QrZWY9PQ==", "{{S}}"),
        ("ab/cd", "ab/cd"),
    ] {
        let bytes = Bytes::from_static(text.as_bytes());
        let masked = masked(&bytes, &[(&short, "{{S}}"), (&long, "{{L}}")]).unwrap();
        assert_eq!(masked, expected, "{text}");
    }
}

#[test]
fn each_byte_may_be_written_in_its_own_way() {
    let secret = search(r#"s3cr3t/of+"the"&\operator="#);
    for text in [
        r#"s3cr3t/of+"the"&\operator="#,
        "s3cr3t/of%2B%22the%22%26%5Coperator%3D",
        "%73%33%63%72%33%74%2f%6f%66%2b%22%74%68%65%22%26%5c%6f%70%65%72%61%74%6f%72%3d",
        r#"s3cr3t\/of+\"the\"&\\operator="#,
        r#"\u0073\u0033cr3t\u002Fof\u002b\u0022the\"\u0026\\operator\u003D"#,
        r#"s3cr3t\x2fof+\"the\"&\\operator="#,
        r#"s3cr3t\\\/of+\\\"the\\\"&\\\\operator="#,
        r#"s3cr3t\\u002fof+\\\"the\\\"\\u0026\\\\operator="#,
        "s3cr3t%252Fof%252B%2522the%2522%2526%255Coperator%253D",
        "s3cr3t/of&#43;&quot;the&quot;&amp;&#92;operator&#61;",
        "s3cr3t&#x2F;of&#X2b;&#x0022;the&quot;&amp;amp;\\operator&#x3D;",
        r#"s3cr3t/of+\&quot;the\u0026quot;\u0026amp;\\operator="#,
        "s3cr3t%5C%2Fof%2B%5C%22the%5C%22%26%5C%5Coperator%5Cu003D",
        "s3cr3t%26%2347%3Bof+%26quot%3Bthe%22%26amp%3B%5Coperator=",
        r#"s3cr3t/of\u002b%22th\u0065&quot;%26\\oper%61tor&#61;"#,
    ] {
        assert_eq!(without(&secret, text), "{{S}}", "{text}");
        let within = format!("a%{text}25");
        assert_eq!(without(&secret, within), "a%{{S}}25", "{text}");
        let cut = &text[..text.len() - 1];
        assert_eq!(without(&secret, cut), cut, "a part is no secret");
    }
    let spaces = search("of several words here");
    assert_eq!(without(&spaces, "of+several%20words here"), "{{S}}");
}

#[test]
fn base64_is_found_in_both_alphabets_wherever_it_begins_and_however_it_ends() {
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    for secret in [
        "s3cr3t>of?the~operator",
        "s3cr3t>of?the~operator1",
        "~~~???>>>~~~???>>>~~~???",
    ] {
        let search = search(secret);
        for (before, after) in [
            ("", ""),
            ("u:", ""),
            ("user:", "\n"),
            ("use:", ", and"),
            ("", ":x"),
        ] {
            let plain = format!("{before}{secret}{after}");
            for text in [
                BASE64.encode(&plain),
                STANDARD_NO_PAD.encode(&plain),
                URL_SAFE.encode(&plain),
                URL_SAFE_NO_PAD.encode(&plain),
                quoted(&BASE64.encode(&plain)),
                BASE64.encode(&plain).replace('/', "\\/"),
                BASE64.encode(&plain).replace('+', "\\u002B"),
                format!(
                    "{}\r\n{}",
                    &BASE64.encode(&plain)[..19],
                    &BASE64.encode(&plain)[19..]
                ),
                format!(
                    "{}\\n{}",
                    &BASE64.encode(&plain)[..18],
                    &BASE64.encode(&plain)[18..]
                ),
            ] {
                let masked = without(&search, format!("Basic {text}."));
                let (front, back) = masked
                    .split_once("{{S}}")
                    .unwrap_or_else(|| panic!("{masked}"));
                // What tells of what stands around it alone.
                let front = front.strip_prefix("Basic ").unwrap();
                let back = back.strip_suffix('.').unwrap();
                assert_eq!(front.len(), before.len() * 8 / 6, "{text} {masked}");
                let after_bits = after.len() * 8;
                assert!(
                    back.trim_end_matches("%3D").trim_end_matches('=').len()
                        <= after_bits.div_ceil(6),
                    "{text}: {masked}"
                );
                assert!(
                    text.starts_with(front) && text.ends_with(back),
                    "{text}: {masked}"
                );
            }
        }
    }
}

#[test]
fn secrets_that_overlap_or_repeat_are_found() {
    let framed = format!("X{}X", "y".repeat(16));
    let found = search(&framed);
    let overlapping = format!("a X{0}X{0}X{0}X b", "y".repeat(16));
    assert_eq!(without(&found, overlapping), "a {{S}} b");
    assert_eq!(
        without(&found, format!("{framed}{framed}, {framed}")),
        "{{S}}{{S}}, {{S}}"
    );
    let same = "a".repeat(20);
    assert_eq!(without(&search(&same), "a".repeat(50)), "{{S}}");
    let (one, other) = (search("0123456789abcdef"), search("89abcdefghijklmn"));
    let text = Bytes::from_static(b"<0123456789abcdefghijklmn>");
    let masked = masked(&text, &[(&other, "{{O}}"), (&one, "{{S}}")]).unwrap();
    assert_eq!(masked, "<{{S}}>");
}

#[test]
fn a_secret_that_looks_like_an_escape_is_found_as_it_is_and_escaped() {
    for secret in [
        "%25%2525%252525&amp;%41",
        r"\\\u005c\\x5c\\\\\\u0075",
        "&amp;&amp;&#38;&amp;#38;",
        "%%%%%%%%%%%%%%%%2525252525",
        r"u0075u0075x75n\n\r%0Arn",
    ] {
        let found = search(secret);
        let texts = [
            secret.to_owned(),
            quoted(secret),
            quoted(&quoted(secret)),
            json!(secret).to_string().trim_matches('"').to_owned(),
            secret.replace('&', "&amp;"),
            BASE64.encode(secret),
        ];
        for text in texts {
            assert_eq!(without(&found, &text), "{{S}}", "{secret}: {text}");
        }
    }
}

#[test]
fn a_long_secret_is_found_and_others_that_begin_alike_are_left() {
    let token = |signature: &str| {
        format!(
            "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.{}.{signature}",
            "c0/+".repeat(2000)
        )
    };
    let (own, other) = (token("b3du"), token("b3Ro"));
    let found = search(&own);
    for text in [own.clone(), quoted(&own), BASE64.encode(format!("x{own}"))] {
        assert!(without(&found, text).ends_with("{{S}}"));
    }
    assert_eq!(without(&found, &other), other);
    assert_eq!(
        without(&found, format!("{other} {own}")),
        format!("{other} {{{{S}}}}")
    );
}

#[test]
fn what_would_take_too_much_memory_is_refused_without_a_word_of_it() {
    let refused = SecretSearch::new(Secret::new("%25".repeat(2000)));
    assert!(!refused.unwrap_err().contains("%25"));
}

/// Runs of escapes have one beginning or a few, not as many as characters.
#[test]
fn a_body_of_escapes_is_searched_in_time() {
    let found = search("/+/s3cr3t+of/the%operator");
    let size = 2 << 20;
    for run in ["\\", "%25", "&amp;", "0", "/+", "%2f\\u002b"] {
        let body = run.repeat(size / run.len());
        assert_eq!(without(&found, &body), body);
        let body = format!("%{body}2F+%2f{body}s3cr3t+of/the%operator{body}");
        let masked = without(&found, &body);
        assert!(masked.len() >= size, "{run}");
    }
}

#[test]
fn a_body_that_is_made_to_be_searched_for_days_is_refused() {
    let size = 2 << 20;
    for secret in [
        "tell-nobody-of-this-1",
        "\\cs-begins-like-one",
        "0123456789-abcdefg",
        "nothing/to+see=here",
    ] {
        let found = search(secret);
        let in_base64 = base64::engine::general_purpose::STANDARD.encode(secret);
        for run in ["%0d", "%0A", "%0D", "\\n", "\n", "%5c", "\\"] {
            for rest in [secret, &in_base64, &in_base64[..12]] {
                let body = Bytes::from(run.repeat(size / run.len()) + rest);
                // Either it is found, or nobody is told anything.
                if let Ok(masked) = masked(&body, &[(&found, "{{S}}")]) {
                    let shown = String::from_utf8_lossy(&masked);
                    assert!(
                        !shown.contains(secret) && !shown.contains(&in_base64),
                        "{run}"
                    );
                }
            }
        }
    }
}

/// Ways of writing a byte.
fn byte_written(byte: u8, way: usize) -> String {
    let plain = char::from(byte);
    let escaped = |by: &str| match plain.is_ascii_alphanumeric() {
        true => plain.to_string(),
        false => format!("{by}{plain}"),
    };
    match way {
        0 => format!("%{byte:02X}"),
        1 => format!("%{byte:02x}"),
        2 => format!("\\u{byte:04x}"),
        3 => format!("\\u{byte:04X}"),
        4 => escaped("\\"),
        5 => escaped("\\\\\\"),
        6 => format!("%25{byte:02X}"),
        7 => format!("&#{byte};"),
        8 => format!("&#x{byte:X};"),
        9 => format!("&amp;#{byte:03};"),
        10 => format!("%5Cu{byte:04x}"),
        11 => format!("\\u0026#{byte};"),
        _ => plain.to_string(),
    }
}

/// What is left when every escape is undone, from the left, as often as there is one.
fn undone(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    let escapes = Regex::new(
        r"(?i-u)%(?P<p>[0-7][0-9a-f])|\\u00(?P<u>[0-7][0-9a-f])|&#0*(?P<d>[0-9]{2,3});|&#x(?P<x>[0-7][0-9a-f]);|&amp;|\\(?P<b>[\\/!-.:-@\[-`{-~])",
    )
    .unwrap();
    for _ in 0..6 {
        let last = all.last().unwrap();
        let next = escapes.replace_all(last.as_bytes(), |found: &regex::bytes::Captures<'_>| {
            let text = |name| {
                found
                    .name(name)
                    .map(|part| std::str::from_utf8(part.as_bytes()).unwrap())
            };
            if let Some(code) = text("p").or(text("u")).or(text("x")) {
                return vec![u8::from_str_radix(code, 16).unwrap()];
            }
            match (text("d"), text("b")) {
                (Some(code), _) => vec![code.parse().unwrap_or(b'?')],
                (None, Some(plain)) => plain.as_bytes().to_vec(),
                (None, None) => b"&".to_vec(),
            }
        });
        let next = String::from_utf8_lossy(&next).into_owned();
        all.push(next);
    }
    all
}

fn any_secret() -> impl Strategy<Value = String> {
    // A secret's own white space at its ends is not part of it.
    prop_oneof![
        "[!-~]{16,80}",
        "[!-~][ -~]{14,30}[!-~]",
        "[A-Za-z0-9+/=_-]{16,100}",
        "[%25\\\\u0&amp;#x]{16,30}"
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_secret_is_left_however_its_bytes_are_written(
        secret in any_secret(),
        ways in prop::collection::vec(0..20_usize, 100),
        uniform in prop::option::of(0..13_usize),
        before in "[ -~]{0,20}|[\\\\%25u0&#;]{0,20}",
        after in "[ -~]{0,20}|[\\\\%25u0&#;]{0,20}",
    ) {
        let ways = ways.iter().cycle();
        let written = secret.bytes().zip(ways);
        let written: String = written.map(|(byte, &way)| byte_written(byte, uniform.unwrap_or(way))).collect();
        let found = search(&secret);
        // An escape that a secret ends with may leave its number behind.
        let apart = without(&found, format!("{before}\n{written}\n{after}"));
        prop_assert!(apart.starts_with(&format!("{before}\n{{{{S}}}}")), "{}", apart);
        prop_assert!(apart.ends_with(&format!("\n{after}")), "{}", apart);
        let joined = without(&found, format!("{before}{written}{after}"));
        prop_assert!(joined.contains("{{S}}"), "{}", joined);
        for text in undone(&joined) {
            prop_assert!(!text.contains(&secret), "{}", text);
        }
    }

    #[test]
    fn no_secret_is_left_in_base64(
        secret in any_secret(),
        before in prop::collection::vec(any::<u8>(), 0..20),
        after in prop::collection::vec(any::<u8>(), 0..20),
        ways in prop::collection::vec(0..20_usize, 200),
        is_for_addresses in any::<bool>(),
    ) {
        let plain = [&before, secret.as_bytes(), &after].concat();
        let engine = match is_for_addresses {
            true => base64::engine::general_purpose::URL_SAFE_NO_PAD,
            false => BASE64,
        };
        let written = engine.encode(&plain);
        let written = written.bytes().zip(&ways).map(|(byte, &way)| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => byte_written(byte, way),
        });
        let found = search(&secret);
        let masked = without(&found, written.collect::<String>());
        prop_assert!(masked.contains("{{S}}"), "{}", masked);
    }

    #[test]
    fn what_holds_no_secret_stays(secret in any_secret(), text in prop::collection::vec(any::<u8>(), 0..200)) {
        let found = search(&secret);
        let bytes = Bytes::from(text);
        prop_assert_eq!(masked(&bytes, &[(&found, "{{S}}")]).unwrap(), bytes);
    }
}
