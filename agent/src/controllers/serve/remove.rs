//! The last step of a confirmed deletion: everything that was made for a database goes, except its files on the volume.

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{Resource, ResourceExt as _};
use meridian_api::crds::DatabaseTopology;

use super::{ServeError, apply::users_entry};
use crate::k8s::{
    apply::{ApplyError, Object, Objects},
    own::Owner,
};

/// Removes the topology first, so that no node serves and nothing is made again, then what led to it. Tells whether
/// nothing was left to remove: only then the database object may go.
///
/// # Errors
/// The API server refused or could not be reached.
pub(crate) async fn everything(
    objects: &Objects,
    rec: &str,
    database: &str,
) -> Result<bool, ServeError> {
    let owner = Owner::database(rec, database);
    let topology = objects.remove::<DatabaseTopology>(database, &owner).await?;
    let services = all_of::<Service>(objects, &owner).await?;
    let slices = all_of::<EndpointSlice>(objects, &owner).await?;
    let secrets = all_of::<Secret>(objects, &owner).await?;
    users_entry(objects, rec, database, None).await?;
    Ok(!topology && !services && !slices && !secrets)
}

/// Removes every object of the kind that is the owner's; tells whether there was any.
async fn all_of<K>(objects: &Objects, owner: &Owner) -> Result<bool, ApplyError>
where
    K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let mut any = false;
    for object in objects.list::<K>(&owner.selector()).await? {
        any |= objects.remove::<K>(&object.name_any(), owner).await?;
    }
    Ok(any)
}
