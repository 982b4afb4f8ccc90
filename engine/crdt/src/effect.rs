//! One write as every region applies it, and its bytes.

use crate::clock::Clock;
use crate::codec::{DecodeError, Reader, Writer};
use crate::decimal::Decimal;
use crate::hlc::{Hlc, Stamp};
use crate::id::{Dot, Origin};

/// First byte of an encoded effect.
const VERSION: u8 = 1;

/// What one write did, named so that it can be applied in any region, in any order between origins, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Which effect.
    pub dot: Dot,
    /// When, in the writer's hybrid time.
    pub hlc: Hlc,
    /// What the writer had received and written before: a removal removes exactly this.
    pub context: Clock,
    /// Effects of one origin with the same number are one transaction, applied and shipped in one go.
    pub group: Option<u64>,
    /// What to do.
    pub op: Op,
}

/// Which creation of a key a write belongs to. Writers of different kinds at one key are told apart by it: an item is
/// dead once another kind has a generation with a greater stamp than the item's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Older than everything whose order is still open: the writer holds the key without any generation on record.
    Stable,
    /// This write creates the key as this kind.
    Own,
    /// The key was created by the named write.
    Named(Stamp),
}

/// The operation of an effect. Lists are never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Replaces a key of any kind by a string.
    SetString {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
        /// Creation this value belongs to.
        generation: Generation,
    },
    /// Adds to the number in a string key.
    Increment {
        /// The key.
        key: Vec<u8>,
        /// What to add.
        delta: Decimal,
        /// Creation this increment belongs to.
        generation: Generation,
    },
    /// Adds elements to a set.
    SetAdd {
        /// The key.
        key: Vec<u8>,
        /// What to add.
        elements: Vec<Vec<u8>>,
        /// Creation these elements belong to.
        generation: Generation,
    },
    /// Removes elements from a set, as far as the writer saw them.
    SetRemove {
        /// The key.
        key: Vec<u8>,
        /// What to remove.
        elements: Vec<Vec<u8>>,
    },
    /// Replaces fields of a hash.
    HashSet {
        /// The key.
        key: Vec<u8>,
        /// Fields with their new values.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
        /// Creation these fields belong to.
        generation: Generation,
    },
    /// Removes fields from a hash, as far as the writer saw them.
    HashRemove {
        /// The key.
        key: Vec<u8>,
        /// What to remove.
        fields: Vec<Vec<u8>>,
    },
    /// Adds to the number in a field of a hash.
    HashIncrement {
        /// The key.
        key: Vec<u8>,
        /// The field.
        field: Vec<u8>,
        /// What to add.
        delta: Decimal,
        /// Creation this increment belongs to.
        generation: Generation,
    },
    /// Removes whole keys of any kind, as far as the writer saw them.
    Delete {
        /// The keys.
        keys: Vec<Vec<u8>>,
    },
    /// The writer has received this much and cannot lose it. Travels in the writer's stream because anything that the
    /// writer made before it must arrive before it.
    Report {
        /// The writer's durable clock.
        clock: Clock,
    },
}

impl Effect {
    /// The place of this write in the order of writes.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            hlc: self.hlc,
            dot: self.dot,
        }
    }

    /// The versioned binary form. The writer's own part of the context is always `dot.seq - 1` and is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::versioned(VERSION);
        self.dot.write(&mut out);
        out.fixed(self.hlc.0);
        self.context.write_without(self.dot.origin, &mut out);
        out.varint(self.group.map_or(0, |group| group.saturating_add(1)));
        self.op.write(&mut out);
        out.into_bytes()
    }

    /// Reads the form that [`encode`](Self::encode) makes.
    ///
    /// # Errors
    /// Another version, a cut or malformed input, bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::versioned("effect", bytes, VERSION)?;
        let dot = Dot::read(&mut input)?;
        let hlc = Hlc(input.fixed()?);
        let mut context = Clock::read(&mut input)?;
        if context.get(dot.origin) != 0 {
            return Err(input.invalid("context (must not name the writer)", dot.seq));
        }
        context.raise(dot.origin, dot.seq - 1);
        let group = input.varint()?.checked_sub(1);
        let op = Op::read(&mut input)?;
        input.finish()?;
        Ok(Self {
            dot,
            hlc,
            context,
            group,
            op,
        })
    }
}

