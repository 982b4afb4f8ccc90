//! Progress lines with the time since the start, on the error stream.

use std::io::Write;
use std::time::Instant;

/// Where progress goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    started: Instant,
    quiet: bool,
}

impl Progress {
    /// Starts to count now.
    pub(crate) fn start(quiet: bool) -> Self {
        Self {
            started: Instant::now(),
            quiet,
        }
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Says one line.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            let _nobody_listens =
                writeln!(std::io::stderr().lock(), "[{:6.1}s] {line}", self.seconds());
        }
    }
}
