//! Writes what was built. First it looks whether any name is taken by another manager: then nothing at all is written.

use std::marker::PhantomData;

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt as _;

use super::build::Desired;
use crate::{
    controllers::stage::{Applied, Built},
    k8s::{
        apply::{ApplyError, Objects},
        own::{FIELD_MANAGER, Owner},
    },
};

/// Applies everything; the pods last, when all that they need exists.
///
/// # Errors
/// [`ApplyError::Foreign`]: a name is taken, and nothing was written. [`ApplyError::Api`]: refused or not reached.
pub(super) async fn apply(
    objects: &Objects,
    rec: &str,
    built: Desired<Built>,
) -> Result<Desired<Applied>, ApplyError> {
    let owner = Owner::cluster(rec);
    refuse_foreign(objects, &owner, &built).await?;
    let Desired {
        service_account,
        role,
        role_binding,
        credentials,
        users,
        internal,
        services,
        disruption_budget,
        stateful_set,
        stage: PhantomData,
    } = built;
    let service_account = match service_account {
        Some(account) => Some(objects.ensure(&account, &owner).await?),
        None => None,
    };
    let role = objects.ensure(&role, &owner).await?;
    let role_binding = objects.ensure(&role_binding, &owner).await?;
    let credentials = match credentials {
        Some(secret) => Some(objects.ensure(&secret, &owner).await?),
        None => None,
    };
    let users = objects.ensure(&users, &owner).await?;
    let internal = objects.ensure(&internal, &owner).await?;
    let mut applied = Vec::new();
    for mut service in services {
        leave_theirs(objects, &mut service).await?;
        applied.push(objects.ensure(&service, &owner).await?);
    }
    Ok(Desired {
        service_account,
        role,
        role_binding,
        credentials,
        users,
        internal,
        services: applied,
        disruption_budget: objects.ensure(&disruption_budget, &owner).await?,
        stateful_set: objects.ensure(&stateful_set, &owner).await?,
        stage: PhantomData,
    })
}

/// Leaves out annotations that somebody else has set on the Service that exists: theirs stay.
async fn leave_theirs(objects: &Objects, service: &mut Service) -> Result<(), ApplyError> {
    if service.metadata.annotations.is_none() {
        return Ok(());
    }
    let existing = objects.get::<Service>(&service.name_any()).await?;
    if let (Some(wanted), Some(existing)) = (&mut service.metadata.annotations, existing) {
        wanted.retain(|key, value| !is_theirs(&existing.metadata, key, value));
    }
    Ok(())
}

/// Whether the annotation has another value that was not written by us.
fn is_theirs(existing: &ObjectMeta, key: &str, value: &str) -> bool {
    let found = existing.annotations.as_ref().and_then(|all| all.get(key));
    if found.is_none_or(|found| found == value) {
        return false;
    }
    let field = format!("f:{key}");
    let ours = existing.managed_fields.iter().flatten().any(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && fields
                .is_some_and(|fields| fields["f:metadata"]["f:annotations"].get(&field).is_some())
    });
    !ours
}

async fn refuse_foreign(
    objects: &Objects,
    owner: &Owner,
    built: &Desired<Built>,
) -> Result<(), ApplyError> {
    objects.refuse_foreign(&built.stateful_set, owner).await?;
    for service in &built.services {
        objects.refuse_foreign(service, owner).await?;
    }
    for secret in built
        .credentials
        .iter()
        .chain([&built.users, &built.internal])
    {
        objects.refuse_foreign(secret, owner).await?;
    }
    if let Some(account) = &built.service_account {
        objects.refuse_foreign(account, owner).await?;
    }
    objects.refuse_foreign(&built.role, owner).await?;
    objects.refuse_foreign(&built.role_binding, owner).await?;
    objects
        .refuse_foreign(&built.disruption_budget, owner)
        .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_annotation_that_another_set_stays_theirs_and_one_of_ours_may_change() {
        let existing: ObjectMeta = serde_json::from_value(json!({
            "annotations": {"ours": "1", "theirs": "1", "both": "1"},
            "managedFields": [
                {"manager": FIELD_MANAGER, "fieldsV1": {"f:metadata": {"f:annotations": {"f:ours": {}, "f:both": {}}}}},
                {"manager": "kubectl", "fieldsV1": {"f:metadata": {"f:annotations": {"f:theirs": {}, "f:both": {}}}}},
            ],
        }))
        .unwrap();
        let cases = [
            ("ours", "2", false),
            ("both", "2", false),
            ("theirs", "2", true),
            ("theirs", "1", false),
            ("new", "1", false),
        ];
        for (key, value, expected) in cases {
            assert_eq!(is_theirs(&existing, key, value), expected, "{key}={value}");
        }
    }
}
