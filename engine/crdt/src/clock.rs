//! What has been received: a contiguous prefix of every origin's stream.

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{Dot, Incarnation, InstanceId, Origin};
use std::collections::BTreeMap;
use std::fmt;

/// First byte of an encoded clock.
const VERSION: u8 = 1;

/// For each origin the number of effects received, without holes. An origin that is absent counts as 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock(BTreeMap<Origin, u64>);

impl Clock {
    /// Nothing received.
    pub fn new() -> Self {
        Self::default()
    }

    /// Highest sequence number received from `origin`, 0 for none.
    pub fn get(&self, origin: Origin) -> u64 {
        self.0.get(&origin).copied().unwrap_or(0)
    }

    /// Whether the effect has been received.
    pub fn covers(&self, dot: Dot) -> bool {
        dot.seq <= self.get(dot.origin)
    }

    /// Whether everything in `other` has been received here too.
    pub fn includes(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(origin, seq)| self.get(*origin) >= *seq)
    }

    /// Raises one origin to `seq`; a lower number changes nothing.
    pub fn raise(&mut self, origin: Origin, seq: u64) {
        if seq > 0 {
            let entry = self.0.entry(origin).or_insert(0);
            *entry = (*entry).max(seq);
        }
    }

    /// Pointwise maximum.
    pub fn merge(&mut self, other: &Self) {
        for (origin, seq) in &other.0 {
            self.raise(*origin, *seq);
        }
    }

    /// Pointwise minimum.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let lower = |(origin, seq): (&Origin, &u64)| (*origin, (*seq).min(other.get(*origin)));
        Self(
            self.0
                .iter()
                .map(lower)
                .filter(|(_, seq)| *seq > 0)
                .collect(),
        )
    }

    /// The part of this clock that `other` lacks.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(o, seq)| **seq > other.get(**o))
                .map(|(o, seq)| (*o, *seq))
                .collect(),
        )
    }

    /// Origins and their sequence numbers, in the order of origins.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, u64)> + '_ {
        self.0.iter().map(|(origin, seq)| (*origin, *seq))
    }

    /// Whether nothing was received.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of origins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The versioned binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::versioned(VERSION);
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads the form that [`encode`](Self::encode) makes.
    ///
    /// # Errors
    /// Another version, a cut or malformed input, bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::versioned("clock", bytes, VERSION)?;
        let clock = Self::read(&mut input)?;
        input.finish()?;
        Ok(clock)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.count(self.0.len());
        for (origin, seq) in &self.0 {
            origin.write(out);
            out.varint(*seq);
        }
    }

    /// As [`write`](Self::write), leaving out one origin.
    pub(crate) fn write_without(&self, origin: Origin, out: &mut Writer) {
        let left_out = usize::from(self.0.contains_key(&origin));
        out.count(self.0.len() - left_out);
        for (other, seq) in self.0.iter().filter(|(other, _)| **other != origin) {
            other.write(out);
            out.varint(*seq);
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut clock = BTreeMap::new();
        for _ in 0..input.count()? {
            let origin = Origin::read(input)?;
            let seq = input.varint()?;
            let ascending = clock
                .last_key_value()
                .is_none_or(|(last, _)| *last < origin);
            if seq == 0 || !ascending {
                return Err(input.invalid("clock entry (ascending origins, sequence from 1)", seq));
            }
            clock.insert(origin, seq);
        }
        Ok(Self(clock))
    }
}

impl Origin {
    pub(crate) fn write(self, out: &mut Writer) {
        out.varint(u64::from(self.instance.0));
        out.fixed(self.incarnation.0);
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let instance = InstanceId(input.varint_u32("instance id")?);
        Ok(Self {
            instance,
            incarnation: Incarnation(input.fixed()?),
        })
    }
}

impl FromIterator<(Origin, u64)> for Clock {
    fn from_iter<I: IntoIterator<Item = (Origin, u64)>>(iter: I) -> Self {
        let mut clock = Self::new();
        for (origin, seq) in iter {
            clock.raise(origin, seq);
        }
        clock
    }
}

/// JSON for people: `{"1/00000000000000ab":42}` with `instance/incarnation` as keys.
impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (origin, seq)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}\"{origin}\":{seq}")?;
        }
        f.write_str("}")
    }
}
