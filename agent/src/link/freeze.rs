//! What the hub has frozen: these orders wait, whatever else goes on. Kept with the journal, so that neither a restart nor the
//! hub's absence lets a deletion go on that people are to look at first. Pure.

use std::collections::BTreeSet;

use meridian_api::{ids::ObjectId, link::proto};
use serde::{Deserialize, Serialize};

/// What is frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// Everything.
    #[serde(default)]
    all: bool,
    /// Orders of these objects.
    #[serde(default)]
    some: BTreeSet<ObjectId>,
}

impl Freeze {
    /// What is frozen as a session begins; the Welcome says all of it.
    #[must_use]
    pub fn at_start(told: Option<&proto::Freeze>) -> Self {
        let mut freeze = Self::default();
        if let Some(told) = told {
            freeze.follow(told);
        }
        freeze
    }

    /// Follows what the hub says; no objects at all mean everything.
    pub fn follow(&mut self, told: &proto::Freeze) {
        let ids = told.object_ids.iter().filter_map(|id| id.parse().ok());
        match (told.object_ids.is_empty(), told.on) {
            (true, true) => self.all = true,
            (true, false) => *self = Self::default(),
            (false, true) => self.some.extend(ids),
            (false, false) => {
                let thawed: BTreeSet<ObjectId> = ids.collect();
                self.some.retain(|id| !thawed.contains(id));
            }
        }
    }

    /// Whether orders of this object wait.
    #[must_use]
    pub fn holds(&self, id: &ObjectId) -> bool {
        self.all || self.some.contains(id)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.all && self.some.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        format!("00000000-0000-4000-8000-0000000000{n:02x}")
            .parse()
            .unwrap()
    }

    fn told(ids: &[u8], on: bool) -> proto::Freeze {
        proto::Freeze {
            object_ids: ids.iter().map(|n| id(*n).to_string()).collect(),
            on,
            ..proto::Freeze::default()
        }
    }

    #[test]
    fn objects_are_frozen_and_thawed_by_name_and_all_at_once_without_one() {
        let mut freeze = Freeze::at_start(Some(&told(&[1, 2], true)));
        freeze.follow(&told(&[1], false));
        assert_eq!((freeze.holds(&id(1)), freeze.holds(&id(2))), (false, true));
        freeze.follow(&told(&[], true));
        assert!(freeze.holds(&id(9)));
        freeze.follow(&told(&[], false));
        assert!(freeze.is_over() && Freeze::at_start(None).is_over());
    }
}
