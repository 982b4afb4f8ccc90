//! What happened in a run, in order, by the virtual clock: what a person reads of a failed seed, and what two runs of one seed
//! are compared by.

use std::{
    fmt::Display,
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

/// Lines that a failure prints.
const SHOWN: usize = 120;

/// The record of one run. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Trace(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    begun: Instant,
    last: std::collections::VecDeque<String>,
    kept: usize,
    events: u64,
    digest: u64,
    broken: Vec<String>,
}

impl Trace {
    /// A record whose time begins now; `whole`: every line is kept.
    pub(crate) fn new(whole: bool) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            begun: Instant::now(),
            last: std::collections::VecDeque::new(),
            kept: if whole { usize::MAX } else { SHOWN },
            events: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            broken: Vec::new(),
        })))
    }

    pub(crate) fn note(&self, who: impl Display, what: impl Display) {
        let mut lines = self.0.lock().unwrap();
        let at = lines.begun.elapsed().as_millis();
        let line = format!("{:>8}.{:03} {who}: {what}", at / 1000, at % 1000);
        // FNV-1a: only equality counts.
        for byte in line.bytes() {
            lines.digest = (lines.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        lines.events += 1;
        if lines.last.len() == lines.kept {
            lines.last.pop_front();
        }
        lines.last.push_back(line);
    }

    /// An invariant does not hold.
    pub(crate) fn broken(&self, invariant: &str, what: impl Display) {
        let what = format!("{invariant}: {what}");
        self.note("JUDGE", &what);
        self.0.lock().unwrap().broken.push(what);
    }

    /// What did not hold, in order.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.0.lock().unwrap().broken.clone()
    }

    pub(crate) fn events(&self) -> u64 {
        self.0.lock().unwrap().events
    }

    pub(crate) fn digest(&self) -> u64 {
        self.0.lock().unwrap().digest
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().last.iter().cloned().collect()
    }
}
