//! What a database gets in a namespace of its own: a name there that leads to its Services, which are with the REC.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::{ResourceExt, api::ObjectMeta};

use crate::k8s::{
    apply::{ApplyError, Objects},
    own::Owner,
};

/// Makes the name of the database `name` in its namespace lead to one of its `services`. Nothing is made where those
/// stand in the same namespace, or do not stand yet.
///
/// # Errors
/// The name is taken, or the API server refused or could not be reached.
pub(super) async fn name(
    home: &Objects,
    own: &Objects,
    owner: &Owner,
    name: &str,
    services: &[Service],
) -> Result<(), ApplyError> {
    if own.namespace() == home.namespace() {
        return Ok(());
    }
    let Some(target) = target(services) else {
        return Ok(());
    };
    let host = format!("{target}.{}.svc.cluster.local", home.namespace());
    let wanted = service(owner, own.namespace(), name, host);
    own.ensure(&wanted, owner).await.map(|_| ())
}

/// The Service that the name leads to: that with a virtual address, otherwise any, the shortest name first.
fn target(services: &[Service]) -> Option<String> {
    let rank = |service: &&Service| {
        let spec = service.spec.as_ref();
        let plain = spec.and_then(|spec| spec.type_.as_deref()) == Some("ClusterIP");
        let headless = spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
        (!plain || headless, headless, service.name_any())
    };
    services.iter().min_by_key(rank).map(ResourceExt::name_any)
}

fn service(owner: &Owner, namespace: &str, name: &str, host: String) -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(owner.labels()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some(host),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::testing::{answer, objects};

    fn made(name: &str, spec: &Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    #[test]
    fn the_name_leads_to_the_virtual_address_and_without_one_to_what_there_is() {
        let plain = made("db", &json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"}));
        let headless = made(
            "db-headless",
            &json!({"type": "ClusterIP", "clusterIP": "None"}),
        );
        let outside = made("db-load-balancer", &json!({"type": "LoadBalancer"}));
        let cases = [
            (vec![&outside, &headless, &plain], Some("db")),
            (vec![&headless, &outside], Some("db-load-balancer")),
            (vec![&headless], Some("db-headless")),
            (vec![], None),
        ];
        for (services, expected) in cases {
            let services: Vec<Service> = services.into_iter().cloned().collect();
            assert_eq!(target(&services).as_deref(), expected);
        }
    }

    #[test]
    fn the_name_is_an_external_name_of_the_databases_own_labels() {
        let owner = Owner::database("rec", "team", "db");
        let host = "db.home.svc.cluster.local".to_owned();
        let built = serde_json::to_value(service(&owner, "team", "db", host)).unwrap();
        let expected = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "db", "namespace": "team", "labels": {
                "app": "redis-enterprise", "app.kubernetes.io/managed-by": "meridian-agent",
                "meridian.dev/database": "db", "meridian.dev/database-namespace": "team", "redis.io/cluster": "rec",
            }},
            "spec": {"type": "ExternalName", "externalName": "db.home.svc.cluster.local"},
        });
        assert_eq!(built, expected);
    }

    #[tokio::test]
    async fn in_the_namespace_of_the_cluster_there_is_nothing_to_name() {
        let (objects, server) = objects();
        let asked = tokio::spawn(answer(server, Vec::new()));
        let owner = Owner::database("rec", "ns", "db");
        let services = [made("db", &json!({"type": "ClusterIP"}))];
        name(&objects, &objects.clone(), &owner, "db", &services)
            .await
            .unwrap();
        drop(objects);
        assert_eq!(asked.await.unwrap(), []);
    }
}
