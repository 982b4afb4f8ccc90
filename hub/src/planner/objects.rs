//! The objects that members are told about, built from what was decided.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ClusterUid, PlanNumber};
use serde_json::{Value, json};

use super::Input;
use crate::domain::cluster::Rec;
use crate::domain::database::{Database, Membership, Participant};
use crate::domain::desired::{Action, Desired};
use crate::domain::remote::Remote;

/// Kinds that members are told of.
pub const KINDS: [&str; 3] = [RERC, INSTANCE, REAADB];
pub(super) const REAADB: &str = "RedisEnterpriseActiveActiveDatabase";
/// Kind of a remote cluster on members.
pub const RERC: &str = "RedisEnterpriseRemoteCluster";
pub(super) const INSTANCE: &str = "ActiveActiveInstance";
const CLASSIC: &str = "app.redislabs.com/v1alpha1";
const OWN: &str = "meridian.dev/v1alpha1";
/// Place in a replication address where the database's name stands.
const DATABASE_PLACE: &str = "<db>";

/// A participant with what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    pub(super) participant: Participant,
    pub(super) remote: &'a Remote,
    /// As reported last; `None` if its cluster never reported it or reports it no more.
    pub(super) rec: Option<&'a Rec>,
}

impl<'a> Member<'a> {
    pub(super) fn resolve(input: &'a Input, participant: Participant) -> Result<Self, Participant> {
        let Some(remote) = input.remotes.get(&participant.name) else {
            return Err(participant);
        };
        let recs = input
            .recs
            .get(&remote.cluster)
            .map(|inventory| inventory.recs.as_slice())
            .unwrap_or_default();
        let rec = recs
            .iter()
            .find(|rec| rec.namespace == remote.namespace && rec.name == remote.rec);
        Ok(Self {
            participant,
            remote,
            rec,
        })
    }

    /// Name of its remote cluster.
    pub(super) fn name(&self) -> &str {
        &self.remote.name
    }

    /// `host:port` that peers connect to for this database; empty while unknown.
    fn endpoint(&self, database: &str) -> String {
        let Some(rec) = self.rec else {
            return String::new();
        };
        let address = rec.replication_address.replace(DATABASE_PLACE, database);
        match (
            self.participant.external_replication_port,
            address.rsplit_once(':'),
        ) {
            (Some(port), Some((host, _))) => format!("{host}:{port}"),
            _ => address,
        }
    }

    pub(super) fn lacks_endpoint(&self, database: &str) -> bool {
        self.endpoint(database).is_empty()
    }

    fn spiffe_id(&self, trust_domain: &str) -> String {
        let Remote {
            cluster,
            namespace,
            rec,
            ..
        } = self.remote;
        format!("spiffe://{trust_domain}/cluster/{cluster}/rec/{namespace}/{rec}")
    }

    fn as_instance_member(&self, input: &Input, database: &str, instance_id: u64) -> Value {
        let suffix = self.rec.map(|rec| rec.suffix.as_str()).unwrap_or_default();
        let server_name = if suffix.is_empty() {
            String::new()
        } else {
            format!("{database}{suffix}")
        };
        json!({
            "instanceId": instance_id,
            "name": self.remote.name,
            "clusterUid": self.remote.cluster,
            "endpoint": self.endpoint(database),
            "serverName": server_name,
            "spiffeId": self.spiffe_id(&input.trust_domain),
        })
    }
}

