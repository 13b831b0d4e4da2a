//! The rules that every journal keeps, each a function that is run for each of them, and random operations done to
//! two of them in step.
//!
//! They know the trait alone: what a database does beyond it is tested where it is.

#![expect(clippy::unwrap_used, reason = "a rule that is not kept ends its check")]

mod append;
mod create;
mod hints;
mod lab;
mod ownership;
mod reading;
mod records;
mod removal;
pub mod samples;
mod seeded;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinSet;

pub use lab::{Lab, LabKind, Node};
pub use seeded::compare_in_step;

/// A rule, and the function that shows whether it is kept.
struct Rule {
    name: &'static str,
    check: Box<dyn Fn(Lab) -> BoxFuture<'static, ()> + Send>,
}

/// A rule is called what its function is called.
fn rule<F, Done>(check: F) -> Rule
where
    F: Fn(Lab) -> Done + Send + 'static,
    Done: Future<Output = ()> + Send + 'static,
{
    Rule {
        name: std::any::type_name::<F>()
            .rsplit("::")
            .next()
            .unwrap_or_default(),
        check: Box::new(move |lab| check(lab).boxed()),
    }
}

fn rules() -> Vec<Rule> {
    let mut all = create::rules();
    all.extend(append::rules());
    all.extend(records::rules());
    all.extend(ownership::rules());
    all.extend(removal::rules());
    all.extend(reading::rules());
    all.extend(hints::rules());
    all
}

/// Checks every rule on a fresh journal of its own.
///
/// # Panics
/// Where one is broken: the message says by which journal, and which.
pub async fn keeps_every_rule(kind: &LabKind) {
    /// Rules that are checked at once: bounds the connections and open files of the run.
    const AT_ONCE: usize = 4;
    let mut broken = Vec::new();
    let mut running = JoinSet::new();
    let mut note = |name: &str, outcome: Result<(), _>| {
        if outcome.is_err() {
            broken.push(format!("{}: {name}", kind.name()));
        }
    };
    for rule in rules() {
        if running.len() >= AT_ONCE
            && let Some(Ok((name, outcome))) = running.join_next().await
        {
            note(name, outcome);
        }
        let check = (rule.check)(kind.set_up());
        let name = rule.name;
        running.spawn(async move {
            let check = std::panic::AssertUnwindSafe(check);
            (name, check.catch_unwind().await.map_err(drop))
        });
    }
    while let Some(Ok((name, outcome))) = running.join_next().await {
        note(name, outcome);
    }
    assert!(broken.is_empty(), "broken rules: {broken:#?}");
}
