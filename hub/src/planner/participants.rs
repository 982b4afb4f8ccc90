//! How each participant of a database stands: it takes part, its data is on its way out, or it is gone.

use std::collections::BTreeSet;

use meridian_api::ids::{ClusterUid, ObjectId};

use super::objects::{Member, cluster_name};
use super::{Input, Place};
use crate::domain::database::{Database, Membership, Participant};
use crate::domain::desired::Told;

/// The participants of a database, the present ones and those of the past that are not gone yet.
#[derive(Debug, Default)]
pub(super) struct Standing<'a> {
    /// They take part, or are to.
    pub(super) members: Vec<Member<'a>>,
    /// Their data there is to go. Until it is gone everybody else still reads from them.
    pub(super) leaving: Vec<Leaving<'a>>,
    /// Names whose instances are over: nobody reads from them any more.
    pub(super) gone: BTreeSet<String>,
    /// Those of them whose data on the same member is forgotten first.
    returns: BTreeSet<String>,
    /// Members on which its data is gone and forgotten next.
    pub(super) over: BTreeSet<ClusterUid>,
    /// Names of remote clusters that no member reports.
    pub(super) unknown: Vec<String>,
    /// For people.
    pub(super) lines: Vec<String>,
}

/// A participant whose data there is to go.
#[derive(Debug)]
pub(super) struct Leaving<'a> {
    pub(super) name: String,
    pub(super) home: ClusterUid,
    /// As the others know it; `None` if nobody reports it any more.
    pub(super) member: Option<Member<'a>>,
}

/// What is told of a database on a member.
pub(super) fn told_on<'a>(
    input: &'a Input,
    database: &Database,
    cluster: ClusterUid,
) -> impl Iterator<Item = (Place, &'a Told, bool)> + use<'a> {
    let objects: [ObjectId; 2] = [database.object_id, database.instance_object_id];
    let places = objects.map(|object| (cluster, object)).into_iter();
    places.filter_map(|place| {
        let (told, revision) = input.desired.get(&place)?;
        let is_gone = told.is_tombstone() && input.is_done(&place, *revision);
        Some((place, told, is_gone))
    })
}

impl<'a> Standing<'a> {
    pub(super) fn of(input: &'a Input, database: &Database) -> Self {
        let mut standing = Self::default();
        let listed = database.participants();
        let old = input.memberships.get(&database.object_id);
        for name in old.into_iter().flat_map(|old| old.instances.keys()) {
            let wanted = listed.iter().find(|listed| listed.name == *name);
            standing.judge(input, database, old, (name, wanted));
        }
        for participant in listed {
            if standing.is_settled(input, &participant.name) {
                continue;
            }
            match Member::resolve(input, participant) {
                Ok(member) if !input.is_removed(member.remote.cluster) => {
                    standing.members.push(member)
                }
                Ok(Member { participant, .. }) | Err(participant) => {
                    standing.miss(input, participant.name)
                }
            }
        }
        let stays = |cluster: &ClusterUid| {
            let mut members = standing.members.iter();
            members.any(|member| member.remote.cluster == *cluster)
        };
        let left = database.removals.keys().filter(|home| !stays(home));
        standing.over.extend(left.copied());
        standing
    }

    /// Notes of an instance that was made whether it goes, or is gone.
    fn judge(
        &mut self,
        input: &'a Input,
        database: &Database,
        old: Option<&Membership>,
        (name, wanted): (&String, Option<&Participant>),
    ) {
        let Some(home) = home_of(input, old, name) else {
            if wanted.is_none() {
                self.gone.insert(name.clone());
            }
            return;
        };
        if input.is_removed(home) {
            self.gone.insert(name.clone());
            return;
        }
        let told: Vec<_> = told_on(input, database, home).collect();
        let goes = told.iter().any(|(_, told, _)| told.is_tombstone());
        if wanted.is_some() && !goes {
            return;
        }
        if told.iter().all(|(_, _, is_gone)| *is_gone) {
            self.gone.insert(name.clone());
            self.returns.insert(name.clone());
            self.over.insert(home);
            return;
        }
        let known = Participant {
            name: name.clone(),
            external_replication_port: None,
        };
        let known = wanted.cloned().unwrap_or(known);
        self.leaving.push(Leaving {
            name: name.clone(),
            home,
            member: Member::resolve(input, known).ok(),
        });
        let cluster = cluster_name(input, home);
        let approved = goes || database.removals.contains_key(&home);
        let successor = taking_part_on(input, database, home).filter(|_| !goes);
        // Once its data may go, who takes it away says what that waits for.
        if approved && !goes && successor.is_none() {
            return;
        }
        self.lines.push(if let Some(successor) = successor {
            format!("waits for a person: {successor} is to take part on {cluster}, where the data of {name} still is; take {successor} out of spec.participatingClusters, wait until the data of {name} is gone, and add {successor} then")
        } else if approved {
            unconfirmed(&cluster, name)
        } else {
            format!("waits for a person: {name} takes part no more, and nobody confirmed that its data on {cluster} goes")
        });
    }

    /// Whether nothing is to be told to the participant of this name now. What is gone is forgotten before it, or another REC
    /// of the same member, may come again there: both would be told at the same place.
    fn is_settled(&self, input: &Input, name: &str) -> bool {
        let home = input.remotes.get(name).map(|remote| remote.cluster);
        let mut leaving = self.leaving.iter();
        // One that is gone with its member is none of those that are forgotten: another member may have its name by now.
        self.returns.contains(name)
            || home.is_some_and(|home| self.over.contains(&home))
            || leaving.any(|one| {
                let remote = one.member.as_ref().map(|member| member.remote);
                home == Some(one.home) || remote.is_some_and(|remote| remote.name == name)
            })
    }

    /// Notes a participant that no member reports.
    fn miss(&mut self, input: &Input, name: String) {
        match input.lost_with(&name) {
            Some((_, removed)) => self.lines.push(lost(&name, &removed.name)),
            None => self.unknown.push(name),
        }
    }
}

/// The line for people while data is on its way out.
pub(super) fn unconfirmed(cluster: &str, name: &str) -> String {
    format!("waits for {cluster}: it has not confirmed that the data of {name} there is gone")
}

/// The participant that a person wants on this member.
pub(super) fn taking_part_on(
    input: &Input,
    database: &Database,
    home: ClusterUid,
) -> Option<String> {
    let leads_there = |one: &Participant| {
        let remote = input.remotes.get(&one.name);
        remote.is_some_and(|remote| remote.cluster == home)
    };
    let mut listed = database.participants().into_iter();
    listed.find(leads_there).map(|one| one.name)
}

fn lost(name: &str, cluster: &str) -> String {
    format!(
        "goes on without {name}: cluster {cluster} was declared lost; take {name} out of spec.participatingClusters"
    )
}

/// The member on which the instance of this name was made. One of before that was written down is where the remote cluster is.
fn home_of(input: &Input, membership: Option<&Membership>, name: &str) -> Option<ClusterUid> {
    let written = membership.and_then(|old| old.homes.get(name).copied());
    let remote = || Some(input.remotes.get(name)?.cluster);
    let lost = || Some(input.lost_with(name)?.0);
    written.or_else(remote).or_else(lost)
}
