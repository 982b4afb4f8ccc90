//! The bytes of one key's metadata inside a snapshot.

use super::cell::{Cell, Increment, Sibling};
use super::generations::Birth;
use super::pending::Scopes;
use super::{Add, Adds, Entry, Items};
use crate::clock::Clock;
use crate::codec::{DecodeError, Reader, Writer};
use crate::decimal::Decimal;
use crate::hlc::Stamp;
use crate::id::{Dot, Origin};
use crate::view::Kind;
use std::collections::BTreeMap;

impl Entry {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.count(self.generations.iter().len());
        for (kind, stamp) in self.generations.iter() {
            out.byte(tag_of(kind));
            stamp.write(out);
        }
        out.byte(u8::from(!self.pending.is_empty()));
        if let Some(scopes) = self.pending.scopes() {
            scopes.key.write(out);
            write_map(out, &scopes.elements, Clock::write);
            write_map(out, &scopes.fields, Clock::write);
            out.count(scopes.outlived.len());
            for (kind, clock) in &scopes.outlived {
                out.byte(tag_of(*kind));
                clock.write(out);
            }
        }
        match &self.items {
            Items::None => out.byte(0),
            Items::String(cell) => {
                out.byte(tag_of(Kind::String));
                cell.write(out);
            }
            Items::Set(set) => {
                out.byte(tag_of(Kind::Set));
                write_map(out, set, write_adds);
            }
            Items::Hash(hash) => {
                out.byte(tag_of(Kind::Hash));
                write_map(out, hash, Cell::write);
            }
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut entry = Self::default();
        for _ in 0..input.count()? {
            let kind = read_kind(input)?;
            entry.generations.raise(kind, Stamp::read(input)?);
        }
        if read_flag(input)? {
            let key = Clock::read(input)?;
            let elements = read_map(input, Clock::read)?;
            let fields = read_map(input, Clock::read)?;
            let mut outlived = BTreeMap::new();
            for _ in 0..input.count()? {
                outlived.insert(read_kind(input)?, Clock::read(input)?);
            }
            entry.pending = Scopes {
                key,
                elements,
                fields,
                outlived,
            }
            .into();
        }
        entry.items = match input.byte()? {
            0 => Items::None,
            1 => Items::String(Cell::read(input)?),
            2 => Items::Set(read_map(input, read_adds)?),
            3 => Items::Hash(read_map(input, Cell::read)?),
            found => return Err(input.invalid("kind of items (0 to 3)", u64::from(found))),
        };
        Ok(entry)
    }
}

impl Cell {
    fn write(&self, out: &mut Writer) {
        write_option(out, self.base.as_ref(), |base, out| out.bytes(base));
        out.count(self.siblings.len());
        for Sibling {
            stamp,
            birth,
            value,
        } in &self.siblings
        {
            stamp.write(out);
            birth.write(out);
            write_option(out, value.as_ref(), |value, out| out.bytes(value));
        }
        out.count(self.increments.len());
        for (dot, Increment { delta, birth }) in &self.increments {
            dot.write(out);
            delta.write(out);
            birth.write(out);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut cell = Self {
            base: read_option(input, Reader::vec)?,
            ..Self::default()
        };
        for _ in 0..input.count()? {
            let stamp = Stamp::read(input)?;
            let birth = Birth::read(input)?;
            cell.siblings.push(Sibling {
                stamp,
                birth,
                value: read_option(input, Reader::vec)?,
            });
        }
        for _ in 0..input.count()? {
            let (dot, delta) = (Dot::read(input)?, Decimal::read(input)?);
            cell.increment(dot, Birth::read(input)?, delta);
        }
        Ok(cell)
    }
}

impl Birth {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::At(stamp) => {
                out.byte(1);
                stamp.write(out);
            }
            Self::Stable(seen) => {
                out.byte(0);
                seen.write(out);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if read_flag(input)? {
            Ok(Self::At(Stamp::read(input)?))
        } else {
            Ok(Self::Stable(Clock::read(input)?))
        }
    }
}

fn write_adds(adds: &Adds, out: &mut Writer) {
    out.count(adds.len());
    for (origin, Add { seq, birth }) in adds {
        Dot {
            origin: *origin,
            seq: *seq,
        }
        .write(out);
        birth.write(out);
    }
}

fn read_adds(input: &mut Reader<'_>) -> Result<Adds, DecodeError> {
    let mut adds = BTreeMap::<Origin, Add>::new();
    for _ in 0..input.count()? {
        let dot = Dot::read(input)?;
        adds.insert(
            dot.origin,
            Add {
                seq: dot.seq,
                birth: Birth::read(input)?,
            },
        );
    }
    Ok(adds)
}

fn write_map<T>(out: &mut Writer, map: &BTreeMap<Vec<u8>, T>, write: impl Fn(&T, &mut Writer)) {
    out.count(map.len());
    for (key, value) in map {
        out.bytes(key);
        write(value, out);
    }
}

fn read_map<T>(
    input: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<BTreeMap<Vec<u8>, T>, DecodeError> {
    let mut map = BTreeMap::new();
    for _ in 0..input.count()? {
        map.insert(input.vec()?, read(input)?);
    }
    Ok(map)
}

fn write_option<T>(out: &mut Writer, value: Option<&T>, write: impl Fn(&T, &mut Writer)) {
    out.byte(u8::from(value.is_some()));
    if let Some(value) = value {
        write(value, out);
    }
}

fn read_option<'a, T>(
    input: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    Ok(if read_flag(input)? {
        Some(read(input)?)
    } else {
        None
    })
}

fn read_flag(input: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match input.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(input.invalid("mark (0 or 1)", u64::from(found))),
    }
}

fn tag_of(kind: Kind) -> u8 {
    match kind {
        Kind::String => 1,
        Kind::Set => 2,
        Kind::Hash => 3,
    }
}

fn read_kind(input: &mut Reader<'_>) -> Result<Kind, DecodeError> {
    match input.byte()? {
        1 => Ok(Kind::String),
        2 => Ok(Kind::Set),
        3 => Ok(Kind::Hash),
        found => Err(input.invalid("kind (1 to 3)", u64::from(found))),
    }
}
