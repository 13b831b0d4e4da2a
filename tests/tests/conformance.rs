//! The workflow language, by its cases: each is run on the pure core, and again through the driver with a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use e2e::conformance::{self, Case, Observed, cases, check, rules};
use troupe_journal::{Journal, SqliteJournal};
use troupe_workflow::Definition;

/// Compiles a case's document, and compares how it is refused, or what is known of it before it runs. None: there
/// is nothing to run.
fn prepare(case: &Case, complaints: &mut Vec<String>) -> Option<Arc<Definition>> {
    let expected = case.expect.faults.as_ref();
    let definition = match Definition::compile(&case.workflow) {
        Ok(definition) => definition,
        Err(faults) => {
            let is_as_expected = expected.is_some_and(|expected| {
                expected.len() == faults.len()
                    && expected.iter().zip(faults.iter()).all(|(expected, fault)| {
                        fault.pointer == expected.at
                            && (expected.column.is_none() || expected.column == fault.column)
                            && fault.message.contains(&expected.says)
                    })
            });
            if !is_as_expected {
                complaints.push(format!("expected the faults {expected:#?}, got\n{faults}"));
            }
            return None;
        }
    };
    if let Some(expected) = expected {
        complaints.push(format!("expected the faults {expected:?}, got none"));
        return None;
    }
    if let Some(inferred) = &case.expect.inferred {
        let actual = definition.inferred_inputs();
        if actual != *inferred {
            complaints.push(format!("inferred: expected {inferred:?}, got {actual:?}"));
        }
    }
    let refusals = case.expect.inputs_refused.as_ref();
    match definition.check_inputs(&case.inputs()) {
        Ok(()) if refusals.is_none() => Some(Arc::new(definition)),
        Ok(()) => {
            complaints.push(format!("the inputs are not refused with {refusals:?}"));
            None
        }
        Err(faults) => {
            let text = faults.to_string();
            let is_said = |says: &String| text.contains(says.as_str());
            if !refusals.is_some_and(|refusals| refusals.iter().all(is_said)) {
                complaints.push(format!("the inputs are refused with\n{text}"));
            }
            None
        }
    }
}

/// Fails with all cases that do not hold. `CONFORMANCE=name` runs those alone whose name contains it.
fn check_all(run: impl Fn(&Case, &Arc<Definition>, u64) -> Observed) {
    let only = std::env::var_os("CONFORMANCE").unwrap_or_default();
    let only = only.to_string_lossy();
    let mut report = String::new();
    let mut broken = 0;
    let cases = cases();
    let chosen = cases
        .iter()
        .filter(|(_, case)| case.case.contains(only.as_ref()));
    for (number, (topic, case)) in (1_u64..).zip(chosen) {
        let mut complaints = Vec::new();
        if let Some(definition) = prepare(case, &mut complaints) {
            let observed = run(case, &definition, number);
            complaints.extend(check(&case.expect, &observed));
        }
        if !complaints.is_empty() {
            broken += 1;
            let complaints = complaints.join("\n  ");
            report.push_str(&format!(
                "{topic}/{}: {}\n  {complaints}\n",
                case.case, case.about
            ));
        }
    }
    assert!(
        broken == 0,
        "{broken} of {} cases do not hold:\n{report}",
        cases.len()
    );
}

#[test]
fn every_case_holds_on_the_core() {
    check_all(|case, definition, _| conformance::run_on_the_core(case, definition));
}

#[test]
fn every_case_holds_through_the_driver() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let journal = SqliteJournal::open(folder.path(), "conformance".to_owned(), None)
        .expect("the journal can be opened");
    let journal: Arc<dyn Journal> = Arc::new(journal);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    check_all(|case, definition, number| {
        runtime.block_on(conformance::run_through_the_driver(
            case,
            definition,
            (&journal, number),
        ))
    });
}

#[test]
fn every_rule_has_cases_of_both_kinds() {
    let rules = rules();
    let known: BTreeSet<&str> = rules.iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(known.len(), rules.len(), "a rule stands twice");
    let mut names = BTreeSet::new();
    let mut kinds: BTreeMap<&str, [bool; 2]> = BTreeMap::new();
    let cases = cases();
    for (topic, case) in &cases {
        assert!(
            names.insert(&case.case),
            "the case {} stands twice",
            case.case
        );
        let rule = case.rule.as_str();
        assert!(
            known.contains(rule),
            "{topic}/{}: there is no rule {rule}",
            case.case
        );
        let expect = &case.expect;
        let is_refused = expect.faults.is_some()
            || expect.inputs_refused.is_some()
            || expect.error.is_some()
            || case.acts.iter().any(|act| act.refused.is_some())
            || expect.status.as_deref() == Some("failed");
        // A step that fails, and is handled, shows both.
        let is_handled = expect.steps.values().any(|status| status == "failed");
        let of_rule = kinds.entry(rule).or_default();
        of_rule[usize::from(is_refused)] = true;
        of_rule[1] |= is_handled;
    }
    for rule in &rules {
        let [accepted, refused] = kinds.get(rule.rule.as_str()).copied().unwrap_or_default();
        let is_covered = match rule.only.as_deref() {
            Some("accepted") => accepted,
            Some("refused") => refused,
            _ => accepted && refused,
        };
        assert!(
            is_covered,
            "the rule {} lacks a case of one kind",
            rule.rule
        );
        assert_eq!(
            rule.only.is_some(),
            rule.why.is_some(),
            "{}: `only` has a `why`",
            rule.rule
        );
    }
}

#[test]
fn the_docs_list_every_rule_with_its_cases() {
    let mut by_rule: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, case) in cases() {
        let named = format!("`{}`", case.case);
        by_rule.entry(case.rule).or_default().push(named);
    }
    let mut table = "| rule | says | cases |\n|---|---|---|\n".to_owned();
    for rule in rules() {
        let cases = by_rule.remove(&rule.rule).unwrap_or_default().join(", ");
        table.push_str(&format!("| {} | {} | {cases} |\n", rule.rule, rule.says));
    }
    let page = e2e::troupe::root().join("docs/conformance.md");
    let text = std::fs::read_to_string(&page).expect("the page is in the checkout");
    let (before, rest) = text
        .split_once("<!-- rules -->\n")
        .expect("the table has marks");
    let (listed, after) = rest
        .split_once("<!-- /rules -->")
        .expect("the table has an end");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let text = format!("{before}<!-- rules -->\n{table}<!-- /rules -->{after}");
        std::fs::write(&page, text).expect("the page can be written");
        return;
    }
    assert!(
        listed == table,
        "{} is not what the cases are; write it anew with UPDATE_EXPECT=1",
        page.display()
    );
}
