//! Mutation run: removes one guard at a time and expects that the named test then fails.
//!
//! Each file `integration/mutants/<name>.yaml` names a guard, the text that is the guard, what stands there once it is
//! removed, and the test that must notice. A mutant is *caught* if the unchanged code passes the test, the changed code
//! compiles, and the changed code fails it. The work happens in a copy below `target/mutants`; the checkout stays as it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The test fails without the guard.
    Caught,
    /// The test passes without the guard: it proves nothing.
    Survived,
    /// The test fails on the unchanged code.
    RedBefore,
    /// The changed code does not compile.
    Unbuildable,
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

/// A copy of the repository in which mutants are tried, with a target folder of its own.
#[derive(Debug)]
pub struct Bench {
    tree: PathBuf,
    target: PathBuf,
}

impl Bench {
    /// Copies what git tracks (and new files) of `root`; unchanged files keep their time stamps, so that a second run
    /// compiles little.
    ///
    /// # Errors
    /// If git cannot list the files, or a copy fails.
    pub fn prepare(root: &Path) -> Result<Self, MutantError> {
        let base = root.join("target/mutants");
        let bench = Self {
            tree: base.join("tree"),
            target: base.join("target"),
        };
        let args = ["ls-files", "--cached", "--others", "--exclude-standard"];
        let out = Command::new("git")
            .args(args)
            .current_dir(root)
            .output()
            .map_err(|source| MutantError::Start {
                command: "git ls-files".into(),
                source,
            })?;
        for name in String::from_utf8_lossy(&out.stdout).lines() {
            copy_if_changed(&root.join(name), &bench.tree.join(name))?;
        }
        Ok(bench)
    }

    /// Judges one mutant.
    ///
    /// # Errors
    /// If the description is out of date, or a program cannot be started.
    pub fn judge(&self, mutant: &Mutant) -> Result<Verdict, MutantError> {
        if !self.build(mutant)? || !self.test(mutant, false)? {
            return Ok(Verdict::RedBefore);
        }
        let path = self.tree.join(&mutant.file);
        let original = fs::read_to_string(&path).map_err(|source| io_error(&path, source))?;
        write(&path, &mutate(mutant, &original)?)?;
        let verdict = self.judge_changed(mutant);
        write(&path, &original)?;
        verdict
    }

    fn judge_changed(&self, mutant: &Mutant) -> Result<Verdict, MutantError> {
        if !self.build(mutant)? || !self.test(mutant, true)? {
            return Ok(Verdict::Unbuildable);
        }
        Ok(if self.test(mutant, false)? {
            Verdict::Survived
        } else {
            Verdict::Caught
        })
    }

    fn build(&self, mutant: &Mutant) -> Result<bool, MutantError> {
        if mutant.build.is_empty() {
            return Ok(true);
        }
        self.cargo("build", &mutant.build, false)
    }

    fn test(&self, mutant: &Mutant, only_build: bool) -> Result<bool, MutantError> {
        self.cargo("test", &mutant.test, only_build)
    }

    fn cargo(&self, verb: &str, args: &[String], only_build: bool) -> Result<bool, MutantError> {
        let mut command = Command::new("cargo");
        command.arg(verb).arg("--quiet");
        let split = args.iter().position(|a| a == "--").unwrap_or(args.len());
        command.args(&args[..split]);
        if only_build {
            command.arg("--no-run");
        } else {
            command.args(&args[split..]);
        }
        let out = command
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("MERIDIAN_BUILD_DIR", self.target.join("debug"))
            .output()
            .map_err(|source| MutantError::Start {
                command: format!("cargo {verb}"),
                source,
            })?;
        if verb == "test" && !only_build && out.status.success() && ran_nothing(&out.stdout) {
            // A filter that matches no test would look like a pass.
            return Ok(false);
        }
        Ok(out.status.success())
    }
}

fn ran_nothing(stdout: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stdout);
    let passed = |line: &str| {
        let count = line
            .split(" passed")
            .next()
            .and_then(|head| head.rsplit(' ').next())
            .map(str::to_owned);
        count.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    text.lines()
        .filter(|line| line.starts_with("test result:"))
        .map(passed)
        .sum::<u64>()
        == 0
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<(), MutantError> {
    let Ok(new) = fs::read(from) else {
        return Ok(()); // deleted in the working tree, still in the index
    };
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|source| io_error(parent, source))?;
    }
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|source| io_error(to, source))
}

fn write(path: &Path, text: &str) -> Result<(), MutantError> {
    fs::write(path, text).map_err(|source| io_error(path, source))
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
    fn a_filter_without_a_match_is_not_a_pass() {
        assert!(ran_nothing(
            b"test result: ok. 0 passed; 0 failed; 7 filtered out\n"
        ));
        assert!(!ran_nothing(
            b"test result: ok. 0 passed\ntest result: ok. 3 passed; 0 failed\n"
        ));
    }

    #[test]
    fn every_committed_mutant_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for mutant in load(root).unwrap() {
            let text = fs::read_to_string(root.join(&mutant.file)).unwrap();
            mutate(&mutant, &text).unwrap();
        }
    }
}
