//! What should be true, as a pure function of what is wanted and what is known at one revision. No I/O, no clock, no
//! randomness: the same input gives the same plan, and planning again after carrying a plan out plans nothing.

pub mod active_active;
pub mod check;
pub mod held;
mod needs;
mod objects;
mod participants;
pub mod tail;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use meridian_api::ids::{ClusterUid, ObjectId, PlanNumber, Revision, StoreId, Term};

use crate::domain::cluster::{Cluster, RecInventory, RemovedCluster};
use crate::domain::database::{Database, Membership};
use crate::domain::desired::{Action, Desired, Told};
use crate::domain::remote::Remote;

/// Where an object lies: on which member, and which.
pub type Place = (ClusterUid, ObjectId);

pub use needs::Needs;
pub use objects::{KINDS, RERC};

/// Everything that a plan depends on, read at one revision.
#[derive(Clone, Debug)]
pub struct Input {
    /// Store and term under which the plan is made.
    pub reign: (StoreId, Term),
    /// Highest plan number given so far.
    pub plan_number: PlanNumber,
    /// No instance id up to this one is given.
    pub instance_id_floor: u64,
    /// No config version up to this one is given.
    pub config_version_floor: u64,
    /// Trust domain of identities.
    pub trust_domain: String,
    /// Members.
    pub clusters: BTreeMap<ClusterUid, Cluster>,
    /// Members whose registration a person removed: they are told nothing, and nobody waits for them.
    pub removed: BTreeMap<ClusterUid, RemovedCluster>,
    /// Remote clusters by name.
    pub remotes: BTreeMap<String, Remote>,
    /// What each member reported.
    pub recs: BTreeMap<ClusterUid, RecInventory>,
    /// What people want, by name.
    pub databases: BTreeMap<String, Database>,
    /// What was allocated, by the database's object id.
    pub memberships: BTreeMap<ObjectId, Membership>,
    /// What members are told now, with the revision that told it.
    pub desired: BTreeMap<Place, (Told, Revision)>,
    /// Revisions that members carried out.
    pub done: BTreeMap<Place, Revision>,
    /// What is known of those on whose word the data of a participant goes.
    pub seen: tail::AllSeen,
    /// What of the store cannot be read, and why. What is known of it is of before, or nothing.
    pub unreadable: Unreadable,
}

/// Records that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Why nothing is planned for these databases, by name.
    pub databases: BTreeMap<String, String>,
    /// Objects of no known database as members are told of them.
    pub places: BTreeMap<Place, String>,
}

impl Unreadable {
    /// Whether everything can be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.places.is_empty()
    }
}

impl Input {
    /// Whether a member carried out exactly what it is told at this revision. A higher one is of another time: a store that
    /// went back, or was restored, gives revisions that members have heard of already.
    fn is_done(&self, place: &Place, revision: Revision) -> bool {
        self.done.get(place) == Some(&revision)
    }

    /// Whether a member is gone for good, as far as this hub is concerned.
    pub(crate) fn is_removed(&self, cluster: ClusterUid) -> bool {
        self.removed.contains_key(&cluster) && !self.clusters.contains_key(&cluster)
    }

    /// The declaration by which the member was lost that had a remote cluster of this name.
    fn lost_with(&self, remote: &str) -> Option<(ClusterUid, &RemovedCluster)> {
        let mut removed = self.removed.iter();
        let (uid, removed) = removed.find(|(_, removed)| {
            let lost = removed.lost.as_ref();
            lost.is_some_and(|lost| lost.remotes.contains(remote))
        })?;
        Some((*uid, removed))
    }
}

/// What to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Number of this plan; that of the input if it changes nothing.
    pub number: PlanNumber,
    /// New allocations.
    pub memberships: BTreeMap<ObjectId, Membership>,
    /// What members are to be told.
    pub tell: BTreeMap<Place, Desired>,
    /// Tombstones that are carried out: nothing remains to be said about these objects.
    pub forget: BTreeSet<Place>,
    /// Databases that are gone from every member, by name.
    pub finished: BTreeSet<String>,
    /// What is done and what is waited for, for people; by database.
    pub report: BTreeMap<String, Vec<String>>,
}

