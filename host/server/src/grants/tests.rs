//! The operator's file ∩ the workflow.

use serde_json::{Value, json};
use troupe_sandbox::{FolderAccess, Narrowed};
use troupe_workflow::{Agent, AgentKind, CodeAgent, Definition, Faults};

use super::*;
use crate::config::{Places, ServerConfig};

/// A workflow of one agent; with two tool agents where it asks for tools.
fn definition(grants: &Value) -> Definition {
    let mut document = json!({
        "name": "Report",
        "agents": [{
            "id": "writer", "type": "code", "language": "python", "code": "result = 1", "grants": grants,
        }],
        "steps": [{ "agent": "writer", "action": "write", "input": 1 }],
    });
    if grants["tools"].is_array() {
        let agents = document["agents"].as_array_mut().expect("agents");
        for (id, name) in [("calculator", "calc"), ("browser", "web")] {
            let tool = json!({ "name": name, "component": format!("sha256:{}", "0".repeat(64)) });
            agents.push(json!({ "id": id, "type": "tool", "tools": [tool] }));
        }
    }
    Definition::compile(&document).expect("a workflow")
}

fn with<T>(
    (config, grants): (&str, &Value),
    look: impl FnOnce(&Granting, &Definition, (&Agent, &CodeAgent)) -> T,
) -> T {
    let config: ServerConfig = toml::from_str(config).expect("a configuration");
    let places = Places {
        data: "/var/lib/troupe".into(),
        cache: "/var/cache/troupe".into(),
        plugins: Vec::new(),
    };
    let own = Own::new(&config, &places);
    let granting = Granting::new(&config, &own, Reach::Offline).expect("no way out");
    let definition = definition(grants);
    let agent = definition.agent("writer").expect("an agent");
    let AgentKind::Code(code) = &agent.kind else {
        panic!("no code")
    };
    look(&granting, &definition, (agent, code))
}

/// What is given, and what creation has against it.
fn given(config: &str, grants: &Value) -> (Grants, String) {
    with((config, grants), |granting, definition, agent| {
        let mut faults = Faults::default();
        granting.check("Report", agent, &mut faults);
        let given = granting.given(definition, agent, &[]);
        let grants = given.map(|given| given.grants).unwrap_or_default();
        (grants, faults.to_string())
    })
}

fn effective(config: &str, grants: &Value) -> Vec<String> {
    with((config, grants), |granting, definition, agent| {
        let all = granting.effective(definition, agent);
        all.into_iter()
            .map(|one| {
                let (word, why) = match one.verdict {
                    Verdict::Granted(by) => ("granted", by),
                    Verdict::Withheld(remedy) => ("withheld", remedy),
                };
                format!("{} {} {word}: {why}", one.capability, one.what)
            })
            .collect()
    })
}

