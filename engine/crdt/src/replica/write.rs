//! Local writes: check, make the effect, apply it as any other.

use super::Replica;
use crate::clock::Clock;
use crate::decimal::Decimal;
use crate::effect::{Effect, Generation, Op};
use crate::id::{Dot, Origin};
use crate::view::{Kind, View, ViewError};
use std::sync::Arc;

/// A write of a local client. Conditions (NX, GET, XX) were checked by the caller. Lists must not be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// SET and everything that ends in a whole new string; replaces a key of any kind.
    SetString {
        /// The key.
        key: Vec<u8>,
        /// The new value.
        value: Vec<u8>,
    },
    /// INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT.
    Increment {
        /// The key.
        key: Vec<u8>,
        /// What to add.
        delta: Decimal,
        /// Which command's rules hold.
        number: Number,
    },
    /// SADD. Elements that are present belong into it too: adding them again protects them against a concurrent removal.
    SetAdd {
        /// The key.
        key: Vec<u8>,
        /// What to add.
        elements: Vec<Vec<u8>>,
    },
    /// SREM, SPOP. Elements that are absent may be left out.
    SetRemove {
        /// The key.
        key: Vec<u8>,
        /// What to remove.
        elements: Vec<Vec<u8>>,
    },
    /// HSET, HMSET, HSETNX.
    HashSet {
        /// The key.
        key: Vec<u8>,
        /// Fields and their new values.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// HDEL. Fields that are absent may be left out.
    HashRemove {
        /// The key.
        key: Vec<u8>,
        /// What to remove.
        fields: Vec<Vec<u8>>,
    },
    /// HINCRBY, HINCRBYFLOAT.
    HashIncrement {
        /// The key.
        key: Vec<u8>,
        /// The field.
        field: Vec<u8>,
        /// What to add.
        delta: Decimal,
        /// Which command's rules hold.
        number: Number,
    },
    /// DEL, UNLINK. Keys that are absent may be left out.
    Delete {
        /// The keys.
        keys: Vec<Vec<u8>>,
    },
    /// The clock up to which this shard cannot lose anything (fsynced, or acknowledged by its replica).
    Report {
        /// At most the shard's [`clock`](Replica::clock).
        clock: Clock,
    },
}

/// Which numbers a local increment accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// INCR, INCRBY, DECR, HINCRBY: the value must be an integer.
    Integer,
    /// INCRBYFLOAT, HINCRBYFLOAT: any number.
    Float,
}

impl Number {
    /// What a string key that holds something else answers.
    fn refusal(self) -> WriteError {
        match self {
            Self::Integer => WriteError::NotInteger,
            Self::Float => WriteError::NotFloat,
        }
    }

    /// What a hash field that holds something else answers.
    fn hash_refusal(self) -> WriteError {
        match self {
            Self::Integer => WriteError::HashNotInteger,
            Self::Float => WriteError::HashNotFloat,
        }
    }
}

/// A local write that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What peers will apply.
    pub effect: Effect,
    /// Its bytes, for the append-only file and local replicas.
    pub bytes: Arc<[u8]>,
}

