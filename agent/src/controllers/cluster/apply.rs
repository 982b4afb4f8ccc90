//! Writes what was built. First it looks whether any name is taken by another manager: then nothing at all is written.

use std::marker::PhantomData;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::build::Desired;
use crate::{
    controllers::stage::{Applied, Built},
    k8s::{
        apply::{ApplyError, Objects},
        fault::Fault,
        names::ClusterNames,
        own::Owner,
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
        certificates,
        api,
        services,
        disruption_budget,
        network_policy,
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
    let certificates = objects.ensure(&certificates, &owner).await?;
    let api = objects.ensure(&api, &owner).await?;
    let mut applied = Vec::new();
    for service in services {
        applied.push(objects.ensure(&service, &owner).await?);
    }
    Ok(Desired {
        service_account,
        role,
        role_binding,
        credentials,
        users,
        internal,
        certificates,
        api,
        services: applied,
        disruption_budget: objects.ensure(&disruption_budget, &owner).await?,
        network_policy: reach(objects, rec, network_policy).await?,
        stateful_set: objects.ensure(&stateful_set, &owner).await?,
        stage: PhantomData,
    })
}

/// Makes the policy, or removes the one that is not asked for any more.
async fn reach(
    objects: &Objects,
    rec: &str,
    wanted: Option<NetworkPolicy>,
) -> Result<Option<NetworkPolicy>, ApplyError> {
    let owner = Owner::cluster(rec);
    if let Some(policy) = wanted {
        return Ok(Some(objects.ensure(&policy, &owner).await?));
    }
    let name = ClusterNames(rec).main();
    match objects.remove::<NetworkPolicy>(&name, &owner).await {
        // Without the right to read policies none was made.
        Err(error) if error.fault() == Fault::Refused => Ok(None),
        removed => removed.map(|_| None),
    }
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
    for secret in built.credentials.iter().chain([
        &built.users,
        &built.internal,
        &built.certificates,
        &built.api,
    ]) {
        objects.refuse_foreign(secret, owner).await?;
    }
    if let Some(account) = &built.service_account {
        objects.refuse_foreign(account, owner).await?;
    }
    if let Some(policy) = &built.network_policy {
        objects.refuse_foreign(policy, owner).await?;
    }
    objects.refuse_foreign(&built.role, owner).await?;
    objects.refuse_foreign(&built.role_binding, owner).await?;
    objects
        .refuse_foreign(&built.disruption_budget, owner)
        .await
}
