//! House rules as a test. Every finding is one line: file, line, what is wrong, what to do instead.
//! Rules that clippy, rustfmt or cargo-deny know are not repeated here.

#![expect(
    clippy::expect_used,
    reason = "a rule that cannot read the tree must fail"
)]

#[path = "../../api/examples/generate/effects.rs"]
mod effects;
#[path = "tidy/events.rs"]
mod events;
#[path = "tidy/features.rs"]
mod features;
#[path = "tidy/fields.rs"]
mod fields;
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
fn every_effective_field_names_a_test_that_exists() {
    let fields = effects::fields().expect("the schemas of the public kinds");
    assert_none(fields::shown(&Tree::read(), &fields));
}

#[test]
fn every_feature_that_is_done_names_tests_that_exist() {
    assert_none(features::shown(&Tree::read()));
}

#[test]
fn a_feature_without_a_test_is_found() {
    let source = "#[test]\nfn a_sentence_that_shows() {}\nfn a_helper_of_the_tests() {}\n";
    let found = |row: &str| {
        let tree = Tree::of(&[(features::TABLE, row), ("api/src/x.rs", source)]);
        features::shown(&tree).len()
    };
    for (row, expected) in [
        ("| 1 | x | done | api `a_sentence_that_shows` |", 0),
        ("| 1 | x | partly | `spec.field` is inert |", 0),
        ("| row | what | state | text |", 0),
        ("| 1 | x | done | api `a_sentence_that_shows_more` |", 1),
        ("| 1 | x | done | api `a_helper_of_the_tests` |", 1),
        ("| 1 | x | done | by looking at `spec.field` |", 1),
        ("| 1 | x | nearly | api `a_sentence_that_shows` |", 1),
    ] {
        assert_eq!(found(row), expected, "{row}");
    }
}

#[test]
fn every_event_stands_in_the_table_for_people() {
    assert_none(events::told(&Tree::read()));
}

#[test]
fn an_event_that_the_table_does_not_have_is_found_and_a_row_that_nothing_says() {
    let row = |reason: &str| format!("| `{reason}` | REC | warning | text | |\n");
    let source = "events.warning(&about, \"NotThere\", text).await;\nevents.normal(&about, reason, text).await;\n";
    let tree = Tree::of(&[
        (events::TABLE, &format!("# Events\n{}", row("Nothing"))),
        ("agent/src/x.rs", source),
    ]);
    let found: Vec<String> = events::told(&tree)
        .iter()
        .map(ToString::to_string)
        .collect();
    for expected in [
        "agent/src/x.rs:1: the reason `NotThere`",
        "agent/src/x.rs:2: says an Event under a reason that is chosen elsewhere",
        "deploy/events.md:2: nothing says an Event `Nothing`",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
}

#[test]
fn a_field_without_a_test_is_found_in_whichever_way_it_has_none() {
    let field = |path: &str, inert| effects::Field {
        kind: "K".to_owned(),
        path: path.to_owned(),
        inert,
    };
    let fields = [field("a", None), field("b", Some("why"))];
    let source = "#[test]\n#[cfg(unix)]\nfn shows_a() {}\n\nfn helper() {}\n#[tokio::test]\npub(super) async fn shows_b() {}\n";
    let found = |table: &str| {
        let tree = Tree::of(&[(effects::TABLE, table), ("api/src/x.rs", source)]);
        let findings = fields::shown(&tree, &fields);
        let lines = findings.iter().map(|finding| finding.line);
        lines.collect::<Vec<_>>()
    };
    let whole = "# a comment\nK a effect api shows_a\n";
    let cases = [
        ("as it should be", String::new(), vec![]),
        (
            "a refusal beside it",
            "K b refusal api shows_b".to_owned(),
            vec![],
        ),
        (
            "a test that is not there",
            "K a effect api shows".to_owned(),
            vec![3],
        ),
        (
            "a function that is no test",
            "K a effect api helper".to_owned(),
            vec![3],
        ),
        (
            "a test of another crate",
            "K a effect hub shows_a".to_owned(),
            vec![3],
        ),
        (
            "a field that is not effective",
            "K b effect api shows_b".to_owned(),
            vec![3],
        ),
        (
            "a field that does not exist",
            "K c effect api shows_b".to_owned(),
            vec![3],
        ),
        (
            "a word too many",
            "K a effect api shows_a again".to_owned(),
            vec![0],
        ),
        ("another verb", "K a shows api shows_a".to_owned(), vec![0]),
    ];
    for (name, line, expected) in cases {
        assert_eq!(found(&format!("{whole}{line}\n")), expected, "{name}");
    }
    assert_eq!(
        found("K a refusal api shows_a\n"),
        [0],
        "a refusal shows no effect"
    );
    let fields_only = Tree::of(&[("api/src/x.rs", source)]);
    assert_eq!(
        fields::shown(&fields_only, &fields).len(),
        1,
        "no table at all"
    );
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
