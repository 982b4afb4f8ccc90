//! Effects from peers, from the append-only file and from the own primary: one road for all.

use super::Replica;
use crate::batch::Batch;
use crate::codec::DecodeError;
use crate::effect::{Effect, Op};
use crate::entry::{Change, Entry};
use crate::id::{Dot, InstanceId, Origin};
use crate::log::Frame;
use crate::view::{View, ViewError};
use std::sync::Arc;

/// What became of one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Values and metadata include it now.
    Done,
    /// It was known; nothing changed.
    Duplicate,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Effects that are included now.
    pub done: u64,
    /// Effects that were known.
    pub duplicates: u64,
}

/// A batch that could not be applied to its end. What was applied stays applied, whole transactions only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error} ({} applied, {} known before it)", applied.done, applied.duplicates)]
pub struct BatchError {
    /// What happened before the error.
    pub applied: Applied,
    /// Why it stopped.
    #[source]
    pub error: ApplyError,
}

/// Why an effect was refused. It stays unapplied and must be offered again, never skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Earlier effects of the origin are missing.
    #[error(
        "effect {found} of {origin} arrived while {expected} is the next; pull again from the shard's own clock"
    )]
    Gap {
        /// Stream.
        origin: Origin,
        /// Number that arrived.
        found: u64,
        /// Number that must come first.
        expected: u64,
    },
    /// The writer's clock runs ahead.
    #[error(
        "effect {dot} is stamped {ahead_ms} ms ahead of this shard's wall clock, at most {max_ms} ms are accepted; the \
         source stalls until the clocks agree: check NTP on both sides"
    )]
    Future {
        /// Which effect.
        dot: Dot,
        /// How far ahead, milliseconds.
        ahead_ms: u64,
        /// The bound, milliseconds.
        max_ms: u64,
    },
    /// The writer was never a participant, as far as the configuration in force says.
    #[error("effect {dot}: instance {} is no member in configuration version {version}", dot.origin.instance)]
    NonMember {
        /// Which effect.
        dot: Dot,
        /// Version in force.
        version: u64,
    },
    /// The writer was removed.
    #[error("effect {dot}: instance {} was removed from this database", dot.origin.instance)]
    Removed {
        /// Which effect.
        dot: Dot,
    },
    /// A peer sent what is not its own and not the receiver's.
    #[error(
        "effect {dot} came from instance {instance}, which may only send its own effects and lost ones of the receiver"
    )]
    Foreign {
        /// Which effect.
        dot: Dot,
        /// Who sent it.
        instance: InstanceId,
    },
    /// Somebody else writes under the incarnation that is under way here.
    #[error(
        "effect {0} bears the incarnation under way here and was not written here; restart the shard"
    )]
    OwnLife(Dot),
    /// Bytes that are no effect.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Values could not be read or changed.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// An effect and the bytes it came as.
struct Received {
    effect: Effect,
    bytes: Arc<[u8]>,
}

