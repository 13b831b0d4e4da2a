//! Addresses, keys and what a status means; pure, without a connection.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::*;

fn endpoint(base_url: &str, key: Option<&str>) -> Result<Endpoint, SetupError> {
    let settings = EndpointSettings {
        section: "providers",
        name: "openai",
        base_url,
        api_key: key.map(Secret::new),
        key_header: KeyHeader::Bearer,
    };
    Endpoint::new(settings, HttpClient::new(&HttpSettings::STANDARD).unwrap())
}

#[test]
fn joins_paths_below_the_base() {
    for base in ["https://host/v1", "https://host/v1/", " https://host/v1 "] {
        assert_eq!(
            endpoint(base, None)
                .unwrap()
                .url("chat/completions")
                .as_str(),
            "https://host/v1/chat/completions"
        );
    }
    assert_eq!(
        endpoint("http://127.0.0.1:8888", None)
            .unwrap()
            .url("search")
            .as_str(),
        "http://127.0.0.1:8888/search"
    );
}

#[test]
fn refuses_addresses_and_keys_that_cannot_work() {
    for (base, reason) in [
        ("api.openai.com", "absolute"),
        ("ftp://host/", "neither http nor https"),
        ("https://user:pw@host/", "user name"),
        ("https://host/v1?key=1", "`?`"),
    ] {
        let error = endpoint(base, None).unwrap_err().to_string();
        assert!(
            error.contains(reason) && error.contains("[providers.openai]"),
            "{error}"
        );
    }
    let error = endpoint("https://host", Some("two\nlines"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`api_key` of [providers.openai]") && !error.contains("two"),
        "{error}"
    );
}

#[test]
fn gives_every_status_its_meaning() {
    let endpoint = endpoint("https://host", Some("sk-123")).unwrap();
    let quota = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
    let cases: &[(u16, &str, &str, bool)] = &[
        (
            400,
            r#"{"error":{"message":"bad schema"}}"#,
            "input_invalid",
            false,
        ),
        (
            401,
            r#"{"error":{"message":"Incorrect API key provided: sk-123"}}"#,
            "denied",
            false,
        ),
        (402, "{}", "denied", false),
        (403, r#"{"error":"forbidden"}"#, "denied", false),
        (404, r#"{"detail":"Not Found"}"#, "input_invalid", false),
        (301, "", "input_invalid", false),
        (429, quota, "denied", false),
        (
            429,
            r#"{"error":{"message":"slow down"}}"#,
            "rate_limited",
            false,
        ),
        (500, "<html>oops</html>", "unavailable", true),
        (503, "", "overloaded", false),
        (504, "", "unavailable", true),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "overloaded",
            false,
        ),
    ];
    for (status, body, code, sent) in cases {
        let status = StatusCode::from_u16(*status).unwrap();
        let error = Refusal::new(&endpoint, status, &HeaderMap::new(), body.as_bytes())
            .into_error(&endpoint);
        assert_eq!(
            (error.code(), error.sent()),
            (*code, *sent),
            "{status} {error}"
        );
        assert!(!error.to_string().contains("sk-123"), "{error}");
        assert!(error.to_string().contains(status.as_str()), "{error}");
        if *code == "denied" {
            assert!(
                error
                    .to_string()
                    .contains("`api_key` under [providers.openai]"),
                "{error}"
            );
        }
    }
}

#[test]
fn bounds_what_a_server_says() {
    let endpoint = endpoint("https://host", None).unwrap();
    let noise = "line\n\u{1b}[31m".repeat(10_000);
    let cleaned = endpoint.clean(&noise);
    assert!(
        cleaned.len() < 600 && !cleaned.contains(['\n', '\u{1b}']),
        "{cleaned}"
    );
}