/// The members of a database, as each of them is told.
pub(super) fn listed(
    input: &Input,
    database: &Database,
    membership: &Membership,
    members: &[&Member<'_>],
) -> Value {
    let listed = members.iter().filter_map(|member| {
        let instance_id = membership.instances.get(&member.remote.name)?;
        Some(member.as_instance_member(input, &database.name, *instance_id))
    });
    listed.collect()
}

/// The `ActiveActiveInstance` of one member.
pub(super) fn instance(
    database: &Database,
    membership: &Membership,
    members: &[&Member<'_>],
    listed: &Value,
    of: &Member<'_>,
) -> Desired {
    let Remote {
        name,
        namespace,
        rec,
        ..
    } = of.remote;
    let body = json!({
        "apiVersion": OWN,
        "kind": INSTANCE,
        "metadata": { "name": database.name, "namespace": namespace },
        "spec": {
            "guid": database.guid,
            "objectId": database.object_id,
            "instanceId": membership.instances.get(name),
            "configVersion": membership.config_version,
            "planNumber": membership.plan_number,
            "hubTerm": membership.hub_term,
            "storeId": membership.store_id,
            "database": { "namespace": namespace, "name": database.name },
            "cluster": rec,
            "members": listed,
            "ghosts": membership.ghosts,
        },
    });
    Desired {
        object_id: database.instance_object_id,
        api_version: OWN.to_owned(),
        kind: INSTANCE.to_owned(),
        namespace: namespace.clone(),
        name: database.name.clone(),
        data_bearing: true,
        after: members
            .iter()
            .map(|member| member.remote.object_id)
            .collect(),
        plan_number: membership.plan_number,
        trace: database.trace,
        action: Action::Upsert { body },
    }
}

/// The REAADB of one member: what the person wrote, with those that take part, served by the REC there.
pub(super) fn database(
    database: &Database,
    plan_number: PlanNumber,
    taking_part: &BTreeSet<&str>,
    of: &Member<'_>,
) -> Desired {
    let Remote { namespace, rec, .. } = of.remote;
    let mut spec = database.spec.clone();
    let takes_part = |one: &Value| {
        one["name"]
            .as_str()
            .is_none_or(|name| taking_part.contains(name))
    };
    if let Some(listed) = spec["participatingClusters"].as_array_mut() {
        listed.retain(takes_part);
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("redisEnterpriseCluster".to_owned(), json!({ "name": rec }));
    }
    let mut metadata = json!({ "name": database.name, "namespace": namespace });
    if let (Some(metadata), false) = (metadata.as_object_mut(), database.labels.is_empty()) {
        metadata.insert("labels".to_owned(), json!(database.labels));
    }
    let body = json!({ "apiVersion": CLASSIC, "kind": REAADB, "metadata": metadata, "spec": spec });
    Desired {
        object_id: database.object_id,
        api_version: CLASSIC.to_owned(),
        kind: REAADB.to_owned(),
        namespace: namespace.clone(),
        name: database.name.clone(),
        data_bearing: true,
        after: vec![database.instance_object_id],
        plan_number,
        trace: database.trace,
        action: Action::Upsert { body },
    }
}

/// The RERC of a remote cluster in the namespace of another member's REC.
pub(super) fn remote(
    input: &Input,
    remote: &Remote,
    namespace: &str,
    plan_number: PlanNumber,
) -> Desired {
    let recs = input
        .recs
        .get(&remote.cluster)
        .map(|inventory| inventory.recs.as_slice())
        .unwrap_or_default();
    let rec = recs
        .iter()
        .find(|rec| rec.namespace == remote.namespace && rec.name == remote.rec);
    let suffix = rec.map(|rec| rec.suffix.clone()).unwrap_or_default();
    let api = rec
        .map(|rec| rec.api_fqdn_url.clone())
        .filter(|api| !api.is_empty());
    // The field is demanded by the kind but not used between Meridian clusters: the REC's name under its suffix.
    let api = api.unwrap_or_else(|| format!("{}{suffix}", remote.rec));
    let mut spec = BTreeMap::from([
        ("recName", json!(remote.rec)),
        ("recNamespace", json!(remote.namespace)),
        ("apiFqdnUrl", json!(api)),
    ]);
    if !suffix.is_empty() {
        spec.insert("dbFqdnSuffix", json!(suffix));
    }
    let metadata = json!({ "name": remote.name, "namespace": namespace });
    let body = json!({ "apiVersion": CLASSIC, "kind": RERC, "metadata": metadata, "spec": spec });
    Desired {
        object_id: remote.object_id,
        api_version: CLASSIC.to_owned(),
        kind: RERC.to_owned(),
        namespace: namespace.to_owned(),
        name: remote.name.clone(),
        data_bearing: false,
        after: Vec::new(),
        plan_number,
        trace: None,
        action: Action::Upsert { body },
    }
}

/// The cluster that a place is on.
pub(super) fn cluster_name(input: &Input, cluster: ClusterUid) -> String {
    input
        .clusters
        .get(&cluster)
        .map_or_else(|| cluster.to_string(), |cluster| cluster.name.clone())
}
