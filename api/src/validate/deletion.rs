//! Rules about deleting: what the hub keeps, and what others still name, does not go by one command on one member.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Check, FieldError, quoted, surroundings::Place};

/// Annotation of an object that the hub keeps: the hub's identity of it.
pub const OBJECT_ID: &str = "meridian.dev/object-id";

/// Annotation by which a person confirms a deletion: the name of the object that carries it.
pub const CONFIRM_DELETION: &str = "meridian.dev/confirm-deletion";

/// Whether the deletion of the object was confirmed on the object itself.
#[must_use]
pub fn is_deletion_confirmed(meta: &ObjectMeta) -> bool {
    annotation(meta, CONFIRM_DELETION).is_some_and(|name| Some(name) == meta.name.as_deref())
}

/// Rules about deleting an Active-Active database on a member.
#[must_use]
pub fn active_active_database_deletion(meta: &ObjectMeta) -> Vec<FieldError> {
    let mut check = Check::default();
    if annotation(meta, OBJECT_ID).is_some() && !is_deletion_confirmed(meta) {
        let name = meta.name.as_deref().unwrap_or_default();
        check.refuse(
            format!("metadata.annotations[{CONFIRM_DELETION}]"),
            annotation(meta, CONFIRM_DELETION).map_or_else(|| "nothing".to_owned(), quoted),
            &format!("{} before the hub's database is deleted on a member", quoted(name)),
            &format!(
                "delete it everywhere with `meridian delete activeactivedatabase {name} --yes`, or set the annotation \
                 and delete again to ask the hub for that"
            ),
        );
    }
    check.errors
}

/// Rules about deleting a remote cluster that `users` name, or may name, as a participant.
#[must_use]
pub fn remote_cluster_deletion(meta: &ObjectMeta, users: &[Place]) -> Vec<FieldError> {
    let mut check = Check::default();
    let name = meta.name.as_deref().unwrap_or_default();
    if is_deletion_confirmed(meta) {
        return check.errors;
    }
    if !users.is_empty() {
        let list: Vec<String> = users.iter().map(ToString::to_string).collect();
        check.refuse(
            "metadata.name",
            format!("{} in use by {}", quoted(name), list.join(", ")),
            "a remote cluster that no Active-Active database lists",
            "remove it from their spec.participatingClusters first",
        );
    } else if annotation(meta, OBJECT_ID).is_some() {
        check.refuse(
            format!("metadata.annotations[{CONFIRM_DELETION}]"),
            annotation(meta, CONFIRM_DELETION).map_or_else(|| "nothing".to_owned(), quoted),
            &format!("{} before an object of the hub is deleted on a member", quoted(name)),
            "leave it: the hub takes it away when no database needs it; or set the annotation, and the hub makes it again",
        );
    }
    check.errors
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}
