//! What the nodes say about a database. Pure.

use meridian_api::crds::topology::{DatabaseTopology, MemberReport, ShardReport, ShardRole};

use super::{access::Access, fetch::World};
use crate::controllers::failover::is_being_raised;
use crate::k8s::{
    conditions::Finding,
    fault::Fault,
    own::{ENTRY_READY, NAME_TAKEN, NAME_TOO_LONG, SERVICES_READY},
};

/// How far the primary's node has got with the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Serving {
    /// It takes writes, in the present epoch, with the present settings.
    Yes,
    /// It takes writes in the present epoch; a change of settings has not reached it yet.
    Changing,
    /// It does not.
    No {
        /// CamelCase reason.
        reason: &'static str,
        /// What was found.
        message: String,
    },
}

/// The report of the primary's node about this very topology, in whatever epoch.
#[must_use]
pub(crate) fn primary_report(topology: &DatabaseTopology) -> Option<&MemberReport> {
    let primary = topology.spec.shards.first()?.primary.as_deref()?;
    let uid = topology.metadata.uid.as_deref()?;
    let members = &topology.status.as_ref()?.members;
    members
        .iter()
        .find(|member| member.node == primary && member.topology_uid == uid)
}

/// Whether the database is served. A report is believed only while its pod is ready: a node that is gone cannot take
/// its last report back.
#[must_use]
pub(crate) fn serving(topology: &DatabaseTopology, world: &World) -> Serving {
    let nodes = &world.topology.nodes;
    let no = |reason, message| Serving::No { reason, message };
    let Some(primary) = topology
        .spec
        .shards
        .first()
        .and_then(|shard| shard.primary.as_deref())
    else {
        return no(
            "NoPrimary",
            "no node may take writes: a person must choose one".to_owned(),
        );
    };
    if !nodes.iter().any(|node| node.pod == primary && node.ready) {
        return no(
            "NodeNotReady",
            format!("the pod `{primary}`, which holds the data, is not ready"),
        );
    }
    let epoch = topology.spec.epoch;
    let Some(report) = primary_report(topology) else {
        return no(
            "NotReported",
            format!("`{primary}` has not reported yet that it serves epoch {epoch}"),
        );
    };
    let took = |shard: &ShardReport| shard.role == ShardRole::Primary && shard.writable;
    if report.epoch < epoch && report.shards.iter().any(took) {
        // The same primary in a new epoch: it takes writes until it hears of it, and goes on then.
        return Serving::Changing;
    }
    if report.epoch != epoch {
        return no(
            "NotConfirmed",
            format!(
                "`{primary}` is in epoch {} and {epoch} is ordered",
                report.epoch
            ),
        );
    }
    let Some(shard) = report
        .shards
        .iter()
        .find(|shard| shard.role == ShardRole::Primary)
    else {
        return no("NotStarted", format!("`{primary}` runs no primary of it"));
    };
    if !shard.ready {
        let why = shard.problem.as_ref().map(|text| format!(": {text}"));
        let why = why.unwrap_or_default();
        return no(
            "NotReady",
            format!("the shard on `{primary}` does not serve{why}"),
        );
    }
    if !shard.writable {
        return no(
            "NotWritable",
            format!("the shard on `{primary}` answers and takes no writes"),
        );
    }
    let generation = topology.metadata.generation;
    let older = generation.is_some_and(|generation| report.generation < generation);
    if older || has_other_users(shard, world) || is_being_raised(topology) {
        return Serving::Changing;
    }
    Serving::Yes
}

/// Whether the shard says that others may log in than those who should.
fn has_other_users(shard: &ShardReport, world: &World) -> bool {
    let users = world.access.as_ref().map(Access::hash);
    shard.access.is_some() && users.is_some() && shard.access != users
}

/// A name of a Service that cannot be had, as the rigger found out.
#[must_use]
pub(crate) fn refused_name(topology: &DatabaseTopology) -> Option<Finding> {
    let conditions = &topology.status.as_ref()?.conditions;
    let told = conditions
        .iter()
        .find(|condition| condition.type_ == SERVICES_READY)?;
    let (type_, reason) = match told.reason.as_str() {
        reason if reason == Fault::Foreign.reason() => ("ForeignObject", NAME_TAKEN),
        NAME_TAKEN => (NAME_TAKEN, "BelongsToAnother"),
        NAME_TOO_LONG => (NAME_TOO_LONG, "ServiceNotMade"),
        _ => return None,
    };
    Some(Finding::yes(type_, reason, told.message.clone()))
}

