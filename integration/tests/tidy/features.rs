//! What is said to be done names the tests that show it, and they exist.

use crate::{
    fields::has_test,
    tree::{Finding, Tree, finding},
};

/// The table.
pub(crate) const TABLE: &str = "deploy/features.md";
/// What may stand in its third column.
const STATES: [&str; 4] = ["done", "partly", "not", "does not apply"];

/// Where the table names a test that is not there, a state that nobody knows, or nothing that shows what is done.
pub(crate) fn shown(tree: &Tree) -> Vec<Finding> {
    let Some(table) = tree.files.get(TABLE) else {
        return vec![finding(TABLE, 0, "is missing")];
    };
    let rows = table.lines().zip(1..).filter_map(|(line, number)| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, row, _, state, shown, _] = cells.as_slice() else {
            return None;
        };
        row.parse::<u32>().ok()?;
        Some((number, *state, *shown))
    });
    rows.flat_map(|(number, state, shown)| judged(tree, number, state, shown))
        .collect()
}

fn judged(tree: &Tree, line: usize, state: &str, shown: &str) -> Vec<Finding> {
    let tests: Vec<&str> = shown
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(is_test)
        .collect();
    let mut found = Vec::new();
    if !STATES.contains(&state) {
        let what = format!("the state `{state}` is none of {STATES:?}");
        found.push(finding(TABLE, line, what));
    }
    if state == "done" && tests.is_empty() {
        let what = "is done, and no test is named that shows it: name one";
        found.push(finding(TABLE, line, what));
    }
    for test in tests {
        if !tree.ending(".rs").any(|(_, text)| has_test(text, test)) {
            let what =
                format!("no test `{test}`: correct the name, or name the test that shows it now");
            found.push(finding(TABLE, line, what));
        }
    }
    found
}

/// Tests are named by sentences; fields and objects are not.
fn is_test(word: &&str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    word.bytes().all(plain) && word.matches('_').count() >= 3
}
