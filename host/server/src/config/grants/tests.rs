//! Whom an entry is for.

use super::{AgentPattern, AskingAgent};
use crate::config::ServerConfig;

#[test]
fn agents_are_named_alone_with_their_workflow_or_by_their_digest() {
    let digest = format!("sha256:00ff{}", "0".repeat(60));
    let agent = AskingAgent {
        workflow: "Daily report",
        id: "checker",
        digest: Some(&digest),
    };
    let matches = |pattern: &str| {
        AgentPattern::try_from(pattern.to_owned())
            .unwrap()
            .matches(agent)
    };
    for pattern in [
        "*",
        "check*",
        "Daily*/checker",
        "*/checker",
        digest.as_str(),
        "sha256:00*",
    ] {
        assert!(matches(pattern), "{pattern}");
    }
    for pattern in ["Daily report", "other/checker", "sha256:0*1", "check"] {
        assert!(!matches(pattern), "{pattern}");
    }
    let source = AskingAgent {
        digest: None,
        ..agent
    };
    assert!(
        !AgentPattern::try_from("sha256:*".to_owned())
            .unwrap()
            .matches(source)
    );
    assert!(AgentPattern::try_from(String::new()).is_err());
}

#[test]
fn an_entry_that_can_grant_nothing_is_refused_with_its_line() {
    let secret = |header: &str| {
        format!(
            "agents = [\"a\"]\nsecrets = [{{ name = \"T\", value = \"env:T\", host = \"https://a.example.com\", header = \"{header}\" }}]"
        )
    };
    let env = |variable: &str| format!("agents = [\"a\"]\nenv = {{ {variable} }}");
    for (entry, line, says) in [
        ("agents = []".to_owned(), 2, "write [\"*\"] for all agents"),
        (
            "agents = [\"sha256:abc\"]".to_owned(),
            2,
            "`sha256:abc` fits no digest",
        ),
        (
            format!("agents = [\"sha256:{}\"]", "A".repeat(64)),
            2,
            "fits no digest",
        ),
        (
            format!("agents = [\"sha256:{}*\"]", "a".repeat(65)),
            2,
            "fits no digest",
        ),
        (secret("Host"), 3, "the header `Host` is the host's own"),
        (secret("Content-Length"), 3, "is the host's own"),
        (secret("Proxy-Authorization"), 3, "is the host's own"),
        (secret("a b"), 3, "`a b` is no header's name"),
        (env("\"\" = \"a\""), 3, "`` is no name of a variable"),
        (env("\"A=B\" = \"a\""), 3, "`A=B` is no name of a variable"),
        (
            env("\"A\\u0000\" = \"a\""),
            3,
            "`A\\0` is no name of a variable",
        ),
        (env("A = \"a\\u0000b\""), 3, "its value holds a NUL"),
    ] {
        let text = format!("[[grants]]\n{entry}\n");
        let error = toml::from_str::<ServerConfig>(&text).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert!(error.contains(&format!("line {line}")), "{entry}: {error}");
    }
    for entry in [
        "agents = [\"sha256:*\"]".to_owned(),
        format!("agents = [\"sha256:{}\"]", "a".repeat(64)),
        secret("Authorization"),
        env("A = \"file:/a\", \"b c\" = \"\""),
    ] {
        let text = format!("[[grants]]\n{entry}\n");
        assert!(toml::from_str::<ServerConfig>(&text).is_ok(), "{text}");
    }
}
