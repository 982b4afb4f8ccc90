//! What people wish with kubectl on this member, in the words of the link. Pure.
//!
//! A REAADB without the hub's annotation is a proposal; one that somebody deletes here without the hub's approval is a
//! question. The hub answers with a Confirm; nothing happens on the member before that.

use aws_lc_rs::digest::{SHA256, digest};
use kube::{ResourceExt as _, api::DynamicObject};
use meridian_api::link::proto::{self, IntentOp};

use super::{
    kinds::Kind,
    settle::{mark_of, object_id_of},
};
use crate::k8s::own::is_deletion_approved;

/// The wish that an object of `kind` expresses, if it expresses one.
#[must_use]
pub fn wish(kind: Kind, object: &DynamicObject) -> Option<proto::LocalIntent> {
    if kind != Kind::Database {
        return None;
    }
    let leaving = object.metadata.deletion_timestamp.is_some();
    match (object_id_of(object), leaving) {
        (None, false) => intent(kind, object, IntentOp::Upsert),
        (Some(_), true) if !is_deletion_approved(&object.metadata) => {
            intent(kind, object, IntentOp::Delete)
        }
        // What the hub does not know may go without asking it; what it approved is going; all else is no wish.
        (None, true) | (Some(_), _) => None,
    }
}

fn intent(kind: Kind, object: &DynamicObject, op: IntentOp) -> Option<proto::LocalIntent> {
    let uid = object.uid()?;
    let body = match op {
        IntentOp::Upsert => body(object)?,
        IntentOp::Delete | IntentOp::Unspecified => Vec::new(),
    };
    Some(proto::LocalIntent {
        intent_id: intent_id(&uid, object.metadata.generation.unwrap_or(0), op),
        object_id: object_id_of(object)
            .map(|id| id.to_string())
            .unwrap_or_default(),
        base_revision: mark_of(object).map_or(0, |mark| mark.revision.0),
        op: op.into(),
        kind: kind.kind().to_owned(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        body: body.into(),
        author: author(object),
        kube_uid: uid,
    })
}

/// The same wish has the same id, also after a restart; a changed spec is another wish.
fn intent_id(uid: &str, generation: i64, op: IntentOp) -> String {
    let hash = digest(
        &SHA256,
        format!("{uid}/{generation}/{}", op.as_str_name()).as_bytes(),
    );
    let mut bytes = [0; 16];
    bytes
        .iter_mut()
        .zip(hash.as_ref())
        .for_each(|(byte, hashed)| *byte = *hashed);
    uuid::Builder::from_custom_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// The object without what only the API server says of it.
fn body(object: &DynamicObject) -> Option<Vec<u8>> {
    let mut body = object.clone();
    body.metadata.managed_fields = None;
    body.metadata.resource_version = None;
    body.metadata.uid = None;
    body.metadata.creation_timestamp = None;
    body.metadata.generation = None;
    body.metadata.finalizers = None;
    if let Some(fields) = body.data.as_object_mut() {
        fields.remove("status");
    }
    serde_json::to_vec(&body).ok()
}

/// Who wrote last, as far as the API server tells.
fn author(object: &DynamicObject) -> String {
    let entries = object.metadata.managed_fields.iter().flatten();
    let people =
        entries.filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty());
    let last = people.max_by(|a, b| {
        a.time
            .as_ref()
            .map(|time| time.0)
            .cmp(&b.time.as_ref().map(|time| time.0))
    });
    last.and_then(|entry| entry.manager.clone())
        .unwrap_or_default()
}

/// What an answer means to those who look at the object: reason and note of its Event, and whether it is a warning.
#[must_use]
pub fn verdict(answer: &proto::Confirm, wish: &proto::LocalIntent) -> (&'static str, String, bool) {
    let what = format!("{} {}/{}", wish.kind, wish.namespace, wish.name);
    let why = if answer.message.is_empty() {
        "no reason given"
    } else {
        &answer.message
    };
    match (answer.action(), wish.op()) {
        (proto::ConfirmAction::Delete, _) => (
            "DeletionApproved",
            format!(
                "the hub approved the deletion of {what}: {}",
                answer.approval
            ),
            false,
        ),
        (proto::ConfirmAction::Refuse, _) | (_, IntentOp::Upsert | IntentOp::Unspecified) => (
            "ProposalRefused",
            format!("the hub refused {what}: {why}; change the object, or create it on the hub"),
            true,
        ),
        (_, IntentOp::Delete) => (
            "DeletionRefused",
            format!("the hub keeps {what}: {why}; to delete it everywhere, delete it on the hub"),
            true,
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::link::kinds::{DELETE_APPROVED, OBJECT_ID, REVISION, TERM};

    const ID: &str = "00000000-0000-4000-8000-000000000001";

    fn database(metadata: Value) -> DynamicObject {
        let mut object = json!({"apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseActiveActiveDatabase",
            "metadata": {"name": "db", "namespace": "ns", "uid": "u", "generation": 1}, "spec": {"x": 1}, "status": {"s": 1}});
        for (key, value) in metadata.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_database_without_the_hubs_annotation_is_proposed_without_its_status() {
        let managed = json!([{"manager": "kubectl-client-side-apply", "operation": "Update", "time": "2026-01-01T00:00:00Z"}]);
        let wish = wish(Kind::Database, &database(json!({"managedFields": managed}))).unwrap();
        assert_eq!(
            (wish.op(), wish.object_id.as_str(), wish.kube_uid.as_str()),
            (IntentOp::Upsert, "", "u")
        );
        assert_eq!(wish.author, "kubectl-client-side-apply");
        let body: Value = serde_json::from_slice(&wish.body).unwrap();
        assert_eq!(body["spec"], json!({"x": 1}));
        assert_eq!(body.get("status"), None);
        assert_eq!(body["metadata"], json!({"name": "db", "namespace": "ns"}));
    }

    #[test]
    fn a_repeated_wish_has_the_same_id_and_a_changed_one_another() {
        let id = |metadata: Value| wish(Kind::Database, &database(metadata)).unwrap().intent_id;
        assert_eq!(id(json!({})), id(json!({"labels": {"a": "b"}})));
        assert_ne!(id(json!({})), id(json!({"generation": 2})));
        assert_ne!(id(json!({})), id(json!({"uid": "v"})));
    }

    #[test]
    fn a_deletion_by_hand_is_a_question_and_an_approved_one_is_none() {
        let leaving = "2026-01-01T00:00:00Z";
        let asked = wish(
            Kind::Database,
            &database(json!({"deletionTimestamp": leaving, "annotations": {OBJECT_ID: ID}})),
        )
        .unwrap();
        assert_eq!(
            (asked.op(), asked.object_id.as_str(), asked.body.len()),
            (IntentOp::Delete, ID, 0)
        );
        // As the hub's order shows itself, before and after the store was restored.
        for (approved, shown, asks) in [("1/8", "1", false), ("1/8", "2", true)] {
            let approved = json!({"deletionTimestamp": leaving, "annotations": {
                OBJECT_ID: ID, DELETE_APPROVED: approved, TERM: shown, REVISION: "7",
            }});
            let asked = wish(Kind::Database, &database(approved));
            assert_eq!(asked.is_some(), asks, "{asked:?}");
        }
        assert_eq!(
            wish(
                Kind::Database,
                &database(json!({"annotations": {OBJECT_ID: ID}}))
            ),
            None
        );
        assert_eq!(
            wish(
                Kind::Database,
                &database(json!({"deletionTimestamp": leaving}))
            ),
            None
        );
        assert_eq!(wish(Kind::RemoteCluster, &database(json!({}))), None);
    }

    #[test]
    fn a_refusal_tells_the_hubs_reason_and_what_to_do() {
        let asked = wish(Kind::Database, &database(json!({}))).unwrap();
        let refusal = proto::Confirm {
            action: proto::ConfirmAction::Refuse.into(),
            message: "no cluster `eu-9`".to_owned(),
            ..Default::default()
        };
        let (reason, note, warning) = verdict(&refusal, &asked);
        assert_eq!((reason, warning), ("ProposalRefused", true));
        assert!(
            note.contains("no cluster `eu-9`") && note.contains("ns/db"),
            "{note}"
        );
    }
}
