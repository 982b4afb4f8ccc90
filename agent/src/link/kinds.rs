//! The closed list of kinds that the hub may write on a member. Everything else is refused with NACK. Pure.

use kube::{api::ApiResource, core::GroupVersionKind};

/// Annotation: the hub's identity of the object.
pub const OBJECT_ID: &str = "meridian.dev/object-id";
/// Annotation: the revision that the object shows.
pub const REVISION: &str = "meridian.dev/revision";
/// Annotation: the term of the hub that wrote the revision.
pub const TERM: &str = "meridian.dev/hub-term";
/// Annotation: digest of the body as the hub sent it, hexadecimal.
pub const HASH: &str = "meridian.dev/hash";
/// Annotation: the plan that decided the object.
pub const PLAN_NUMBER: &str = "meridian.dev/plan-number";
/// Annotation: the deletion of this term and revision was approved; controllers may clean up the data.
pub const DELETE_APPROVED: &str = "meridian.dev/delete-approved";
/// Field manager of everything that the hub decides.
pub const FIELD_MANAGER: &str = "meridian-hub";

/// A kind that the hub may write.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Kind {
    /// Credentials.
    Secret,
    /// A participating cluster, RERC.
    RemoteCluster,
    /// Membership of one Active-Active database.
    Instance,
    /// The Active-Active database itself, REAADB.
    Database,
}

impl Kind {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 4] = [
        Self::Secret,
        Self::RemoteCluster,
        Self::Instance,
        Self::Database,
    ];

    /// The kind of these Kubernetes names, if the hub may write it.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.api_version() == api_version && known.kind() == kind)
    }

    /// Kubernetes `apiVersion`.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Secret => "v1",
            Self::RemoteCluster | Self::Database => "app.redislabs.com/v1alpha1",
            Self::Instance => "meridian.dev/v1alpha1",
        }
    }

    /// Kubernetes kind.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::RemoteCluster => "RedisEnterpriseRemoteCluster",
            Self::Instance => "ActiveActiveInstance",
            Self::Database => "RedisEnterpriseActiveActiveDatabase",
        }
    }

    /// Whether a deletion loses data and therefore needs a confirmation, whatever the hub says about it.
    #[must_use]
    pub fn data_bearing(self) -> bool {
        matches!(self, Self::Instance | Self::Database)
    }

    /// Whether the object carries our manager label. A database is written by people as well, with labels of theirs.
    #[must_use]
    pub fn labelled(self) -> bool {
        self != Self::Database
    }

    /// How the API server names it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version) = self
            .api_version()
            .split_once('/')
            .unwrap_or(("", self.api_version()));
        let plural = match self {
            Self::Secret => "secrets",
            Self::RemoteCluster => "redisenterpriseremoteclusters",
            Self::Instance => "activeactiveinstances",
            Self::Database => "redisenterpriseactiveactivedatabases",
        };
        ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(group, version, self.kind()),
            plural,
        )
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_kinds_of_their_own_groups_are_known() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.api_version(), kind.kind()), Some(kind));
        }
        for (api_version, kind) in [
            ("v1", "Pod"),
            ("apps/v1", "Secret"),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
            ("app.redislabs.com/v1", "RedisEnterpriseCluster"),
            (
                "app.redislabs.com/v1",
                "RedisEnterpriseActiveActiveDatabase",
            ),
        ] {
            assert_eq!(Kind::of(api_version, kind), None, "{api_version} {kind}");
        }
    }

    #[test]
    fn what_carries_data_is_decided_here_and_not_by_the_hub() {
        let bearing: Vec<_> = Kind::ALL
            .into_iter()
            .filter(|kind| kind.data_bearing())
            .collect();
        assert_eq!(bearing, [Kind::Instance, Kind::Database]);
    }
}
