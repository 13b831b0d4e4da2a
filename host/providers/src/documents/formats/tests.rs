//! Each format from literal text.

use super::*;

fn text_of(format: Format, source: &str) -> (Option<String>, String) {
    let extracted = extract(format, source.as_bytes()).unwrap();
    (extracted.title, extracted.parts[0].text.trim().to_owned())
}

#[test]
fn markdown_loses_its_marks() {
    let source = "<!-- note -->\nIntro with `code` and ~~old~~ *new* words.\n\n## The title\n\n1. One\n2. Two\n   - Nested\n\n\
                  | a | b |\n|---|---|\n| 1 | 2 |\n\n```\nlet x = 1;\n```\n\n> Quoted.\n\n![alt](pic.png) End[^1].\n\n[^1]: Note.\n";
    let (title, text) = text_of(Format::Markdown, source);
    assert_eq!(title.as_deref(), Some("The title"));
    let expected = "Intro with code and old new words.\n\nThe title\n\n- One\n- Two\n\n- Nested\n\na | b\n1 | 2\n\nlet x = 1;\n\nQuoted.\n\nalt End.\n\nNote.";
    assert_eq!(text, expected);
}

#[test]
fn front_matter_is_a_head_and_not_text() {
    let extracted = extract(
        Format::Markdown,
        b"---\r\ntitle: \"My page\"\r\ndate: 2026-01-02\r\n---\r\nBody.\r\n",
    )
    .unwrap();
    assert_eq!(
        (
            extracted.title.as_deref(),
            extracted.published_at.as_deref()
        ),
        (Some("My page"), Some("2026-01-02T00:00:00Z"))
    );
    assert_eq!(extracted.parts[0].text.trim(), "Body.");
    assert_eq!(text_of(Format::Markdown, "---\nno end").1, "no end");
}

#[test]
fn html_becomes_readable_text() {
    let source = "<TITLE>A &lt;b&gt; title</TITLE><nav><a href='/'>Home</a></nav><h2>Head</h2><p>One <a href='https://x.org'>link</a>.</p><ul><li>First<li>Second</ul>\
                  <table><tr><td>1</td><td>2</td></tr></table><p>Two &eacute;<br>lines</p>";
    let (title, text) = text_of(Format::Html, source);
    assert_eq!(title.as_deref(), Some("A <b> title"));
    assert_eq!(
        text,
        "Head\n\nOne link.\n- First\n- Second\n\n1 2\n\nTwo é\nlines"
    );
    text_of(Format::Html, &"<div>".repeat(20_000));
}

#[test]
fn a_lone_first_line_is_the_title_of_plain_text() {
    assert_eq!(
        text_of(Format::Text, "\nNotes on tides\n==============\n\nText.")
            .0
            .as_deref(),
        Some("Notes on tides")
    );
    assert_eq!(
        text_of(Format::Text, "Notes on tides\n==============\n\nText.").1,
        "Notes on tides\n\nText."
    );
    assert_eq!(
        text_of(Format::Text, "A sentence begins here\nand goes on.").0,
        None
    );
    assert_eq!(text_of(Format::Text, "A whole sentence.\n\nMore.").0, None);
}

#[test]
fn reads_old_encodings_and_refuses_binary() {
    assert_eq!(decode(b"caf\xe9").unwrap(), "café");
    assert_eq!(decode("café".as_bytes()).unwrap(), "café");
    assert_eq!(decode(b"\xff\xfec\x00a\x00").unwrap(), "ca");
    assert!(decode(b"a\0b").is_err());
}

#[test]
fn a_pdf_without_text_says_so() {
    let empty = crate::documents::tests::pdf("Scan", &[""]);
    assert!(
        extract(Format::Pdf, &empty)
            .unwrap_err()
            .contains("no text")
    );
    assert!(extract(Format::Pdf, b"").is_err());
}
