//! The tree while it has many mutants, each of which is switched on by itself.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Mutant, MutantError, Verdict,
    bench::{Suite, write},
    io_error,
    outcome::Outcome,
    weave::{Woven, weave},
};

/// A file with many mutants.
struct Shared<'a> {
    path: PathBuf,
    original: String,
    mutants: Vec<&'a Mutant>,
    woven: Woven,
}

/// The tree, and which tests pass in it while nothing is switched on.
pub(super) struct Together<'a> {
    files: BTreeMap<&'a Path, Shared<'a>>,
    passes: BTreeMap<&'a [String], bool>,
}

impl<'a> Together<'a> {
    /// Puts all mutants that can stand side by side into the tree.
    pub(super) fn begin(tree: &Path, mutants: &'a [Mutant]) -> Result<Self, MutantError> {
        let mut by_file: BTreeMap<&Path, Vec<&Mutant>> = BTreeMap::new();
        for mutant in mutants {
            by_file.entry(&mutant.file).or_default().push(mutant);
        }
        let mut files = BTreeMap::new();
        for (file, mutants) in by_file {
            let path = tree.join(file);
            let original = fs::read_to_string(&path).map_err(|source| io_error(&path, source))?;
            let woven = weave(&original, &mutants)?;
            write(&path, &woven.text)?;
            let shared = Shared {
                path,
                original,
                mutants,
                woven,
            };
            files.insert(file, shared);
        }
        let passes = BTreeMap::new();
        Ok(Self { files, passes })
    }

    /// Builds the suite; functions that do not compile with more than one body lose their mutants. If it does not build for
    /// another reason, no test passes, and each mutant says alone what is wrong.
    pub(super) fn build(&mut self, suite: &Suite<'_>) -> Result<(), MutantError> {
        while let Some(out) = suite.build()? {
            let said = String::from_utf8_lossy(&out.stderr);
            let mut dropped = false;
            for (file, shared) in &mut self.files {
                dropped |= shared.drop_named(&lines_named(&said, file))?;
            }
            if !dropped {
                break;
            }
        }
        Ok(())
    }

    /// A verdict only if the test passes without the mutant and fails with it.
    pub(super) fn judge(
        &mut self,
        suite: &Suite<'_>,
        mutant: &'a Mutant,
    ) -> Result<Option<Verdict>, MutantError> {
        let shared = self.files.get(mutant.file.as_path());
        if !shared.is_some_and(|shared| shared.has(mutant)) {
            return Ok(None);
        }
        let (_, filter) = mutant.suite_and_filter();
        let passes = match self.passes.get(mutant.test.as_slice()) {
            Some(passes) => *passes,
            None => suite.run(&filter, None)? == Outcome::Passed,
        };
        self.passes.insert(&mutant.test, passes);
        if !passes {
            return Ok(None);
        }
        Ok(match suite.run(&filter, Some(mutant))? {
            Outcome::Failed(why) => Some(Verdict::Caught(why)),
            Outcome::Passed | Outcome::Nothing(_) => None,
        })
    }

    /// Puts the files back.
    pub(super) fn end(self) -> Result<(), MutantError> {
        for shared in self.files.values() {
            write(&shared.path, &shared.original)?;
        }
        Ok(())
    }
}

impl Shared<'_> {
    fn has(&self, mutant: &Mutant) -> bool {
        let mut names = self.woven.places.iter().flat_map(|(_, names)| names);
        names.any(|name| *name == mutant.name)
    }

    /// Takes out the mutants of the functions in which these lines are; tells whether there were any.
    fn drop_named(&mut self, lines: &[usize]) -> Result<bool, MutantError> {
        let places = self.woven.places.iter();
        let bad = places.filter(|(place, _)| lines.iter().any(|line| place.contains(line)));
        let bad: Vec<String> = bad.flat_map(|(_, names)| names.clone()).collect();
        if bad.is_empty() {
            return Ok(false);
        }
        self.mutants.retain(|mutant| !bad.contains(&mutant.name));
        self.woven = weave(&self.original, &self.mutants)?;
        write(&self.path, &self.woven.text)?;
        Ok(true)
    }
}

/// The lines of `file` that the compiler names.
fn lines_named(said: &str, file: &Path) -> Vec<usize> {
    let prefix = format!("--> {}:", file.display());
    let places = said
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix(&prefix));
    places
        .filter_map(|place| place.split(':').next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_places_in_a_file_are_found() {
        let said = "error[E0308]: mismatched types\n   --> agent/src/a.rs:12:5\n    |\n  --> agent/src/b.rs:7:1\n";
        assert_eq!(lines_named(said, Path::new("agent/src/a.rs")), [12]);
    }
}
