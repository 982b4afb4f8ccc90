//! The outcomes as a table for people, and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use super::cause::{CAUSES, Cause};
use super::figure::Figure;
use super::run::Outcome;

/// One value of several runs.
struct Spread {
    median: u64,
    worst: u64,
}

fn spread(all: impl Iterator<Item = u64>) -> Option<Spread> {
    let mut all: Vec<u64> = all.collect();
    all.sort_unstable();
    Some(Spread {
        median: *all.get(all.len() / 2)?,
        worst: *all.last()?,
    })
}

/// The runs of one cause, summed up.
struct Row<'a> {
    cause: &'static Cause,
    runs: Vec<&'a Figure>,
}

impl Row<'_> {
    fn came_back(&self) -> impl Iterator<Item = &Figure> {
        let all = self.runs.iter().copied();
        all.filter(|run| run.stuck.is_none())
    }

    fn gap(&self) -> Option<Spread> {
        spread(self.came_back().map(|run| run.gap_ms))
    }

    fn took_over(&self) -> Option<Spread> {
        spread(self.came_back().filter_map(|run| run.took_over_ms))
    }

    fn sum(&self, count: impl Fn(&Figure) -> usize) -> usize {
        self.came_back().map(count).sum()
    }

    /// How busy the machine was, at the median.
    fn load(&self) -> String {
        let mut all: Vec<f64> = self.runs.iter().map(|run| run.load).collect();
        all.sort_by(f64::total_cmp);
        let median = all.get(all.len() / 2).copied().unwrap_or_default();
        format!("{median:.0}")
    }

    /// Whether every run met the bar; `None`: nothing is promised.
    fn met(&self) -> Option<bool> {
        let bar = self.cause.bar?;
        let mut all = self.runs.iter();
        Some(all.all(|run| run.stuck.is_none() && u128::from(run.gap_ms) <= bar.as_millis()))
    }

    /// The bar in words, and whether the worst run met it.
    fn bar(&self) -> String {
        let (Some(bar), Some(met)) = (self.cause.bar, self.met()) else {
            return "-".to_owned();
        };
        let word = if met { "met" } else { "MISSED" };
        format!("{} s {word}", bar.as_secs())
    }
}

/// What people could read, the most frequent first, each once.
fn words_of(outcomes: &[&Outcome]) -> Vec<String> {
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for outcome in outcomes {
        let transaction = format!("EXEC {}", outcome.transaction);
        let lines = outcome.events.iter().chain(&outcome.during);
        for line in lines.chain([&transaction]) {
            *said.entry(without_numbers(line)).or_default() += 1;
        }
    }
    let mut lines: Vec<(usize, String)> = said.into_iter().map(|(line, n)| (n, line)).collect();
    lines.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let line = |(n, line)| format!("{n}x {line}");
    lines.into_iter().map(line).collect()
}

/// The same words with other numbers and pods are the same message.
fn without_numbers(line: &str) -> String {
    let mut short = String::new();
    let mut in_number = false;
    for letter in line.chars() {
        if !letter.is_ascii_digit() {
            short.push(letter);
        } else if !in_number {
            short.push('#');
        }
        in_number = letter.is_ascii_digit();
    }
    short
}

/// The rows of the causes that were played.
fn rows(runs: &[Figure]) -> impl Iterator<Item = Row<'_>> {
    let row = |cause: &'static Cause| Row {
        cause,
        runs: runs.iter().filter(|run| run.cause == cause.name).collect(),
    };
    CAUSES.iter().map(row).filter(|row| !row.runs.is_empty())
}

/// The causes of which a run missed its bar.
#[must_use]
pub(super) fn missed(runs: &[Figure]) -> Vec<&'static str> {
    let missed = rows(runs).filter(|row| row.met() == Some(false));
    missed.map(|row| row.cause.name).collect()
}

