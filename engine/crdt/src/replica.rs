//! The whole replication state of one shard.
//!
//! A [`Replica`] turns local writes into effects, applies effects of other regions, keeps effects for peers, and forgets
//! what can no longer matter. It does no I/O and reads no clock: values are reached through a [`View`], the time and the
//! random incarnation come in as arguments.

mod apply;
mod collect;
mod pull;
mod snapshot;
mod write;

pub use apply::{Applied, ApplyError, BatchError, Outcome};
pub use pull::PullError;
pub use snapshot::RestoreError;
pub use write::{Number, Write, WriteError, Written};

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Limits};
use crate::entry::Entry;
use crate::hlc::Hlc;
use crate::id::{Incarnation, InstanceId, Origin};
use crate::log::Log;
use crate::stability::Stability;
use crate::view::ViewError;
use std::collections::BTreeMap;

/// State of one shard. See the module's head.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    limits: Limits,
    /// Own life, drawn at the first write. Never taken from data.
    incarnation: Option<Incarnation>,
    /// Why a local write was left half done.
    damage: Option<ViewError>,
    /// Number of the transaction that is being written.
    group: Option<u64>,
    grouping: bool,
    clock: Clock,
    hlc: Hlc,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Sum of [`Entry::waiting`] over all entries.
    waiting: u64,
    log: Log,
    stability: Stability,
    sweep: collect::Sweep,
    counters: Counters,
}

/// Events since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    written: u64,
    applied: u64,
    duplicates: u64,
    refused: u64,
    collected: u64,
}

/// Figures for `INFO` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Local writes since the start.
    pub written: u64,
    /// Effects of other regions (or of a replay) applied since the start.
    pub applied: u64,
    /// Effects dropped since the start because they were known.
    pub duplicates: u64,
    /// Effects refused with an error since the start.
    pub refused: u64,
    /// Keys whose metadata was dropped as stable since the start.
    pub collected: u64,
    /// Keys that have metadata now.
    pub unstable_keys: u64,
    /// Removals that wait for effects which they have seen and this shard has not, counted by key, element and field.
    pub waiting_removals: u64,
    /// Effects kept for peers.
    pub log_effects: u64,
    /// Bytes of effects kept for peers.
    pub log_bytes: u64,
}

/// Why an incarnation cannot be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// A life is under way.
    #[error("incarnation {0:016x} is under way; end it before another begins")]
    UnderWay(u64),
    /// The number was used before, so that sequence numbers would be used twice.
    #[error("incarnation {0:016x} of this instance was used before; draw a new random number")]
    Used(u64),
}

impl Replica {
    /// A shard that has seen nothing.
    ///
    /// # Errors
    /// The configuration contradicts itself.
    pub fn new(config: Config, limits: Limits) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            config,
            limits,
            incarnation: None,
            damage: None,
            group: None,
            grouping: false,
            clock: Clock::new(),
            hlc: Hlc::default(),
            entries: BTreeMap::new(),
            waiting: 0,
            log: Log::default(),
            stability: Stability::default(),
            sweep: collect::Sweep::default(),
            counters: Counters::default(),
        })
    }

    /// Puts a newer configuration in force; the one that is in force already is accepted.
    ///
    /// # Errors
    /// See [`ConfigError`]; the configuration in force stays.
    pub fn configure(&mut self, config: Config) -> Result<(), ConfigError> {
        config.check_after(&self.config)?;
        self.config = config;
        Ok(())
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes the bounds.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.log.trim(limits.log_bytes, self.stability.cut());
    }

    /// The life under way, if a write began one. [`write`](Self::write) needs one; it is `None` after every start.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// Begins a life with 64 fresh random bits, at the first write after a start or promotion.
    ///
    /// # Errors
    /// A life is under way, or the number was used before.
    pub fn begin(&mut self, incarnation: Incarnation) -> Result<(), BeginError> {
        if let Some(current) = self.incarnation {
            return Err(BeginError::UnderWay(current.0));
        }
        let origin = Origin {
            instance: self.config.instance,
            incarnation,
        };
        if self.clock.get(origin) > 0 {
            return Err(BeginError::Used(incarnation.0));
        }
        self.incarnation = Some(incarnation);
        Ok(())
    }

    /// Ends the life under way: to be called when the shard stops being a primary. The next write needs a new one.
    pub fn end(&mut self) {
        self.incarnation = None;
        self.end_group();
    }

    /// Writes from here to [`end_group`](Self::end_group) form one transaction for the peers (MULTI, a script).
    pub fn begin_group(&mut self) {
        self.grouping = true;
        self.group = None;
    }

    /// Ends the transaction. Without one nothing happens.
    pub fn end_group(&mut self) {
        self.grouping = false;
        self.group = None;
    }

    /// What this shard has received and written.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The highest hybrid time seen.
    pub fn hlc(&self) -> Hlc {
        self.hlc
    }

    /// Raises the hybrid time, as learnt from peers after a start: later writes are stamped above it.
    pub fn raise_hlc(&mut self, floor: Hlc) {
        self.hlc = self.hlc.max(floor);
    }

    /// The clock that every member is known to have reached for good.
    pub fn stable(&self) -> &Clock {
        self.stability.cut()
    }

    /// The last clock that a member reported for good, its own durable clock for this participant.
    pub fn reported(&self, member: InstanceId) -> Option<&Clock> {
        self.stability.reported(member)
    }

    /// Whether a [`Write::Report`] of `durable` would tell the others anything new. Without writes reports come to an end.
    pub fn is_report_due(&self, durable: &Clock) -> bool {
        self.stability.is_report_due(self.config.instance, durable)
    }

    /// Figures as of now.
    pub fn stats(&self) -> Stats {
        let Counters {
            written,
            applied,
            duplicates,
            refused,
            collected,
        } = self.counters;
        Stats {
            written,
            applied,
            duplicates,
            refused,
            collected,
            unstable_keys: self.entries.len() as u64,
            waiting_removals: self.waiting,
            log_effects: self.log.effects() as u64,
            log_bytes: self.log.bytes() as u64,
        }
    }
}
