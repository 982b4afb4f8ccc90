use std::sync::Mutex;

use k8s_openapi::api::core::v1::Service;
use kube::{api::ObjectMeta, core::DeserializeGuard, runtime::reflector};
use serde_json::json;

use super::*;
use crate::k8s::{
    events::Events,
    testing::{answer, objects},
};

#[test]
fn many_objects_rest_longer_each_and_their_looks_are_spread() {
    assert_eq!(rest(1, 0.5), REST);
    assert_eq!(rest(10, 0.5), REST);
    assert_eq!(rest(200, 0.5), APART * 200);
    assert_eq!((rest(0, 0.0), rest(0, 1.0)), (REST / 2, REST * 3 / 2));
}

/// What its looks come to, one after another.
struct Looks(Mutex<Vec<Result<(), Fault>>>);

#[derive(Debug, thiserror::Error)]
#[error("spec.x: found 1, expected 2; write 2")]
struct Fails(Fault);

impl Failure for Fails {
    fn fault(&self) -> Fault {
        self.0
    }
}

impl Driver for Looks {
    type Kind = Service;
    type Error = Fails;
    const NAME: &'static str = "Looks";
    const FINALIZER: Option<&'static str> = None;

    async fn look(&self, _: &Service) -> Result<Option<Duration>, Fails> {
        let mut looks = self.0.lock().unwrap();
        looks.remove(0).map(|()| None).map_err(Fails)
    }

    fn unreadable() -> Value {
        json!({})
    }

    async fn end(&self, _: &ObjectMeta) -> Result<End, Fails> {
        unreachable!("nothing is deleted")
    }
}

/// The reasons of the Events of these looks at one object.
async fn told(looks: Vec<Result<(), Fault>>) -> Vec<String> {
    let (objects, server) = objects();
    let event = json!({"metadata": {"name": "e"}, "eventTime": null});
    let asked = tokio::spawn(answer(server, vec![(201, event); looks.len()]));
    let object = json!({"metadata": {"name": "x", "namespace": "ns", "uid": "u"}});
    let object: DeserializeGuard<Service> = serde_json::from_value(object).unwrap();
    let (known, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Apply(object.clone()));
    let times = looks.len();
    let state = Arc::new(State {
        driver: Looks(Mutex::new(looks)),
        report: Report {
            events: Events::new(objects.client(), "a"),
            metrics: Arc::default(),
        },
        objects,
        failures: Mutex::default(),
        known,
    });
    let object = Arc::new(object);
    for _ in 0..times {
        look(Arc::clone(&object), Arc::clone(&state)).await.unwrap();
    }
    drop(state);
    let asked = asked.await.unwrap();
    let texts = asked.iter().map(|(_, _, event)| {
        assert_eq!(event["note"], "spec.x: found 1, expected 2; write 2");
        assert_eq!(event["type"], "Warning");
        event["reason"].as_str().unwrap().to_owned()
    });
    texts.collect()
}

#[tokio::test]
async fn each_class_of_failures_is_told_once_or_heals_by_itself() {
    for (fault, reasons) in [
        (Fault::Invalid, &["Invalid"][..]),
        (Fault::Foreign, &["ForeignObject"]),
        (Fault::Refused, &["Refused"]),
        (Fault::Waiting, &["Waiting"]),
        (Fault::Conflict, &[]),
        (Fault::Unavailable, &[]),
    ] {
        assert_eq!(told(vec![Err(fault); 8]).await, reasons, "{fault:?}");
    }
}

#[tokio::test]
async fn what_comes_soon_is_not_told_and_what_comes_again_is_told_again() {
    let waits = || vec![Err(Fault::Waiting); 3];
    assert_eq!(told(waits()).await, Vec::<String>::new());
    assert_eq!(
        told([waits(), vec![Ok(())], waits()].concat()).await,
        Vec::<String>::new()
    );
    let again = vec![Err(Fault::Refused), Ok(()), Err(Fault::Refused)];
    assert_eq!(told(again).await, ["Refused", "Refused"]);
}
