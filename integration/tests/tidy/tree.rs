//! Reads the tracked and new files of the repository once, and the rules about single files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

const MAX_LINES: usize = 500;

pub(crate) struct Tree {
    /// Path relative to the repository's root → text.
    pub(crate) files: BTreeMap<String, String>,
}

pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

pub(crate) fn finding(path: &str, line: usize, what: impl Into<String>) -> Finding {
    Finding {
        path: path.into(),
        line,
        what: what.into(),
    }
}

impl Tree {
    /// Files that git tracks or would track.
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the workspace root")
            .to_path_buf();
        let out = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .expect("git ls-files");
        assert!(
            out.status.success(),
            "git ls-files: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        let names = String::from_utf8(out.stdout).expect("paths are UTF-8");
        let files: BTreeMap<String, String> = names
            .lines()
            .filter_map(|name| {
                std::fs::read_to_string(root.join(name))
                    .ok()
                    .map(|text| (name.to_owned(), text))
            })
            .collect();
        assert!(
            files.contains_key("api/src/lib.rs"),
            "not the repository: {}",
            root.display()
        );
        Self { files }
    }

    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    pub(crate) fn ending(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(suffix))
            .map(|(p, t)| (p.as_str(), t.as_str()))
    }
}

pub(crate) fn too_long(tree: &Tree) -> Vec<Finding> {
    let code = [".rs", ".ts", ".tsx", ".sh", ".proto"];
    code.iter()
        .flat_map(|suffix| tree.ending(suffix))
        .filter(|(_, text)| text.lines().count() > MAX_LINES)
        .map(|(path, text)| {
            let lines = text.lines().count();
            finding(
                path,
                lines,
                format!("{lines} lines: split it by topic, at most {MAX_LINES}"),
            )
        })
        .collect()
}

/// A file is alive if it is a crate root, or a living file names it with `mod` or `#[path]`.
pub(crate) fn dead_files(tree: &Tree) -> Vec<Finding> {
    let is_root = |path: &str| {
        let p = Path::new(path);
        ["main.rs", "lib.rs", "build.rs"]
            .contains(&p.file_name().and_then(|n| n.to_str()).unwrap_or(""))
            || is_target(tree, path)
            || path.contains("fuzz_targets/")
    };
    let mut alive: BTreeSet<String> = tree
        .ending(".rs")
        .map(|(p, _)| p.to_owned())
        .filter(|p| is_root(p))
        .collect();
    let mut queue: Vec<String> = alive.iter().cloned().collect();
    while let Some(path) = queue.pop() {
        for child in children(&path, &tree.files[&path], is_target(tree, &path)) {
            if tree.files.contains_key(&child) && alive.insert(child.clone()) {
                queue.push(child);
            }
        }
    }
    tree.ending(".rs")
        .filter(|(path, _)| !alive.contains(*path))
        .map(|(path, _)| finding(path, 1, "no `mod` names this file: delete it or declare it"))
        .collect()
}

/// Whether cargo makes a target of the file: it lies in one of cargo's folders, and that is not the folder of a module of the
/// same name.
fn is_target(tree: &Tree, path: &str) -> bool {
    let dir = Path::new(path).parent().unwrap_or(Path::new(""));
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let module = format!("{}.rs", dir.to_string_lossy());
    ["tests", "examples", "benches", "bin"].contains(&name) && !tree.files.contains_key(&module)
}

fn children(path: &str, text: &str, is_target: bool) -> Vec<String> {
    let p = Path::new(path);
    let dir = p.parent().unwrap_or(Path::new("")).to_path_buf();
    let stem = p.file_stem().and_then(|s| s.to_str()).unwrap_or("");
    let own = ["main", "lib"].contains(&stem) || is_target;
    let below = if own { dir.clone() } else { dir.join(stem) };
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            found.push(normal(&dir.join(rest.trim_end_matches("\"]"))));
        }
        let declared = ["", "pub ", "pub(crate) ", "pub(super) "]
            .iter()
            .find_map(|visible| line.strip_prefix(visible)?.strip_prefix("mod "));
        if let Some(name) = declared.and_then(|rest| rest.strip_suffix(';')) {
            found.push(normal(&below.join(format!("{name}.rs"))));
        }
    }
    found
}

fn normal(path: &Path) -> String {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part == std::path::Component::ParentDir {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out.to_string_lossy().into_owned()
}

pub(crate) fn banned_text(tree: &Tree) -> Vec<Finding> {
    // Spelt in halves so that this file does not find itself.
    let banned = [
        (
            concat!("FIX", "ME"),
            "finish it, or describe the limit in the module's documentation",
        ),
        (
            concat!("XX", "X "),
            "finish it, or describe the limit in the module's documentation",
        ),
        (
            concat!("#[ig", "nore]"),
            "a test that is not run proves nothing: run it or delete it",
        ),
    ];
    let mut found = Vec::new();
    for (path, text) in tree.ending(".rs") {
        if path.ends_with("/mod.rs") {
            found.push(finding(
                path,
                1,
                "name the file after its module (`foo.rs` beside `foo/`)",
            ));
        }
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in banned {
                if line.contains(word) {
                    found.push(finding(path, number + 1, format!("`{word}`: {instead}")));
                }
            }
        }
    }
    found
}

pub(crate) fn titles(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.ending(".md") {
        let mut fenced = false;
        let mut count = 0;
        for line in text.lines() {
            fenced ^= line.starts_with("```");
            count += usize::from(!fenced && line.starts_with("# "));
        }
        if count != 1 {
            found.push(finding(
                path,
                1,
                format!("{count} titles (`# …`): a document has exactly one"),
            ));
        }
    }
    found
}

pub(crate) fn lints(tree: &Tree) -> Vec<Finding> {
    tree.ending("Cargo.toml")
        .filter(|(path, text)| text.contains("[package]") && *path != "engine/module/Cargo.toml")
        .filter(|(_, text)| !text.contains("[lints]\nworkspace = true"))
        .map(|(path, _)| finding(path, 1, "add `[lints]` with `workspace = true`"))
        .collect()
}
