//! Kubernetes Events about an object, each once: an Event whose text did not change since the last one under the same
//! reason is not sent again, so a standing fault does not write to the API server with every look.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// Remembered texts before the memory starts anew: bounds it, at the price of a repeated Event.
const REMEMBERED: usize = 4096;

/// Sends Events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    said: Arc<Mutex<BTreeMap<(String, String), String>>>,
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
            recorder: Recorder::new(client, reporter),
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
    /// apart: the API server would otherwise count them as one, with the first one's text. Tells whether it was news.
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

    async fn publish(
        &self,
        type_: EventType,
        about: &ObjectReference,
        secondary: Option<ObjectReference>,
        reason: &str,
        note: &str,
    ) -> bool {
        if !self.is_new(about, reason, note) {
            return false;
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shorten(note)),
            action: "Reconcile".to_owned(),
            secondary,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::warn!(%error, reason, "an Event could not be written");
        }
        true
    }

    fn is_new(&self, about: &ObjectReference, reason: &str, note: &str) -> bool {
        let key = (
            about
                .uid
                .clone()
                .or_else(|| about.name.clone())
                .unwrap_or_default(),
            reason.to_owned(),
        );
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&key).is_some_and(|last| last == note) {
            return false;
        }
        if said.len() >= REMEMBERED {
            said.clear();
        }
        said.insert(key, note.to_owned());
        true
    }
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
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_character_and_fits_the_api() {
        let note = "é".repeat(2000);
        assert!(shorten(&note).len() <= 1024);
        assert_eq!(shorten("short"), "short");
    }

    #[tokio::test]
    async fn an_unchanged_text_is_said_once_and_a_changed_one_again() {
        let (service, _server) = tower_test::mock::pair::<
            http::Request<kube::client::Body>,
            http::Response<kube::client::Body>,
        >();
        let events = Events::new(Client::new(service, "ns"), "a");
        let about = ObjectReference {
            uid: Some("u".to_owned()),
            ..ObjectReference::default()
        };
        assert!(events.is_new(&about, "ForeignObject", "x"));
        assert!(!events.is_new(&about, "ForeignObject", "x"));
        assert!(events.is_new(&about, "Invalid", "x"));
        assert!(events.is_new(&about, "ForeignObject", "y"));
    }
}
