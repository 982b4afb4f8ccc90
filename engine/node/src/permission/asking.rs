//! Who was asked when, and what the answers are worth.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Answer, Ask, Duty, LATE_MS, LEASE_MS, Millis, ROUND_MS, Until};

/// The questions of one term.
#[derive(Clone, Debug, Default)]
pub(super) struct Asking {
    /// The number of the next question; never used twice, so that an answer to an earlier term is nobody's.
    next: u64,
    /// When each question that may still be answered was asked.
    started: BTreeMap<u64, Millis>,
    /// When the first question of this term was asked.
    began: Option<Millis>,
    next_round: Millis,
    next_read: Millis,
    /// The start of the newest request that each member granted.
    granted: BTreeMap<String, Millis>,
    /// Members whose last answer was not a grant.
    unwilling: BTreeSet<String>,
    /// The start of the newest read that showed nobody being promoted.
    read: Option<Millis>,
}

impl Asking {
    /// For another term: nothing that was said counts.
    pub(super) fn anew(&self) -> Self {
        Self {
            next: self.next,
            ..Self::default()
        }
    }

    /// When the question `round` was asked, if its answer still counts.
    pub(super) fn started(&self, round: u64) -> Option<Millis> {
        self.started.get(&round).copied()
    }

    /// Takes in a member's answer; `false` if it answers no question of this term.
    pub(super) fn answered(&mut self, round: u64, member: String, answer: Answer) -> bool {
        let Some(started) = self.started(round) else {
            return false;
        };
        match answer {
            Answer::Granted => {
                self.unwilling.remove(&member);
                let newest = self.granted.entry(member).or_insert(started);
                *newest = started.max(*newest);
            }
            Answer::Refused { .. } | Answer::Failed => {
                if self.granted.get(&member).is_none_or(|t| *t < started) {
                    self.unwilling.insert(member);
                }
            }
        }
        true
    }

    /// A read that was started then showed nobody being promoted.
    pub(super) fn read(&mut self, started: Millis) {
        self.read = self.read.max(Some(started));
    }

    /// How long the answers so far are good for; `None`: there are not enough.
    pub(super) fn until(&self, members: &BTreeSet<String>) -> Option<Until> {
        if members.is_empty() {
            return Some(Until::Forever);
        }
        // A permission is as old as the oldest grant in it.
        let granted = members
            .iter()
            .map(|member| self.granted.get(member).copied())
            .min()
            .flatten();
        let started = granted.max(self.read)?;
        Some(Until::At(started + LEASE_MS))
    }

    /// The questions that are due at `now`; `read_anyway`: also if nobody is late.
    pub(super) fn due(&mut self, now: Millis, duty: &Duty, read_anyway: bool) -> Vec<Action> {
        self.started
            .retain(|_, started| now.saturating_sub(*started) < LEASE_MS);
        self.began.get_or_insert(now);
        let members = duty.members();
        let mut actions = Vec::new();
        if !read_anyway && now >= self.next_round {
            self.next_round = now + ROUND_MS;
            let round = self.ask(now);
            actions.extend(members.iter().map(|member| {
                Action::Ask(Ask::Grant {
                    round,
                    member: member.clone(),
                    uid: duty.uid.clone(),
                    epoch: duty.epoch,
                })
            }));
        }
        if (read_anyway || now >= self.late_at(now, &members)) && now >= self.next_read {
            self.next_read = now + ROUND_MS;
            let round = self.ask(now);
            actions.push(Action::Ask(Ask::Read { round }));
        }
        actions
    }

    /// When [`Self::due`] has something next.
    pub(super) fn wake(
        &self,
        now: Millis,
        members: &BTreeSet<String>,
        read_anyway: bool,
    ) -> Millis {
        let read = if read_anyway {
            self.next_read
        } else {
            self.late_at(now, members).max(self.next_read)
        };
        let next = if read_anyway {
            read
        } else {
            read.min(self.next_round)
        };
        next.max(now + 1)
    }

    fn ask(&mut self, now: Millis) -> u64 {
        let round = self.next;
        self.next += 1;
        self.started.insert(round, now);
        round
    }

    /// From when on a member is late.
    fn late_at(&self, now: Millis, members: &BTreeSet<String>) -> Millis {
        if members.iter().any(|m| self.unwilling.contains(m)) {
            return now;
        }
        let began = self.began.unwrap_or(now);
        members
            .iter()
            .map(|m| self.granted.get(m).copied().unwrap_or(began))
            .min()
            .map_or(Millis::MAX, |oldest| oldest + LATE_MS)
    }
}
