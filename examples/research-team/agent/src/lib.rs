//! A fact checker: it takes a text apart into statements, searches for each of them, and asks a model
//! whether what was found supports it.
//!
//! It shows what an agent of one's own is good for: many searches and many questions to a model at once,
//! with ordinary code between them. The searches are one call of the host and the questions another, so
//! that a text of eight statements takes as long as a text of one.
//!
//! Beside the model's opinion there is a plain measure, the share of a statement's words that a passage
//! holds. The model is shown it, and it decides alone where no model may be asked.

mod claims;
mod evidence;
mod judgement;

use serde::{Deserialize, Serialize};
use troupe_sdk::{Action, Agent, Describe, Description, Failure, Invocation, log, search};

use crate::evidence::Evidence;
use crate::judgement::Verdict;

/// Results asked for each statement: more passages cost more model tokens and seldom change a verdict.
const RESULTS_PER_CLAIM: u32 = 3;

struct FactChecker;

/// What the step's input holds.
#[derive(Deserialize)]
struct Input {
    /// The text to check, for example a summary that a model wrote.
    text: String,
    /// What the text is about; it helps the search where a statement does not name it.
    #[serde(default)]
    topic: String,
}

/// The step's output.
#[derive(Serialize)]
struct Report {
    claims: Vec<CheckedClaim>,
    supported: usize,
    unsupported: usize,
}

/// One statement and what became of it.
#[derive(Serialize)]
struct CheckedClaim {
    claim: String,
    verdict: Verdict,
    /// Who decided: the model's name, or `word comparison`.
    decided_by: String,
    /// The share of the statement's words that the best passage holds, in percent.
    words_found_percent: u32,
    sources: Vec<Source>,
}

#[derive(Serialize)]
struct Source {
    title: String,
    url: String,
}

impl Agent for FactChecker {
    type Input = Input;
    type Output = Report;

    fn run(input: Input, _: &Invocation) -> Result<Report, Failure> {
        let claims = claims::split(&input.text);
        if claims.is_empty() {
            return Err(Failure::new(
                "the text holds no statement to check: it needs at least one whole sentence",
            ));
        }
        log::info(format!("checking {} statements", claims.len()));
        let evidence = look_up(&claims, &input.topic)?;
        let judgements = judgement::judge_all(&claims, &evidence)?;

        let checked = claims.into_iter().zip(evidence).zip(judgements);
        let claims: Vec<CheckedClaim> = checked
            .map(|((claim, evidence), judgement)| CheckedClaim {
                claim,
                verdict: judgement.verdict,
                decided_by: judgement.decided_by,
                words_found_percent: evidence.words_found_percent(),
                sources: sources(judgement.verdict, evidence),
            })
            .collect();
        let supported = claims
            .iter()
            .filter(|claim| claim.verdict == Verdict::Supported)
            .count();
        Ok(Report {
            supported,
            unsupported: claims.len() - supported,
            claims,
        })
    }
}

impl Describe for FactChecker {
    fn describe() -> Description {
        let input = serde_json::json!({
            "type": "object",
            "properties": {"text": {"type": "string"}, "topic": {"type": "string"}},
            "required": ["text"],
        });
        Description::new("fact-checker", env!("CARGO_PKG_VERSION"))
            .text("Looks up every statement of a text and says which ones its sources support.")
            .action(Action::new("check", "Checks the statements of a text.").input(input))
    }
}

troupe_sdk::export_described!(FactChecker);

/// Searches for every statement at once.
fn look_up(claims: &[String], topic: &str) -> Result<Vec<Evidence>, Failure> {
    let queries = claims
        .iter()
        .map(|claim| search::find(evidence::query(claim, topic)).max_results(RESULTS_PER_CLAIM));
    let answers = search::many(queries);
    let evidence = claims
        .iter()
        .zip(answers)
        .map(|(claim, answer)| Ok(Evidence::weigh(claim, answer?.results)));
    evidence.collect()
}

/// What supports a statement; an unsupported one has no sources, only passages that failed to support it.
fn sources(verdict: Verdict, evidence: Evidence) -> Vec<Source> {
    match verdict {
        Verdict::Supported => {
            let hits = evidence.near_the_best();
            hits.map(|hit| Source {
                title: hit.title,
                url: hit.url,
            })
            .collect()
        }
        Verdict::Unsupported => Vec::new(),
    }
}
