//! The breaker of deletions: too many in a short time are not carried out before a person has looked. Counted for each
//! member and for the fleet, in databases: the objects that carry one database's data on a member go together.
//!
//! Every deletion counts, also one that somebody confirmed by name: a script confirms by name as well. What a person has
//! released after seeing the list counts no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use meridian_api::ids::{ClusterUid, IdError, ObjectId, Revision};
use serde::{Deserialize, Serialize};

/// Deletions within this time are counted together. Somebody who is called looks within it; a loop that deletes one database
/// in every quarter of an hour is stopped, and the cleaning up of a working day is not.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// So many deletions are let through, however few databases there are.
pub const LEAST: usize = 3;
/// And one in so many databases.
pub const PART: usize = 10;

/// What is counted, and frozen, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All members.
    Fleet,
    /// One member.
    Cluster(ClusterUid),
}

const FLEET: &str = "fleet";

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str(FLEET),
            Self::Cluster(uid) => uid.fmt(f),
        }
    }
}

impl FromStr for Scope {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text == FLEET {
            return Ok(Self::Fleet);
        }
        text.parse().map(Self::Cluster)
    }
}

/// A deletion that was let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Passed {
    /// Name of the database whose data goes.
    database: String,
    /// When it was let through.
    at: Timestamp,
    /// Who released it after seeing it in a list.
    seen_by: Option<String>,
}

/// Why a scope is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frozen {
    /// Since when.
    pub since: Timestamp,
    /// Databases that were to be deleted within the window.
    pub deletions: usize,
    /// As many would have been let through.
    pub limit: usize,
    /// Databases of the scope.
    pub managed: usize,
}

/// What is remembered of a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    passed: BTreeMap<ObjectId, Passed>,
    frozen: Option<Frozen>,
}

/// What members of a scope are told now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Databases with data.
    pub databases: BTreeSet<String>,
    /// Objects with data that are to go, with their database.
    pub deletions: BTreeMap<ObjectId, String>,
}

/// As many databases of so many may be deleted within [`WINDOW`].
#[must_use]
pub fn limit(managed: usize) -> usize {
    (managed / PART).max(LEAST)
}

impl Tally {
    /// Why nothing is deleted in the scope, if nothing is.
    #[must_use]
    pub fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// Whether this deletion was let through, and goes on.
    #[must_use]
    pub fn lets(&self, object: ObjectId) -> bool {
        self.frozen.is_none() && self.passed.contains_key(&object)
    }

    /// Whether this deletion was let through once, whatever is frozen now.
    #[must_use]
    pub fn has_let(&self, object: ObjectId) -> bool {
        self.passed.contains_key(&object)
    }

    /// The deletions that a person released after seeing them, with who did.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<ObjectId, String> {
        let seen = self.passed.iter();
        seen.filter_map(|(object, passed)| Some((*object, passed.seen_by.clone()?)))
            .collect()
    }

    /// Lets every deletion of the scope through, or freezes it. Those that were `seen` in a list of a wider scope do not count.
    pub fn judge(&mut self, told: &Told, seen: &BTreeMap<ObjectId, String>, now: Timestamp) {
        self.forget(told, now);
        if self.frozen.is_some() {
            return;
        }
        let new: BTreeMap<_, _> = told
            .deletions
            .iter()
            .filter(|(object, _)| !self.passed.contains_key(object))
            .map(|(object, database)| {
                let passed = Passed {
                    database: database.clone(),
                    at: now,
                    seen_by: seen.get(object).cloned(),
                };
                (*object, passed)
            })
            .collect();
        let counted: BTreeSet<_> = self
            .passed
            .values()
            .chain(new.values())
            .filter(|passed| passed.counts(now))
            .map(|passed| passed.database.clone())
            .collect();
        // What went within the window was there at its beginning.
        let managed = told.databases.union(&counted).count();
        let (deletions, limit) = (counted.len(), limit(managed));
        let counts = new.values().any(|passed| passed.counts(now));
        if counts && deletions > limit {
            self.frozen = Some(Frozen {
                since: now,
                deletions,
                limit,
                managed,
            });
            return;
        }
        self.passed.extend(new);
    }

    /// Ends the freeze: what a person has seen is let through and counts no more.
    pub fn release(&mut self, told: &Told, by: &str, now: Timestamp) {
        self.frozen = None;
        for (object, database) in &told.deletions {
            let passed = self.passed.entry(*object).or_insert_with(|| Passed {
                database: database.clone(),
                at: now,
                seen_by: None,
            });
            passed.seen_by = Some(by.to_owned());
        }
        for passed in self.passed.values_mut() {
            passed.seen_by.get_or_insert_with(|| by.to_owned());
        }
        self.forget(told, now);
    }

    /// Deletions that are carried out are remembered as long as they count.
    fn forget(&mut self, told: &Told, now: Timestamp) {
        self.passed
            .retain(|object, passed| told.deletions.contains_key(object) || passed.counts(now));
    }
}

impl Passed {
    fn counts(&self, now: Timestamp) -> bool {
        self.seen_by.is_none() && now.duration_since(self.at) < WINDOW
    }
}

/// A name of exactly this list of deletions: another list has another one.
#[must_use]
pub fn list_name(
    scope: Scope,
    deletions: impl Iterator<Item = (ClusterUid, ObjectId, Revision)>,
) -> String {
    let sorted: BTreeSet<_> = deletions.collect();
    let mut text = scope.to_string();
    for (cluster, object, revision) in sorted {
        text.push_str(&format!("\n{cluster} {object} {revision}"));
    }
    let digest = digest(&SHA256, text.as_bytes());
    let bytes = digest.as_ref().iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
