//! The examples of the language, run as their READMEs say. The research examples have tests of their own.

use e2e::troupe::{Ended, Workplace, example, step, text};
use serde_json::Value;

async fn run(place: &Workplace, name: &str, more: &[&str]) -> Ended {
    let file = text(example(name));
    let arguments = ["run", &file, "--offline", "--json"];
    place
        .troupe(arguments.into_iter().chain(more.iter().copied()))
        .end()
        .await
}

#[tokio::test]
async fn content_that_needs_no_review_is_published() {
    let place = Workplace::new();
    let content = "content=The museum is open on Sunday.";
    let ended = run(&place, "content-moderation/workflow.yaml", &["-i", content]).await;
    let shown = ended.expect_code(0).json();
    assert_eq!(step(&shown, "step_3")["status"], "skipped", "{shown:#}");
    assert_eq!(step(&shown, "step_5")["status"], "completed", "{shown:#}");
    assert_eq!(step(&shown, "step_6")["status"], "skipped", "{shown:#}");
}

#[tokio::test]
async fn content_that_needs_a_review_waits_for_people() {
    for (answer, taken) in [
        (vec!["--form", r#"{"reason": "satire"}"#], "step_5"),
        (vec!["--reject", "--notes", "an advertisement"], "step_6"),
    ] {
        let place = Workplace::new();
        let content = "content=Buy my pills. A human should review this.";
        let asked = run(&place, "content-moderation/workflow.yaml", &["-i", content]).await;
        let id = asked.expect_code(3).id();
        let arguments = ["approve", &id, "--by", "ann", "--json"];
        let ended = place
            .troupe(arguments.into_iter().chain(answer))
            .end()
            .await;
        let shown = ended.expect_code(0).json();
        assert_eq!(step(&shown, taken)["status"], "completed", "{shown:#}");
    }
}

#[tokio::test]
async fn summaries_become_shorter_until_they_fit() {
    let place = Workplace::new();
    let docs = text(example("documents"));
    let topic = "topic=How do cities adapt to hotter summers?";
    let more = ["--docs", &docs, "-i", topic, "-i", "words:=60"];
    let ended = run(&place, "summaries/workflow.yaml", &more).await;
    let shown = ended.expect_code(0).json();
    let outputs = &shown["outputs"];
    assert!(
        outputs["words"].as_u64().is_some_and(|words| words <= 60),
        "{outputs:#}"
    );
    assert!(
        outputs["rounds"].as_u64().is_some_and(|rounds| rounds > 1),
        "{outputs:#}"
    );
    let sources = outputs["sources"].as_array().map_or(0, Vec::len);
    assert!(sources > 1, "{outputs:#}");
    assert_ne!(step(&shown, "each")["output"], Value::Null);
    assert_eq!(shown["progress"]["completed"], shown["progress"]["total"]);
}
