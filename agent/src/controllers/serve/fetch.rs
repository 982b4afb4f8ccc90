//! Everything that is read about the local side of a database.

use k8s_openapi::api::{
    core::v1::{Pod, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{ResourceExt as _, api::ObjectMeta};
use meridian_api::crds::{DatabaseTopology, RedisEnterpriseCluster, shared::ClusterReference};

use super::{ServeError, access::Access, settings::Password};
use crate::{
    controllers::{
        placement::Node,
        secrets::{fresh_password, value},
        topology::{Found, Memory},
    },
    k8s::{
        apply::{ApplyError, Objects},
        own::{CLUSTER, Owner, Ownership, RACK, ROLE_NODE},
        quantity,
    },
};

/// The REC that serves a database with this reference, among `objects`.
///
/// # Errors
/// [`ServeError::NoCluster`]: there is none, or several and the spec names none.
pub(crate) async fn cluster(
    objects: &Objects,
    reference: Option<&ClusterReference>,
) -> Result<RedisEnterpriseCluster, ServeError> {
    if let Some(reference) = reference.filter(|reference| !reference.name.is_empty()) {
        let found = objects.get(&reference.name).await?;
        let text = || {
            format!(
                "the RedisEnterpriseCluster `{}` does not exist in the namespace `{}`",
                reference.name,
                objects.namespace()
            )
        };
        return found.ok_or_else(|| ServeError::NoCluster(text()));
    }
    let mut all = objects.list::<RedisEnterpriseCluster>("").await?;
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(ServeError::NoCluster("this namespace has no RedisEnterpriseCluster".to_owned())),
        (Some(_), false) => Err(ServeError::NoCluster(
            "this namespace has several RedisEnterpriseClusters: name one in spec.redisEnterpriseCluster".to_owned(),
        )),
    }
}

/// What stands in the API about a database besides itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// Its topology, others, nodes and memories.
    pub topology: Found,
    /// Its Services.
    pub services: Vec<Service>,
    /// Whether an EndpointSlice leads to it.
    pub reachable: bool,
    /// Who may log in, once that is written.
    pub access: Option<Access>,
}

/// Reads the world around the database `name`, but for what others have: see [`crate::controllers::ledger`].
///
/// # Errors
/// The API server refused or could not be reached.
pub(crate) async fn world(
    objects: &Objects,
    rec: &str,
    name: &str,
    meta: &ObjectMeta,
) -> Result<World, ApplyError> {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let selector = Owner::database(rec, namespace, name).selector();
    let (slices, existing, nodes, services) = tokio::try_join!(
        objects.list::<EndpointSlice>(&selector),
        objects.get::<DatabaseTopology>(name),
        nodes(objects, rec),
        objects.list(&selector),
    )?;
    let mut memories: Vec<Memory> = Memory::read(meta).into_iter().collect();
    memories.extend(
        slices
            .iter()
            .filter_map(|slice| Memory::read(&slice.metadata)),
    );
    let reachable = slices
        .iter()
        .any(|slice| slice.endpoints.as_ref().is_some_and(|all| !all.is_empty()));
    Ok(World {
        topology: Found {
            existing,
            memories,
            has_served: false,
            others: Vec::new(),
            nodes,
        },
        services,
        reachable,
        access: None,
    })
}

/// The pods of the REC `rec`, as placement sees them.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn nodes(objects: &Objects, rec: &str) -> Result<Vec<Node>, ApplyError> {
    let selector = format!("{CLUSTER}={rec},{}={}", ROLE_NODE.0, ROLE_NODE.1);
    let pods = objects.list::<Pod>(&selector).await?;
    Ok(pods.iter().map(node).collect())
}

/// A pod as placement sees it.
pub(crate) fn node(pod: &Pod) -> Node {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready =
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let limits = container.and_then(|container| container.resources.as_ref()?.limits.as_ref());
    let limit = limits.and_then(|limits| quantity::bytes(&limits.get("memory")?.0));
    let rack = pod.annotations().get(RACK).or(pod.labels().get(RACK));
    Node {
        pod: pod.name_any(),
        ready: ready && pod.metadata.deletion_timestamp.is_none(),
        limit,
        host: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        rack: rack.filter(|rack| !rack.is_empty()).cloned(),
    }
}

/// The password of the default user, and whose Secret holds it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// There is no default user.
    NoUser,
    /// In the Secret that we write.
    Ours {
        /// Name of the Secret.
        secret: String,
        /// The password, kept or fresh.
        password: Vec<u8>,
    },
    /// In a Secret that we only read.
    Theirs {
        /// Name of the Secret.
        secret: String,
        /// The password; empty turns authentication off.
        password: Vec<u8>,
    },
}

impl Credential {
    /// The password; `None` where there is no default user.
    #[must_use]
    pub(crate) fn password(&self) -> Option<&[u8]> {
        match self {
            Self::NoUser => None,
            Self::Ours { password, .. } | Self::Theirs { password, .. } => Some(password),
        }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoUser => f.write_str("NoUser"),
            Self::Ours { secret, .. } => write!(f, "Ours({secret})"),
            Self::Theirs { secret, .. } => write!(f, "Theirs({secret})"),
        }
    }
}

/// Reads or draws the password of a database. A named Secret that another made is only read; with `create` one that
/// does not exist is made under the given name.
///
/// # Errors
/// [`ServeError::Secret`]: the named Secret cannot be used.
pub(crate) async fn credential(
    objects: &Objects,
    owner: &Owner,
    wanted: &Password,
    create: bool,
) -> Result<Credential, ServeError> {
    let (name, named) = match wanted {
        Password::NoUser => return Ok(Credential::NoUser),
        Password::Ours(name) => (name.clone(), false),
        Password::Named(name) => (name.clone(), true),
    };
    let existing = objects.get::<Secret>(&name).await?;
    let foreign = matches!(
        owner.judge(existing.as_ref().map(|s| &s.metadata)),
        Ownership::Foreign { .. }
    );
    let kept = existing
        .as_ref()
        .and_then(|secret| value(secret, "password"))
        .map(<[u8]>::to_vec);
    let unusable = |problem| ServeError::Secret {
        secret: name.clone(),
        problem,
    };
    match (named && (foreign || !create), existing.is_some(), kept) {
        (true, _, Some(password)) => Ok(Credential::Theirs {
            secret: name,
            password,
        }),
        (true, true, None) => Err(unusable("has no key `password`: add it")),
        (true, false, None) => Err(unusable(
            "does not exist: create it with the key `password`",
        )),
        (false, _, Some(password)) => Ok(Credential::Ours {
            secret: name,
            password,
        }),
        (false, _, None) => Ok(Credential::Ours {
            secret: name,
            password: fresh_password()?.into_bytes(),
        }),
    }
}
