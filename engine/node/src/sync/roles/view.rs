//! What there is to see of a shared shard.

use std::collections::BTreeMap;

use super::held::Held;
use crate::permission::{Following, Position, View, Wish};
use crate::valkey::{Copy, Replicated};

/// A shared shard on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sync) struct RoleView {
    /// UID, epoch and generation of the topology that the rest is about.
    pub(in crate::sync) order: Option<(String, u64, u64)>,
    /// What the core says.
    pub(in crate::sync) view: View,
    /// The process that answers, while one does.
    pub(in crate::sync) life: Option<String>,
    /// Its place in replication, while it answers.
    pub(in crate::sync) replicated: Option<Replicated>,
    /// Primary: how far behind each of its replicas is, bytes.
    pub(in crate::sync) behind: BTreeMap<String, u64>,
    /// How much of a stream was on disk before its process began.
    pub(in crate::sync) held: Option<Held>,
    /// What keeps it from its role.
    pub(in crate::sync) problem: Option<String>,
}

impl RoleView {
    /// `true` if `now` says something else, not only other numbers.
    pub(super) fn turned_into(&self, now: &Self) -> bool {
        self.turns() != now.turns()
    }

    fn turns(&self) -> (&View, Option<Following>, BTreeMap<&str, bool>, bool) {
        let copies = self.copies().map(|(name, copy)| (name, copy.online));
        (
            &self.view,
            self.following(),
            copies.collect(),
            self.problem.is_some(),
        )
    }

    /// How it follows, if it is a replica.
    pub(in crate::sync) fn following(&self) -> Option<Following> {
        match &self.replicated.as_ref()?.position {
            Position::Follows { state, .. } => Some(*state),
            Position::Leads => None,
        }
    }

    /// Its position in the stream, bytes; none while its process does not have everything up to there.
    pub(in crate::sync) fn offset(&self) -> Option<u64> {
        let replicated = self.replicated.as_ref()?;
        self.view.complete.then_some(replicated.offset)
    }

    /// What its files had, while that is all that is known of what it has.
    pub(in crate::sync) fn held(&self) -> Option<&Held> {
        let answers = self.replicated.is_some();
        self.held
            .as_ref()
            .filter(|_| answers && !self.view.complete)
    }

    /// Its replicas, if it is a primary.
    pub(in crate::sync) fn copies(&self) -> impl Iterator<Item = (&str, Copy)> {
        self.replicated
            .iter()
            .flat_map(|r| r.copies.iter().map(|(name, copy)| (name.as_str(), *copy)))
    }

    /// Why another must take over, in words.
    pub(in crate::sync) fn wish(&self) -> Option<String> {
        self.view.wish.as_ref().map(|wish| match wish {
            Wish::Unfit {
                served: true,
                epoch,
            } => format!(
                "its process was started anew after it had served in epoch {epoch}, and may have less than its in-sync replicas"
            ),
            Wish::Unfit {
                served: false,
                epoch,
            } => format!(
                "its process was named primary of epoch {epoch} without a full copy, while others have one"
            ),
            Wish::Refused => self
                .problem
                .clone()
                .unwrap_or_else(|| "its files cannot be read".to_owned()),
            Wish::Stopping => "its node was asked to stop".to_owned(),
        })
    }
}
