//! The table of hostile guests, held against the tests that it names.

use e2e::troupe::root;

/// Rows that the table has; a new attempt is a new row.
const ROWS: usize = 63;

/// All sources in which tests may stand, with their paths.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["host", "tests"].map(|folder| root().join(folder)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the checkout") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                found.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    found
}

/// Whether a file of this name has a test of this name: an attribute that says so, and then the function.
fn is_there(sources: &[(String, String)], test: &str) -> bool {
    let Some((file, name)) = test.rsplit_once("::") else {
        return false;
    };
    let head = format!("fn {name}(");
    let place = format!("/{}.rs", file.replace("::", "/"));
    sources
        .iter()
        .filter(|(path, _)| path.ends_with(&place))
        .any(|(_, text)| {
            text.match_indices(&head).any(|(at, _)| {
                let before = text[..at].trim_end().trim_end_matches("async").trim_end();
                let attribute = before.lines().next_back().unwrap_or_default().trim();
                attribute.starts_with("#[") && attribute.contains("test")
            })
        })
}

#[test]
fn the_table_of_hostile_guests_names_tests_that_are_there() {
    let page = root().join("docs/hostile.md");
    let text = std::fs::read_to_string(page).expect("the page is in the checkout");
    let (above, rest) = text.split_once("<!-- guests -->\n").expect("a mark");
    let (table, _) = rest.split_once("<!-- /guests -->").expect("a mark");
    let sources = sources();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(rows.len(), ROWS);
    let mut faults = Vec::new();
    for row in rows {
        let tests = row.trim_end_matches(['|', ' ']).rsplit(" | ").next();
        let tests: Vec<&str> = tests
            .unwrap_or_default()
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        if tests.is_empty() {
            faults.push(format!("no test: {row}"));
        }
        let missing = tests.iter().filter(|test| !is_there(&sources, test));
        faults.extend(missing.map(|test| format!("there is no test {test}")));
    }
    let named = above.split('`').skip(1).step_by(2);
    let named = named.filter(|code| code.split("::").count() > 2 || code.starts_with("workers::"));
    let missing = named.filter(|test| !is_there(&sources, test));
    faults.extend(missing.map(|test| format!("there is no test {test}")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