#[test]
fn what_lies_on_the_machine_is_given_by_name_and_by_the_operator() {
    let asked = json!({
        "files": [
            { "path": "reports", "at": "/in" }, { "path": "reports", "at": "/out", "mode": "rw" },
            { "path": "scratch", "at": "/tmp" },
        ],
        "env": ["REGION"],
    });
    let (nothing, faults) = given("", &asked);
    assert_eq!(nothing, Grants::none());
    for line in [
        "/agents/0/grants/files/0: the folder `reports` is not granted to the agent `writer`; the operator grants it with [[grants]] agents = [\"writer\"], files = [{ name = \"reports\", path = \"…\", mode = \"ro\" }]",
        "/agents/0/grants/env/0: the environment variable `REGION` is not granted",
    ] {
        assert!(faults.contains(line), "{faults}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let reports = folder.path();
    let config = format!(
        r#"
        [[grants]]
        agents = ["Report/writer"]
        files = [{{ name = "reports", path = "{}", mode = "rw" }}]
        env = {{ REGION = "eu" }}
        [[grants]]
        agents = ["other"]
        files = [{{ name = "reports", path = "/srv/others", mode = "rw" }}]
        "#,
        reports.display()
    );
    let (grants, faults) = given(&config, &asked);
    assert_eq!(faults, "");
    let values = grants.env.expect("an environment").values;
    assert_eq!(values, [("REGION".to_owned(), "eu".to_owned())]);
    let files = grants.files.expect("files");
    assert_eq!(files.scratch.expect("scratch").at, "/tmp");
    let [read, write] = &files.folders[..] else {
        panic!("{:?}", files.folders)
    };
    assert!(
        matches!(&read.access, FolderAccess::Read { path, to_write } if path == reports && to_write.contains("the workflow grants it for reading"))
    );
    assert!(matches!(&write.access, FolderAccess::Write { path, .. } if path == reports));
}

#[test]
fn a_folder_for_reading_is_not_written() {
    let asked = json!({ "files": [{ "path": "reports", "at": "/out", "mode": "rw" }] });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    let config = format!(
        "[[grants]]\nagents = [\"*\"]\nfiles = [{{ name = \"reports\", path = \"{path}\" }}]\n"
    );
    let (grants, faults) = given(&config, &asked);
    assert_eq!(faults, "");
    let folder = &grants.files.expect("files").folders[0];
    assert!(
        matches!(&folder.access, FolderAccess::Read { to_write, .. } if to_write.contains("write `mode = \"rw\"`"))
    );
    let [line] = &effective(&config, &asked)[..] else {
        panic!("one line")
    };
    let says = format!("{path}, for reading only");
    assert!(line.contains(&says), "{line}");
}

#[test]
fn an_operator_narrows_what_a_workflow_grants_and_never_widens_it() {
    let asked = json!({
        "llm": { "models": ["gpt-5-mini", "gpt-5"] }, "search": ["web"], "human": true,
    });
    let (grants, _) = given("", &asked);
    assert_eq!(grants.llm.expect("models").models, ["gpt-5-mini", "gpt-5"]);
    assert_eq!(grants.human.expect("people").assignees, None);
    let config = r#"
        [[grants]]
        agents = ["writer"]
        models = ["*-mini", "claude"]
        human = ["ann@example.com"]
        search = []
    "#;
    let (grants, _) = given(config, &asked);
    assert_eq!(grants.llm.expect("models").models, ["gpt-5-mini"]);
    assert_eq!(grants.search.expect("search").sources, [""; 0]);
    // Whom it names may be anybody: the operator's patterns decide.
    assert_eq!(grants.human.expect("people").assignees, None);
    let narrowed = |grants: &[Narrowed]| -> Vec<(String, Vec<String>)> {
        let all = grants.iter();
        all.map(|it| (it.capability.clone(), it.patterns.clone()))
            .collect()
    };
    let names = |capability: &str, names: &[&str]| {
        let names = names.iter().map(|it| (*it).to_owned()).collect();
        (capability.to_owned(), names)
    };
    assert_eq!(
        narrowed(&grants.narrowed),
        [
            names("llm", &["*-mini", "claude"]),
            names("search", &[]),
            names("human", &["ann@example.com"]),
        ]
    );
    let withheld: Vec<_> = grants
        .withheld
        .iter()
        .map(|it| (it.capability.as_str(), it.name.as_str()))
        .collect();
    assert_eq!(withheld, [("llm", "gpt-5"), ("search", "web")]);
    assert!(
        grants.withheld[0]
            .remedy
            .contains("add \"gpt-5\" to `models`")
    );
    // A workflow that grants nothing is given nothing.
    let (grants, _) = given(config, &json!({}));
    assert_eq!((grants.llm, grants.human), (None, None));
}

#[test]
fn people_are_left_by_pattern_and_nobody_is_told_so() {
    let asked = json!({ "human": true });
    for (patterns, said) in [
        (
            None,
            "human anybody granted: the workflow; no [[grants]] narrows it",
        ),
        (
            Some("[\"*@example.com\"]"),
            "human anybody granted: `--grant`, for *@example.com only",
        ),
        (Some("[\"ann\", \"*\"]"), "human anybody granted: `--grant`"),
        (
            Some("[]"),
            "human anybody withheld: the workflow grants it, the operator does not: add \"…\" to `human` of `--grant`",
        ),
    ] {
        let config = patterns.map_or(String::new(), |it| entry(&format!("human = {it}")));
        assert_eq!(effective(&config, &asked), [said]);
    }
}

#[test]
fn a_tool_is_withheld_by_the_name_that_it_is_called_by() {
    let withheld = |config: &str, asked: Value| -> Vec<String> {
        let (grants, _) = given(config, &asked);
        let all = grants.withheld.iter();
        all.map(|it| format!("{}: {}", it.name, it.remedy))
            .collect()
    };
    let by_workflow = |id: &str| format!("add `\"tools\": [\"{id}\"]` to the agent's `grants`");
    let by_operator = |id: &str| format!("add \"{id}\" to `tools` of `--grant`");
    let asked = || json!({ "tools": ["calculator"] });
    assert_eq!(
        withheld("", asked()),
        [format!("web: {}", by_workflow("browser"))]
    );
    assert_eq!(
        withheld(&entry("tools = []"), asked()),
        [
            format!(
                "calc: the workflow grants it, the operator does not: {}",
                by_operator("calculator")
            ),
            format!(
                "web: {}, and \"browser\" to `tools` of `--grant`",
                by_workflow("browser")
            ),
        ]
    );
    let unknown = effective("", &json!({ "tools": ["abacus"] }));
    assert!(
        unknown[0].starts_with("tools abacus withheld: the tool `abacus` is not known"),
        "{unknown:?}"
    );
}

/// What is said to be given is given, and what is said to be withheld is refused, and not given: with these words.
fn expect(config: &str, asked: &Value, withheld: Option<&str>) {
    let said = effective(config, asked);
    let (grants, faults) = given(config, asked);
    let Some(why) = withheld else {
        assert!(said[0].contains(" granted: `--grant`"), "{said:?}");
        assert_eq!(faults, "");
        return;
    };
    assert!(
        said[0].contains(" withheld: ") && said[0].contains(why),
        "{said:?}"
    );
    assert!(faults.contains(why), "{faults}");
    // Where anything is given at all, the folder is not.
    let is_denied = grants.files.is_none_or(|files| {
        matches!(&files.folders[0].access, FolderAccess::Denied { remedy } if remedy.contains(why))
    });
    assert!(is_denied, "{config}");
}

const NOT_SET: &str = "env:TROUPE_TEST_NOT_SET";

#[test]
fn a_secret_is_said_to_be_given_where_it_is() {
    let secret = |value: &str, host: &str| {
        entry(&format!(
            "secrets = [{{ name = \"TOKEN\", value = \"{value}\", host = \"https://{host}\", header = \"authorization\" }}]"
        ))
    };
    let asked = |header: &str| {
        json!({ "secrets": [{
            "name": "TOKEN", "host": "https://*.example.com", "header": header,
        }] })
    };
    let token = "a token of more than 16 bytes";
    let here = secret(token, "api.example.com");
    for (config, header, withheld) in [
        (here.clone(), "Authorization", None),
        (
            secret(token, "other.example.org") + &here,
            "Authorization",
            None,
        ),
        (
            secret(NOT_SET, "api.example.com"),
            "Authorization",
            Some(
                "the environment variable TROUPE_TEST_NOT_SET is not set; mend that, or write another `value` for it in `secrets` of `--grant`",
            ),
        ),
        (
            secret("short", "api.example.com"),
            "Authorization",
            Some("the secret `TOKEN` cannot be used: it has fewer than 16 bytes; mend that"),
        ),
        (
            secret(token, "api.example.org"),
            "Authorization",
            Some(
                "the secret `TOKEN` is granted for requests to https://api.example.org, and none to https://*.example.com is one of these: write `host = \"https://*.example.com\"` for it in `secrets` of `--grant`",
            ),
        ),
        (
            here,
            "Host",
            Some("the header `Host` is the host's own, and no agent can set it; write another one"),
        ),
    ] {
        expect(&config, &asked(header), withheld);
    }
}

#[test]
fn a_folder_or_variable_is_said_to_be_given_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "a\0b").expect("a file");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let env = json!({ "env": ["A"] });
    let variable = |value: &str| entry(&format!("env = {{ A = \"{value}\" }}"));
    expect(&variable("a"), &env, None);
    for (value, why) in [
        (
            NOT_SET.to_owned(),
            "the variable `A` cannot be read: the environment variable TROUPE_TEST_NOT_SET is not set; mend that, or write another value for it in `env` of `--grant`",
        ),
        (
            format!("file:{}", at("file")),
            "its value holds a NUL, which no variable can",
        ),
    ] {
        expect(&variable(&value), &env, Some(why));
    }
    let files = json!({ "files": [{ "path": "in", "at": "/in" }] });
    let given_at = |path: &str| entry(&format!("files = [{{ name = \"in\", path = \"{path}\" }}]"));
    expect(&given_at(&at("")), &files, None);
    for (name, why) in [
        (
            "none",
            "its `path` is not there; make it, or write another `path` for it in `files` of `--grant`",
        ),
        (
            "file",
            "its `path` is no folder; write another `path` for it in `files` of `--grant`",
        ),
    ] {
        expect(&given_at(&at(name)), &files, Some(why));
    }
}

