//! How far the copies of a primary are, from looks at it a few times a second. Pure.
//!
//! A replica says once a second how far it is, so the difference to what has been written by now is as large as the writes of that
//! second, however close it follows. It is compared with what had been written when it spoke at the latest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Millis;
use crate::valkey::Replicated;

/// A replica that follows has spoken within this, milliseconds: a second, and a look.
const SPOKEN_MS: Millis = 1_300;

/// Looks that are remembered.
const LOOKS: usize = 16;

/// What is remembered of one primary.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// When the stream was how far, oldest first.
    written: VecDeque<(Millis, u64)>,
    stream: String,
    /// From where on each member must have everything to count; `None`: known with the next look.
    from: BTreeMap<String, Option<u64>>,
}

impl Progress {
    /// Takes in a look at the shard.
    pub fn saw(&mut self, now: Millis, replicated: &Replicated) {
        if self.stream != replicated.stream {
            self.written.clear();
            self.stream.clone_from(&replicated.stream);
        }
        self.written.push_back((now, replicated.offset));
        while self.written.len() > LOOKS {
            self.written.pop_front();
        }
        for from in self.from.values_mut() {
            from.get_or_insert(replicated.offset);
        }
    }

    /// Which of `members` have everything that was written before they became members, or came back. Until then a promise to
    /// others, such as a clock that was told, may rest on writes that they do not have.
    #[must_use]
    pub fn count(
        &mut self,
        members: &BTreeSet<String>,
        replicated: Option<&Replicated>,
    ) -> BTreeSet<String> {
        self.from.retain(|member, _| members.contains(member));
        let mut counted = BTreeSet::new();
        for member in members {
            let from = self.from.entry(member.clone()).or_default();
            let copy = replicated.and_then(|replicated| replicated.copies.get(member));
            match copy.filter(|copy| copy.online) {
                Some(copy) if from.is_some_and(|from| copy.offset >= from) => {
                    counted.insert(member.clone());
                }
                Some(_) => {}
                // It may come back with less than it had.
                None => *from = None,
            }
        }
        counted
    }

    /// How far behind each copy is, bytes.
    #[must_use]
    pub fn behind(&self, now: Millis, replicated: Option<&Replicated>) -> BTreeMap<String, u64> {
        let old = |(at, _): &&(Millis, u64)| now.saturating_sub(*at) >= SPOKEN_MS;
        // Before there are looks enough, everything counts.
        let written = self
            .written
            .iter()
            .rev()
            .find(old)
            .map(|(_, offset)| *offset);
        let copies = replicated.into_iter().flat_map(|replicated| {
            let written = written.unwrap_or(replicated.offset);
            let all = replicated.copies.iter();
            all.map(move |(name, copy)| (name.clone(), written.saturating_sub(copy.offset)))
        });
        copies.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Position;
    use crate::valkey::Copy;

    fn look(offset: u64, copy: u64) -> Replicated {
        Replicated {
            position: Position::Leads,
            port: 0,
            stream: "s".to_owned(),
            offset,
            copies: [(
                "b".to_owned(),
                Copy {
                    online: true,
                    offset: copy,
                },
            )]
            .into(),
        }
    }

    #[test]
    fn a_copy_is_behind_what_was_written_when_it_spoke() {
        let mut progress = Progress::default();
        for second in 0..5 {
            progress.saw(second * 1_000, &look(second * 100, 0));
        }
        let behind = |copy| progress.behind(4_000, Some(&look(400, copy)))["b"];
        assert_eq!((behind(200), behind(150), behind(400)), (0, 50, 0));
    }

    #[test]
    fn a_member_counts_once_it_has_what_was_written_before_it_became_one() {
        let (b, none) = (BTreeSet::from(["b".to_owned()]), BTreeSet::new());
        let mut progress = Progress::default();
        progress.saw(0, &look(100, 90));
        // The look may be older than what was promised just before.
        assert_eq!(progress.count(&b, Some(&look(100, 100))), none);
        progress.saw(200, &look(120, 100));
        assert_eq!(progress.count(&b, Some(&look(120, 119))), none);
        assert_eq!(progress.count(&b, Some(&look(130, 120))), b);
        // It is one, however far the primary has come since.
        assert_eq!(progress.count(&b, Some(&look(500, 130))), b);
        // One that was away counts anew.
        assert_eq!(progress.count(&b, None), none);
        progress.saw(400, &look(500, 130));
        assert_eq!(progress.count(&b, Some(&look(500, 499))), none);
        assert_eq!(progress.count(&b, Some(&look(510, 500))), b);
        assert_eq!(progress.count(&none, Some(&look(500, 130))), none);
        assert_eq!(progress.count(&b, Some(&look(500, 500))), none);
    }
}
