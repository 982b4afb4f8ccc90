//! Writing a status: only what is news, and only what the installed definition keeps; the rest is told otherwise.

use kube::api::{Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::{ApplyError, FIELD_MANAGER, Object, Objects, encode_as};
use crate::k8s::pruned;

impl Objects {
    /// Applies the status of `target`. Tells whether anything had to be written: `current` is what the object shows
    /// now, and an equal status costs no request. Neither does one that differs only in conditions which the installed
    /// definition does not keep, and which were told.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: refused or not reached.
    pub async fn status<K: Object, S: Serialize>(
        &self,
        target: &K,
        current: Option<&S>,
        wanted: &S,
    ) -> Result<bool, ApplyError> {
        let wanted = encode_as(target, wanted)?;
        let current = current.map(|shown| encode_as(target, shown)).transpose()?;
        if current.as_ref() == Some(&wanted) && self.told.agrees(target, &wanted) {
            return Ok(false);
        }
        let left_out = self.pruned.left_out::<K>();
        let rest = |status: &Value| pruned::without(status, &left_out);
        if current.as_ref().map(rest) == Some(rest(&wanted))
            && self.pruned.was_told(FIELD_MANAGER, target, &wanted)
        {
            return Ok(false);
        }
        let written = self.write(FIELD_MANAGER, target, &wanted).await;
        self.told
            .remember(target, written.as_ref().ok().map(|()| &wanted));
        written.map(|()| true)
    }

    /// Applies the part `wanted` of the status of `target` that the field manager `manager` owns; what it owned before and
    /// does not say now goes.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: refused or not reached.
    pub async fn status_as<K: Object, S: Serialize>(
        &self,
        manager: &str,
        target: &K,
        wanted: &S,
    ) -> Result<(), ApplyError> {
        let wanted = encode_as(target, wanted)?;
        if self.pruned.was_told(manager, target, &wanted) {
            return Ok(());
        }
        self.write(manager, target, &wanted).await
    }

    async fn write<K: Object>(
        &self,
        manager: &str,
        target: &K,
        wanted: &Value,
    ) -> Result<(), ApplyError> {
        let params = PatchParams::apply(manager).force();
        let name = target.name_any();
        let (uid, api) = (Resource::meta(target).uid.clone(), self.where_it_is(target));
        let patched = loop {
            let status = pruned::without(wanted, &self.pruned.left_out::<K>());
            let body = json!({
                "apiVersion": K::api_version(&()), "kind": K::kind(&()),
                "metadata": { "name": name, "uid": uid }, "status": status,
            });
            match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
                // Only fields that were not known before lead to another try.
                Err(refusal) if self.pruned.learn::<K>(&refusal) => {}
                Err(source) => return Err(ApplyError::api::<K>("write status of", &name, source)),
                Ok(patched) => break patched,
            }
        };
        let kept = encode_as(target, &patched)?;
        self.pruned
            .heed(manager, target, wanted, &kept["status"])
            .await;
        Ok(())
    }
}
