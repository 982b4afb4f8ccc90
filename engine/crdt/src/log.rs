//! Effects kept for peers: the own stream, and the streams of others so that they can get back a tail they lost.

use crate::clock::Clock;
use crate::id::Origin;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What one kept effect costs beside its bytes.
const OVERHEAD: usize = 64;

/// The end of each origin's stream, within a bound of bytes over all.
#[derive(Debug, Default)]
pub(crate) struct Log {
    streams: BTreeMap<Origin, Stream>,
    bytes: usize,
    effects: usize,
}

#[derive(Debug, Default)]
struct Stream {
    /// Sequence number of the front.
    first: u64,
    frames: VecDeque<Frame>,
    bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) group: Option<u64>,
    pub(crate) bytes: Arc<[u8]>,
}

impl Frame {
    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

impl Log {
    /// Appends the next effect of an origin; a hole makes the stream start anew behind it.
    pub(crate) fn push(&mut self, origin: Origin, seq: u64, frame: Frame) {
        let stream = self.streams.entry(origin).or_default();
        let next = stream.first.saturating_add(stream.frames.len() as u64);
        if stream.frames.is_empty() || next != seq {
            self.bytes -= stream.bytes;
            self.effects -= stream.frames.len();
            *stream = Stream {
                first: seq,
                ..Stream::default()
            };
        }
        stream.bytes += frame.cost();
        self.bytes += frame.cost();
        self.effects += 1;
        stream.frames.push_back(frame);
    }

    /// Drops oldest effects until `bound` holds: first what every member has (`stable`), then from the longest stream.
    pub(crate) fn trim(&mut self, bound: usize, stable: &Clock) {
        while self.bytes > bound {
            let known = |(origin, s): &(&Origin, &Stream)| {
                !s.frames.is_empty() && s.first <= stable.get(**origin)
            };
            let victim = self
                .streams
                .iter()
                .find(known)
                .or_else(|| self.streams.iter().max_by_key(|(_, s)| s.bytes));
            let Some(origin) = victim.map(|(origin, _)| *origin) else {
                return;
            };
            self.pop(origin);
        }
    }

    fn pop(&mut self, origin: Origin) {
        let Some(stream) = self.streams.get_mut(&origin) else {
            return;
        };
        if let Some(frame) = stream.frames.pop_front() {
            stream.first += 1;
            stream.bytes -= frame.cost();
            self.bytes -= frame.cost();
            self.effects -= 1;
        }
    }

    /// The kept effects of `origin` from number `from` on, or the first number that is kept if that is later.
    pub(crate) fn from(
        &self,
        origin: Origin,
        from: u64,
    ) -> Result<impl Iterator<Item = &Frame>, u64> {
        let empty = const { &VecDeque::new() };
        let (first, frames) = self
            .streams
            .get(&origin)
            .map_or((u64::MAX, empty), |s| (s.first, &s.frames));
        if from < first {
            return Err(first);
        }
        Ok(frames
            .iter()
            .skip(usize::try_from(from - first).unwrap_or(usize::MAX)))
    }

    /// The kept effects of each origin, oldest first.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &VecDeque<Frame>> {
        self.streams.values().map(|stream| &stream.frames)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn effects(&self) -> usize {
        self.effects
    }
}
