//! Conformance cases of the workflow language: documents with what their agents answer and what must come of it, as
//! data in `tests/conformance`. They are run on the pure core, and through the driver with a journal.

mod case;
mod check;
mod core;
mod driver;
mod script;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use case::{Act, ActKind, Answer, Case, Expectation};
pub use check::check;
pub use core::run as run_on_the_core;
pub use driver::run as run_through_the_driver;

use troupe_workflow::{Event, Execution};

/// What came of a case that ran.
pub struct Observed {
    pub execution: Execution,
    pub events: Vec<Event>,
    /// Acts whose outcome was not the one that the case says.
    pub complaints: Vec<String>,
}

/// The virtual time at which every case begins, in milliseconds since 1970.
pub const BEGIN_MS: i64 = 1_795_000_000_000;

/// One rule of the language.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub rule: String,
    /// The rule in one sentence.
    pub says: String,
    /// Where a rule can only be kept, or only be broken.
    #[serde(default)]
    pub only: Option<String>,
    #[serde(default)]
    pub why: Option<String>,
}

/// The folder of the cases.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Every rule, in the order of the language's reference.
pub fn rules() -> Vec<Rule> {
    read(&folder().join("rules.yaml"))
}

/// Every case, with the name of its file.
pub fn cases() -> Vec<(String, Case)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the cases are beside this package")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .filter(|path| path.file_stem().is_some_and(|name| name != "rules"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let topic = path.file_stem().unwrap_or_default().to_string_lossy();
            let topic = topic.into_owned();
            let cases: Vec<Case> = read(path);
            cases.into_iter().map(move |case| (topic.clone(), case))
        })
        .collect()
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).expect("a file of cases can be read");
    let value = troupe_workflow::parse_yaml(&text)
        .unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
    let items = value.as_array().expect("a file of cases is a list");
    items
        .iter()
        .map(|item| {
            serde_json::from_value(item.clone())
                .unwrap_or_else(|error| panic!("{}: {error} in {item}", path.display()))
        })
        .collect()
}
