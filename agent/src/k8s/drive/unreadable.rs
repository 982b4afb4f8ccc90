//! Objects that this build cannot read: the other version of the API or another release let them in. Each is told to its
//! owner and blinds nothing; and one that is being deleted goes, although nobody knows what its spec asked for.

use std::marker::PhantomData;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Resource as _,
    api::{Patch, PatchParams},
    core::{DeserializeGuard, PartialObjectMeta, error_boundary::InvalidObject},
    runtime::controller::Action,
};
use serde_json::json;

use super::{Driver, End, REST, State, failed};
use crate::{
    clock,
    k8s::{
        conditions::{Finding, conditions},
        finalizer,
        own::FIELD_MANAGER,
    },
};

/// One look at an object that cannot be read.
pub(super) async fn look<D: Driver>(state: &State<D>, invalid: &InvalidObject) -> Action {
    let object: PartialObjectMeta<D::Kind> = PartialObjectMeta {
        types: None,
        metadata: invalid.metadata.clone(),
        _phantom: PhantomData,
    };
    let going = object.metadata.deletion_timestamp.is_some();
    match D::FINALIZER {
        Some(held_by) if going && finalizer::holds(&object, held_by) => {
            end(state, invalid, &object, held_by).await
        }
        Some(_) | None => {
            let text = format!(
                "this object cannot be read: {}. Correct the field or delete the object",
                invalid.error
            );
            tell(state, invalid, Finding::no("Ready", "Unreadable", text)).await;
            Action::requeue(REST)
        }
    }
}

/// Takes the next step towards its end; the finalizer goes last, and what stays behind is said before.
async fn end<D: Driver>(
    state: &State<D>,
    invalid: &InvalidObject,
    object: &PartialObjectMeta<D::Kind>,
    held_by: &str,
) -> Action {
    let about = about::<D>(invalid);
    let name = about.name.clone().unwrap_or_default();
    let left = match state.driver.end(&object.metadata).await {
        Ok(End::Over(left)) => left,
        Ok(End::Waits(finding, soon)) => {
            tell(state, invalid, finding).await;
            return Action::requeue(soon);
        }
        Err(error) => return failed(state, &about, &name, &error).await,
    };
    let text = format!(
        "this object goes unread ({}), by what was made for it: {left}. Whatever only its spec named stays as it is",
        invalid.error
    );
    let events = &state.report.events;
    events.warning(&about, "UnreadableDeleted", &text).await;
    match finalizer::release(&state.objects, object, held_by).await {
        Ok(()) => Action::requeue(REST),
        Err(error) => {
            tracing::warn!(controller = D::NAME, name, %error, "the finalizer of an unreadable object stays for now");
            Action::requeue(error.fault().delay(1, rand::random()))
        }
    }
}