/// The table for people: figures by cause.
#[must_use]
pub fn table(runs: &[Figure]) -> String {
    let mut text = format!(
        "{:<18} {:>4} {:>6} {:>16} {:>16} {:>9} {:>5} {:>6} {:>7} {:>6} {:>5}  {}\n",
        "CAUSE",
        "RUNS",
        "STUCK",
        "GAP ms med/max",
        "TAKEN ms med/max",
        "ACKED",
        "LOST",
        "BY SVC",
        "DOUBLE",
        "MOVED",
        "LOAD",
        "BAR"
    );
    let pair = |spread: Option<Spread>| {
        spread.map_or("-".to_owned(), |found| {
            format!("{}/{}", found.median, found.worst)
        })
    };
    for row in rows(runs) {
        // A String takes any text.
        let _infallible = writeln!(
            text,
            "{:<18} {:>4} {:>6} {:>16} {:>16} {:>9} {:>5} {:>6} {:>7} {:>6} {:>5}  {}",
            row.cause.name,
            row.runs.len(),
            row.runs.len() - row.came_back().count(),
            pair(row.gap()),
            pair(row.took_over()),
            row.sum(|run| run.acknowledged),
            row.sum(|run| run.lost),
            row.sum(|run| run.lost_by_service),
            row.sum(|run| run.doubles),
            row.sum(|run| usize::from(run.moved)),
            row.load(),
            row.bar()
        );
    }
    text
}

/// What happened in words, by cause.
#[must_use]
pub fn words(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for cause in CAUSES {
        let mine: Vec<&Outcome> = outcomes.iter().filter(|o| o.cause == cause.name).collect();
        if mine.is_empty() {
            continue;
        }
        let _infallible = writeln!(text, "\n{}: {}", cause.name, cause.what);
        for line in words_of(&mine) {
            let _infallible = writeln!(text, "  {line}");
        }
        for stuck in mine.iter().filter_map(|outcome| outcome.stuck.as_ref()) {
            let first = stuck.lines().next().unwrap_or_default();
            let _infallible = writeln!(text, "  STUCK {first}");
        }
    }
    text
}

/// All outcomes, with every figure.
///
/// # Errors
/// If they cannot be told as JSON.
pub fn json(outcomes: &[Outcome]) -> Result<String> {
    Ok(serde_json::to_string_pretty(
        &json!({ "outcomes": outcomes }),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(gap_ms: u64, stuck: bool) -> Figure {
        Figure {
            cause: "pod-killed".to_owned(),
            stuck: stuck.then(|| "it does not come back".to_owned()),
            gap_ms,
            ..Figure::default()
        }
    }

    #[test]
    fn a_bar_is_met_only_if_every_run_came_back_within_it() {
        let line = |runs: &[Figure]| {
            let text = table(runs);
            text.lines().nth(1).unwrap_or_default().to_owned()
        };
        let good = line(&[figure(4_000, false), figure(9_999, false)]);
        assert!(
            good.contains("9999") && good.ends_with("10 s met"),
            "{good}"
        );
        let slow = line(&[figure(4_000, false), figure(10_001, false)]);
        assert!(slow.ends_with("10 s MISSED"), "{slow}");
        let stuck = line(&[figure(4_000, false), figure(0, true)]);
        assert!(stuck.ends_with("10 s MISSED"), "{stuck}");
        assert_eq!(missed(&[figure(9_999, false)]), Vec::<&str>::new());
        for (gap, is_stuck) in [(10_001, false), (0, true)] {
            assert_eq!(
                missed(&[figure(1, false), figure(gap, is_stuck)]),
                ["pod-killed"]
            );
        }
    }

    #[test]
    fn the_same_words_with_other_numbers_are_counted_together() {
        let outcome = |epoch: u64| Outcome {
            cause: "pod-killed",
            events: vec![format!("FailoverStarted: epoch {epoch} ends")],
            ..Outcome::default()
        };
        let text = words(&[outcome(4_000), outcome(17)]);
        assert!(text.contains("2x FailoverStarted: epoch # ends"), "{text}");
    }
}
