//! What is known about a link, as a value: changed by events, viewed at a moment. Pure.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A source says at least this often that it has nothing (twice its interval, for a late one).
const SILENCE: Duration = Duration::from_millis(1100);

/// The states of a link, seen from the region that pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// No connection yet.
    Connecting,
    /// Connected, and catching up.
    Syncing,
    /// Connected, and caught up at least once.
    Up,
    /// Stopped by a person.
    Paused,
    /// It cannot go on by itself; the error says what to do.
    Stalled,
    /// No connection; it is tried again.
    Down,
}

impl State {
    /// As status and metrics spell it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Syncing => "syncing",
            Self::Up => "up",
            Self::Paused => "paused",
            Self::Stalled => "stalled",
            Self::Down => "down",
        }
    }
}

/// What is known about a link.
#[derive(Clone, Debug)]
pub(crate) struct LinkStatus {
    state: State,
    since_ms: u64,
    error: Option<String>,
    /// Since when this region may lack something; `None`: it had everything at the last word.
    behind_since: Option<Instant>,
    /// When the source was heard last.
    heard: Option<Instant>,
    /// How long the last batch took from its first byte until it was applied, and when that was.
    last_batch: Option<(Instant, Duration)>,
    source_clock: Option<String>,
    source_config_version: Option<u64>,
    bytes: u64,
    effects: u64,
}

/// A link at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusView {
    /// Its state.
    pub state: State,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why it is not up.
    pub last_error: Option<String>,
    /// For how long this region has lacked something that the source has, in milliseconds; absent if the source was never heard.
    pub lag_ms: Option<u64>,
    /// The source's clock as it said last.
    pub source_clock: Option<serde_json::Value>,
    /// The source's membership number.
    pub source_config_version: Option<u64>,
    /// Bytes pulled in this life of the process.
    pub ingress_bytes: u64,
    /// New effects applied in this life of the process.
    pub effects: u64,
    /// When this was seen, RFC 3339.
    pub as_of: String,
}

impl LinkStatus {
    /// A link that has not begun.
    #[must_use]
    pub(crate) fn new(_now: Instant, wall_ms: u64) -> Self {
        Self {
            state: State::Connecting,
            since_ms: wall_ms,
            error: None,
            behind_since: None,
            heard: None,
            last_batch: None,
            source_clock: None,
            source_config_version: None,
            bytes: 0,
            effects: 0,
        }
    }

    /// Goes to `state`; `true` if that is a change.
    pub(crate) fn change(
        &mut self,
        state: State,
        error: Option<String>,
        now: Instant,
        wall_ms: u64,
    ) -> bool {
        if !matches!(state, State::Up | State::Syncing) && self.behind_since.is_none() {
            self.behind_since = self.heard.map(|_| now);
        }
        let changed = self.state != state;
        if changed {
            self.state = state;
            self.since_ms = wall_ms;
        }
        let new_error = self.error != error;
        self.error = error;
        changed || new_error
    }

    /// The source introduced itself.
    pub(crate) fn welcomed(&mut self, config_version: u64, now: Instant) {
        self.source_config_version = Some(config_version);
        self.heard = Some(now);
    }

    /// The first part of a batch came.
    pub(crate) fn batch_began(&mut self, now: Instant) {
        self.heard = Some(now);
        self.behind_since.get_or_insert(now);
    }

    /// A batch was applied.
    pub(crate) fn batch_applied(&mut self, batch: &Applied, now: Instant) {
        self.bytes += batch.bytes;
        self.effects += batch.effects;
        self.heard = Some(now);
        self.source_clock = Some(batch.source_clock.clone());
        if !batch.more {
            let took = self
                .behind_since
                .take()
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            self.last_batch = Some((now, took));
        }
    }

    /// The source has nothing new.
    pub(crate) fn idle(&mut self, source_clock: &str, now: Instant) {
        self.heard = Some(now);
        self.behind_since = None;
        self.source_clock = Some(source_clock.to_owned());
    }

    /// How it is at `now`.
    #[must_use]
    pub(crate) fn view(&self, now: Instant, wall_ms: u64) -> StatusView {
        StatusView {
            state: self.state,
            since: crate::clock::rfc3339(self.since_ms),
            last_error: self.error.clone(),
            lag_ms: self
                .lag(now)
                .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            source_clock: self
                .source_clock
                .as_deref()
                .map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into())),
            source_config_version: self.source_config_version,
            ingress_bytes: self.bytes,
            effects: self.effects,
            as_of: crate::clock::rfc3339(wall_ms),
        }
    }

    fn lag(&self, now: Instant) -> Option<Duration> {
        let silent = now.saturating_duration_since(self.heard?);
        let behind = self
            .behind_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let silent = if silent > SILENCE {
            silent
        } else {
            Duration::ZERO
        };
        let recent = match self.last_batch {
            Some((at, took)) if now.saturating_duration_since(at) <= SILENCE => took,
            Some(_) | None => Duration::ZERO,
        };
        Some(behind.max(silent).max(recent))
    }
}

/// A batch that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Its size.
    pub bytes: u64,
    /// Effects in it that were new.
    pub effects: u64,
    /// The source had more at once.
    pub more: bool,
    /// The source's clock, as text.
    pub source_clock: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(more: bool) -> Applied {
        Applied {
            bytes: 10,
            effects: 2,
            more,
            source_clock: "{\"1\":5}".to_owned(),
        }
    }

    #[test]
    fn lag_is_unknown_until_the_source_was_heard() {
        let now = crate::clock::now();
        assert_eq!(LinkStatus::new(now, 0).view(now, 0).lag_ms, None);
    }

    #[test]
    fn lag_grows_while_batches_are_outstanding_and_ends_when_there_is_no_more() {
        let start = crate::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut status = LinkStatus::new(start, 0);
        status.welcomed(1, start);
        status.batch_began(at(10));
        assert_eq!(status.view(at(110), 0).lag_ms, Some(100));
        status.batch_applied(&applied(true), at(120));
        assert_eq!(status.view(at(210), 0).lag_ms, Some(200));
        status.batch_applied(&applied(false), at(310));
        let view = status.view(at(320), 0);
        assert_eq!(
            (view.lag_ms, view.effects, view.ingress_bytes),
            (Some(300), 4, 20),
            "what the last catch-up took"
        );
        status.idle("{}", at(2000));
        assert_eq!(status.view(at(2000), 0).lag_ms, Some(0));
    }

    #[test]
    fn a_silent_source_is_not_a_caught_up_one() {
        let start = crate::clock::now();
        let mut status = LinkStatus::new(start, 0);
        status.idle("{}", start);
        assert_eq!(
            status.view(start + Duration::from_secs(1), 0).lag_ms,
            Some(0)
        );
        assert_eq!(
            status.view(start + Duration::from_secs(9), 0).lag_ms,
            Some(9000)
        );
    }

    #[test]
    fn since_moves_only_with_the_state() {
        let now = crate::clock::now();
        let mut status = LinkStatus::new(now, 1000);
        assert!(status.change(State::Down, Some("a".to_owned()), now, 2000));
        assert!(
            status.change(State::Down, Some("b".to_owned()), now, 3000),
            "a new error is an edge"
        );
        assert!(!status.change(State::Down, Some("b".to_owned()), now, 4000));
        assert_eq!(status.view(now, 0).since, crate::clock::rfc3339(2000));
    }
}
