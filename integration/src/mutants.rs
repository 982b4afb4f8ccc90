//! Mutation run: removes one guard at a time and expects that the named test then fails.
//!
//! Each file `integration/mutants/<name>.yaml` names a guard, the text that is the guard, what stands there once it is
//! removed, and the test that must notice. A mutant is *caught* if the unchanged code passes the test, the changed code
//! compiles, and the changed code fails it, by the test's own word and not by a crash or a hang. The work happens in a
//! copy below `target/mutants` ([`bench`]); the checkout stays as it is.

pub mod bench;
mod outcome;
mod together;
mod weave;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// One guard and the test that watches it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Name of the guard, as in ARCHITECTURE.md.
    pub guard: String,
    /// What would happen to a user without it.
    pub harm: String,
    /// File, relative to the repository's root.
    pub file: PathBuf,
    /// The guard's text; must stand in the file exactly once.
    pub find: String,
    /// What stands there once the guard is removed.
    pub replace: String,
    /// Arguments of `cargo test` that run the test.
    pub test: Vec<String>,
    /// Arguments of `cargo build` for programs that the test starts.
    #[serde(default)]
    pub build: Vec<String>,
    /// File name without its ending; filled by [`load`].
    #[serde(skip)]
    pub name: String,
}

impl Mutant {
    /// The arguments of its test: those that say what cargo builds, and the filter that picks the test in it.
    #[must_use]
    pub fn suite_and_filter(&self) -> (Vec<String>, Vec<String>) {
        let (mut suite, mut filter) = (Vec::new(), Vec::new());
        let mut args = self.test.iter();
        while let Some(arg) = args.next() {
            if !arg.starts_with('-') {
                filter.push(arg.clone());
                continue;
            }
            suite.push(arg.clone());
            if matches!(arg.as_str(), "-p" | "--test" | "--bin" | "--features") {
                suite.extend(args.next().cloned());
            }
        }
        (suite, filter)
    }
}

/// Why a mutant could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum MutantError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A mutant's description is not valid.
    #[error("{path}: {message}", path = path.display())]
    Description {
        /// The description.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The guard's text is not there exactly once.
    #[error("{name}: the text under `find` stands {count} times in {file}, expected once: bring the mutant up to date", file = file.display())]
    Stale {
        /// The mutant.
        name: String,
        /// Where the guard should stand.
        file: PathBuf,
        /// How often it stands there.
        count: usize,
    },
    /// Another run works in the same copy.
    #[error("another run of mutants works in {path}: wait for its end", path = path.display())]
    Busy {
        /// The copy.
        path: PathBuf,
    },
    /// git or cargo could not be started.
    #[error("`{command}` could not be run: {source}")]
    Start {
        /// The command.
        command: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What became of one mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The test fails without the guard, with this message.
    Caught(String),
    /// The test passes without the guard: it proves nothing.
    Survived,
    /// The test does not pass on the unchanged code.
    RedBefore(String),
    /// The changed code does not compile.
    Unbuildable(String),
    /// The test neither passed nor failed without the guard: the process crashed or did not end.
    Unjudged(String),
}

/// Reads all mutants below `root`, in the order of their names.
///
/// # Errors
/// If a description cannot be read or lacks a field.
pub fn load(root: &Path) -> Result<Vec<Mutant>, MutantError> {
    let dir = root.join("integration/mutants");
    let entries = fs::read_dir(&dir).map_err(|source| io_error(&dir, source))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| read(path))
        .collect()
}

fn read(path: &Path) -> Result<Mutant, MutantError> {
    let text = fs::read_to_string(path).map_err(|source| io_error(path, source))?;
    let mut mutant: Mutant =
        serde_saphyr::from_str(&text).map_err(|e| MutantError::Description {
            path: path.into(),
            message: e.to_string(),
        })?;
    mutant.name = path
        .file_stem()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(mutant)
}

/// The file's text without the guard.
///
/// # Errors
/// [`MutantError::Stale`] if the guard does not stand there exactly once.
pub fn mutate(mutant: &Mutant, text: &str) -> Result<String, MutantError> {
    let find = mutant.find.trim_end_matches('\n');
    let count = text.matches(find).count();
    if count != 1 {
        return Err(MutantError::Stale {
            name: mutant.name.clone(),
            file: mutant.file.clone(),
            count,
        });
    }
    Ok(text.replacen(find, mutant.replace.trim_end_matches('\n'), 1))
}

fn io_error(path: &Path, source: io::Error) -> MutantError {
    MutantError::Io {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant() -> Mutant {
        Mutant {
            guard: "g".into(),
            harm: "h".into(),
            file: "a.rs".into(),
            find: "if bad { return; }\n".into(),
            replace: String::new(),
            test: vec![],
            build: vec![],
            name: "m".into(),
        }
    }

    #[test]
    fn a_guard_is_removed_where_it_stands() {
        assert_eq!(
            mutate(&mutant(), "a;\nif bad { return; }\nb;\n").unwrap(),
            "a;\n\nb;\n"
        );
    }

    #[test]
    fn a_guard_that_moved_is_reported() {
        assert!(matches!(
            mutate(&mutant(), "a;\n"),
            Err(MutantError::Stale { count: 0, .. })
        ));
    }

    #[test]
    fn the_filter_is_what_no_option_takes() {
        let test = ["-p", "a", "--test", "server", "one_test", "another"];
        let mutant = Mutant {
            test: test.map(str::to_owned).to_vec(),
            ..mutant()
        };
        let (suite, filter) = mutant.suite_and_filter();
        assert_eq!(suite, ["-p", "a", "--test", "server"]);
        assert_eq!(filter, ["one_test", "another"]);
    }

    #[test]
    fn every_committed_mutant_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for mutant in load(root).unwrap() {
            let text = fs::read_to_string(root.join(&mutant.file)).unwrap();
            mutate(&mutant, &text).unwrap();
            // A fresh target folder has nothing that a test starts.
            let words = |wanted: &str| mutant.test.iter().any(|word| word == wanted);
            let starts_nodes = words("meridian-node") && words("--test");
            assert!(
                !starts_nodes || !mutant.build.is_empty(),
                "{}: its test starts nodes with a module; name in `build` what makes it",
                mutant.name
            );
        }
    }
}
