//! The hub's log: what of it is written, which can be changed for a while without a restart, and its newest lines, which are kept
//! in memory for whoever asks for them.
//!
//! Of other people's code nothing below `debug` is ever written: its traces show headers, and so tokens.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, filter, reload};

/// How long another filter holds unless somebody says so.
pub const USUAL: Duration = Duration::from_secs(60 * 60);
/// And at most.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest filter, bytes.
pub const LONGEST_FILTER: usize = 1024;
/// Lines that are kept take this many bytes at most.
const KEPT: usize = 256 * 1024;
/// Longest line that is kept, bytes. The rest of it is cut off.
const LINE: usize = 4 * 1024;

/// Why a filter is not used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It is none.
    #[error("{0}")]
    Unreadable(String),
    /// It is too long, or for too long.
    #[error("found {found}, expected {expected}")]
    Beyond {
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
}

/// What is written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The filter in use.
    pub now: String,
    /// The one of the start, which comes back.
    pub usual: String,
    /// After which time it comes back; `None` while it is in use.
    pub back_in: Option<Duration>,
}

#[derive(Debug)]
struct Set {
    text: String,
    /// Rises with each change, so that an older end does not end a newer filter.
    number: u64,
    ends: Option<Instant>,
}

/// The log of this process. Clones are the same.
#[derive(Clone)]
pub struct Logging(Arc<Shared>);

struct Shared {
    handle: reload::Handle<EnvFilter, Registry>,
    usual: String,
    set: Mutex<Set>,
    recent: Recent,
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging").finish_non_exhaustive()
    }
}

fn read(text: &str) -> Result<EnvFilter, FilterError> {
    if text.len() > LONGEST_FILTER {
        return Err(FilterError::Beyond {
            found: format!("{} bytes", text.len()),
            expected: format!("at most {LONGEST_FILTER}"),
        });
    }
    if text.trim().is_empty() {
        // It would be read as "errors only".
        return Err(FilterError::Unreadable(
            "it is empty; `error` is the least that is written".to_owned(),
        ));
    }
    EnvFilter::try_new(text).map_err(|error| FilterError::Unreadable(error.to_string()))
}

/// Whether it is ours, or no trace of somebody else's.
fn may_be_written(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("meridian") || *metadata.level() <= Level::DEBUG
}

impl Logging {
    /// A log with this filter, and who takes what is logged: as JSON or as text, to standard error.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn new(
        text: &str,
        json: bool,
    ) -> Result<(Self, impl Subscriber + Send + Sync + use<>), FilterError> {
        let (filter, handle) = reload::Layer::new(read(text)?);
        let recent = Recent::default();
        let lines = tracing_subscriber::fmt::layer().with_writer(recent.clone());
        let lines = if json {
            lines.json().boxed()
        } else {
            lines.with_ansi(false).boxed()
        };
        let lines = lines.with_filter(filter::filter_fn(may_be_written));
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        let shared = Shared {
            handle,
            usual: text.to_owned(),
            set: Mutex::new(Set {
                text: text.to_owned(),
                number: 0,
                ends: None,
            }),
            recent,
        };
        Ok((Self(Arc::new(shared)), subscriber))
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.0.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is written now.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let set = self.lock();
        let left = |ends: Instant| ends.saturating_duration_since(Instant::now());
        Filter {
            now: set.text.clone(),
            usual: self.0.usual.clone(),
            back_in: set.ends.map(left),
        }
    }

    /// Writes by this filter for a time, and by the usual one after it.
    ///
    /// # Errors
    /// [`FilterError`]: then nothing has changed.
    pub fn set(&self, text: &str, within: Duration) -> Result<(), FilterError> {
        if within.is_zero() || within > LONGEST {
            return Err(FilterError::Beyond {
                found: format!("{} s", within.as_secs()),
                expected: format!("1 s to {} s", LONGEST.as_secs()),
            });
        }
        let number = self.change(text, Some(Instant::now() + within))?;
        let again = self.clone();
        tokio::spawn(async move {
            sleep(within).await;
            again.end(number);
        });
        Ok(())
    }

    /// Writes by the usual filter again.
    ///
    /// # Errors
    /// [`FilterError`]: then nothing has changed.
    pub fn reset(&self) -> Result<(), FilterError> {
        self.change(&self.0.usual.clone(), None).map(|_| ())
    }

    fn end(&self, number: u64) {
        if self.lock().number != number {
            return;
        }
        if let Err(error) = self.reset() {
            tracing::error!(%error, "the usual filter of the log was not put back");
            return;
        }
        tracing::info!(
            filter = self.0.usual,
            "the log is written by its usual filter again"
        );
    }

    fn change(&self, text: &str, ends: Option<Instant>) -> Result<u64, FilterError> {
        let filter = read(text)?;
        let mut set = self.lock();
        let changed = self.0.handle.reload(filter);
        changed.map_err(|error| FilterError::Unreadable(error.to_string()))?;
        set.text = text.to_owned();
        set.number += 1;
        set.ends = ends;
        Ok(set.number)
    }

    /// The newest lines, the oldest of them first.
    #[must_use]
    pub fn recent(&self) -> Vec<String> {
        self.0.recent.lock().lines.iter().cloned().collect()
    }
}

