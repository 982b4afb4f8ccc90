//! Kubernetes Events about an object, each once: an Event whose text did not change since the last one under the same
//! reason is not sent again, so a standing fault does not write to the API server with every look.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use super::fault::Fault;

/// Remembered texts before the memory starts anew: bounds it, at the price of a repeated Event.
const REMEMBERED: usize = 4096;

/// Sends Events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    said: Arc<Mutex<BTreeMap<Key, String>>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Events reported by the replica `identity`.
    #[must_use]
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: "meridian-agent".to_owned(),
            instance: Some(identity.to_owned()),
        };
        Self {
            client,
            reporter,
            said: Arc::default(),
        }
    }

    /// Says something that went well. Tells whether it was news.
    pub async fn normal(&self, about: &ObjectReference, reason: &str, note: &str) -> bool {
        self.publish(EventType::Normal, about, None, reason, note)
            .await
    }

    /// Says something that a person should look at; `note` ends with the next step. Tells whether it was news.
    pub async fn warning(&self, about: &ObjectReference, reason: &str, note: &str) -> bool {
        self.publish(EventType::Warning, about, None, reason, note)
            .await
    }

    /// Says of `about` how `with` stands to it, well or not. Events of one reason about different things with it are kept
    /// apart: what is said of one does not make the same about another old. Tells whether it was news.
    pub async fn between(
        &self,
        about: &ObjectReference,
        with: ObjectReference,
        well: bool,
        reason: &str,
        note: &str,
    ) -> bool {
        let type_ = if well {
            EventType::Normal
        } else {
            EventType::Warning
        };
        self.publish(type_, about, Some(with), reason, note).await
    }

    /// The fault is over: the next Event of this reason about it is news even with the same text.
    pub fn over(&self, about: &ObjectReference, reason: &str) {
        self.remembered()
            .retain(|key, _| !(key.about == identity(about) && key.reason == reason));
    }

    /// All faults of it are over: the next Event of each class of faults is news.
    pub fn over_all(&self, about: &ObjectReference) {
        let about = identity(about);
        let is_fault = |reason: &str| Fault::ALL.iter().any(|fault| fault.reason() == reason);
        self.remembered()
            .retain(|key, _| key.about != about || !is_fault(&key.reason));
    }

    /// Remembers only what the API server took: a text that was refused, or whose caller was cancelled on the way, is news
    /// again.
    async fn publish(
        &self,
        type_: EventType,
        about: &ObjectReference,
        secondary: Option<ObjectReference>,
        reason: &str,
        note: &str,
    ) -> bool {
        let key = Key {
            about: identity(about),
            with: secondary.as_ref().map(identity),
            reason: reason.to_owned(),
        };
        if self.remembered().get(&key).is_some_and(|last| last == note) {
            return false;
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shorten(note)),
            action: "Reconcile".to_owned(),
            secondary,
        };
        // A recorder counts Events of one reason as one, with the first one's text; one of its own knows of no other.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        match recorder.publish(&event, about).await {
            Ok(()) => self.remember(key, note),
            Err(error) => tracing::warn!(%error, reason, "an Event could not be written"),
        }
        true
    }

    fn remember(&self, key: Key, note: &str) {
        let mut said = self.remembered();
        if said.len() >= REMEMBERED {
            said.clear();
        }
        said.insert(key, note.to_owned());
    }

    fn remembered(&self) -> MutexGuard<'_, BTreeMap<Key, String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an Event says, but for its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    about: String,
    with: Option<String>,
    reason: String,
}

/// The UID, or the name of an object that nobody has made yet.
fn identity(of: &ObjectReference) -> String {
    let uid_or_name = of.uid.clone().or_else(|| of.name.clone());
    uid_or_name.unwrap_or_default()
}

