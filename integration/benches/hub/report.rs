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