/// Writes to standard error and keeps the newest lines.
#[derive(Clone, Debug, Default)]
struct Recent(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn keep(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(&line[..line.len().min(LINE)]);
        let line = line.trim_end().to_owned();
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > KEPT
            && let Some(gone) = self.lines.pop_front()
        {
            self.bytes -= gone.len();
        }
    }
}

impl Write for Recent {
    /// One line: it is handed over whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lock().keep(line);
        io::stderr().write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Recent {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_filter_holds_for_its_time_and_a_newer_one_is_not_ended_by_an_older() {
        let (logging, subscriber) = Logging::new("info", false).unwrap();
        let _held = tracing::subscriber::set_default(subscriber);
        let minutes = |n: u64| Duration::from_secs(60 * n);
        tracing::debug!(target: "meridian_hub", "before");
        logging.set("meridian_hub=debug", minutes(10)).unwrap();
        assert_eq!(logging.filter().back_in, Some(minutes(10)));
        tracing::debug!(target: "meridian_hub", "while it is wanted");
        tracing::trace!(target: "meridian_hub", "less than wanted");
        sleep(minutes(5)).await;
        logging.set("trace", minutes(10)).unwrap();
        tracing::trace!(target: "meridian_hub", "all of ours");
        tracing::trace!(target: "hyper::proto", "authorization: Bearer mrda.x");
        sleep(minutes(6)).await;
        assert_eq!(
            logging.filter().now,
            "trace",
            "the first is over, this is not"
        );
        sleep(minutes(5)).await;
        let filter = logging.filter();
        assert_eq!((filter.now.as_str(), filter.back_in), ("info", None));
        tracing::debug!(target: "meridian_hub", "after");
        let told = logging.recent().join("\n");
        for (text, is_there) in [
            ("before", false),
            ("while it is wanted", true),
            ("less than wanted", false),
            ("all of ours", true),
            ("Bearer", false),
            ("usual filter again", true),
            ("after", false),
        ] {
            assert_eq!(told.contains(text), is_there, "{text}\n{told}");
        }
    }

    #[tokio::test]
    async fn what_is_no_filter_or_for_too_long_changes_nothing() {
        let (logging, _subscriber) = Logging::new("info", false).unwrap();
        let (long, hour) = ("a".repeat(LONGEST_FILTER + 1), Duration::from_secs(3600));
        for (text, within) in [
            ("", hour),
            ("meridian_hub=loud", hour),
            (long.as_str(), hour),
            ("debug", Duration::ZERO),
            ("debug", LONGEST + Duration::from_secs(1)),
        ] {
            assert!(logging.set(text, within).is_err(), "{text} {within:?}");
            assert_eq!(logging.filter().now, "info");
        }
    }

    #[test]
    fn the_newest_lines_are_kept_and_no_more_than_there_is_room_for() {
        let mut lines = Lines::default();
        lines.keep(&vec![b'x'; 10 * LINE]);
        assert_eq!(lines.bytes, LINE);
        for n in 0..20_000 {
            lines.keep(format!("a line of the log, number {n}\n").as_bytes());
        }
        assert!(lines.bytes <= KEPT && lines.bytes > KEPT - LINE);
        let last = lines.lines.back().unwrap();
        assert_eq!(last, "a line of the log, number 19999");
    }
}