/// Whether the host of an Active-Active database leads here, as the rigger found out; `None` where there is none.
#[must_use]
pub(crate) fn entry(topology: &DatabaseTopology) -> Option<Finding> {
    let conditions = &topology.status.as_ref()?.conditions;
    let told = conditions
        .iter()
        .find(|condition| condition.type_ == ENTRY_READY)?;
    let text = told.message.clone();
    Some(match told.status.as_str() {
        "True" => Finding::yes(ENTRY_READY, "Made", text),
        _ => Finding::no(ENTRY_READY, "NotMade", text),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controllers::placement::Node;

    fn topology(members: &Value) -> DatabaseTopology {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "uid": "T", "generation": 3},
            "spec": {"database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec", "epoch": 2,
                     "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction", "persistence": "disabled",
                     "replication": false, "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0"}]},
            "status": {"members": members},
        }))
        .unwrap()
    }

    fn member(
        uid: &str,
        epoch: i64,
        generation: i64,
        role: &str,
        ready: bool,
        writable: bool,
    ) -> Value {
        json!([{"node": "rec-0", "topologyUid": uid, "epoch": epoch, "generation": generation, "asOf": "t",
                "shards": [{"id": 0, "role": role, "ready": ready, "writable": writable, "port": 10000}]}])
    }

    #[test]
    fn a_name_that_cannot_be_had_is_told_in_the_databases_own_conditions() {
        let told = |reason: &str| {
            let mut topology = topology(&json!([]));
            let conditions = &mut topology.status.as_mut().unwrap().conditions;
            *conditions = serde_json::from_value(json!([{
                "type": SERVICES_READY, "status": "False", "reason": reason, "message": "why", "lastTransitionTime": "t",
            }]))
            .unwrap();
            refused_name(&topology).map(|finding| (finding.type_, finding.message))
        };
        let why = || "why".to_owned();
        assert_eq!(told("ForeignObject"), Some(("ForeignObject", why())));
        assert_eq!(told(NAME_TAKEN), Some((NAME_TAKEN, why())));
        assert_eq!(told(NAME_TOO_LONG), Some((NAME_TOO_LONG, why())));
        assert_eq!(told("NoEndpoint"), None);
    }

    fn world(ready: bool) -> World {
        let mut world = World::default();
        world.topology.nodes.push(Node {
            pod: "rec-0".to_owned(),
            ready,
            limit: None,
            host: None,
            rack: None,
        });
        world
    }

    #[test]
    fn users_that_the_shard_has_not_taken_over_yet_are_a_change_on_its_way() {
        let mut world = world(true);
        let access = Access::default();
        let mut members = member("T", 2, 3, "primary", true, true);
        for (told, expected) in [
            (None, Serving::Yes),
            (Some("other".to_owned()), Serving::Changing),
            (Some(access.hash()), Serving::Yes),
        ] {
            members[0]["shards"][0]["access"] = json!(told);
            world.access = Some(access.clone());
            assert_eq!(serving(&topology(&members), &world), expected, "{told:?}");
        }
    }

    #[test]
    fn a_database_is_served_only_by_a_writable_primary_in_the_present_epoch() {
        let word = |members: &Value, ready| match serving(&topology(members), &world(ready)) {
            Serving::Yes => "yes",
            Serving::Changing => "changing",
            Serving::No { reason, .. } => reason,
        };
        let cases = [
            (member("T", 2, 3, "primary", true, true), "yes"),
            (member("T", 2, 2, "primary", true, true), "changing"),
            (member("T", 2, 3, "primary", true, false), "NotWritable"),
            (member("T", 2, 3, "primary", false, false), "NotReady"),
            (member("T", 2, 3, "stopped", true, true), "NotStarted"),
            (member("T", 1, 3, "primary", true, true), "changing"),
            (member("T", 1, 3, "primary", true, false), "NotConfirmed"),
            (member("T", 1, 3, "replica", true, true), "NotConfirmed"),
            (member("OLD", 2, 3, "primary", true, true), "NotReported"),
            (json!([]), "NotReported"),
        ];
        for (members, expected) in cases {
            assert_eq!(word(&members, true), expected, "{members}");
            assert_eq!(
                word(&members, false),
                "NodeNotReady",
                "a pod that is not ready is not believed"
            );
        }
    }
}
