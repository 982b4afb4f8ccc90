//! Keeps the agent's rights in a namespace that is being deleted until its databases have ended.
//!
//! Kubernetes deletes the objects of a namespace in no order. Without its RoleBinding the agent could not take its
//! finalizers away, and the namespace would stay for ever; so the RoleBinding has a finalizer as well, and goes last. What
//! it refers to is a ClusterRole, because a Role would need the same and could not be let go of without itself.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{ResourceExt as _, api::ListParams, core::PartialObjectMeta};
use meridian_api::crds::RedisEnterpriseDatabase;

use crate::{
    controllers::database,
    k8s::{
        apply::{ApplyError, Objects},
        finalizer,
    },
};

/// Name of the RoleBinding of the agent of `home`: each agent has one of its own.
pub(super) fn binding(home: &str) -> String {
    format!("meridian-consumer-{home}")
}

/// Keeps it.
const FINALIZER: &str = "meridian.dev/databases";

/// Makes the RoleBinding outlive the databases.
pub(super) async fn hold(objects: &Objects, binding: &RoleBinding) {
    if let Err(error) = finalizer::hold(objects, binding, FINALIZER).await {
        let namespace = objects.namespace();
        tracing::warn!(
            namespace, %error,
            "the RoleBinding {} has no finalizer: if the namespace is deleted with its databases, it may stay; \
             apply deploy/bundle/consumer-namespace.yaml",
            binding.name_any()
        );
    }
}

/// Lets the RoleBinding go if no database needs it any more. Tells whether it did.
pub(super) async fn release(objects: &Objects, home: &str) -> bool {
    let name = binding(home);
    match try_release(objects, &name).await {
        Ok(released) => released,
        Err(error) => {
            let namespace = objects.namespace();
            tracing::warn!(namespace, %error, "the RoleBinding {name} stays for now");
            false
        }
    }
}

async fn try_release(objects: &Objects, name: &str) -> Result<bool, ApplyError> {
    if any_held(objects).await? {
        return Ok(false);
    }
    if let Some(binding) = objects.get::<RoleBinding>(name).await? {
        finalizer::release(objects, &binding, FINALIZER).await?;
    }
    Ok(true)
}

/// Whether a database, readable or not, waits for the agent.
async fn any_held(objects: &Objects) -> Result<bool, ApplyError> {
    let all = objects
        .api::<RedisEnterpriseDatabase>()
        .list_metadata(&ListParams::default())
        .await
        .map_err(|source| ApplyError::Api {
            verb: "list",
            kind: "RedisEnterpriseDatabase".to_owned(),
            name: String::new(),
            source: Box::new(source),
        })?;
    let held = |found: &PartialObjectMeta<RedisEnterpriseDatabase>| {
        let all = found.metadata.finalizers.iter().flatten();
        all.into_iter().any(|name| name == database::FINALIZER)
    };
    Ok(all.items.iter().any(held))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::testing::{answer, objects};

    fn redbs(finalizers: &Value) -> (u16, Value) {
        let item = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                          "metadata": {"name": "db", "namespace": "ns", "finalizers": finalizers}});
        (
            200,
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": [item]}),
        )
    }

    fn found() -> (u16, Value) {
        (
            200,
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                     "metadata": {"name": "meridian-consumer-home", "namespace": "ns", "uid": "B", "resourceVersion": "7",
                                  "finalizers": ["theirs", FINALIZER]},
                     "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}}),
        )
    }

    #[tokio::test]
    async fn the_rights_stay_while_a_database_waits_for_the_agent() {
        let (objects, server) = objects();
        let asked = tokio::spawn(answer(server, vec![redbs(&json!([database::FINALIZER]))]));
        assert!(!release(&objects, "home").await);
        drop(objects);
        let asked = asked.await.unwrap();
        assert_eq!(asked.len(), 1, "nothing is written: {asked:?}");
    }

    #[tokio::test]
    async fn the_rights_go_when_no_database_waits_and_finalizers_of_others_stay() {
        let (objects, server) = objects();
        let answers = vec![redbs(&json!(["of-somebody-else"])), found(), found()];
        let asked = tokio::spawn(answer(server, answers));
        assert!(release(&objects, "home").await);
        drop(objects);
        let asked = asked.await.unwrap();
        let (method, uri, body) = &asked[2];
        assert_eq!(method, Method::PATCH);
        assert!(
            uri.contains("/rolebindings/meridian-consumer-home"),
            "{uri}"
        );
        assert_eq!(body["metadata"]["finalizers"], json!(["theirs"]));
    }
}