#[test]
fn who_is_asked_why_says_where_it_stands() {
    let asked = json!({
        "llm": { "models": ["m"] },
        "hosts": ["https://api.example.com", "https://*.example.org", "https://api.example.net"],
    });
    let config = r#"
        [[grants]]
        agents = ["*"]
        hosts = ["https://*.example.com", "https://a.example.org"]
        [[grants]]
        agents = ["other"]
        hosts = ["https://api.example.net"]
    "#;
    let said = effective(config, &asked);
    let ends = [
        "llm m granted: the workflow; no [[grants]] narrows it",
        "hosts https://api.example.com granted: `--grant`",
        "hosts https://*.example.org granted: `--grant`, for https://a.example.org only",
        "hosts https://api.example.net withheld: the host https://api.example.net is not granted to the agent `writer`; the operator grants it with [[grants]] agents = [\"writer\"], hosts = [\"https://api.example.net\"]",
    ];
    assert_eq!(said, ends);
}

#[test]
fn a_grant_of_the_command_line_is_for_all_agents_unless_it_says_so() {
    let entry = |text: &str| crate::config::GrantEntry::from_command_line(text);
    let hosts = r#"hosts = ["https://api.example.com"]"#;
    assert!(entry(hosts).is_ok());
    assert!(entry(&format!("agents = [\"a\"]\n{hosts}")).is_ok());
    let error = entry("hosts = [\"api.example.com\"]").expect_err("no scheme");
    assert!(error.contains("`api.example.com` is no host"), "{error}");
    let error = entry("host = []").expect_err("no key");
    assert!(error.contains("unknown field `host`"), "{error}");
}

