//! The copy of the repository in which mutants are tried, with a target folder of its own.
//!
//! What a mutant costs is compiling a crate and linking a test. So all mutants are first tried in one tree that has them
//! all, each switched on by itself ([`Together`]): every test binary is built once. What is not caught there, or cannot
//! stand beside others, is tried again alone, in a tree without its guard.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use super::{
    Mutant, MutantError, Verdict, io_error, mutate,
    outcome::{Outcome, read},
    together::Together,
    weave::SWITCH,
};

/// How long one test may run, in seconds.
const LIMIT: &str = "300";

/// The copy.
#[derive(Debug)]
pub struct Bench {
    tree: PathBuf,
    target: PathBuf,
    /// Held as long as the copy is used.
    _lock: fs::File,
}

impl Bench {
    /// Copies what git tracks (and new files) of `root`; unchanged files keep their time stamps, so that a second run
    /// compiles little.
    ///
    /// # Errors
    /// If another run works there, git cannot list the files, or a copy fails.
    pub fn prepare(root: &Path) -> Result<Self, MutantError> {
        let base = root.join("target/mutants");
        fs::create_dir_all(&base).map_err(|source| io_error(&base, source))?;
        let path = base.join("lock");
        let lock = fs::File::create(&path).map_err(|source| io_error(&path, source))?;
        if lock.try_lock().is_err() {
            return Err(MutantError::Busy { path: base });
        }
        let bench = Self {
            tree: base.join("tree"),
            target: base.join("target"),
            _lock: lock,
        };
        let args = ["ls-files", "--cached", "--others", "--exclude-standard"];
        let out = output(Command::new("git").args(args).current_dir(root))?;
        let listed = String::from_utf8_lossy(&out.stdout);
        let mut there = BTreeSet::new();
        for name in listed.lines() {
            let copy = bench.tree.join(name);
            if copy_if_changed(&root.join(name), &copy)? {
                there.insert(copy);
            }
        }
        remove_others(&bench.tree, &there)?;
        Ok(bench)
    }

    /// Judges every mutant and tells each verdict as it comes, with the time it took.
    ///
    /// # Errors
    /// If a description is out of date, a file cannot be written, or cargo cannot be started.
    pub fn judge(
        &self,
        mutants: &[Mutant],
        mut tell: impl FnMut(&Mutant, &Verdict, Duration),
    ) -> Result<(), MutantError> {
        let mut alone: Vec<&Mutant> = Vec::new();
        let mut together = Together::begin(&self.tree, mutants)?;
        for (suite, mutants) in self.suites(mutants.iter()) {
            let mut since = Instant::now();
            together.build(&suite)?;
            for mutant in mutants {
                match together.judge(&suite, mutant)? {
                    Some(verdict) => tell(mutant, &verdict, since.elapsed()),
                    None => alone.push(mutant),
                }
                since = Instant::now();
            }
        }
        together.end()?;
        for (suite, mutants) in self.suites(alone.into_iter()) {
            let mut since = Instant::now();
            let red = suite.red(&mutants)?;
            for mutant in mutants {
                let verdict = match red.get(&mutant.name) {
                    Some(why) => Verdict::RedBefore(why.clone()),
                    None => suite.judge(mutant)?,
                };
                tell(mutant, &verdict, since.elapsed());
                since = Instant::now();
            }
        }
        Ok(())
    }

    /// The mutants by the test binaries that judge them.
    fn suites<'a>(
        &'a self,
        mutants: impl Iterator<Item = &'a Mutant>,
    ) -> Vec<(Suite<'a>, Vec<&'a Mutant>)> {
        let mut suites: BTreeMap<_, Vec<&Mutant>> = BTreeMap::new();
        for mutant in mutants {
            let (test, _) = mutant.suite_and_filter();
            let suite = suites.entry((mutant.build.as_slice(), test));
            suite.or_default().push(mutant);
        }
        let mut all = Vec::new();
        for ((build, test), mut mutants) in suites {
            mutants.sort_by_key(|mutant| &mutant.file);
            let bench = self;
            all.push((Suite { bench, build, test }, mutants));
        }
        all
    }

    fn cargo(
        &self,
        before: &[&str],
        verb: &str,
        args: &[&[String]],
        mutant: Option<&Mutant>,
    ) -> Result<Output, MutantError> {
        let words: Vec<&str> = [before, &["cargo", verb, "--quiet"]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args.concat());
        let command = command
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // Nobody debugs a mutant, and what is not written need not be linked.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("MERIDIAN_BUILD_DIR", self.target.join("debug"))
            .env(SWITCH, mutant.map_or("", |mutant| &mutant.name));
        output(command)
    }
}

