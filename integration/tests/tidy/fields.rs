//! Every field that is said to have an effect has a test that shows it: the table of tests and the sources agree.

use crate::{
    effects::{self, Field, Proof, TABLE},
    tree::{Finding, Tree, finding},
};

/// Where the table names a field or a test that is not there, or leaves an effective field out.
pub(crate) fn shown(tree: &Tree, fields: &[Field]) -> Vec<Finding> {
    let Some(table) = tree.files.get(TABLE) else {
        return vec![finding(TABLE, 0, "is missing")];
    };
    let proofs = match effects::read(table) {
        Ok(proofs) => proofs,
        Err(problem) => return vec![finding(TABLE, 0, problem)],
    };
    let gaps = effects::gaps(fields, &proofs).into_iter();
    let mut found: Vec<Finding> = gaps
        .map(|(line, what)| finding(TABLE, line, what))
        .collect();
    for proof in &proofs {
        if !exists(tree, proof) {
            let what = format!(
                "no test `{}` below {}/: correct the name, or name the test that shows `{}` now",
                proof.test, proof.folder, proof.field
            );
            found.push(finding(TABLE, proof.line, what));
        }
    }
    found
}

fn exists(tree: &Tree, proof: &Proof<'_>) -> bool {
    let folder = format!("{}/", proof.folder);
    tree.ending(".rs")
        .filter(|(path, _)| path.starts_with(&folder))
        .any(|(_, text)| has_test(text, proof.test))
}

/// Whether `text` has a function of this name below an attribute that makes it a test.
pub(crate) fn has_test(text: &str, name: &str) -> bool {
    let mut marked = false;
    for line in text.lines().map(str::trim_start) {
        let attribute = line.starts_with("#[");
        marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let shared = line.strip_prefix("pub(super) ").unwrap_or(line);
        let function = shared.strip_prefix("async ").unwrap_or(shared);
        if let Some(rest) = function.strip_prefix("fn ").filter(|_| marked)
            && rest
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('('))
        {
            return true;
        }
        marked &= attribute || line.starts_with("//");
    }
    false
}
