//! References, manifests, challenges and redirects; pure, without a connection.

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde_json::{Value, json};

use super::*;
use crate::secret::Secret;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn reference(text: &str) -> RegistryReference {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn references_name_where_a_manifest_is() {
    for (text, url) in [
        (
            "oci://ghcr.io/acme/tools/box:1.2",
            "https://ghcr.io/v2/acme/tools/box/manifests/1.2",
        ),
        (
            "oci://registry.example.com:5000/box",
            "https://registry.example.com:5000/v2/box/manifests/latest",
        ),
        (
            "oci://docker.io/acme/box:1",
            "https://registry-1.docker.io/v2/acme/box/manifests/1",
        ),
        (
            "oci://localhost/box:1",
            "http://localhost/v2/box/manifests/1",
        ),
        (
            "oci://127.0.0.1:5000/box:1",
            "http://127.0.0.1:5000/v2/box/manifests/1",
        ),
        // A name that only looks like this machine's is another one.
        (
            "oci://localhost.example.com/box:1",
            "https://localhost.example.com/v2/box/manifests/1",
        ),
        (
            "oci://10.0.0.1:80/box:1",
            "https://10.0.0.1:80/v2/box/manifests/1",
        ),
    ] {
        assert_eq!(reference(text).manifest_url().as_str(), url);
    }
    let both = format!("oci://ghcr.io/acme/box:1@{DIGEST}");
    assert_eq!(
        reference(&both).manifest_url().as_str(),
        format!("https://ghcr.io/v2/acme/box/manifests/{DIGEST}")
    );
    assert_eq!(reference(&both).to_string(), both);
    assert_eq!(
        reference("oci://ghcr.io/acme/box:1").pinned(DIGEST),
        reference(&both)
    );
    assert_eq!(
        reference("oci://docker.io/acme/box:1").credentials_name(),
        "https://index.docker.io/v1/"
    );
}

#[test]
fn what_is_no_reference_says_why() {
    let long = format!("oci://ghcr.io/{}", "a".repeat(2_000));
    let upper = format!(
        "oci://ghcr.io/box@{}",
        DIGEST.to_uppercase().replace("SHA", "sha")
    );
    for (text, reason) in [
        ("https://ghcr.io/box", "does not begin with `oci://`"),
        ("oci://box:1", "names no host"),
        ("oci://acme/box:1", "names no host"),
        (
            "oci://user:password@ghcr.io/box",
            "invalid reference format",
        ),
        ("oci://ghcr.io/../box", "invalid reference format"),
        ("oci://ghcr.io/box:1?x=1", "invalid reference format"),
        ("oci://ghcr.io:99999/box", "invalid port"),
        ("oci://ghcr.io/box@sha256:00", "invalid reference format"),
        (
            &format!("oci://ghcr.io/box@sha512:{}", "0".repeat(128)),
            "not `sha256:`",
        ),
        (&upper, "lower case"),
        (&long, "too long"),
    ] {
        let error = text.parse::<RegistryReference>().unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(error.len() < 500, "{error}");
    }
}

fn manifest() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.wasm.config.v0+json", "digest": DIGEST, "size": 2 },
        "layers": [{ "mediaType": "application/wasm", "digest": DIGEST, "size": 10 }],
    })
}

fn read(manifest: &Value, content_type: Option<&str>) -> Result<manifest::Layer, String> {
    manifest::read(manifest.to_string().as_bytes(), content_type, 100)
}

#[test]
fn a_manifest_of_one_layer_of_wasm_is_a_component() {
    let layer = manifest::Layer {
        digest: DIGEST.to_owned(),
        bytes: 10,
    };
    assert_eq!(read(&manifest(), None), Ok(layer.clone()));
    let mut silent = manifest();
    silent["mediaType"] = Value::Null;
    let content_type = "application/vnd.oci.image.manifest.v1+json";
    assert_eq!(read(&silent, Some(content_type)), Ok(layer));
}

#[test]
fn other_manifests_are_refused_with_what_they_are() {
    let changed = |pointer: &str, value: Value| {
        let mut changed = manifest();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let layer = &manifest()["layers"][0];
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let index = "application/vnd.oci.image.index.v1+json";
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for (manifest, found) in [
        (
            json!({ "mediaType": index, "manifests": [] }),
            "an index of manifests",
        ),
        (
            json!({ "mediaType": list, "manifests": [] }),
            "a list of manifests",
        ),
        (
            json!({ "manifests": [] }),
            "a list of manifests (without a media type)",
        ),
        (
            json!({ "schemaVersion": 1 }),
            "its manifest is without a media type",
        ),
        (
            changed("/mediaType", json!("text/plain")),
            "its manifest is `text/plain`",
        ),
        (
            changed("/layers", json!([layer, layer])),
            "2 layers (`application/wasm`, `application/wasm`)",
        ),
        (changed("/layers", json!([])), "0 layers"),
        (
            changed("/layers", json!(1)),
            "its manifest is none (invalid type",
        ),
        (
            changed("/layers/0/mediaType", json!(gzip)),
            "its layer is `application/vnd.oci.image.layer.v1.tar+gzip`",
        ),
        (
            changed("/layers/0/digest", json!(sha512)),
            "not one of sha256",
        ),
        (
            changed("/layers/0/digest", json!("sha256:../../x")),
            "its manifest is none",
        ),
        (
            changed("/layers/0/size", json!(101)),
            "it has 101 bytes; a component has at most 100",
        ),
        (
            changed(
                "/config/mediaType",
                json!("application/vnd.oci.empty.v1+json"),
            ),
            "its configuration is `application/vnd.oci.empty.v1+json`",
        ),
    ] {
        let error = read(&manifest, None).unwrap_err();
        assert!(error.contains(found), "{manifest}: {error}");
    }
}

#[test]
fn a_manifest_without_sense_is_refused_in_one_line() {
    let deep = "[".repeat(100_000);
    let error = manifest::read(deep.as_bytes(), None, 100).unwrap_err();
    assert!(error.contains("no JSON"), "{error}");
    let mut noisy = manifest();
    noisy["mediaType"] = json!(format!("a\u{1b}[31m\n{}", "b".repeat(10_000)));
    let error = read(&noisy, None).unwrap_err();
    assert!(
        error.len() < 300 && !error.contains(['\u{1b}', '\n']),
        "{error}"
    );
}

fn challenge(texts: &[&str], home: &str) -> Result<Challenge, String> {
    let mut headers = HeaderMap::new();
    for text in texts {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(text).unwrap());
    }
    challenge::parse(&headers, &Url::parse(home).unwrap())
}