fn entry(lines: &str) -> String {
    format!("[[grants]]\nagents = [\"writer\"]\n{lines}\n")
}

#[test]
fn a_memory_is_given_where_both_say_so() {
    let asked = json!({ "memory": true });
    for (config, asked, is_given) in [
        (String::new(), json!({}), false),
        (String::new(), json!({ "memory": false }), false),
        (entry("memory = true"), json!({}), false),
        (String::new(), asked.clone(), true),
        (entry("memory = false"), asked.clone(), false),
        (entry("env = {}"), asked.clone(), true),
        (
            entry("memory = false") + &entry("memory = true"),
            asked.clone(),
            true,
        ),
    ] {
        let (grants, faults) = given(&config, &asked);
        assert_eq!(grants.memory.is_some(), is_given, "{config}: {asked}");
        assert_eq!(faults, Faults::default().to_string());
    }
    let (grants, _) = given(&entry("memory = false"), &asked);
    assert_eq!(grants.withheld.len(), 1);
    assert!(grants.withheld[0].remedy.contains("`memory = true` in"));
}

#[test]
fn the_least_share_holds() {
    let asked = |usd: Option<f64>| match usd {
        Some(usd) => json!({ "llm": { "models": ["m"], "budget_usd": usd } }),
        None => json!({ "llm": { "models": ["m"] } }),
    };
    let twice = entry("llm_budget_usd = 0.3") + &entry("llm_budget_usd = 0.2");
    for (config, by_workflow, share, said) in [
        ("", None, None, None),
        (
            "",
            Some(0.5),
            None,
            Some("$0.50 in each step granted: the workflow"),
        ),
        (
            twice.as_str(),
            None,
            Some(200_000),
            Some("$0.20 in each step granted: `--grant`"),
        ),
        (
            twice.as_str(),
            Some(0.1),
            Some(200_000),
            Some("$0.10 in each step granted: the workflow"),
        ),
    ] {
        let asked = asked(by_workflow);
        with((config, &asked), |granting, definition, agent| {
            let given = granting.given(definition, agent, &[]);
            let given = given.expect("it is given");
            assert_eq!(given.share.map(MicroUsd::as_micro_usd), share, "{config}");
            let is_bounded = by_workflow.is_some() || share.is_some();
            assert_eq!(granting.bounds_money("Report", agent), is_bounded);
        });
        let said = said.map(|said| format!("llm at most {said}"));
        let first = effective(config, &asked).into_iter().next();
        assert_eq!(first.filter(|line| line.starts_with("llm at most")), said);
    }
    let refused = toml::from_str::<ServerConfig>(&entry("llm_budget_usd = -1"));
    assert!(refused.is_err());
}
