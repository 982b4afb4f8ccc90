//! Every reason under which the agent says an Event stands in one table for people, and nothing else does.

use std::collections::BTreeMap;

use crate::{
    fields::has_test,
    tree::{Finding, Tree, finding},
};

/// The table.
pub(crate) const TABLE: &str = "deploy/events.md";

/// Where reasons are chosen that do not stand at the call itself: the file, where the choice begins, where it ends, and the
/// words in between that are none.
const CHOICES: &[(&str, &str, &str, &[&str])] = &[
    (
        "agent/src/k8s/fault.rs",
        "pub fn reason(",
        "\n    }\n",
        // No news: see `Fault::is_news`.
        &["Conflict", "Unavailable"],
    ),
    (
        "agent/src/controllers/failover/show.rs",
        "pub(super) fn news(",
        "#[cfg(test)]",
        &[],
    ),
    (
        "agent/src/controllers/namespaces/show.rs",
        "",
        "#[cfg(test)]",
        &["Namespace"],
    ),
    (
        "agent/src/link/supervise/faults.rs",
        "fn news(&self)",
        "\n    }\n",
        &[],
    ),
    ("agent/src/link/wishes.rs", "pub fn verdict(", "\n}\n", &[]),
    (
        "agent/src/link/supervise/announce.rs",
        "const ONLY_OBSERVING",
        ";",
        &[],
    ),
    (
        "agent/src/link/supervise/clocks.rs",
        "const CLOCKS_DIFFER",
        ";",
        &[],
    ),
    (
        "agent/src/link/supervise/fresh.rs",
        "const NOT_RENEWED",
        ";",
        &[],
    ),
    ("agent/src/link/peers.rs", "const NOT_RENEWED", ";", &[]),
    (
        "agent/src/controllers/serve/access.rs",
        "const INCOMPLETE",
        "\n\n",
        &[],
    ),
    (
        "api/src/crds/cluster/status.rs",
        "pub open enum ClusterState",
        "}",
        // Refusals have Events of their own.
        &["Error"],
    ),
    // What is said of an object that cannot be read, and goes.
    (
        "agent/src/controllers/serve/remove.rs",
        "pub(crate) fn finding(",
        "\n}\n",
        &["Ready"],
    ),
    (
        "agent/src/controllers/active_active/status.rs",
        "fn unconfirmed()",
        "\n}\n",
        &["DeletionUnconfirmed"],
    ),
    (
        "agent/src/k8s/drive/unreadable.rs",
        "fn look<",
        "\n}\n",
        &["Ready"],
    ),
];

/// Files that say an Event under a reason that is chosen elsewhere.
const SAY_CHOSEN: &[&str] = &[
    "agent/src/controllers/cluster.rs",
    "agent/src/controllers/failover/shell/act.rs",
    "agent/src/controllers/namespaces/show.rs",
    "agent/src/controllers/serve/access.rs",
    "agent/src/k8s/drive.rs",
    "agent/src/k8s/drive/unreadable.rs",
    "agent/src/link/observe.rs",
    "agent/src/link/peers.rs",
    "agent/src/link/supervise.rs",
    "agent/src/link/supervise/announce.rs",
    "agent/src/link/supervise/clocks.rs",
    "agent/src/link/supervise/fresh.rs",
];

/// Where the table and the agent differ, and where the table names a test that is not there.
pub(crate) fn told(tree: &Tree) -> Vec<Finding> {
    let Some(table) = tree.files.get(TABLE) else {
        return vec![finding(TABLE, 0, "is missing")];
    };
    let (rows, mut found) = rows(tree, table);
    let said = said(tree, &mut found);
    for (reason, (path, line)) in &said {
        if !rows.contains_key(reason.as_str()) {
            let what = format!("the reason `{reason}` is not in {TABLE}: add a row");
            found.push(finding(path, *line, what));
        }
    }
    for (reason, line) in rows {
        if !said.contains_key(reason) {
            let what = format!("nothing says an Event `{reason}`: remove the row");
            found.push(finding(TABLE, line, what));
        }
    }
    found
}

/// Reason → line of the table; a test that it names and that is not there is a finding.
fn rows<'a>(tree: &Tree, table: &'a str) -> (BTreeMap<&'a str, usize>, Vec<Finding>) {
    let (mut rows, mut found) = (BTreeMap::new(), Vec::new());
    for (number, line) in (1..).zip(table.lines()) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, reason, _, _, _, test, _] = cells.as_slice() else {
            continue;
        };
        let Some(reason) = reason.strip_prefix('`').and_then(|r| r.strip_suffix('`')) else {
            continue;
        };
        if rows.insert(reason, number).is_some() {
            found.push(finding(TABLE, number, format!("`{reason}` stands twice")));
        }
        let test = test.trim_matches('`');
        let mut sources = tree.ending(".rs");
        if !test.is_empty() && !sources.any(|(_, text)| has_test(text, test)) {
            found.push(finding(TABLE, number, format!("no test `{test}`")));
        }
    }
    (rows, found)
}

/// Reason → where it is said or chosen.
fn said(tree: &Tree, found: &mut Vec<Finding>) -> BTreeMap<String, (String, usize)> {
    let mut said = BTreeMap::new();
    for (path, text) in tree.ending(".rs") {
        let tests = path.contains("/tests") || path.ends_with("/testing.rs");
        if !path.starts_with("agent/src/") || tests || path == "agent/src/k8s/events.rs" {
            continue;
        }
        let text = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        for call in [".warning(", ".normal(", ".between("] {
            for (at, _) in text.match_indices(call) {
                let line = text[..at].matches('\n').count() + 1;
                let end = text[at..].find(".await").unwrap_or(0);
                match words(&text[at..at + end]).next() {
                    Some(reason) => {
                        said.insert(reason, (path.to_owned(), line));
                    }
                    None if SAY_CHOSEN.contains(&path) => {}
                    None => found.push(finding(
                        path,
                        line,
                        "says an Event under a reason that is chosen elsewhere: add the place to CHOICES and this file to \
                         SAY_CHOSEN",
                    )),
                }
            }
        }
    }
    for (path, begin, end, none) in CHOICES {
        let text = tree.files.get(*path).map_or("", String::as_str);
        let part = text.split_once(begin).map_or("", |(_, rest)| rest);
        let part = part.split(end).next().unwrap_or_default();
        let mut any = false;
        for reason in words(part).filter(|word| !none.contains(&word.as_str())) {
            any = true;
            said.insert(reason, ((*path).to_owned(), 0));
        }
        if !any {
            let what = format!("no reason is chosen after `{begin}`: correct CHOICES");
            found.push(finding(path, 0, what));
        }
    }
    said
}

/// String literals of one word that begins with a capital letter and goes on with small ones, such as reasons are.
fn words(text: &str) -> impl Iterator<Item = String> {
    let literals = text.split('"').skip(1).step_by(2);
    let word = |text: &&str| {
        let mut letters = text.chars();
        letters.next().is_some_and(|c| c.is_ascii_uppercase())
            && letters.next().is_some_and(|c| c.is_ascii_lowercase())
            && letters.all(|c| c.is_ascii_alphabetic())
    };
    literals.filter(word).map(str::to_owned)
}
