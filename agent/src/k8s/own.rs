//! Ownership: which objects the agent may change.
//!
//! The agent adopts nothing by name. An object is ours only if it carries our manager label **and** the labels of
//! the very cluster (and database) that wants to write it; everything else is [`Ownership::Foreign`] and stays as it
//! is, byte for byte. Labels decide, not owner references, because data has no owner references.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use meridian_api::crds::topology::DatabaseTopologySpec;
use meridian_api::ids::{Revision, Term};

/// Field manager of everything the agent applies.
pub const FIELD_MANAGER: &str = "meridian-agent";
/// Label that says who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the name of the cluster (REC) that an object serves.
pub const CLUSTER: &str = "redis.io/cluster";
/// Label with the name of the database that an object serves; absent on objects of the cluster itself.
pub const DATABASE: &str = "meridian.dev/database";
/// Label with the namespace of the database that an object serves: the database may stand in another than the object.
pub const DATABASE_NAMESPACE: &str = "meridian.dev/database-namespace";
/// Annotation of a database with the place of its primary; see `controllers::topology`. EndpointSlices carry it too.
pub const MEMORY: &str = "meridian.dev/topology";
/// Annotation by which the link says that a deletion is confirmed: see [`approval`].
pub const DELETE_APPROVED: &str = "meridian.dev/delete-approved";
/// Annotation with the hub's revision that an object shows.
pub const REVISION: &str = "meridian.dev/revision";
/// Annotation with the term of the hub that wrote the revision.
pub const TERM: &str = "meridian.dev/hub-term";
/// Annotation of a pod template and its pods: hash of everything else in the template.
pub const TEMPLATE: &str = "meridian.dev/template";
/// Annotation of a StatefulSet: the release for which its template was made.
pub const RELEASE: &str = "meridian.dev/release";
/// Annotation of a StatefulSet: how long a replica's pod is away before another node holds the replica, seconds.
pub const REPLACE_AFTER: &str = "meridian.dev/replace-replicas-after";
/// Annotation of a REC all of whose nodes have served at once: its own uid, so that a copy does not claim it.
pub const BOOTSTRAPPED: &str = "meridian.dev/bootstrapped";
/// Annotation of a REC whose recovery has begun: uids of the pods that it removes, with commas.
pub const RECOVERY: &str = "meridian.dev/recovery";
/// Label (or annotation) of a Secret with the role of the user that it carries.
pub const ROLE: &str = "meridian.dev/role";
/// Label that groups everything the product makes.
pub const APP: (&str, &str) = ("app", "redis-enterprise");
/// Condition of a `DatabaseTopology` about its Services, written by the rigger and read by the database's controller.
pub const SERVICES_READY: &str = "ServicesReady";
/// Condition of a REC and of the topologies of its Active-Active databases about their hosts, written by the rigger.
pub const ENTRY_READY: &str = "EntryReady";
/// Reason in [`SERVICES_READY`]: the name of a Service belongs to another database or to the cluster.
pub const NAME_TAKEN: &str = "NameTaken";
/// Reason in [`SERVICES_READY`]: the name of a Service would be longer than Kubernetes allows.
pub const NAME_TOO_LONG: &str = "NameTooLong";
/// Annotation or label of a node pod with the rack of its host.
pub const RACK: &str = "meridian.dev/rack";
/// Label of node pods.
pub const ROLE_NODE: (&str, &str) = ("redis.io/role", "node");

/// Label selector that finds everything that we made for the database `name` of `namespace`, whichever REC serves it.
#[must_use]
pub fn made_for(namespace: &str, name: &str) -> String {
    format!("{MANAGED_BY}={FIELD_MANAGER},{DATABASE}={name},{DATABASE_NAMESPACE}={namespace}")
}

/// The text of [`DELETE_APPROVED`]: the term and the revision of the tombstone.
#[must_use]
pub fn approval(term: Term, revision: Revision) -> String {
    format!("{term}/{revision}")
}