impl Replica {
    /// Applies one effect of another participant, or a lost one of this participant.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(
        &mut self,
        view: &mut dyn View,
        now_ms: u64,
        effect: &Effect,
    ) -> Result<Outcome, ApplyError> {
        let checked = self.admit(now_ms, effect);
        self.conclude(view, checked, effect, None)
    }

    /// Applies what `source` sent, whole transactions at a time. Stops at the first effect that is refused.
    ///
    /// Answers of one source must be applied in the order in which it gave them, also across its restarts: once anything of
    /// its new life is here, an older answer that is still on the way must be dropped. Stability rests on it.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn apply_batch(
        &mut self,
        view: &mut dyn View,
        now_ms: u64,
        source: InstanceId,
        batch: &Batch,
    ) -> Result<Applied, BatchError> {
        let mut applied = Applied::default();
        let mut rest = batch.effects.as_slice();
        while !rest.is_empty() {
            let outcome = self.transaction(now_ms, source, rest).and_then(|effects| {
                rest = &rest[effects.len()..];
                self.apply_all(view, effects, &mut applied)
            });
            if let Err(error) = outcome {
                return Err(BatchError { applied, error });
            }
        }
        Ok(applied)
    }

    /// Applies one effect from the append-only file or from the primary of this shard. No question is asked that was
    /// answered when it was first applied: who may write, and how far the stamp lies ahead.
    ///
    /// # Errors
    /// A gap, or the view failed.
    pub fn replay(&mut self, view: &mut dyn View, effect: &Effect) -> Result<Outcome, ApplyError> {
        let checked = self.follows(effect, self.clock.get(effect.dot.origin));
        self.conclude(view, checked, effect, None)
    }

    /// The effects at the front of `frames` that must be applied together, checked as far as that is possible before
    /// anything changes.
    fn transaction(
        &mut self,
        now_ms: u64,
        source: InstanceId,
        frames: &[Arc<[u8]>],
    ) -> Result<Vec<Received>, ApplyError> {
        let mut effects: Vec<Received> = Vec::new();
        for frame in frames {
            let effect = Effect::decode(frame)?;
            if let Some(Received { effect: first, .. }) = effects.first() {
                let same = first.group.is_some() && first.group == effect.group;
                if !same || first.dot.origin != effect.dot.origin {
                    break;
                }
            }
            self.check_source(source, effect.dot)
                .and_then(|()| self.check_writer(now_ms, &effect))
                .inspect_err(|_| {
                    self.counters.refused += 1;
                })?;
            effects.push(Received {
                effect,
                bytes: Arc::clone(frame),
            });
        }
        Ok(effects)
    }

    fn apply_all(
        &mut self,
        view: &mut dyn View,
        effects: Vec<Received>,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        for Received { effect, bytes } in effects {
            let checked = self.follows(&effect, self.clock.get(effect.dot.origin));
            match self.conclude(view, checked, &effect, Some(bytes))? {
                Outcome::Done => applied.done += 1,
                Outcome::Duplicate => applied.duplicates += 1,
            }
        }
        Ok(())
    }

    fn admit(&self, now_ms: u64, effect: &Effect) -> Result<Outcome, ApplyError> {
        self.check_writer(now_ms, effect)?;
        self.follows(effect, self.clock.get(effect.dot.origin))
    }

    fn check_source(&self, source: InstanceId, dot: Dot) -> Result<(), ApplyError> {
        let allowed = [source, self.config.instance].contains(&dot.origin.instance);
        if allowed {
            Ok(())
        } else {
            Err(ApplyError::Foreign {
                dot,
                instance: source,
            })
        }
    }

    fn check_writer(&self, now_ms: u64, effect: &Effect) -> Result<(), ApplyError> {
        let dot = effect.dot;
        if self.config.ghosts.contains(&dot.origin.instance) {
            return Err(ApplyError::Removed { dot });
        }
        if !self.config.members.contains(&dot.origin.instance) {
            return Err(ApplyError::NonMember {
                dot,
                version: self.config.version,
            });
        }
        let own_life = self.incarnation.map(|incarnation| Origin {
            instance: self.config.instance,
            incarnation,
        });
        if own_life == Some(dot.origin) && !self.clock.covers(dot) {
            return Err(ApplyError::OwnLife(dot));
        }
        let (ahead_ms, max_ms) = (
            effect.hlc.millis().saturating_sub(now_ms),
            self.limits.max_future_ms,
        );
        if ahead_ms > max_ms && !self.clock.covers(dot) {
            return Err(ApplyError::Future {
                dot,
                ahead_ms,
                max_ms,
            });
        }
        Ok(())
    }

    /// Whether the effect is the next of its origin, after `have`.
    fn follows(&self, effect: &Effect, have: u64) -> Result<Outcome, ApplyError> {
        let Dot { origin, seq } = effect.dot;
        if seq <= have {
            return Ok(Outcome::Duplicate);
        }
        if seq - have == 1 {
            Ok(Outcome::Done)
        } else {
            Err(ApplyError::Gap {
                origin,
                found: seq,
                expected: have + 1,
            })
        }
    }

    /// Applies a checked effect and counts what became of it.
    fn conclude(
        &mut self,
        view: &mut dyn View,
        checked: Result<Outcome, ApplyError>,
        effect: &Effect,
        bytes: Option<Arc<[u8]>>,
    ) -> Result<Outcome, ApplyError> {
        match checked {
            Ok(Outcome::Done) => {
                let bytes = bytes.unwrap_or_else(|| Arc::from(effect.encode()));
                self.integrate(view, effect, bytes)?;
                self.counters.applied += 1;
            }
            Ok(Outcome::Duplicate) => self.counters.duplicates += 1,
            Err(_) => self.counters.refused += 1,
        }
        checked
    }

    /// Changes values and metadata, then counts the effect as received. Until the view has done its part nothing counts,
    /// and doing it again leads to the same.
    pub(super) fn integrate(
        &mut self,
        view: &mut dyn View,
        effect: &Effect,
        bytes: Arc<[u8]>,
    ) -> Result<(), ViewError> {
        self.change(view, effect)?;
        let Dot { origin, seq } = effect.dot;
        if seq == 1 {
            self.stability.born(origin, &effect.context);
        }
        let is_report = matches!(effect.op, Op::Report { .. });
        self.stability.received(effect.dot, is_report);
        self.clock.raise(origin, seq);
        self.hlc = self.hlc.max(effect.hlc);
        self.log.push(
            origin,
            seq,
            Frame {
                group: effect.group,
                bytes,
            },
        );
        self.log.trim(self.limits.log_bytes, self.stability.cut());
        Ok(())
    }

    fn change(&mut self, view: &mut dyn View, effect: &Effect) -> Result<(), ViewError> {
        match &effect.op {
            Op::SetString {
                key,
                value,
                generation,
            } => self.touch(view, effect, key, |entry, change| {
                entry.set_string(change, value, *generation)
            }),
            Op::Increment {
                key,
                delta,
                generation,
            } => self.touch(view, effect, key, |entry, change| {
                entry.increment(change, *delta, *generation)
            }),
            Op::SetAdd {
                key,
                elements,
                generation,
            } => self.touch(view, effect, key, |entry, change| {
                entry.set_add(change, elements, *generation)
            }),
            Op::SetRemove { key, elements } => self.touch(view, effect, key, |entry, change| {
                entry.set_remove(change, elements)
            }),
            Op::HashSet {
                key,
                fields,
                generation,
            } => self.touch(view, effect, key, |entry, change| {
                entry.hash_set(change, fields, *generation)
            }),
            Op::HashRemove { key, fields } => self.touch(view, effect, key, |entry, change| {
                entry.hash_remove(change, fields)
            }),
            Op::HashIncrement {
                key,
                field,
                delta,
                generation,
            } => self.touch(view, effect, key, |entry, change| {
                entry.hash_increment(change, field, *delta, *generation)
            }),
            Op::Delete { keys } => keys.iter().try_for_each(|key| {
                self.touch(view, effect, key, |entry, change| entry.delete(change))
            }),
            Op::Report { clock } => {
                self.stability.report(effect.dot.origin, clock);
                Ok(())
            }
        }
    }

    /// Takes the metadata of one key out, lets `act` change it, and puts it back unless it is empty.
    fn touch(
        &mut self,
        view: &mut dyn View,
        effect: &Effect,
        key: &[u8],
        act: impl FnOnce(&mut Entry, &mut Change<'_>) -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        let (key, mut entry) = self
            .entries
            .remove_entry(key)
            .unwrap_or_else(|| (key.to_vec(), Entry::default()));
        let before = entry.waiting();
        let acted = act(
            &mut entry,
            &mut Change {
                key: &key,
                effect,
                own: &self.clock,
                view,
            },
        );
        self.waiting = self.waiting + entry.waiting() - before;
        if !entry.is_empty() {
            self.entries.insert(key, entry);
        }
        acted
    }
}