/// Why a local write was refused. Nothing was changed, except where the view failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The caller has not begun a life.
    #[error(
        "the shard has no incarnation; begin one with fresh random bits before the first write"
    )]
    NoIncarnation,
    /// A list without items.
    #[error("a write without keys, elements or fields has no effect; leave it out")]
    Empty,
    /// Valkey's words for a key of another kind.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongKind,
    /// Valkey's words for INCR on something else.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// Valkey's words for INCRBYFLOAT on something else.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// Valkey's words for HINCRBY on something else.
    #[error("ERR hash value is not an integer")]
    HashNotInteger,
    /// Valkey's words for HINCRBYFLOAT on something else.
    #[error("ERR hash value is not a float")]
    HashNotFloat,
    /// Valkey's words; the result would lie beyond ±2⁵⁸.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// Valkey's words for floats; the result would lie beyond ±2⁵⁸.
    #[error("ERR increment would produce NaN or Infinity")]
    FloatOverflow,
    /// The shard cannot promise what it has not got.
    #[error(
        "the report {report} goes beyond the shard's clock {clock}; report at most what was made durable"
    )]
    ReportAhead {
        /// Clock to report.
        report: Clock,
        /// Clock of the shard.
        clock: Clock,
    },
    /// An earlier write failed in the middle. Its half would get the number of the next write.
    #[error(
        "the shard holds half of a write that failed ({0}); restart it from its file, it takes no writes until then"
    )]
    Damaged(ViewError),
    /// Values could not be read or changed.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl Replica {
    /// Makes a local write: checks it, makes the effect (next dot, hybrid time, context = the clock before it) and applies
    /// it exactly as every other region will.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(
        &mut self,
        view: &mut dyn View,
        now_ms: u64,
        write: Write,
    ) -> Result<Written, WriteError> {
        if let Some(failure) = &self.damage {
            return Err(WriteError::Damaged(failure.clone()));
        }
        let incarnation = self.incarnation.ok_or(WriteError::NoIncarnation)?;
        let op = self.operation(view, write)?;
        let origin = Origin {
            instance: self.config.instance,
            incarnation,
        };
        let seq = self.clock.get(origin) + 1;
        if self.grouping && self.group.is_none() {
            self.group = Some(seq);
        }
        let effect = Effect {
            dot: Dot { origin, seq },
            hlc: self.hlc.tick(now_ms),
            context: self.clock.clone(),
            group: self.group,
            op,
        };
        let bytes: Arc<[u8]> = Arc::from(effect.encode());
        self.integrate(view, &effect, Arc::clone(&bytes))
            .inspect_err(|failure| self.damage = Some(failure.clone()))?;
        self.counters.written += 1;
        Ok(Written { effect, bytes })
    }

    /// The operation of a write that is allowed here and now.
    fn operation(&self, view: &mut dyn View, write: Write) -> Result<Op, WriteError> {
        Ok(match write {
            Write::SetString { key, value } => {
                let generation = match view.kind(&key)? {
                    Some(Kind::String) => self.generation(&key, Kind::String),
                    _ => Generation::Own,
                };
                Op::SetString {
                    key,
                    value,
                    generation,
                }
            }
            Write::SetAdd { key, elements } => {
                let generation = self.creation(view, &key, Kind::Set)?;
                Op::SetAdd {
                    key,
                    elements: filled(elements)?,
                    generation,
                }
            }
            Write::SetRemove { key, elements } => {
                self.creation(view, &key, Kind::Set)?;
                Op::SetRemove {
                    key,
                    elements: filled(elements)?,
                }
            }
            Write::HashSet { key, fields } => {
                let generation = self.creation(view, &key, Kind::Hash)?;
                Op::HashSet {
                    key,
                    fields: filled(fields)?,
                    generation,
                }
            }
            Write::HashRemove { key, fields } => {
                self.creation(view, &key, Kind::Hash)?;
                Op::HashRemove {
                    key,
                    fields: filled(fields)?,
                }
            }
            Write::Delete { keys } => Op::Delete {
                keys: filled(keys)?,
            },
            Write::Report { clock } => self.report(clock)?,
            Write::Increment { key, delta, number } => self.increment(view, key, delta, number)?,
            Write::HashIncrement {
                key,
                field,
                delta,
                number,
            } => {
                let generation = self.creation(view, &key, Kind::Hash)?;
                check_sum(
                    view.hash_get(&key, &field)?,
                    delta,
                    number,
                    number.hash_refusal(),
                )?;
                Op::HashIncrement {
                    key,
                    field,
                    delta,
                    generation,
                }
            }
        })
    }

    fn increment(
        &self,
        view: &mut dyn View,
        key: Vec<u8>,
        delta: Decimal,
        number: Number,
    ) -> Result<Op, WriteError> {
        let generation = self.creation(view, &key, Kind::String)?;
        check_sum(view.string(&key)?, delta, number, number.refusal())?;
        Ok(Op::Increment {
            key,
            delta,
            generation,
        })
    }

    fn report(&self, report: Clock) -> Result<Op, WriteError> {
        if self.clock.includes(&report) {
            return Ok(Op::Report { clock: report });
        }
        Err(WriteError::ReportAhead {
            report,
            clock: self.clock.clone(),
        })
    }

    /// Generation for a write that needs the key to be absent or of `kind`.
    fn creation(
        &self,
        view: &mut dyn View,
        key: &[u8],
        kind: Kind,
    ) -> Result<Generation, WriteError> {
        match view.kind(key)? {
            None => Ok(Generation::Own),
            Some(found) if found == kind => Ok(self.generation(key, kind)),
            Some(_) => Err(WriteError::WrongKind),
        }
    }

    /// Generation for a write to a key that exists as `kind`.
    fn generation(&self, key: &[u8], kind: Kind) -> Generation {
        let known = self
            .entries
            .get(key)
            .and_then(|entry| entry.generations.of(kind));
        known.map_or(Generation::Stable, Generation::Named)
    }
}

fn filled<T>(items: Vec<T>) -> Result<Vec<T>, WriteError> {
    if items.is_empty() {
        Err(WriteError::Empty)
    } else {
        Ok(items)
    }
}

/// Refuses an increment that the value's text or size does not allow.
fn check_sum(
    value: Option<Vec<u8>>,
    delta: Decimal,
    number: Number,
    unsuitable: WriteError,
) -> Result<(), WriteError> {
    let read = match number {
        Number::Integer => Decimal::parse_integer,
        Number::Float => Decimal::parse,
    };
    let current = value
        .map_or(Some(Decimal::ZERO), |value| read(&value))
        .ok_or(unsuitable)?;
    if delta.is_within_limit() && current.plus(delta).is_within_limit() {
        return Ok(());
    }
    Err(match number {
        Number::Integer => WriteError::Overflow,
        Number::Float => WriteError::FloatOverflow,
    })
}
