//! Names of everything that the agent makes. Each name is written down once, here.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;

/// Suffix of the Secret of peer certificates, made by the link and mounted into node pods.
const PEER_TLS: &str = "peer-tls";

/// Names of the objects of a cluster (REC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterNames<'a>(pub &'a str);

impl ClusterNames<'_> {
    /// StatefulSet, governing Service, ServiceAccount, Role, RoleBinding and PodDisruptionBudget.
    #[must_use]
    pub fn main(self) -> String {
        self.0.to_owned()
    }

    /// Secret with the hash of each database's password.
    #[must_use]
    pub fn users(self) -> String {
        format!("{}-users", self.0)
    }

    /// ConfigMap in which people write access lists.
    #[must_use]
    pub fn acls(self) -> String {
        format!("{}-acls", self.0)
    }

    /// Secret by which the nodes of the REC trust each other.
    #[must_use]
    pub fn internal(self) -> String {
        format!("{}-internal", self.0)
    }

    /// Secret with the certificates that nodes show to people and clients.
    #[must_use]
    pub fn tls(self) -> String {
        format!("{}-tls", self.0)
    }

    /// Service of the API by one address, and Secret by which the nodes know whom to let in.
    #[must_use]
    pub fn api(self) -> String {
        format!("{}-api", self.0)
    }

    /// Service of the status page.
    #[must_use]
    pub fn ui(self) -> String {
        format!("{}-ui", self.0)
    }

    /// Service in front of the sync endpoints.
    #[must_use]
    pub fn sync(self) -> String {
        format!("{}-sync", self.0)
    }

    /// Service in front of the metrics.
    #[must_use]
    pub fn metrics(self) -> String {
        format!("{}-prom", self.0)
    }

    /// Secret with the certificate that nodes show to their peers.
    #[must_use]
    pub fn peer_tls(self) -> String {
        format!("{}-{PEER_TLS}", self.0)
    }

    /// Names of Services that belong to the cluster, made already or not: no database may have them.
    #[must_use]
    pub fn services(self) -> [String; 5] {
        let named = |suffix| format!("{}-{suffix}", self.0);
        [
            self.main(),
            self.sync(),
            self.metrics(),
            named("ui"),
            named("api"),
        ]
    }

    /// The pod with this ordinal.
    #[must_use]
    pub fn pod(self, ordinal: i32) -> String {
        format!("{}-{ordinal}", self.0)
    }
}

/// The ordinal of a StatefulSet's pod, from its name.
#[must_use]
pub fn ordinal(pod: &str) -> Option<u32> {
    pod.rsplit_once('-')
        .and_then(|(_, number)| number.parse().ok())
}

/// Whether `set` makes a pod of this name.
#[must_use]
pub fn makes(set: &StatefulSet, pod: &str) -> bool {
    let number = pod
        .strip_prefix(&format!("{}-", set.name_any()))
        .and_then(|text| text.parse::<i32>().ok());
    let replicas = set.spec.replicas.unwrap_or(1);
    set.metadata.deletion_timestamp.is_none() && number.is_some_and(|n| n < replicas)
}

/// Names of the objects of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseNames<'a>(pub &'a str);

impl DatabaseNames<'_> {
    /// Secret with the password, unless the database names another.
    #[must_use]
    pub fn secret(self) -> String {
        format!("redb-{}", self.0)
    }

    /// `DatabaseTopology` and, for an Active-Active database, `ActiveActiveInstance`.
    #[must_use]
    pub fn topology(self) -> String {
        self.0.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_cluster_are_those_that_nodes_and_people_look_for() {
        let names = ClusterNames("rec");
        let all = [
            names.main(),
            names.users(),
            names.sync(),
            names.metrics(),
            names.peer_tls(),
            names.internal(),
            names.pod(2),
        ];
        assert_eq!(
            all,
            [
                "rec",
                "rec-users",
                "rec-sync",
                "rec-prom",
                "rec-peer-tls",
                "rec-internal",
                "rec-2"
            ]
        );
    }

    #[test]
    fn names_of_a_database_are_those_of_the_public_kinds() {
        assert_eq!(
            [DatabaseNames("db").secret(), DatabaseNames("db").topology()],
            ["redb-db", "db"]
        );
    }

    #[test]
    fn ordinals_are_numbers_so_that_pod_10_follows_pod_9() {
        assert_eq!(
            ["rec-9", "rec-10", "my-rec-0", "rec"].map(ordinal),
            [Some(9), Some(10), Some(0), None]
        );
    }
}
