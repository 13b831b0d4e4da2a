//! A step of a search agent: one search for each query, all at once.

use futures::future::join_all;
use serde_json::{Value, json};
use troupe_providers::{SearchAnswer, SearchHit, SourceFailure};
use troupe_workflow::{Code, Failure, SearchAgent};

use super::Attempt;
use crate::call_gateway::CallGateway;
use crate::sources::Question;

/// Queries of one step: protects services from a model that lists without end.
const QUERIES_MAX: usize = 50;

pub(super) async fn run(attempt: &Attempt, agent: &SearchAgent) -> Result<Value, Failure> {
    let gateway = CallGateway::new(
        &attempt.services,
        attempt.execution,
        &attempt.start,
        attempt.driver.clone(),
    );
    let questions = questions(&attempt.start.input, agent)?;
    let searches = questions
        .iter()
        .map(|question| gateway.search(&attempt.services.sources, question, None));
    join(join_all(searches).await)
}

/// The queries of an input: a text, a list of texts or of objects with `query`, or one such object.
fn questions(input: &Value, agent: &SearchAgent) -> Result<Vec<Question>, Failure> {
    let items = match input {
        Value::Array(items) => items.as_slice(),
        other => std::slice::from_ref(other),
    };
    if items.len() > QUERIES_MAX {
        let message = format!(
            "{} queries at once; a search step takes at most {QUERIES_MAX}",
            items.len()
        );
        return Err(Failure::new(Code::InputInvalid, message));
    }
    let questions: Vec<Question> = items
        .iter()
        .map(|item| question(item, agent))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|question| !question.text.trim().is_empty())
        .collect();
    if questions.is_empty() {
        let message = "there is nothing to search for: the input has no query that is not empty";
        return Err(Failure::new(Code::InputInvalid, message));
    }
    Ok(questions)
}

fn question(item: &Value, agent: &SearchAgent) -> Result<Question, Failure> {
    let text = item
        .as_str()
        .or_else(|| item.get("query").and_then(Value::as_str));
    let Some(text) = text else {
        let shown: String = item.to_string().chars().take(100).collect();
        return Err(Failure::new(
            Code::InputInvalid,
            format!(
                "a search takes a text, an object with `query`, or a list of these, not {shown}"
            ),
        ));
    };
    let max_results = item
        .get("max_results")
        .and_then(Value::as_u64)
        .and_then(|most| u32::try_from(most).ok())
        .unwrap_or(agent.max_results);
    Ok(Question {
        text: text.to_owned(),
        sources: agent.sources.clone(),
        max_results,
        max_results_of: agent
            .settings
            .iter()
            .filter_map(|(source, settings)| Some((source.clone(), settings.max_results?)))
            .collect(),
    })
}

/// All results: the queries' best hits first, each address once.
fn join(answers: Vec<Result<SearchAnswer, Failure>>) -> Result<Value, Failure> {
    let mut lists: Vec<std::vec::IntoIter<SearchHit>> = Vec::new();
    let mut errors: Vec<SourceFailure> = Vec::new();
    let mut failure = None;
    for answer in answers {
        match answer {
            Ok(SearchAnswer {
                results,
                errors: failed,
            }) => {
                lists.push(results.into_iter());
                errors.extend(
                    failed
                        .into_iter()
                        .filter(|error| !errors.contains(error))
                        .collect::<Vec<_>>(),
                );
            }
            // A budget or a cancelled execution is no matter of one query.
            Err(error) if !error.code.is_caught() => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let (true, Some(failure)) = (lists.is_empty(), failure) {
        return Err(failure);
    }
    let mut results: Vec<Value> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    // In turn, so that every query has its best hits near the top.
    while !lists.is_empty() {
        lists.retain_mut(|list| match list.next() {
            Some(hit) => {
                if seen.insert(hit.url.clone()) {
                    results.push(result(&hit));
                }
                true
            }
            None => false,
        });
    }
    Ok(json!({ "results": results, "errors": errors }))
}

fn result(hit: &SearchHit) -> Value {
    json!({
        "title": hit.title,
        "url": hit.url,
        "snippet": hit.snippet,
        "source": hit.source,
        "query": hit.query,
        "published_at": hit.published_at,
        "score": f64::from(hit.score_permille) / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn agent() -> SearchAgent {
        SearchAgent {
            sources: vec!["web".to_owned()],
            max_results: 10,
            settings: BTreeMap::new(),
        }
    }

    fn hit(url: &str, query: &str) -> SearchHit {
        SearchHit {
            title: url.to_owned(),
            url: url.to_owned(),
            snippet: String::new(),
            source: "web".to_owned(),
            query: query.to_owned(),
            published_at: None,
            score_permille: 1000,
        }
    }

    #[test]
    fn inputs_of_every_shape_are_queries() {
        let texts = |input: Value| -> Result<Vec<String>, String> {
            questions(&input, &agent())
                .map(|questions| {
                    questions
                        .into_iter()
                        .map(|question| question.text)
                        .collect()
                })
                .map_err(|failure| failure.message)
        };
        assert_eq!(texts(json!("a b")).unwrap(), ["a b"]);
        assert_eq!(
            texts(json!(["a", { "query": "b" }, " "])).unwrap(),
            ["a", "b"]
        );
        assert_eq!(
            texts(json!({ "query": "c", "max_results": 3 })).unwrap(),
            ["c"]
        );
        assert!(texts(json!([])).unwrap_err().contains("nothing to search"));
        assert!(texts(json!([7])).unwrap_err().contains("not 7"));
        assert!(
            texts(json!(vec!["x"; 51]))
                .unwrap_err()
                .contains("at most 50")
        );
    }

    #[test]
    fn results_of_several_queries_take_turns_and_come_once() {
        let answer = |urls: &[&str], query: &str| {
            Ok(SearchAnswer {
                results: urls.iter().map(|url| hit(url, query)).collect(),
                errors: Vec::new(),
            })
        };
        let broken = || Err(Failure::new(Code::Unavailable, "down"));
        let joined = join(vec![
            answer(&["1", "2"], "a"),
            answer(&["3", "1", "4"], "b"),
            broken(),
        ])
        .unwrap();
        let urls: Vec<&str> = joined["results"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|hit| hit["url"].as_str())
            .collect();
        assert_eq!(urls, ["1", "3", "2", "4"]);
        assert_eq!(join(vec![broken(), broken()]).unwrap_err().message, "down");
    }
}
