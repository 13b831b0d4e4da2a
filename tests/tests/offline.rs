//! The examples without any key and any network: the built-in model and a folder of documents answer for all.

use e2e::troupe::{Ended, Workplace, example, step, text};
use serde_json::{Value, json};

const TOPIC: &str = "topic=How do cities adapt to hotter summers?";

fn workflow(name: &str) -> String {
    text(example(name).join("workflow.json"))
}

/// The examples' own documents, by file name.
fn documents() -> Vec<String> {
    let folder = example("documents");
    let files =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .flatten()
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect()
}

async fn run(place: &Workplace, name: &str, docs: &str) -> Ended {
    let file = workflow(name);
    place
        .troupe(["run", &file, "--offline", "--docs", docs, "-i", TOPIC])
        .end()
        .await
}

/// How many of the folder's documents an answer names.
fn cited(answer: &str) -> usize {
    documents()
        .iter()
        .filter(|name| answer.contains(name.as_str()))
        .count()
}

#[tokio::test]
async fn the_research_assistant_cites_the_documents() {
    let place = Workplace::new();
    let ended = run(&place, "research-assistant", &text(example("documents")))
        .await
        .expect_code(0);
    assert!(
        ended.stdout.to_lowercase().contains("offline"),
        "it says what it is: {ended}"
    );
    assert!(cited(&ended.stdout) >= 2, "{ended}");
    assert!(ended.stdout.contains("[1]"), "{ended}");
    let shown = place.show(&ended.id()).await;
    assert_eq!(
        (&shown["status"], &shown["cost"]["usd"]),
        (&json!("completed"), &json!(0.0))
    );
    for id in ["plan", "search", "synthesize"] {
        assert_eq!(step(&shown, id)["status"], "completed", "{id}");
    }
    for id in ["plan", "synthesize"] {
        for count in ["input_tokens", "output_tokens"] {
            assert!(
                step(&shown, id)["usage"][count]
                    .as_u64()
                    .is_some_and(|tokens| tokens > 0),
                "{id}: {shown:#}"
            );
        }
    }
    assert!(ended.stderr.contains("3/3 steps"), "{ended}");
}

