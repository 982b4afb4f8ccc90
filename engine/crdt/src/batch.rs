//! Effects on their way from one region to another.

use crate::codec::{DecodeError, Reader, Writer};
use std::sync::Arc;

/// First byte of an encoded batch.
const VERSION: u8 = 1;

/// Encoded effects in the order of their origins' streams. Never ends inside a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Effects in the form of [`Effect::encode`](crate::Effect::encode).
    pub effects: Vec<Arc<[u8]>>,
    /// Whether the source has more for this requester already.
    pub more: bool,
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// The versioned binary form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::versioned(VERSION);
        out.byte(u8::from(self.more));
        out.count(self.effects.len());
        for effect in &self.effects {
            out.bytes(effect);
        }
        out.into_bytes()
    }

    /// Reads the form that [`encode`](Self::encode) makes; the effects inside are read when they are applied.
    ///
    /// # Errors
    /// Another version, a cut or malformed input, bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::versioned("batch", bytes, VERSION)?;
        let more = match input.byte()? {
            0 => false,
            1 => true,
            found => return Err(input.invalid("mark for more (0 or 1)", u64::from(found))),
        };
        let mut effects = Vec::new();
        for _ in 0..input.count()? {
            effects.push(Arc::from(input.bytes()?));
        }
        input.finish()?;
        Ok(Self { effects, more })
    }
}
