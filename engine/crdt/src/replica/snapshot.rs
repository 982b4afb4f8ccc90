//! The whole metadata as bytes, to be kept beside the values in an RDB file.

use super::Replica;
use crate::clock::Clock;
use crate::codec::{DecodeError, Reader, Writer};
use crate::config::{Config, ConfigError, Limits};
use crate::effect::Effect;
use crate::entry::Entry;
use crate::hlc::Hlc;
use crate::id::InstanceId;
use crate::log::Frame;
use crate::stability::Stability;
use std::collections::BTreeSet;
use std::sync::Arc;

/// First byte of a snapshot.
const VERSION: u8 = 1;

/// Why a snapshot was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The bytes are not a snapshot of this release.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The configuration in the snapshot contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Replica {
    /// Everything that must be kept together with the values: configuration, clock, reports, metadata, effects for peers.
    /// The incarnation is left out on purpose.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer::versioned(VERSION);
        self.config.write(&mut out);
        self.clock.write(&mut out);
        out.fixed(self.hlc.0);
        self.stability.write(&mut out);
        out.count(self.entries.len());
        for (key, entry) in &self.entries {
            out.bytes(key);
            entry.write(&mut out);
        }
        out.count(self.log.effects());
        for frame in self.log.streams().flatten() {
            out.bytes(&frame.bytes);
        }
        out.into_bytes()
    }

    /// The state that [`snapshot`](Self::snapshot) kept, without an incarnation: the next write needs a new one.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn restore(bytes: &[u8], limits: Limits) -> Result<Self, RestoreError> {
        let mut input = Reader::versioned("snapshot", bytes, VERSION)?;
        let mut replica = Self::new(Config::read(&mut input)?, limits)?;
        replica.clock = Clock::read(&mut input)?;
        replica.hlc = Hlc(input.fixed()?);
        replica.stability = Stability::read(&mut input)?;
        for _ in 0..input.count()? {
            let key = input.vec()?;
            let entry = Entry::read(&mut input)?;
            replica.waiting += entry.waiting();
            replica.entries.insert(key, entry);
        }
        for _ in 0..input.count()? {
            let bytes: Arc<[u8]> = Arc::from(input.bytes()?);
            let Effect { dot, group, .. } = Effect::decode(&bytes)?;
            replica
                .log
                .push(dot.origin, dot.seq, Frame { group, bytes });
        }
        input.finish()?;
        replica.log.trim(limits.log_bytes, replica.stability.cut());
        Ok(replica)
    }
}

impl Config {
    fn write(&self, out: &mut Writer) {
        out.varint(u64::from(self.instance.0));
        out.varint(self.version);
        for ids in [&self.members, &self.ghosts] {
            out.count(ids.len());
            for id in ids {
                out.varint(u64::from(id.0));
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let instance = InstanceId(input.varint_u32("instance id")?);
        let version = input.varint()?;
        Ok(Self {
            instance,
            version,
            members: read_ids(input)?,
            ghosts: read_ids(input)?,
        })
    }
}

fn read_ids(input: &mut Reader<'_>) -> Result<BTreeSet<InstanceId>, DecodeError> {
    (0..input.count()?)
        .map(|_| input.varint_u32("instance id").map(InstanceId))
        .collect()
}
