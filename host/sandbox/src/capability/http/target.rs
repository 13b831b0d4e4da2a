//! The address of a request, made from the parts that a guest gives. Each part is held to what it may be before they
//! are put together, so that none of them can reach into another.

use url::{Host, Url};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::host_pattern::without_root;
use crate::http_exchange::{HttpFault, HttpFaultKind};

/// The longest address, in bytes. Protects the host and the journal.
const URL_BYTES_MAX: usize = 8 << 10;

/// Puts the parts together.
pub(super) fn target(
    scheme: Option<&Scheme>,
    authority: Option<&str>,
    path_with_query: Option<&str>,
) -> Result<Url, HttpFault> {
    let scheme = match scheme {
        None | Some(Scheme::Https) => "https",
        Some(Scheme::Http) => "http",
        Some(Scheme::Other(other)) => {
            return Err(invalid(&format!(
                "the scheme `{}` is neither `https` nor `http`",
                shown(other)
            )));
        }
    };
    let authority = authority.unwrap_or_default();
    let path = path_with_query.unwrap_or_default();
    if authority.len().saturating_add(path.len()) > URL_BYTES_MAX {
        return Err(invalid(&format!(
            "its address has more than {URL_BYTES_MAX} bytes"
        )));
    }
    if authority.contains('@') {
        return Err(invalid(
            "its host has a user in front of it; credentials go into a header",
        ));
    }
    let is_foreign = |c: char| "/?#\\%".contains(c) || c.is_whitespace() || c.is_control();
    if authority.is_empty() || authority.contains(is_foreign) {
        return Err(invalid(&format!("`{}` is no host", shown(authority))));
    }
    // An address in the place of a path would be sent to one host in the name of another.
    if !(path.is_empty() || path.starts_with(['/', '?'])) {
        return Err(invalid("its path begins with neither `/` nor `?`"));
    }
    if path.contains(|c: char| c == '#' || c == '\\' || !c.is_ascii_graphic()) {
        return Err(invalid(
            "its path holds a character that must be percent-encoded",
        ));
    }
    let no_host = |_| invalid(&format!("`{}` is no host", shown(authority)));
    let mut base = Url::parse(&format!("{scheme}://{authority}/")).map_err(no_host)?;
    if let Some(Host::Domain(name)) = base.host()
        && name.ends_with('.')
    {
        let name = without_root(name).to_owned();
        base.set_host(Some(&name)).map_err(no_host)?;
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let origin = base.as_str().trim_end_matches('/').to_owned();
    let url = Url::parse(&format!("{origin}{slash}{path}")).map_err(no_host)?;
    let is_same = url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none();
    if is_same {
        Ok(url)
    } else {
        Err(invalid("its parts make another address together"))
    }
}

fn invalid(what: &str) -> HttpFault {
    HttpFault::new(
        HttpFaultKind::InvalidRequest,
        format!("the request cannot be sent: {what}"),
    )
}

/// A guest's text in a message: short, on one line.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(authority: &str, path: &str) -> Option<String> {
        let url = target(Some(&Scheme::Http), Some(authority), Some(path)).ok()?;
        Some(url.to_string())
    }

    #[test]
    fn parts_become_an_address() {
        for (authority, path, url) in [
            ("example.com", "", "http://example.com/"),
            ("Example.COM.", "/a?b=%20c", "http://example.com/a?b=%20c"),
            ("example.com:80", "?q", "http://example.com/?q"),
            (
                "example.com:8080",
                "//evil.com/x",
                "http://example.com:8080//evil.com/x",
            ),
            ("0x7f.1", "/", "http://127.0.0.1/"),
            ("[::1]:80", "/a/../b", "http://[::1]/b"),
            (
                "example.com",
                "/@evil.com:80",
                "http://example.com/@evil.com:80",
            ),
        ] {
            assert_eq!(made(authority, path).as_deref(), Some(url));
        }
        let url = target(None, Some("example.com"), None).expect("an address");
        assert_eq!(url.as_str(), "https://example.com/");
    }

    #[test]
    fn parts_that_reach_into_others_are_refused() {
        for (authority, path) in [
            ("", "/"),
            ("user@example.com", "/"),
            ("example.com@evil.com", "/"),
            ("example.com/evil", "/"),
            ("example.com?", "/"),
            ("example.com#", "/"),
            ("example.com\\", "/"),
            ("exam\tple.com", "/"),
            ("example.com\r\nx: y", "/"),
            ("example%2ecom", "/"),
            ("example.com:port", "/"),
            ("example.com", "http://evil.com/"),
            ("example.com", "@evil.com/"),
            ("example.com", ".evil.com/"),
            ("example.com", ":8080/"),
            ("example.com", "*"),
            ("example.com", "/a b"),
            ("example.com", "/a\r\nx: y"),
            ("example.com", "/a\\b"),
            ("example.com", "/a#b"),
            ("example.com", "/ü"),
        ] {
            assert_eq!(made(authority, path), None, "{authority:?} {path:?}");
        }
        let other = Scheme::Other("ftp".to_owned());
        assert!(target(Some(&other), Some("example.com"), None).is_err());
        assert!(made("example.com", &format!("/{}", "a".repeat(URL_BYTES_MAX))).is_none());
    }

    proptest! {
        /// The host is what the authority says, whatever the path is.
        #[test]
        fn no_path_changes_the_host(path in "[/?@:.#\\\\a-z%0-9\\[\\]]{0,24}") {
            if let Ok(url) = target(Some(&Scheme::Https), Some("example.com:8443"), Some(&path)) {
                prop_assert_eq!(url.host_str(), Some("example.com"));
                prop_assert_eq!(url.port(), Some(8443));
                prop_assert!(url.as_str().starts_with("https://example.com:8443/"));
            }
        }

        /// Nothing that a guest can write makes us panic, and what is made holds neither user nor line break.
        #[test]
        fn any_parts_are_an_address_or_refused(authority in ".{0,24}", path in ".{0,24}") {
            if let Ok(url) = target(Some(&Scheme::Http), Some(&authority), Some(&path)) {
                prop_assert!(url.username().is_empty() && url.password().is_none());
                prop_assert!(!url.as_str().contains(['\r', '\n', ' ']));
            }
        }
    }
}