#[tokio::test]
async fn the_research_team_writes_a_checked_report() {
    let place = Workplace::new();
    let ended = run(&place, "research-team", &text(example("documents")))
        .await
        .expect_code(0);
    let report = &ended.stdout;
    assert!(
        report.starts_with("# How do cities adapt to hotter summers?\n"),
        "{ended}"
    );
    for expected in [
        "Keywords: ",
        "## Checked statements (",
        "## Read for this report",
        "[x] ",
    ] {
        assert!(report.contains(expected), "{expected}\n{ended}");
    }
    assert!(
        report.to_lowercase().contains("offline"),
        "it says what it is: {ended}"
    );
    assert!(cited(report) >= 3, "{ended}");
    let shown = place.show(&ended.id()).await;
    assert_eq!(
        (&shown["status"], &shown["cost"]["usd"]),
        (&json!("completed"), &json!(0.0))
    );
    assert_eq!(
        shown["outputs"]["report"].as_str().map(str::trim_end),
        Some(report.trim_end())
    );
    for id in [
        "plan",
        "search",
        "rank",
        "synthesize",
        "check",
        "tag",
        "format",
    ] {
        assert_eq!(
            (&step(&shown, id)["status"], &step(&shown, id)["attempts"]),
            (&json!("completed"), &json!(1)),
            "{id}"
        );
    }
    for id in ["rank", "check", "format"] {
        assert!(
            step(&shown, id)["usage"]["fuel"]
                .as_u64()
                .is_some_and(|fuel| fuel > 0),
            "{id}"
        );
    }
    let claims = step(&shown, "check")["output"]["claims"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(!claims.is_empty(), "{shown:#}");
}

#[tokio::test]
async fn the_same_question_has_the_same_answer() {
    let place = Workplace::new();
    let docs = text(example("documents"));
    let first = run(&place, "research-team", &docs).await.expect_code(0);
    let second = run(&place, "research-team", &docs).await.expect_code(0);
    assert_eq!(first.stdout, second.stdout);
}

#[tokio::test]
async fn a_folder_of_ones_own_works() {
    let place = Workplace::new();
    for (name, contents, word) in [
        (
            "sourdough.md",
            "# Sourdough\n\nA sourdough starter rises because wild yeast makes gas. Bakers feed the starter with flour and water every day.\n",
            "yeast",
        ),
        (
            "sourdough.txt",
            "A sourdough loaf needs a long rest. The dough rests in a cool cellar overnight, and its taste grows sour.\n",
            "cellar",
        ),
        (
            "sourdough.html",
            "<!doctype html><title>Sourdough</title><nav>Home</nav><p>A sourdough crust becomes crisp in steam. Bakers pour a cup of water into the hot oven.</p>",
            "steam",
        ),
    ] {
        let folder = format!("docs-{word}");
        place.write(&format!("{folder}/{name}"), contents);
        let file = workflow("research-assistant");
        let arguments = [
            "run",
            &file,
            "--offline",
            "--docs",
            &folder,
            "-i",
            "topic=How is sourdough made?",
            "--json",
        ];
        let ended = place.troupe(arguments).end().await.expect_code(0);
        let answer = step(&ended.json(), "synthesize")["output"].to_string();
        assert!(
            answer.contains(word) && answer.contains(name),
            "{name}: {answer}"
        );
    }
}

#[tokio::test]
async fn the_network_is_not_asked() {
    let mut place = Workplace::new();
    // Whoever connects anywhere is sent to a port where nobody listens, and a key that is there is not used.
    for variable in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        place.set(variable, "http://127.0.0.1:9");
    }
    place.set("OPENAI_API_KEY", "sk-not-used");
    place.write(
        "troupe.toml",
        "[providers.openai]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n",
    );
    let ended = run(&place, "research-assistant", &text(example("documents")))
        .await
        .expect_code(0);
    assert!(cited(&ended.stdout) >= 2, "{ended}");
}

#[tokio::test]
async fn without_documents_the_way_out_is_named() {
    let place = Workplace::new();
    for name in ["research-assistant", "research-team"] {
        let file = workflow(name);
        let ended = place
            .troupe(["run", &file, "--offline", "-i", TOPIC])
            .end()
            .await
            .expect_code(2);
        assert!(
            ended.stderr.contains("--docs FOLDER") && ended.stderr.contains("/agents/1/sources/0"),
            "{ended}"
        );
        let ended = place
            .troupe(["run", &file, "--offline", "--docs", "nowhere", "-i", TOPIC])
            .end()
            .await
            .expect_code(2);
        assert!(ended.stderr.contains("nowhere"), "{ended}");
        let ended = place
            .troupe(["run", &file, "-i", TOPIC])
            .end()
            .await
            .expect_code(2);
        assert!(ended.stderr.contains("--offline"), "{ended}");
    }
    assert_eq!(place.list().await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_empty_folder_is_no_crash() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("empty")).expect("a folder");
    let ended = run(&place, "research-assistant", "empty").await;
    assert!(matches!(ended.status.code(), Some(0 | 1)), "{ended}");
    assert!(!ended.stderr.contains("panicked"), "{ended}");
}

#[tokio::test]
async fn a_code_file_of_an_example_can_be_changed() {
    let place = Workplace::new();
    let copy = place.copy_example("research-team");
    place.write(
        "research-team/format.js",
        "function format({ topic }) {\n  return `Only this: ${topic}`;\n}\n",
    );
    let file = text(copy.join("workflow.json"));
    let docs = text(example("documents"));
    let ended = place
        .troupe(["run", &file, "--offline", "--docs", &docs, "-i", TOPIC])
        .end()
        .await
        .expect_code(0);
    assert_eq!(
        ended.stdout,
        "Only this: How do cities adapt to hotter summers?\n"
    );
}