fn about<D: Driver>(invalid: &InvalidObject) -> ObjectReference {
    let meta = &invalid.metadata;
    ObjectReference {
        api_version: Some(D::Kind::api_version(&()).into_owned()),
        kind: Some(D::Kind::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Says `finding` in an Event and in an Invalid status; once, because the write itself brings the object back.
async fn tell<D: Driver>(state: &State<D>, invalid: &InvalidObject, finding: Finding) {
    let meta = &invalid.metadata;
    let about = about::<D>(invalid);
    let (name, text) = (meta.name.clone().unwrap_or_default(), &finding.message);
    tracing::warn!(controller = D::NAME, name, text, "an object is unreadable");
    let events = &state.report.events;
    if !events.warning(&about, finding.reason, text).await {
        return;
    }
    let mut status = D::unreadable();
    status["specStatus"] = json!("Invalid");
    status["conditions"] = json!(conditions(
        &[],
        &[finding],
        meta.generation,
        &clock::now_text()
    ));
    let patch = json!({ "metadata": { "uid": meta.uid }, "status": status });
    let place = meta.namespace.as_deref();
    let objects = place.map_or_else(|| state.objects.clone(), |ns| state.objects.within(ns));
    let api: Api<DeserializeGuard<D::Kind>> = objects.api();
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    if let Err(error) = api
        .patch_status(&name, &params, &Patch::Merge(&patch))
        .await
    {
        tracing::warn!(controller = D::NAME, name, %error, "the status of an unreadable object could not be written");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use k8s_openapi::api::core::v1::Service;
    use kube::{ResourceExt as _, api::ObjectMeta, runtime::reflector};
    use serde_json::Value;

    use super::*;
    use crate::k8s::{
        drive::{self, Failure, Report},
        events::Events,
        fault::Fault,
        testing::{answer, objects},
    };

    /// Holds its objects, and gives these answers on the way to their end.
    struct Holds(Mutex<Vec<End>>);

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;

    impl Failure for No {
        fn fault(&self) -> Fault {
            Fault::Waiting
        }
    }

    const HELD: &str = "meridian.dev/test";

    impl Driver for Holds {
        type Kind = Service;
        type Error = No;
        const NAME: &'static str = "Holds";
        const FINALIZER: Option<&'static str> = Some(HELD);

        async fn look(&self, _: &Service) -> Result<Option<Duration>, No> {
            Err(No)
        }

        fn unreadable() -> Value {
            json!({ "state": "Invalid" })
        }

        async fn end(&self, object: &ObjectMeta) -> Result<End, No> {
            assert_eq!(object.name.as_deref(), Some("x"));
            self.0.lock().unwrap().pop().ok_or(No)
        }
    }

    /// The requests of two looks at a broken object with `metadata`, and what the metrics say then.
    async fn looked(
        metadata: Value,
        ends: Vec<End>,
        answers: Vec<(u16, Value)>,
    ) -> (Vec<(http::Method, String, Value)>, String) {
        let (objects, server) = objects();
        let state = Arc::new(State {
            driver: Holds(Mutex::new(ends)),
            report: Report {
                events: Events::new(objects.client(), "a"),
                metrics: Arc::default(),
            },
            objects,
            failures: Mutex::default(),
            known: reflector::store().0,
        });
        let broken = json!({"metadata": metadata, "spec": 5});
        let broken: DeserializeGuard<Service> = serde_json::from_value(broken).unwrap();
        assert!(broken.name_any() == "x" && broken.0.is_err());
        let broken = Arc::new(broken);
        let asked = tokio::spawn(answer(server, answers));
        drive::look(Arc::clone(&broken), Arc::clone(&state))
            .await
            .unwrap();
        drive::look(broken, Arc::clone(&state)).await.unwrap();
        let rendered = state.report.metrics.render().unwrap();
        drop(state);
        (asked.await.unwrap(), rendered)
    }

    fn event() -> (u16, Value) {
        let body = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "eventTime": null});
        (201, body)
    }

    fn written() -> (u16, Value) {
        let body =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": 5});
        (200, body)
    }

    #[tokio::test]
    async fn an_unreadable_object_gets_an_event_and_an_invalid_status_once() {
        let metadata = json!({"name": "x", "namespace": "ns", "uid": "u", "finalizers": [HELD]});
        let (asked, rendered) = looked(metadata, Vec::new(), vec![event(), written()]).await;
        assert_eq!(
            asked.len(),
            2,
            "the second look asks for nothing: {asked:?}"
        );
        assert_eq!(asked[0].2["reason"], "Unreadable");
        assert_eq!(asked[1].2["status"]["specStatus"], "Invalid");
        assert_eq!(asked[1].2["status"]["state"], "Invalid");
        assert!(rendered.contains(r#"result="Unreadable"} 2"#), "{rendered}");
    }

    #[tokio::test]
    async fn one_that_is_deleted_waits_for_its_end_and_then_goes_and_tells_what_it_leaves() {
        let metadata = json!({"name": "x", "namespace": "ns", "uid": "u", "resourceVersion": "7",
            "deletionTimestamp": "2026-03-01T10:00:00Z", "finalizers": ["theirs", HELD]});
        let waits = End::Waits(
            Finding::no("Ready", "StoppingShards", "a shard runs"),
            Duration::from_secs(1),
        );
        let ends = vec![End::Over("its volume stays".to_owned()), waits];
        let answers = vec![event(), written(), event(), written()];
        let (asked, _) = looked(metadata, ends, answers).await;
        let [stopping, status, gone, released] = asked.as_slice() else {
            panic!("expected four requests, found {asked:?}");
        };
        assert_eq!(stopping.2["reason"], "StoppingShards");
        assert_eq!(
            status.2["status"]["conditions"][0]["message"],
            "a shard runs"
        );
        assert_eq!(gone.2["reason"], "UnreadableDeleted");
        let note = gone.2["note"].as_str().unwrap();
        assert!(note.contains("its volume stays"), "{note}");
        let (method, uri, body) = released;
        assert_eq!(
            (method, uri.split('?').next().unwrap()),
            (&http::Method::PATCH, "/api/v1/namespaces/ns/services/x")
        );
        assert_eq!(
            body["metadata"],
            json!({"finalizers": ["theirs"], "resourceVersion": "7", "uid": "u"})
        );
    }

    #[tokio::test]
    async fn one_whose_end_fails_keeps_its_finalizer() {
        let metadata = json!({"name": "x", "namespace": "ns", "uid": "u",
            "deletionTimestamp": "2026-03-01T10:00:00Z", "finalizers": [HELD]});
        let (asked, _) = looked(metadata, Vec::new(), Vec::new()).await;
        assert_eq!(asked, []);
    }
}
