//! The outcomes as a table for people, and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use super::cause::{CAUSES, Cause};
use super::run::Outcome;

/// Figures of several runs.
struct Figures {
    median: u64,
    worst: u64,
}

fn figures(all: impl Iterator<Item = u64>) -> Option<Figures> {
    let mut all: Vec<u64> = all.collect();
    all.sort_unstable();
    Some(Figures {
        median: *all.get(all.len() / 2)?,
        worst: *all.last()?,
    })
}

/// The outcomes of one cause, summed up.
struct Row<'a> {
    cause: &'static Cause,
    outcomes: Vec<&'a Outcome>,
}

impl Row<'_> {
    fn came_back(&self) -> impl Iterator<Item = &Outcome> {
        let all = self.outcomes.iter().copied();
        all.filter(|outcome| outcome.stuck.is_none())
    }

    fn gap(&self) -> Option<Figures> {
        figures(self.came_back().map(|outcome| outcome.judgement.gap_ms))
    }

    fn took_over(&self) -> Option<Figures> {
        let all = self.came_back();
        figures(all.filter_map(|outcome| outcome.judgement.took_over_ms))
    }

    fn sum(&self, count: impl Fn(&Outcome) -> usize) -> usize {
        self.came_back().map(count).sum()
    }

    /// How busy the machine was, at the median.
    fn load(&self) -> String {
        let mut all: Vec<f64> = self.outcomes.iter().map(|outcome| outcome.load).collect();
        all.sort_by(f64::total_cmp);
        let median = all.get(all.len() / 2).copied().unwrap_or_default();
        format!("{median:.0}")
    }

    /// The bar in words, and whether the worst run met it.
    fn bar(&self) -> String {
        let (Some(bar), Some(gap)) = (self.cause.bar, self.gap()) else {
            return "-".to_owned();
        };
        let met = u128::from(gap.worst) <= bar.as_millis()
            && self.came_back().count() == self.outcomes.len();
        let word = if met { "met" } else { "MISSED" };
        format!("{} s {word}", bar.as_secs())
    }

    /// What people could read, the most frequent first, each once.
    fn words(&self) -> Vec<String> {
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for outcome in &self.outcomes {
            let transaction = format!("EXEC {}", outcome.transaction);
            let lines = outcome.events.iter().chain(&outcome.during);
            for line in lines.chain([&transaction]) {
                *said.entry(without_numbers(line)).or_default() += 1;
            }
        }
        let mut lines: Vec<(usize, String)> = said.into_iter().map(|(line, n)| (n, line)).collect();
        lines.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        lines
            .into_iter()
            .map(|(n, line)| format!("{n}x {line}"))
            .collect()
    }
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

fn rows(outcomes: &[Outcome]) -> Vec<Row<'_>> {
    let row = |cause: &'static Cause| Row {
        cause,
        outcomes: outcomes
            .iter()
            .filter(|outcome| outcome.cause == cause.name)
            .collect(),
    };
    let all = CAUSES.iter().map(row);
    all.filter(|row| !row.outcomes.is_empty()).collect()
}

/// The table for people: figures by cause, then what happened in words.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
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
    let pair = |figures: Option<Figures>| {
        figures.map_or("-".to_owned(), |found| {
            format!("{}/{}", found.median, found.worst)
        })
    };
    let rows = rows(outcomes);
    for row in &rows {
        let stuck = row.outcomes.len() - row.came_back().count();
        // A String takes any text.
        let _infallible = writeln!(
            text,
            "{:<18} {:>4} {:>6} {:>16} {:>16} {:>9} {:>5} {:>6} {:>7} {:>6} {:>5}  {}",
            row.cause.name,
            row.outcomes.len(),
            stuck,
            pair(row.gap()),
            pair(row.took_over()),
            row.sum(|outcome| outcome.judgement.acknowledged),
            row.sum(|outcome| outcome.judgement.lost.len()),
            row.sum(|outcome| outcome.judgement.lost_by_service),
            row.sum(|outcome| outcome.judgement.doubles.len()),
            row.sum(|outcome| usize::from(outcome.moved)),
            row.load(),
            row.bar()
        );
    }
    for row in &rows {
        let _infallible = writeln!(text, "\n{}: {}", row.cause.name, row.cause.what);
        for line in row.words() {
            let _infallible = writeln!(text, "  {line}");
        }
        for stuck in row
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.stuck.as_ref())
        {
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
    use crate::failover::Judgement;

    fn outcome(gap_ms: u64, stuck: bool) -> Outcome {
        Outcome {
            cause: "pod-killed",
            stuck: stuck.then(|| "it does not come back".to_owned()),
            judgement: Judgement {
                gap_ms,
                ..Judgement::default()
            },
            events: vec![format!("FailoverStarted: epoch {gap_ms} ends")],
            ..Outcome::default()
        }
    }

    #[test]
    fn a_bar_is_met_only_if_every_run_came_back_within_it() {
        let line = |outcomes: &[Outcome]| {
            let text = table(outcomes);
            text.lines().nth(1).unwrap_or_default().to_owned()
        };
        let good = line(&[outcome(4_000, false), outcome(9_999, false)]);
        assert!(
            good.contains("9999") && good.ends_with("10 s met"),
            "{good}"
        );
        let slow = line(&[outcome(4_000, false), outcome(10_001, false)]);
        assert!(slow.ends_with("10 s MISSED"), "{slow}");
        let stuck = line(&[outcome(4_000, false), outcome(0, true)]);
        assert!(stuck.ends_with("10 s MISSED"), "{stuck}");
    }

    #[test]
    fn the_same_words_with_other_numbers_are_counted_together() {
        let text = table(&[outcome(4_000, false), outcome(17, false)]);
        assert!(text.contains("2x FailoverStarted: epoch # ends"), "{text}");
    }
}
