//! Hosts as operators and workflows write them, and what they allow.

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> HostPattern {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Whether a pattern lets a request to an address through; an address that is none goes nowhere.
fn allows(granted: &str, asked: &str) -> bool {
    Url::parse(asked).is_ok_and(|url| pattern(granted).allows(&url))
}

#[test]
fn scheme_name_and_port_must_be_the_granted_ones() {
    let granted = "https://api.example.com";
    for same in [
        "https://api.example.com/",
        "https://api.example.com:443/v1?q=1",
        "HTTPS://API.Example.COM/",
        "https://api.example.com./",
        "https://api%2Eexample.com/",
        "https://api。example.com/",
        "https:\\\\api.example.com\\v1",
    ] {
        assert!(allows(granted, same), "{same}");
    }
    for other in [
        "http://api.example.com/",
        "http://api.example.com:443/",
        "https://api.example.com:8443/",
        "https://example.com/",
        "https://api.example.com.evil.com/",
        "https://evil-api.example.com/",
        "https://a.api.example.com/",
        "https://api.example.com@evil.com/",
        "https://api.example.com:443@evil.com/",
        "https://evil.com@api.example.com/",
        "https://:secret@api.example.com/",
        "https://evil.com#@api.example.com/",
        "https://evil.com\\@api.example.com/",
        "https://evil.com?api.example.com",
        "ftp://api.example.com/",
        "file:///etc/passwd",
    ] {
        assert!(!allows(granted, other), "{other}");
    }
}

#[test]
fn a_wildcard_is_one_label() {
    let granted = "https://*.example.com:8443";
    assert!(allows(granted, "https://a.example.com:8443/"));
    assert!(allows(granted, "https://A.EXAMPLE.com.:8443/"));
    for other in [
        "https://example.com:8443/",
        "https://.example.com:8443/",
        "https://a.b.example.com:8443/",
        "https://a.example.com/",
        "https://aexample.com:8443/",
        "https://a.example.com.evil.com:8443/",
        "http://a.example.com:8443/",
    ] {
        assert!(!allows(granted, other), "{other}");
    }
}

#[test]
fn names_beyond_ascii_are_compared_as_they_are_asked_for() {
    assert!(allows(
        "https://bücher.example",
        "https://xn--bcher-kva.example/"
    ));
    assert!(allows(
        "https://xn--bcher-kva.example",
        "https://BÜCHER.example/"
    ));
    // A Cyrillic letter that looks like a Latin one.
    assert!(!allows(
        "https://api.example.com",
        "https://арi.example.com/"
    ));
}

#[test]
fn an_address_is_the_same_however_it_is_written() {
    for written in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
    ] {
        let asked = format!("http://{written}:8080/");
        assert!(allows("http://127.0.0.1:8080", &asked), "{written}");
        assert!(!allows("http://*.example.com:8080", &asked), "{written}");
        assert!(!allows("http://localhost:8080", &asked), "{written}");
    }
    assert!(allows("http://[::1]", "http://[0:0:0:0:0:0:0:1]/"));
    // The same machine by other addresses was not granted.
    for other in [
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[::127.0.0.1]",
        "[::1]",
        "0.0.0.0",
    ] {
        assert!(
            !allows("http://127.0.0.1", &format!("http://{other}/")),
            "{other}"
        );
    }
    assert!(pattern("http://[::ffff:10.0.0.5]").is_address());
    assert!(!pattern("http://localhost").is_address());
}

#[test]
fn what_is_no_host_is_refused() {
    use ParseHostError::*;
    for (text, error) in [
        ("api.example.com", Scheme),
        ("*", Scheme),
        ("ftp://example.com", Scheme),
        ("https://", Name),
        ("https://example.com/v1", TooMuch),
        ("https://example.com?q", TooMuch),
        ("https://example.com#f", TooMuch),
        ("https://user@example.com", TooMuch),
        ("https://exam ple.com", TooMuch),
        ("https://example.com:99999", Name),
        ("https://a..example.com", Name),
        ("https://*", Wildcard),
        ("https://*.com", Wildcard),
        ("https://*.*.example.com", Wildcard),
        ("https://a.*.example.com", Wildcard),
        ("https://api*.example.com", Wildcard),
        ("https://*.10.0.0.5", Wildcard),
        ("https://[::1", Name),
    ] {
        assert_eq!(text.parse::<HostPattern>(), Err(error), "{text}");
    }
}

/// Texts out of the pieces of which confusing addresses are made.
fn confusing() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "api", "example", "com", "evil", ".", ".", "@", ":", "/", "\\", "?", "#", "%2e", "%40",
        "%00", "*", "[", "]", "::1", "127", "0x7f", "0177", "10", "443", "8443", "。", "ａ", "ü",
        "xn--", "\t", "\n", " ", "\u{200d}", "\u{ad}",
    ]);
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever is let through names the granted host itself, and nobody before or behind it.
    #[test]
    fn nothing_but_the_granted_host_is_let_through(
        scheme in prop::sample::select(vec!["https://", "http://", "HTTPS:", "https:\\\\"]),
        rest in confusing(),
    ) {
        if let Ok(url) = Url::parse(&format!("{scheme}{rest}"))
            && pattern("https://api.example.com").allows(&url)
        {
            let host = url.host_str().map(without_root);
            prop_assert_eq!(host, Some("api.example.com"));
            prop_assert_eq!((url.scheme(), url.port_or_known_default()), ("https", Some(443)));
            prop_assert!(url.username().is_empty() && url.password().is_none());
        }
    }

    /// Reading never panics, and what was read means the same when it is printed and read again.
    #[test]
    fn a_pattern_reads_as_it_prints(rest in confusing()) {
        for scheme in ["https://", "http://"] {
            if let Ok(read) = format!("{scheme}{rest}").parse::<HostPattern>() {
                prop_assert_eq!(read.to_string().parse::<HostPattern>(), Ok(read));
            }
        }
    }

    /// Every address in every spelling is the address itself, and never a name.
    #[test]
    fn spellings_of_an_address_are_the_address(address in any::<u32>()) {
        let plain = std::net::Ipv4Addr::from(address);
        let [a, b, c, d] = plain.octets();
        let granted = pattern(&format!("http://{plain}"));
        for spelling in [
            format!("{address}"),
            format!("{address:#x}"),
            format!("{a:#o}.{b}.{c}.{d}").replace("0o", "0"),
            format!("{a}.{b:#x}.{c}.{d}"),
            format!("{a}.{b}.{}", u32::from(c) * 256 + u32::from(d)),
        ] {
            let url = Url::parse(&format!("http://{spelling}/")).expect("an address");
            prop_assert!(granted.allows(&url), "{} for {}", spelling, plain);
        }
    }
}