impl Dot {
    pub(crate) fn write(self, out: &mut Writer) {
        self.origin.write(out);
        out.varint(self.seq);
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let origin = Origin::read(input)?;
        match input.varint()? {
            0 => Err(input.invalid("sequence number (from 1)", 0)),
            seq => Ok(Self { origin, seq }),
        }
    }
}

impl Stamp {
    pub(crate) fn write(self, out: &mut Writer) {
        out.fixed(self.hlc.0);
        self.dot.write(out);
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            hlc: Hlc(input.fixed()?),
            dot: Dot::read(input)?,
        })
    }
}

impl Generation {
    fn write(self, out: &mut Writer) {
        match self {
            Self::Stable => out.byte(0),
            Self::Own => out.byte(1),
            Self::Named(stamp) => {
                out.byte(2);
                stamp.write(out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            0 => Ok(Self::Stable),
            1 => Ok(Self::Own),
            2 => Ok(Self::Named(Stamp::read(input)?)),
            found => Err(input.invalid("generation (0 to 2)", u64::from(found))),
        }
    }
}

impl Op {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::SetString {
                key,
                value,
                generation,
            } => {
                header(out, 1, key);
                generation.write(out);
                out.bytes(value);
            }
            Self::Increment {
                key,
                delta,
                generation,
            } => {
                header(out, 2, key);
                generation.write(out);
                delta.write(out);
            }
            Self::SetAdd {
                key,
                elements,
                generation,
            } => {
                header(out, 3, key);
                generation.write(out);
                list(out, elements);
            }
            Self::SetRemove { key, elements } => {
                header(out, 4, key);
                list(out, elements);
            }
            Self::HashSet {
                key,
                fields,
                generation,
            } => {
                header(out, 5, key);
                generation.write(out);
                out.count(fields.len());
                for (field, value) in fields {
                    out.bytes(field);
                    out.bytes(value);
                }
            }
            Self::HashRemove { key, fields } => {
                header(out, 6, key);
                list(out, fields);
            }
            Self::HashIncrement {
                key,
                field,
                delta,
                generation,
            } => {
                header(out, 7, key);
                generation.write(out);
                out.bytes(field);
                delta.write(out);
            }
            Self::Delete { keys } => {
                out.byte(8);
                list(out, keys);
            }
            Self::Report { clock } => {
                out.byte(9);
                clock.write(out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = input.byte()?;
        match tag {
            8 => {
                return Ok(Self::Delete {
                    keys: read_list(input)?,
                });
            }
            9 => {
                return Ok(Self::Report {
                    clock: Clock::read(input)?,
                });
            }
            _ => {}
        }
        let key = input.vec()?;
        Ok(match tag {
            1 => Self::SetString {
                key,
                generation: Generation::read(input)?,
                value: input.vec()?,
            },
            2 => Self::Increment {
                key,
                generation: Generation::read(input)?,
                delta: Decimal::read(input)?,
            },
            3 => Self::SetAdd {
                key,
                generation: Generation::read(input)?,
                elements: read_list(input)?,
            },
            4 => Self::SetRemove {
                key,
                elements: read_list(input)?,
            },
            5 => {
                let generation = Generation::read(input)?;
                let fields = read_items(input, |input| Ok((input.vec()?, input.vec()?)))?;
                Self::HashSet {
                    key,
                    fields,
                    generation,
                }
            }
            6 => Self::HashRemove {
                key,
                fields: read_list(input)?,
            },
            7 => {
                let generation = Generation::read(input)?;
                Self::HashIncrement {
                    key,
                    generation,
                    field: input.vec()?,
                    delta: Decimal::read(input)?,
                }
            }
            found => return Err(input.invalid("operation (1 to 9)", u64::from(found))),
        })
    }
}

fn header(out: &mut Writer, tag: u8, key: &[u8]) {
    out.byte(tag);
    out.bytes(key);
}

fn list(out: &mut Writer, items: &[Vec<u8>]) {
    out.count(items.len());
    for item in items {
        out.bytes(item);
    }
}

fn read_list(input: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, DecodeError> {
    read_items(input, Reader::vec)
}

/// Reads a list that must not be empty. Grows as items are found: a false count reserves nothing.
fn read_items<'a, T>(
    input: &mut Reader<'a>,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    for _ in 0..input.count()? {
        items.push(item(input)?);
    }
    if items.is_empty() {
        Err(input.invalid("list length (at least 1)", 0))
    } else {
        Ok(items)
    }
}
