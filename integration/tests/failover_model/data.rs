//! What copies hold, and what must never be handed on: less than another copy still has.

use std::collections::BTreeSet;

/// Bytes of one write in the stream: eleven of them are more than a failover may lose.
pub(super) const WRITE_BYTES: i64 = 100 << 10;

/// Writes that files may have beyond what their node recorded, together with what a failover may lose.
const TAIL: u32 = 30;

/// A content: everything up to one write. Contents that share their beginning are branches of one tree.
pub(super) type Content = u32;

/// Every write that was ever made: which content it was added to, and how many there were with it.
pub(super) struct History(Vec<(Content, u32)>);

/// How a database is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    Nothing,
    /// Every write, sooner or later, and its node knows how far.
    Log,
    /// Now and then everything, and nobody knows since when.
    Snapshots,
}

impl Default for History {
    fn default() -> Self {
        Self(vec![(0, 0)])
    }
}

impl History {
    pub(super) fn write(&mut self, to: Content) -> Content {
        let count = self.count(to) + 1;
        self.0.push((to, count));
        u32::try_from(self.0.len() - 1).unwrap()
    }

    pub(super) fn count(&self, content: Content) -> u32 {
        self.0[content as usize].1
    }

    pub(super) fn offset(&self, content: Content) -> i64 {
        i64::from(self.count(content)) * WRITE_BYTES
    }

    /// What both have.
    pub(super) fn common(&self, mut one: Content, mut other: Content) -> Content {
        while one != other {
            if self.count(one) >= self.count(other) {
                one = self.0[one as usize].0;
            } else {
                other = self.0[other as usize].0;
            }
        }
        one
    }
}

/// What every member of the in-sync set had when it was last looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    pub(super) content: Content,
    pub(super) holders: BTreeSet<String>,
    /// A person accepted that something is lost, in this epoch or a later one.
    pub(super) forgiven: Option<u64>,
    /// The epoch in which a primary went on with what its files had.
    pub(super) from_files: Option<u64>,
}

impl Settled {
    /// `pod` begins to take writes in `epoch` with `content`; `others` have these.
    pub(super) fn lead(
        &mut self,
        history: &History,
        pod: &str,
        epoch: u64,
        content: Content,
        others: &[(String, Content)],
    ) -> Result<(), String> {
        let of = |content| history.count(history.common(self.content, content));
        let slack = if self.from_files == Some(epoch) {
            TAIL
        } else {
            0
        };
        let forgiven = self.forgiven.is_some_and(|from| epoch >= from);
        for (other, has) in others {
            if self.holders.contains(other) && of(*has) > of(content) + slack && !forgiven {
                return Err(format!(
                    "`{pod}` leads in epoch {epoch} with {} of {} settled writes, and `{other}` still has {}",
                    of(content),
                    history.count(self.content),
                    of(*has)
                ));
            }
        }
        if forgiven {
            self.forgiven = None;
        }
        self.content = content;
        self.holders = BTreeSet::from([pod.to_owned()]);
        Ok(())
    }
}
