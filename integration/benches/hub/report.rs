//! The table that the bench prints: what, how much, and the bar where there is one.

use std::{fmt, time::Duration};

/// Most that a figure may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar(f64);

impl Bar {
    pub(crate) fn most(value: f64) -> Self {
        Self(value)
    }
}

/// Prints the head of the table.
pub(crate) fn head() {
    println!(
        "{:<66} {:>12} {:<14} {:>10}",
        "what", "figure", "unit", "bar"
    );
}

/// Prints a line of the table.
pub(crate) fn line(what: &str, figure: f64, unit: &str, bar: Option<Bar>) {
    let digits = usize::from(figure.abs() < 1000.0) + usize::from(figure.abs() < 10.0);
    let verdict = bar.map_or_else(String::new, |Bar(most)| {
        let met = if figure <= most { "met" } else { "MISSED" };
        format!("≤ {most} {met}")
    });
    println!("{what:<66} {figure:>12.digits$} {unit:<14} {verdict:>10}");
}

/// Prints what the figures that follow are about.
pub(crate) fn section(what: impl fmt::Display) {
    println!("— {what}");
}

/// Prints median and 99th percentile of durations.
pub(crate) fn spread(what: &str, times: &[Duration], bar: Option<Bar>) {
    line(
        &format!("{what}: P50 of {}", times.len()),
        millis(times, 50),
        "ms",
        None,
    );
    line(&format!("{what}: P99"), millis(times, 99), "ms", bar);
}

/// A difference of two samples in percent of the first, with its interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    pub(crate) percent: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

/// How much more a percentile of `with` is than of `without`, with the 95 % interval of a bootstrap over the groups in which the figures
/// came: those of one group have much in common.
pub(crate) fn difference(
    without: &[Vec<Duration>],
    with: &[Vec<Duration>],
    percent: usize,
) -> Difference {
    const DRAWS: usize = 2000;
    // SplitMix64 from a fixed seed: the same figures have the same interval.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below.max(1) as u64).unwrap_or(0)
    };
    let more = |without: &[Duration], with: &[Duration]| {
        (millis(with, percent) / millis(without, percent) - 1.0) * 100.0
    };
    let mut draw = |groups: &[Vec<Duration>]| -> Vec<Duration> {
        let drawn = (0..groups.len()).flat_map(|_| &groups[random(groups.len())]);
        drawn.copied().collect()
    };
    let mut drawn: Vec<f64> = (0..DRAWS)
        .map(|_| more(&draw(without), &draw(with)))
        .collect();
    drawn.sort_by(f64::total_cmp);
    Difference {
        percent: more(&without.concat(), &with.concat()),
        lowest: drawn[DRAWS / 40],
        highest: drawn[DRAWS - 1 - DRAWS / 40],
    }
}

/// A percentile in milliseconds; NaN of nothing.
pub(crate) fn millis(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    let place = (sorted.len() * percent / 100).min(last);
    sorted
        .get(place)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}
