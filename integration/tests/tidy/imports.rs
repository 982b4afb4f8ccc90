//! Who may import whom. The table is that of ARCHITECTURE.md.

use crate::tree::{Finding, Tree, finding};

/// Manifest → own crates that it may name.
const CRATES: &[(&str, &[&str])] = &[
    ("api/Cargo.toml", &[]),
    ("tls/Cargo.toml", &[]),
    ("hub/Cargo.toml", &["meridian-api", "meridian-tls"]),
    ("hub/cli/Cargo.toml", &["meridian-api"]),
    ("agent/Cargo.toml", &["meridian-api", "meridian-tls"]),
    ("engine/crdt/Cargo.toml", &[]),
    ("engine/module/Cargo.toml", &["meridian-crdt"]),
    ("engine/node/Cargo.toml", &["meridian-api", "meridian-tls"]),
];
const OURS: &[&str] = &[
    "meridian-api",
    "meridian-tls",
    "meridian-hub",
    "meridian-cli",
    "meridian-agent",
    "meridian-crdt",
    "crdt-module",
    "meridian-node",
];

/// Path prefix → crates and modules that nothing below it may use, and why.
const PURE: &[(&str, &[&str], &str)] = &[
    (
        "hub/src/planner",
        IMPURE,
        "the planner is pure: take it as an argument",
    ),
    (
        "hub/src/domain",
        IMPURE,
        "the domain is pure: take it as an argument",
    ),
    (
        "agent/src/controllers/placement",
        IMPURE,
        "placement is pure: take it as an argument",
    ),
    (
        "api/src",
        &["tokio", "std::fs", "std::net", "std::time::SystemTime"],
        "`api` has no I/O and no clock",
    ),
    (
        "engine/crdt/src",
        &["std::fs", "std::net", "std::time", "tokio", "rand"],
        "the engine library has no I/O, no clock, no randomness",
    ),
    (
        "engine/crdt/tests/oracle",
        &["meridian_crdt"],
        "the oracle imports no merge code",
    ),
];
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "axum",
    "redb",
    "kube::Client",
    "std::fs",
    "std::net",
    "std::time::SystemTime",
    "std::time::Instant",
    "rand",
];

pub(crate) fn crates(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (manifest, allowed) in CRATES {
        let Some(text) = tree.files.get(*manifest) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let name = line.split(['=', '.', ' ']).next().unwrap_or("");
            if OURS.contains(&name) && !allowed.contains(&name) {
                let what = format!("`{name}` may not be used here; allowed: {allowed:?}");
                found.push(finding(manifest, number + 1, what));
            }
        }
    }
    found
}

pub(crate) fn pure(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (prefix, banned, instead) in PURE {
        for (path, text) in tree
            .ending(".rs")
            .filter(|(path, _)| path.starts_with(prefix))
        {
            for (number, line) in text.lines().enumerate() {
                let code = line.trim_start();
                if code.starts_with("//") {
                    continue;
                }
                for word in *banned {
                    if names(code, word) {
                        found.push(finding(path, number + 1, format!("`{word}`: {instead}")));
                    }
                }
            }
        }
    }
    found
}

/// Whether `code` names the path `word::…` or imports `word`.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + word.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && (after.starts_with("::") || after.starts_with(';'))
    })
}