/// The API server refuses notes of more than 1 KiB.
fn shorten(note: &str) -> String {
    const LIMIT: usize = 1000;
    if note.len() <= LIMIT {
        return note.to_owned();
    }
    let end = (0..=LIMIT)
        .rev()
        .find(|at| note.is_char_boundary(*at))
        .unwrap_or(0);
    format!("{} …", &note[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::testing::{Server, answer};

    #[test]
    fn a_long_note_is_cut_at_a_character_and_fits_the_api() {
        let note = "é".repeat(2000);
        assert!(shorten(&note).len() <= 1024);
        assert_eq!(shorten("short"), "short");
    }

    fn reporter() -> (Events, Server) {
        let (service, server) = tower_test::mock::pair::<
            http::Request<kube::client::Body>,
            http::Response<kube::client::Body>,
        >();
        (Events::new(Client::new(service, "ns"), "a"), server)
    }

    fn about() -> ObjectReference {
        ObjectReference {
            uid: Some("u".to_owned()),
            name: Some("meridian-join".to_owned()),
            namespace: Some("ns".to_owned()),
            ..ObjectReference::default()
        }
    }

    fn taken(times: usize) -> Vec<(u16, Value)> {
        vec![(201, json!({"metadata": {"name": "e"}, "eventTime": null})); times]
    }

    #[tokio::test]
    async fn an_unchanged_text_is_said_once_and_a_changed_one_again() {
        let (events, server) = reporter();
        let server = tokio::spawn(answer(server, taken(3)));
        assert!(events.warning(&about(), "ForeignObject", "x").await);
        assert!(!events.warning(&about(), "ForeignObject", "x").await);
        assert!(events.warning(&about(), "Invalid", "x").await);
        assert!(events.warning(&about(), "ForeignObject", "y").await);
        drop(events);
        let asked = server.await.unwrap();
        assert_eq!(asked.len(), 3);
        let (method, _, body) = &asked[2];
        assert_eq!(
            (method, body["note"].as_str()),
            (&http::Method::POST, Some("y")),
            "a count of the first one would keep its text"
        );
    }

    #[tokio::test]
    async fn what_is_said_of_two_partners_is_not_said_with_every_look() {
        let (events, server) = reporter();
        let server = tokio::spawn(answer(server, taken(2)));
        for round in [true, false] {
            for partner in ["one", "two"] {
                let with = ObjectReference {
                    name: Some(partner.to_owned()),
                    ..ObjectReference::default()
                };
                let said = events
                    .between(&about(), with, false, "Refused", partner)
                    .await;
                assert_eq!(said, round);
            }
        }
        drop(events);
        assert_eq!(server.await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_fault_that_was_over_is_said_again_with_the_same_text() {
        let (events, server) = reporter();
        let server = tokio::spawn(answer(server, taken(2)));
        assert!(events.warning(&about(), "OnlyObserving", "x").await);
        events.over(&about(), "OnlyObserving");
        assert!(events.warning(&about(), "OnlyObserving", "x").await);
        drop(events);
        assert_eq!(server.await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_text_that_the_api_server_did_not_take_is_still_news() {
        let (events, server) = reporter();
        let refused = (
            503,
            json!({"kind": "Status", "message": "busy", "code": 503}),
        );
        let answers = [vec![refused], taken(1)].concat();
        let server = tokio::spawn(answer(server, answers));
        assert!(events.warning(&about(), "OnlyObserving", "x").await);
        assert!(events.warning(&about(), "OnlyObserving", "x").await);
        drop(events);
        assert_eq!(server.await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_text_whose_caller_was_cancelled_is_still_news() {
        let (events, mut server) = reporter();
        let about = about();
        {
            let saying = events.warning(&about, "OnlyObserving", "x");
            tokio::select! {
                _ = saying => unreachable!("nobody answers"),
                request = server.next_request() => assert!(request.is_some()),
            }
        }
        let server = tokio::spawn(answer(server, taken(1)));
        assert!(events.warning(&about, "OnlyObserving", "x").await);
        drop(events);
        assert_eq!(server.await.unwrap().len(), 1);
    }
}
