//! The operator's file ∩ the workflow.

use std::path::Path;

use serde_json::{Value, json};
use troupe_sandbox::FolderAccess;
use troupe_workflow::{Agent, AgentKind, CodeAgent, Definition, Faults};

use super::*;
use crate::config::{Places, ServerConfig};

fn definition(grants: &Value) -> Definition {
    let document = json!({
        "name": "Report",
        "agents": [{
            "id": "writer", "type": "code", "language": "python", "code": "result = 1", "grants": grants,
        }],
        "steps": [{ "agent": "writer", "action": "write", "input": 1 }],
    });
    Definition::compile(&document).expect("a workflow")
}

fn with<T>(
    (config, grants): (&str, &Value),
    look: impl FnOnce(&Granting, (&Agent, &CodeAgent)) -> T,
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
    let agent = definition.agents().next().expect("an agent");
    let AgentKind::Code(code) = &agent.kind else {
        panic!("no code")
    };
    look(&granting, (agent, code))
}

/// What is given, and what creation has against it.
fn given(config: &str, grants: &Value) -> (Grants, String) {
    with((config, grants), |granting, agent| {
        let mut faults = Faults::default();
        granting.check("Report", agent, &mut faults);
        let given = granting.given("Report", agent, &[]);
        let grants = given.map(|given| given.grants).unwrap_or_default();
        (grants, faults.to_string())
    })
}

fn effective(config: &str, grants: &Value) -> Vec<String> {
    with((config, grants), |granting, agent| {
        let all = granting.effective("Report", agent);
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
    let config = r#"
        [[grants]]
        agents = ["Report/writer"]
        files = [{ name = "reports", path = "/srv/reports", mode = "rw" }]
        env = { REGION = "eu" }
        [[grants]]
        agents = ["other"]
        files = [{ name = "reports", path = "/srv/others", mode = "rw" }]
    "#;
    let (grants, faults) = given(config, &asked);
    assert_eq!(faults, "");
    let values = grants.env.expect("an environment").values;
    assert_eq!(values, [("REGION".to_owned(), "eu".to_owned())]);
    let files = grants.files.expect("files");
    assert_eq!(files.scratch.expect("scratch").at, "/tmp");
    let [read, write] = &files.folders[..] else {
        panic!("{:?}", files.folders)
    };
    assert!(
        matches!(&read.access, FolderAccess::Read { path, to_write } if path == Path::new("/srv/reports") && to_write.contains("the workflow grants it for reading"))
    );
    assert!(
        matches!(&write.access, FolderAccess::Write { path, .. } if path == Path::new("/srv/reports"))
    );
}

#[test]
fn a_folder_for_reading_is_not_written() {
    let asked = json!({ "files": [{ "path": "reports", "at": "/out", "mode": "rw" }] });
    let config = r#"
        [[grants]]
        agents = ["*"]
        files = [{ name = "reports", path = "/srv/reports" }]
    "#;
    let (grants, faults) = given(config, &asked);
    assert_eq!(faults, "");
    let folder = &grants.files.expect("files").folders[0];
    assert!(
        matches!(&folder.access, FolderAccess::Read { to_write, .. } if to_write.contains("write `mode = \"rw\"`"))
    );
    let [line] = &effective(config, &asked)[..] else {
        panic!("one line")
    };
    assert!(line.contains("/srv/reports, for reading only"), "{line}");
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
    let people = grants.human.expect("people").assignees;
    assert_eq!(people, Some(vec!["ann@example.com".to_owned()]));
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
        with((config, &asked), |granting, agent| {
            let given = granting.given("Report", agent, &[]).expect("it is given");
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
