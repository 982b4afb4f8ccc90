//! The figures of one run in one line: what is kept of it in `integration/benches/failover.jsonl`, run after run.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cause::Cause;
use super::run::Outcome;

/// What clients saw of one fault.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// Name of the cause.
    pub cause: String,
    /// Day of the run, UTC.
    pub day: String,
    /// What was tested: the commit that the checkout stood at.
    pub commit: String,
    /// Processes of the machine that were running or waiting for a processor, over the minute before the fault.
    pub load: f64,
    /// Whether the faults that have a length had their full one: ten minutes without the API server, not one.
    pub full: bool,
    /// Longest time without an acknowledgement by the Service, from the fault on, milliseconds.
    pub gap_ms: u64,
    /// From the fault to the first acknowledgement by another pod, milliseconds.
    pub took_over_ms: Option<u64>,
    /// From the end of the fault until everything was as before, milliseconds.
    pub settled_ms: u64,
    /// Whether another pod was primary in the end.
    pub moved: bool,
    /// Writes that were acknowledged, of all clients.
    pub acknowledged: usize,
    /// How many of them are not there any more.
    pub lost: usize,
    /// How many of those a client of the Service wrote.
    pub lost_by_service: usize,
    /// Whether what is lost of each client is the last that the old primary acknowledged to it.
    pub tail_only: bool,
    /// Acknowledgements of a primary after the first of its successor.
    pub doubles: usize,
    /// What became of a transaction that was queued before the fault.
    pub transaction: String,
    /// Why the run did not come to its end, its first line.
    pub stuck: Option<String>,
}

impl Figure {
    /// The figures of a run.
    #[must_use]
    pub fn of(outcome: &Outcome, day: &str, commit: &str, full: bool) -> Self {
        let found = &outcome.judgement;
        let stuck = outcome.stuck.as_ref();
        Self {
            cause: outcome.cause.to_owned(),
            day: day.to_owned(),
            commit: commit.to_owned(),
            load: outcome.load,
            full,
            gap_ms: found.gap_ms,
            took_over_ms: found.took_over_ms,
            settled_ms: outcome.settled_ms,
            moved: outcome.moved,
            acknowledged: found.acknowledged,
            lost: found.lost.len(),
            lost_by_service: found.lost_by_service,
            tail_only: found.tail_only,
            doubles: found.doubles.len(),
            transaction: outcome.transaction.clone(),
            stuck: stuck.map(|why| why.lines().next().unwrap_or_default().to_owned()),
        }
    }
}

/// Appends a line. What was there stays.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn append(path: &Path, figure: &Figure) -> Result<()> {
    let mut line = serde_json::to_string(figure)?;
    line.push('\n');
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    file.write_all(line.as_bytes())
        .with_context(|| format!("append to {}", path.display()))
}

/// All lines of a file; none if it does not exist.
///
/// # Errors
/// If it cannot be read, or a line is none of [`Figure`].
pub(super) fn read(path: &Path) -> Result<Vec<Figure>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let figure = |(i, line): (usize, &str)| {
        serde_json::from_str(line)
            .with_context(|| format!("line {} of {} is no figure", i + 1, path.display()))
    };
    text.lines().enumerate().map(figure).collect()
}

/// The cause with the fewest runs, and the number of its next one; none if each has as many as are wanted. So a file that
/// is filled little by little holds about as many of each.
#[must_use]
pub(super) fn rarest(
    known: &[Figure],
    causes: &[&'static Cause],
    wanted: usize,
) -> Option<(&'static Cause, usize)> {
    let played = |cause: &Cause| known.iter().filter(|run| run.cause == cause.name).count();
    let all = causes.iter().map(|cause| (*cause, played(cause)));
    let (cause, played) = all.min_by_key(|(_, played)| *played)?;
    (played < wanted).then_some((cause, played + 1))
}

#[cfg(test)]
mod tests {
    use super::super::cause::CAUSES;
    use super::*;

    fn figure(cause: &str) -> Figure {
        Figure {
            cause: cause.to_owned(),
            ..Figure::default()
        }
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figures.jsonl");
        assert_eq!(read(&path).unwrap(), []);
        let second = Figure {
            took_over_ms: Some(7),
            ..figure("node-off")
        };
        append(&path, &figure("drain")).unwrap();
        append(&path, &second).unwrap();
        assert_eq!(read(&path).unwrap(), [figure("drain"), second]);
    }

    #[test]
    fn the_committed_figures_are_of_causes_that_exist() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/failover.jsonl");
        for figure in read(&path).unwrap() {
            assert!(Cause::named(&figure.cause).is_some(), "{}", figure.cause);
        }
    }

    #[test]
    fn the_rarest_cause_is_played_next_and_none_too_often() {
        let causes: Vec<&'static Cause> = CAUSES.iter().take(3).collect();
        let mut known = vec![figure(causes[0].name), figure(causes[0].name)];
        let mut played = Vec::new();
        while let Some((cause, number)) = rarest(&known, &causes, 2) {
            played.push((cause.name, number));
            known.push(figure(cause.name));
        }
        let (second, third) = (causes[1].name, causes[2].name);
        assert_eq!(played, [(second, 1), (third, 1), (second, 2), (third, 2)]);
    }
}
