//! The objects of this cluster that the hub may write: what the link asks of the API server.
//!
//! A trait, so that the applier runs over an API server or over memory. [`Cluster`] is the real one.

use std::{collections::BTreeSet, future::Future};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client,
    api::{
        DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions,
        PropagationPolicy,
    },
    core::Status,
};
use meridian_api::installation::lacking;
use serde_json::{Value, json};
use thiserror::Error;

use super::{
    kinds::{DELETE_APPROVED, FIELD_MANAGER, Kind},
    settle::object_id_of,
};

/// Objects per page of a list.
const PAGE: u32 = 500;

/// Why the API server did not do what was asked.
#[derive(Debug, Error)]
pub enum MemberError {
    /// Other field managers own fields that would change.
    #[error("owned by field manager {managers}: {message}")]
    Owned {
        /// Their names.
        managers: String,
        /// What the API server said.
        message: String,
    },
    /// The object changed or was replaced in between.
    #[error("somebody wrote at the same time: {0}")]
    Raced(String),
    /// The API server understood and refused the object.
    #[error("the API server refused the object: {0}")]
    Refused(String),
    /// The agent may not do this.
    #[error("the agent may not do this: {0}; compare its Role with the installation bundle")]
    Forbidden(String),
    /// The kind is not installed.
    #[error("the API server does not know the kind: {0}; apply the custom resource definitions")]
    NoKind(String),
    /// The API server cannot be reached, or failed.
    #[error("the API server cannot be used now: {0}")]
    Unavailable(String),
}

/// The objects of one namespace.
pub trait Member: Send + Sync + 'static {
    /// The object, or `None` where it does not exist.
    fn get(
        &self,
        kind: Kind,
        name: &str,
    ) -> impl Future<Output = Result<Option<DynamicObject>, MemberError>> + Send;

    /// Writes `body` by server-side apply as the hub's field manager.
    fn write(
        &self,
        kind: Kind,
        name: &str,
        body: &Value,
        force: bool,
    ) -> impl Future<Output = Result<DynamicObject, MemberError>> + Send;

    /// Marks the deletion of `revision` as approved on the object that has `uid`.
    fn approve_deletion(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        revision: &str,
    ) -> impl Future<Output = Result<(), MemberError>> + Send;

    /// Deletes the object that has `uid`; one that is gone already is no error.
    fn delete(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
    ) -> impl Future<Output = Result<(), MemberError>> + Send;

    /// Every object that carries the hub's identity annotation.
    fn list(&self) -> impl Future<Output = Result<Vec<(Kind, DynamicObject)>, MemberError>> + Send;
}

/// The objects of one namespace, through its API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// The objects of `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    async fn list_kind(&self, kind: Kind) -> Result<Vec<(Kind, DynamicObject)>, MemberError> {
        let api = self.api(kind);
        let mut params = ListParams::default().limit(PAGE);
        if kind.labelled() {
            params = params.labels("app.kubernetes.io/managed-by=meridian-agent");
        }
        let mut found = Vec::new();
        loop {
            let page = api.list(&params).await.map_err(|error| of_kube(&error))?;
            found.extend(
                page.items
                    .into_iter()
                    .filter(|object| object_id_of(object).is_some())
                    .map(|o| (kind, o)),
            );
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(found),
            }
        }
    }
}

impl Member for Cluster {
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<DynamicObject>, MemberError> {
        match self.api(kind).get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if is_missing_object(&status) => Ok(None),
            Err(error) => Err(of_kube(&error)),
        }
    }

    async fn write(
        &self,
        kind: Kind,
        name: &str,
        body: &Value,
        force: bool,
    ) -> Result<DynamicObject, MemberError> {
        let params = PatchParams {
            force,
            ..PatchParams::apply(FIELD_MANAGER)
        };
        self.api(kind)
            .patch(name, &params, &Patch::Apply(body))
            .await
            .map_err(|error| of_kube(&error))
    }

    async fn approve_deletion(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        revision: &str,
    ) -> Result<(), MemberError> {
        let patch = json!({"metadata": {"uid": uid, "annotations": {DELETE_APPROVED: revision}}});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = self
            .api(kind)
            .patch(name, &params, &Patch::Merge(&patch))
            .await;
        patched.map(drop).map_err(|error| of_kube(&error))
    }

    async fn delete(&self, kind: Kind, name: &str, uid: &str) -> Result<(), MemberError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match self.api(kind).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if is_missing_object(&status) => Ok(()),
            Err(error) => Err(of_kube(&error)),
        }
    }

    async fn list(&self) -> Result<Vec<(Kind, DynamicObject)>, MemberError> {
        let per_kind = stream::iter(Kind::ALL)
            .map(|kind| self.list_kind(kind))
            .buffer_unordered(Kind::ALL.len());
        let lists: Vec<Vec<_>> = per_kind.try_collect().await?;
        Ok(lists.into_iter().flatten().collect())
    }
}

