//! The last writes of a participant that leaves. Its data goes only when another region serves, and when those that stay say that
//! they have read what it wrote: what nobody has read by then is read by nobody any more.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::ClusterUid;

use super::objects::cluster_name;
use super::participants::{Leaving, Standing, taking_part_on, told_on};
use super::{Input, Place};
use crate::domain::database::Database;

/// What a member has said of a database, in the session that it has now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It has a session.
    pub connected: bool,
    /// Its own part of the database is active.
    pub active: bool,
    /// Instances of which it lacks nothing, as far as it knows.
    pub caught_up: BTreeSet<u64>,
}

/// What members have said, by member and database.
pub type AllSeen = BTreeMap<Place, Seen>;

/// Whose word a plan asks for, and about which database, by the object id of the database.
#[must_use]
pub fn asked(input: &Input) -> BTreeSet<Place> {
    let databases = input.databases.values();
    let mut asked = BTreeSet::new();
    for database in databases.filter(|it| it.deletion.is_none()) {
        let leaves = |home: &&ClusterUid| {
            told_on(input, database, **home).any(|(_, told, _)| !told.is_tombstone())
                && taking_part_on(input, database, **home).is_none()
        };
        let leaving: Vec<_> = database.removals.keys().filter(leaves).collect();
        if leaving.is_empty() {
            continue;
        }
        let listed = database.participants().into_iter();
        let stays = listed.filter_map(|one| Some(input.remotes.get(&one.name)?.cluster));
        let all = stays.chain(leaving.into_iter().copied());
        asked.extend(all.map(|cluster| (cluster, database.object_id)));
    }
    asked
}

/// What has to come true before the data of who leaves goes, in words; nothing if it may go.
pub(super) fn waits(
    input: &Input,
    database: &Database,
    standing: &Standing<'_>,
    leaving: &Leaving<'_>,
) -> Vec<String> {
    let nothing = Seen::default();
    let seen = |cluster| {
        let place = (cluster, database.object_id);
        input.seen.get(&place).unwrap_or(&nothing)
    };
    let (name, cluster) = (&leaving.name, cluster_name(input, leaving.home));
    let mut lines = Vec::new();
    if !seen(leaving.home).connected {
        lines.push(format!(
            "waits for {cluster}: it is away, and what {name} wrote last may be read by nobody yet; if it never comes back, \
             `meridian cluster remove {cluster} --lost` gives that up"
        ));
    }
    let members = standing.members.iter();
    let stays: Vec<_> = members
        .map(|member| (member.name(), seen(member.remote.cluster)))
        .collect();
    if !stays.iter().any(|(_, seen)| seen.connected && seen.active) {
        lines.push(format!(
            "waits for one of those that stay to be active: until then {name} is the only one that may serve"
        ));
    }
    let instance = input.memberships.get(&database.object_id);
    let instance = instance.and_then(|it| it.instances.get(name));
    let has_read = |seen: &Seen| instance.is_some_and(|id| seen.caught_up.contains(id));
    let behind = stays
        .iter()
        .filter(|(_, seen)| seen.connected && !has_read(seen));
    lines.extend(behind.map(|(stays, _)| {
        format!("waits for {stays}: it has not said that it has read all that {name} wrote")
    }));
    lines
}