#[test]
fn challenges_are_read() {
    let bearer = r#"Bearer realm="https://auth.example.com/token?a=1",service="registry, \"mine\"",scope="repository:x:pull,push""#;
    let expected = Challenge::Bearer {
        realm: Url::parse("https://auth.example.com/token?a=1").unwrap(),
        service: Some("registry, \"mine\"".to_owned()),
    };
    assert_eq!(
        challenge(&[bearer], "https://r.example.com/"),
        Ok(expected.clone())
    );
    let both = ["Negotiate", r#"Basic realm="x""#, bearer];
    assert_eq!(challenge(&both, "https://r.example.com/"), Ok(expected));
    assert_eq!(
        challenge(&[r#"basic realm="x""#], "https://r.example.com/"),
        Ok(Challenge::Basic)
    );
}

#[test]
fn nothing_is_shown_to_who_is_not_reached_by_tls() {
    let bearer = |realm: &str| format!(r#"Bearer realm="{realm}",service="x""#);
    let (far, near) = ("https://r.example.com/v2/", "http://127.0.0.1:5000/v2/");
    assert!(challenge(&[&bearer("http://127.0.0.1:5001/token")], near).is_ok());
    for (home, realm, reason) in [
        (far, "http://auth.example.com/token", "not reached by TLS"),
        (far, "http://127.0.0.1/token", "not reached by TLS"),
        (near, "http://auth.example.com/token", "not reached by TLS"),
        (
            far,
            "https://user:pw@auth.example.com/token",
            "holds a user",
        ),
        (far, "file:///etc/passwd", "not reached by TLS"),
        (far, "/token", "which is no address"),
    ] {
        let error = challenge(&[&bearer(realm)], home).unwrap_err();
        assert!(error.contains(reason), "{realm}: {error}");
    }
    for (texts, reason) in [
        (&[][..], "does not say how"),
        (
            &["Digest realm=\"x\""][..],
            "it takes Digest; only Basic and Bearer",
        ),
        (
            &["Bearer service=\"x\""][..],
            "says not where tokens are given",
        ),
    ] {
        let error = challenge(texts, far).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn redirects_keep_tls() {
    let next = |from: &str, target: &str| {
        transport::next_of(&Url::parse(from).unwrap(), target).map(|url| url.to_string())
    };
    let (far, near) = ("https://r.example.com/v2/a", "http://127.0.0.1:5000/v2/a");
    assert_eq!(next(far, "/b"), Ok("https://r.example.com/b".to_owned()));
    assert_eq!(
        next(near, "https://s.example.com/b"),
        Ok("https://s.example.com/b".to_owned())
    );
    assert_eq!(
        next(near, "http://localhost:1/b"),
        Ok("http://localhost:1/b".to_owned())
    );
    assert_eq!(next(far, "http://127.0.0.1/b"), Err("it gives TLS up"));
    assert_eq!(next(far, "http://r.example.com/b"), Err("it gives TLS up"));
    assert_eq!(
        next(near, "http://169.254.169.254/b"),
        Err("it is not reached by TLS")
    );
    assert_eq!(
        next(near, "file:///etc/passwd"),
        Err("it is neither http nor https")
    );
    assert_eq!(
        next(far, "https://a:b@r.example.com/"),
        Err("it holds a user")
    );
}

#[test]
fn what_is_shown_is_never_repeated() {
    let credentials = Credentials::Password {
        user: "ann".to_owned(),
        password: Secret::new("pass-1234"),
    };
    let shown = Shown::basic(&credentials).unwrap();
    assert_eq!(
        shown.clean("bad pass-1234 (YW5uOnBhc3MtMTIzNA==)"),
        "bad [redacted] ([redacted])"
    );
    let shown = Shown::token(Secret::new("token-5678"), shown).unwrap();
    assert_eq!(
        shown.clean("token-5678 for pass-1234"),
        "[redacted] for [redacted]"
    );
    let printed = format!("{shown:?} {credentials:?}");
    for secret in ["token-5678", "pass-1234", "YW5u"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(Shown::basic(&Credentials::IdentityToken(Secret::new("x"))).is_err());
    assert!(Shown::token(Secret::new("two\nlines"), shown).is_err());
    for (body, token) in [
        (r#"{"token":"a","access_token":"b"}"#, Some("a")),
        (r#"{"token":"","access_token":"b"}"#, Some("b")),
        (r#"{"expires_in":1}"#, None),
        ("[]", None),
    ] {
        let found = challenge::parse_token(body.as_bytes());
        assert_eq!(found.as_ref().map(Secret::expose), token, "{body}");
    }
}