/// A missing object has details that name it; a missing kind is answered by the router, without.
fn is_missing_object(status: &Status) -> bool {
    status.code == 404
        && status
            .details
            .as_ref()
            .is_some_and(|details| !details.name.is_empty())
}

/// Sorts an error of the API server.
#[must_use]
pub fn of_kube(error: &kube::Error) -> MemberError {
    let kube::Error::Api(status) = error else {
        return MemberError::Unavailable(chain(error));
    };
    let message = status.message.clone();
    match status.code {
        409 => match managers(status) {
            managers if managers.is_empty() => MemberError::Raced(message),
            managers => MemberError::Owned { managers, message },
        },
        404 => MemberError::NoKind(message),
        // A webhook says no with 403 as well; only its message tells it from a missing permission.
        401 | 403 if !message.contains("denied the request") => MemberError::Forbidden(message),
        500 if !lacking::undeclared(&message).is_empty() => MemberError::Refused(format!(
            "{message}. The installed definition is older than what is sent: ask `meridian preflight` how to install those of \
             this release"
        )),
        400..=499 if status.code != 429 => MemberError::Refused(message),
        _ => MemberError::Unavailable(message),
    }
}

/// Names of the field managers in a conflict of server-side apply.
fn managers(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict");
    let names: BTreeSet<_> = conflicts
        .filter_map(|cause| cause.message.split('"').nth(1))
        .collect();
    names
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// An error with everything that caused it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(answer: Value) -> kube::Error {
        let status: Status = serde_json::from_value(answer).unwrap();
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn a_conflict_of_fields_names_the_other_managers_once() {
        let cause = |who: &str| json!({"reason": "FieldManagerConflict", "message": format!("conflict with \"{who}\" using v1"), "field": ".spec.x"});
        let answer = error(
            json!({"code": 409, "message": "Apply failed", "reason": "Conflict",
            "details": {"causes": [cause("kubectl-edit"), cause("helm"), cause("helm")]}}),
        );
        let MemberError::Owned { managers, .. } = of_kube(&answer) else {
            panic!()
        };
        assert_eq!(managers, "`helm`, `kubectl-edit`");
    }

    #[test]
    fn answers_of_the_api_server_are_sorted_by_what_helps() {
        let of = |code: u16, message: &str| {
            of_kube(&error(
                json!({"code": code, "message": message, "reason": ""}),
            ))
        };
        assert!(matches!(
            of(409, "the object has been modified"),
            MemberError::Raced(_)
        ));
        assert!(matches!(
            of(422, "spec.x: Invalid value"),
            MemberError::Refused(_)
        ));
        assert!(matches!(
            of(403, "admission webhook \"a\" denied the request: no"),
            MemberError::Refused(_)
        ));
        assert!(matches!(
            of(403, "secrets is forbidden: User"),
            MemberError::Forbidden(_)
        ));
        assert!(matches!(
            of(404, "404 page not found"),
            MemberError::NoKind(_)
        ));
        assert!(matches!(of(429, "later"), MemberError::Unavailable(_)));
        assert!(matches!(of(500, "etcd"), MemberError::Unavailable(_)));
    }

    #[test]
    fn a_missing_object_is_told_from_a_missing_kind() {
        let status = |answer: Value| serde_json::from_value::<Status>(answer).unwrap();
        let object = json!({"code": 404, "message": "x not found", "reason": "NotFound", "details": {"name": "x"}});
        assert!(is_missing_object(&status(object)));
        assert!(!is_missing_object(&status(
            json!({"code": 404, "message": "404 page not found", "reason": "NotFound", "details": {}})
        )));
    }
}
