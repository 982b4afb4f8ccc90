//! House rules as a test. Every finding is one line: file, line, what is wrong, what to do instead.
//! Rules that clippy, rustfmt or cargo-deny know are not repeated here.

#![expect(
    clippy::expect_used,
    reason = "a rule that cannot read the tree must fail"
)]

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/tree.rs"]
mod tree;

use tree::{Finding, Tree};

fn assert_none(findings: Vec<Finding>) {
    let text: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(text.is_empty(), "house rules:\n{}", text.join("\n"));
}

#[test]
fn files_are_at_most_500_lines() {
    assert_none(tree::too_long(&Tree::read()));
}

#[test]
fn every_source_file_is_reachable_from_a_crate_root() {
    assert_none(tree::dead_files(&Tree::read()));
}

#[test]
fn modules_are_named_files_and_leftovers_are_gone() {
    assert_none(tree::banned_text(&Tree::read()));
}

#[test]
fn every_document_has_exactly_one_title() {
    assert_none(tree::titles(&Tree::read()));
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    assert_none(tree::lints(&Tree::read()));
}

#[test]
fn crates_import_only_what_the_table_allows() {
    assert_none(imports::crates(&Tree::read()));
}

#[test]
fn pure_modules_import_nothing_impure() {
    assert_none(imports::pure(&Tree::read()));
}

#[test]
fn every_rule_finds_a_violation() {
    let bad = |path: &str, text: &str| Tree::of(&[(path, text)]);
    assert_eq!(
        tree::too_long(&bad("hub/src/a.rs", &"\n".repeat(501))).len(),
        1
    );
    assert_eq!(tree::dead_files(&bad("hub/src/orphan.rs", "")).len(), 1);
    assert_eq!(tree::banned_text(&bad("hub/src/a/mod.rs", "")).len(), 1);
    assert_eq!(
        tree::banned_text(&bad("hub/src/a.rs", concat!("FIX", "ME: later"))).len(),
        1
    );
    assert_eq!(tree::titles(&bad("A.md", "# one\n# two\n")).len(), 1);
    assert_eq!(tree::lints(&bad("hub/Cargo.toml", "[package]\n")).len(), 1);
    assert_eq!(
        imports::crates(&bad(
            "agent/Cargo.toml",
            "[dependencies]\nmeridian-hub = { workspace = true }\n"
        ))
        .len(),
        1
    );
    assert_eq!(
        imports::pure(&bad("hub/src/planner/x.rs", "use tokio::time;\n")).len(),
        1
    );
    assert_eq!(
        imports::pure(&bad(
            "engine/crdt/tests/oracle/x.rs",
            "use meridian_crdt::Replica;\n"
        ))
        .len(),
        1
    );
}
