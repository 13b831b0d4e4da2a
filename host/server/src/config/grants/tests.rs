//! Whom an entry is for.

use super::{AgentPattern, AskingAgent, fits};

#[test]
fn stars_stand_for_any_text() {
    for (pattern, text) in [
        ("*", ""),
        ("*", "a"),
        ("a*", "a"),
        ("*a", "ba"),
        ("a*b*c", "a-b-b-c"),
        ("**", "a"),
        ("a", "a"),
    ] {
        assert!(fits(pattern, text), "{pattern} fits {text}");
    }
    for (pattern, text) in [
        ("", "a"),
        ("a", "ab"),
        ("a*", "ba"),
        ("a*a", "a"),
        ("*b*", "a"),
    ] {
        assert!(!fits(pattern, text), "{pattern} does not fit {text}");
    }
}

#[test]
fn agents_are_named_alone_with_their_workflow_or_by_their_digest() {
    let agent = AskingAgent {
        workflow: "Daily report",
        id: "checker",
        digest: Some("sha256:00ff"),
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
        "sha256:00ff",
        "sha256:00*",
    ] {
        assert!(matches(pattern), "{pattern}");
    }
    for pattern in ["Daily report", "other/checker", "sha256:0", "check"] {
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