impl Plan {
    /// Whether carrying it out would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memberships.is_empty()
            && self.tell.is_empty()
            && self.forget.is_empty()
            && self.finished.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            memberships: _,
            tell,
            forget,
            finished,
            report,
        } = self;
        writeln!(f, "plan {number}")?;
        for ((cluster, _), desired) in tell {
            let verb = match &desired.action {
                Action::Upsert { .. } => "tell",
                Action::Delete { .. } => "DELETE on",
            };
            writeln!(
                f,
                "  {verb} {cluster}: {} {}/{}",
                desired.kind, desired.namespace, desired.name
            )?;
        }
        for (cluster, object) in forget {
            writeln!(
                f,
                "  forget {object} on {cluster}: nothing is left to be told"
            )?;
        }
        for database in finished {
            writeln!(f, "  forget database {database}: it is gone everywhere")?;
        }
        for (database, lines) in report {
            for line in lines {
                writeln!(f, "  {database}: {line}")?;
            }
        }
        Ok(())
    }
}

/// What has changed since a plan was made of everything else, and nothing was left to do for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Whatever is not known to be as it was: everything.
    pub everything: bool,
    /// Databases: their intent, their membership, or what members are told of them. By name.
    pub databases: BTreeSet<String>,
    /// Remote clusters, or what their members reported of them. By name.
    pub remotes: BTreeSet<String>,
    /// Remote clusters as members are told of them, with their names.
    pub told: BTreeSet<(Place, String)>,
}

impl Changed {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let Self {
            everything,
            databases,
            remotes,
            told,
        } = other;
        self.everything |= everything;
        self.databases.extend(databases);
        self.remotes.extend(remotes);
        self.told.extend(told);
        self
    }
}

/// Plans everything.
#[must_use]
pub fn plan(input: &Input) -> Plan {
    plan_changed(input, &mut Needs::default(), &Changed::everything())
}

/// Plans what may have become different. `needs` is what the plans before it have learned; without it, everything has to be
/// called changed. The plan is the same as one of everything, if what is left out is as it was when nothing had to be done
/// for it.
#[must_use]
pub fn plan_changed(input: &Input, needs: &mut Needs, changed: &Changed) -> Plan {
    let number = PlanNumber(input.plan_number.0 + 1);
    let mut plan = Plan {
        number,
        ..Plan::default()
    };
    let names: BTreeSet<String> = if changed.everything {
        *needs = Needs::default();
        input.databases.keys().cloned().collect()
    } else {
        let with = needs.databases_with(&changed.remotes);
        with.chain(&changed.databases).cloned().collect()
    };
    forget_removed(input, &mut plan);
    let mut touched = BTreeSet::new();
    // Of those that cannot be read it is not known either what they need: they keep it.
    let readable = |name: &String| !input.unreadable.databases.contains_key(name);
    for name in names.into_iter().filter(readable) {
        let mut mine = needs::OfDatabase::default();
        if let Some(database) = input.databases.get(&name) {
            active_active::plan_one(input, database, &mut plan, &mut mine);
        }
        touched.extend(needs.replace(&name, mine));
    }
    let touched = touched_remotes(input, needs, changed, touched);
    active_active::plan_remotes(input, needs, touched, &mut plan);
    if plan.is_empty() {
        plan.number = input.plan_number;
    }
    plan
}

/// What members were told that are gone for good is forgotten at once: nobody carries it out, and nobody says so.
fn forget_removed(input: &Input, plan: &mut Plan) {
    if input.removed.is_empty() {
        return;
    }
    let gone = input
        .desired
        .keys()
        .filter(|place| input.is_removed(place.0));
    plan.forget.extend(gone.copied());
}

/// Remote clusters on members that have to be looked at, with their names: what databases began or ceased to need, what has
/// changed, and what is being taken away.
fn touched_remotes(
    input: &Input,
    needs: &Needs,
    changed: &Changed,
    needed: BTreeSet<(ClusterUid, String)>,
) -> BTreeSet<(Place, String)> {
    let of_changed = changed.remotes.iter().flat_map(|name| needs.on(name));
    let placed = needed.into_iter().chain(of_changed);
    let placed = placed.filter_map(|(cluster, name)| {
        let remote = input.remotes.get(&name)?;
        Some(((cluster, remote.object_id), name))
    });
    let told = input
        .desired
        .iter()
        .filter(|(_, (told, _))| told.kind == RERC && (changed.everything || told.is_tombstone()));
    let told = told.map(|(place, (told, _))| (*place, told.name.clone()));
    let mut touched: BTreeSet<_> = placed.chain(told).collect();
    touched.extend(changed.told.iter().cloned());
    touched
}