/// Whether the hub has confirmed the deletion of an object: the tombstone must lie above what the object shows. Terms come
/// first, because a hub whose store was restored counts revisions anew, in a term above all before: an approval of the time
/// before counts for nothing once the object was written again. Any other text confirms nothing.
#[must_use]
pub fn is_deletion_approved(object: &ObjectMeta) -> bool {
    let text = |key: &str| object.annotations.as_ref()?.get(key).map(String::as_str);
    let numbers = |term: &str, revision: &str| {
        let numbers: (u64, u64) = (term.parse().ok()?, revision.parse().ok()?);
        Some(numbers)
    };
    let approved = text(DELETE_APPROVED).and_then(|text| text.split_once('/'));
    let approved = approved.and_then(|(term, revision)| numbers(term, revision));
    let shown = text(TERM)
        .zip(text(REVISION))
        .and_then(|(term, revision)| numbers(term, revision));
    approved
        .zip(shown)
        .is_some_and(|(tombstone, shown)| tombstone > shown)
}

/// For whom an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Name of the REC.
    pub cluster: String,
    /// The database, for objects of a database.
    pub database: Option<DatabaseName>,
}

/// Which database: names are given out per namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseName {
    /// Namespace of the database object.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// The owner of a cluster's own objects.
    #[must_use]
    pub fn cluster(name: &str) -> Self {
        Self {
            cluster: name.to_owned(),
            database: None,
        }
    }

    /// The owner of the objects of the database `name`, which stands in `namespace`.
    #[must_use]
    pub fn database(cluster: &str, namespace: &str, name: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            database: Some(DatabaseName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
        }
    }

    /// The owner of the objects of the database that a topology is about.
    #[must_use]
    pub fn of(topology: &DatabaseTopologySpec) -> Self {
        let database = &topology.database;
        Self::database(&topology.cluster, &database.namespace, &database.name)
    }

    /// Labels that every object of this owner carries.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            (MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned()),
            (APP.0.to_owned(), APP.1.to_owned()),
            (CLUSTER.to_owned(), self.cluster.clone()),
        ]);
        if let Some(database) = &self.database {
            labels.insert(DATABASE.to_owned(), database.name.clone());
            labels.insert(DATABASE_NAMESPACE.to_owned(), database.namespace.clone());
        }
        labels
    }

    /// Label selector that finds every object of this owner that we made.
    #[must_use]
    pub fn selector(&self) -> String {
        let database = match &self.database {
            Some(DatabaseName { namespace, name }) => {
                format!("{DATABASE}={name},{DATABASE_NAMESPACE}={namespace}")
            }
            None => format!("!{DATABASE}"),
        };
        format!(
            "{MANAGED_BY}={FIELD_MANAGER},{CLUSTER}={},{database}",
            self.cluster
        )
    }

    /// Judges an object that exists under a name this owner wants.
    #[must_use]
    pub fn judge(&self, existing: Option<&ObjectMeta>) -> Ownership {
        let Some(meta) = existing else {
            return Ownership::Absent;
        };
        let label = |key: &str| {
            meta.labels
                .as_ref()
                .and_then(|labels| labels.get(key))
                .map(String::as_str)
        };
        if label(MANAGED_BY) != Some(FIELD_MANAGER) {
            let manager = label(MANAGED_BY)
                .map_or_else(|| "nobody we know".to_owned(), |name| format!("`{name}`"));
            return Ownership::Foreign {
                holder: manager,
                ours: false,
            };
        }
        // An object without the label serves a database of its own namespace.
        let namespace = label(DATABASE_NAMESPACE).or(meta.namespace.as_deref());
        let same = match (&self.database, label(DATABASE)) {
            (None, None) => true,
            (Some(mine), Some(name)) => {
                mine.name == name && Some(mine.namespace.as_str()) == namespace
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        if same && label(CLUSTER) == Some(self.cluster.as_str()) {
            return Ownership::Ours {
                uid: meta.uid.clone(),
            };
        }
        let holder = match label(DATABASE) {
            Some(database) => format!("database `{}/{database}`", namespace.unwrap_or("?")),
            None => format!("cluster `{}`", label(CLUSTER).unwrap_or("?")),
        };
        Ownership::Foreign { holder, ours: true }
    }
}

/// What [`Owner::judge`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// No such object: it may be created.
    Absent,
    /// Ours, with the uid that a write must still find.
    Ours {
        /// The object's uid.
        uid: Option<String>,
    },
    /// Somebody else's: never change it.
    Foreign {
        /// Who holds it, as far as its labels tell.
        holder: String,
        /// The agent made it, for another cluster or database.
        ours: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(labels: &[(&str, &str)]) -> ObjectMeta {
        ObjectMeta {
            uid: Some("u1".to_owned()),
            labels: Some(
                labels
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_absent_object_may_be_created() {
        assert_eq!(Owner::cluster("rec").judge(None), Ownership::Absent);
    }

    #[test]
    fn an_object_without_our_label_is_foreign_whatever_its_name_and_other_labels() {
        let foreign = [
            meta(&[]),
            meta(&[(CLUSTER, "rec"), APP]),
            meta(&[(MANAGED_BY, "Helm"), (CLUSTER, "rec")]),
            ObjectMeta::default(),
        ];
        for object in foreign {
            let judged = Owner::cluster("rec").judge(Some(&object));
            assert!(
                matches!(judged, Ownership::Foreign { .. }),
                "{object:?} was judged {judged:?}"
            );
        }
    }

    #[test]
    fn our_own_labels_are_recognised_as_ours() {
        for owner in [Owner::cluster("rec"), Owner::database("rec", "ns", "db")] {
            let mut object = meta(&[]);
            object.labels = Some(owner.labels());
            assert_eq!(
                owner.judge(Some(&object)),
                Ownership::Ours {
                    uid: Some("u1".to_owned())
                }
            );
        }
    }

    #[test]
    fn an_object_of_another_database_or_cluster_of_ours_is_foreign() {
        let mut object = meta(&[]);
        object.labels = Some(Owner::database("rec", "ns", "a").labels());
        for owner in [
            Owner::database("rec", "ns", "b"),
            Owner::cluster("rec"),
            Owner::database("other", "ns", "a"),
        ] {
            assert_eq!(
                owner.judge(Some(&object)),
                Ownership::Foreign {
                    holder: "database `ns/a`".to_owned(),
                    ours: true,
                }
            );
        }
    }

    #[test]
    fn an_object_of_a_database_of_the_same_name_in_another_namespace_is_foreign() {
        let owner = Owner::database("rec", "team-b", "a");
        let mut object = meta(&[]);
        object.labels = Some(Owner::database("rec", "team-a", "a").labels());
        let foreign = |holder: &str| Ownership::Foreign {
            holder: holder.to_owned(),
            ours: true,
        };
        assert_eq!(
            owner.judge(Some(&object)),
            foreign("database `team-a/a`"),
            "whoever takes a name in a namespace of their own takes nothing from the one who has it"
        );
        // Without the label it belongs to the namespace where it stands.
        object.labels.as_mut().unwrap().remove(DATABASE_NAMESPACE);
        object.namespace = Some("home".to_owned());
        assert_eq!(owner.judge(Some(&object)), foreign("database `home/a`"));
        let home = Owner::database("rec", "home", "a").judge(Some(&object));
        assert!(matches!(home, Ownership::Ours { .. }), "{home:?}");
    }

    #[test]
    fn the_selector_of_a_cluster_leaves_out_its_databases() {
        assert_eq!(
            Owner::cluster("rec").selector(),
            "app.kubernetes.io/managed-by=meridian-agent,redis.io/cluster=rec,!meridian.dev/database"
        );
    }

    #[test]
    fn only_a_tombstone_above_what_is_shown_confirms_a_deletion_by_term_and_then_by_revision() {
        let approved = |tombstone: &str, term: &str, revision: &str| {
            let pairs = [
                (DELETE_APPROVED, tombstone),
                (TERM, term),
                (REVISION, revision),
            ];
            let given = pairs.into_iter().filter(|(_, text)| !text.is_empty());
            let given = given.map(|(key, text)| (key.to_owned(), text.to_owned()));
            is_deletion_approved(&ObjectMeta {
                annotations: Some(given.collect()),
                ..ObjectMeta::default()
            })
        };
        assert!(approved("1/8", "1", "7"));
        assert!(approved(&approval(Term(1), Revision(8)), "1", "7"));
        for (tombstone, term, revision) in [
            ("", "1", "7"),
            ("1/8", "", ""),
            ("1/8", "", "7"),
            ("1/8", "1", ""),
            ("1/yes", "1", "7"),
            ("8", "1", "7"),
            ("1/6", "1", "7"),
            ("1/7", "1", "7"),
        ] {
            let found = approved(tombstone, term, revision);
            assert!(!found, "{tombstone} {term} {revision}");
        }
        // The store was restored in between: revisions began anew, in a higher term.
        assert!(!approved("3/5000", "5", "70"));
        assert!(approved("5/70", "3", "5000"));
        assert!(!is_deletion_approved(&ObjectMeta::default()));
    }
}