/// One test binary, and the programs that its tests start.
pub(super) struct Suite<'a> {
    bench: &'a Bench,
    build: &'a [String],
    test: Vec<String>,
}

impl Suite<'_> {
    /// Those whose test does not pass on the unchanged code, with the reason.
    fn red(&self, mutants: &[&Mutant]) -> Result<BTreeMap<String, String>, MutantError> {
        let broken = self.build()?.map(|out| first_error(&out));
        let mut known: BTreeMap<Vec<String>, Outcome> = BTreeMap::new();
        let mut red = BTreeMap::new();
        for mutant in mutants {
            let (_, filter) = mutant.suite_and_filter();
            let outcome = match (&broken, known.get(&filter)) {
                (Some(error), _) => Outcome::Nothing(error.clone()),
                (None, Some(outcome)) => outcome.clone(),
                (None, None) => self.run(&filter, None)?,
            };
            known.insert(filter, outcome.clone());
            if let Outcome::Failed(why) | Outcome::Nothing(why) = outcome {
                red.insert(mutant.name.clone(), why);
            }
        }
        Ok(red)
    }

    fn judge(&self, mutant: &Mutant) -> Result<Verdict, MutantError> {
        let path = self.bench.tree.join(&mutant.file);
        let original = fs::read_to_string(&path).map_err(|source| io_error(&path, source))?;
        write(&path, &mutate(mutant, &original)?)?;
        let verdict = self.judge_changed(mutant);
        write(&path, &original)?;
        verdict
    }

    fn judge_changed(&self, mutant: &Mutant) -> Result<Verdict, MutantError> {
        if let Some(out) = self.build()? {
            return Ok(Verdict::Unbuildable(first_error(&out)));
        }
        let (_, filter) = mutant.suite_and_filter();
        Ok(match self.run(&filter, None)? {
            Outcome::Passed => Verdict::Survived,
            Outcome::Failed(why) => Verdict::Caught(why),
            Outcome::Nothing(why) => Verdict::Unjudged(why),
        })
    }

    /// Builds; gives what the compiler said if that failed.
    pub(super) fn build(&self) -> Result<Option<Output>, MutantError> {
        if !self.build.is_empty() {
            let out = self.bench.cargo(&[], "build", &[self.build], None)?;
            if !out.status.success() {
                return Ok(Some(out));
            }
        }
        let only_build = ["--no-run".to_owned()];
        let args = [self.test.as_slice(), &only_build];
        let out = self.bench.cargo(&[], "test", &args, None)?;
        Ok((!out.status.success()).then_some(out))
    }

    /// Runs the tests that `filter` picks from what was built, with `mutant` switched on.
    pub(super) fn run(
        &self,
        filter: &[String],
        mutant: Option<&Mutant>,
    ) -> Result<Outcome, MutantError> {
        let limit = ["timeout", "--kill-after=10", LIMIT];
        let args = [self.test.as_slice(), filter];
        let out = self.bench.cargo(&limit, "test", &args, mutant)?;
        let stdout = String::from_utf8_lossy(&out.stdout);
        let stderr = String::from_utf8_lossy(&out.stderr);
        Ok(read(out.status.code(), &stdout, &stderr))
    }
}

fn first_error(out: &Output) -> String {
    let text = String::from_utf8_lossy(&out.stderr);
    let error = text.lines().find(|line| line.starts_with("error"));
    error.unwrap_or("cargo told no error").to_owned()
}

fn output(command: &mut Command) -> Result<Output, MutantError> {
    command.output().map_err(|source| MutantError::Start {
        command: format!("{command:?}"),
        source,
    })
}

/// Copies a file unless the copy is equal; tells whether there is such a file.
fn copy_if_changed(from: &Path, to: &Path) -> Result<bool, MutantError> {
    let Ok(new) = fs::read(from) else {
        return Ok(false); // deleted in the working tree, still in the index
    };
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(true);
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|source| io_error(parent, source))?;
    }
    fs::copy(from, to)
        .map(|_| true)
        .map_err(|source| io_error(to, source))
}

/// Removes the files of an earlier run that the repository does not have any more.
fn remove_others(folder: &Path, there: &BTreeSet<PathBuf>) -> Result<(), MutantError> {
    let entries = fs::read_dir(folder).map_err(|source| io_error(folder, source))?;
    for entry in entries {
        let path = entry.map_err(|source| io_error(folder, source))?.path();
        if path.is_dir() {
            remove_others(&path, there)?;
        } else if !there.contains(&path) {
            fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
        }
    }
    Ok(())
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), MutantError> {
    fs::write(path, text).map_err(|source| io_error(path, source))
}
