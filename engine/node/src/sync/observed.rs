//! What the watches of this node know, for the API and the status page: every topology with the reports in its status, what
//! the cluster is, and who may log in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use meridian_api::crds::cluster::SCRAPES_IN_FLIGHT;
use meridian_api::crds::topology::DatabaseTopology;
use meridian_api::login::{ClusterFacts, FACTS_KEY, LOGIN_KEY, Login};
use serde::de::DeserializeOwned;
use tracing::warn;

/// The topologies of the cluster by name, with their status.
pub(super) type Topologies = BTreeMap<String, Arc<DatabaseTopology>>;

/// What is known now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// `None`: not heard of yet.
    pub(super) topologies: Option<Topologies>,
    /// Since when the Kubernetes API has not answered, if so, RFC 3339: nothing newer is known.
    pub(super) away_since: Option<String>,
    /// `None`: not heard of yet.
    pub(super) facts: Option<Arc<ClusterFacts>>,
    /// `None`: nobody can log in.
    pub(super) login: Option<Arc<Login>>,
}

/// Written by the watches, read by whoever answers.
#[derive(Debug, Default)]
pub(super) struct Observed(Mutex<Known>);

impl Observed {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything at once.
    pub(super) fn now(&self) -> Known {
        self.known().clone()
    }

    /// Who may log in.
    pub(super) fn login(&self) -> Option<Arc<Login>> {
        self.known().login.clone()
    }

    /// Scrapes that are answered at once; `None`: any number. The usual number until the cluster has told its own.
    pub(super) fn scrapes(&self) -> Option<u32> {
        let told = self.known().facts.as_ref().map(|facts| facts.scrapes);
        Some(told.unwrap_or(SCRAPES_IN_FLIGHT)).filter(|most| *most > 0)
    }

    /// The watch of the topologies is alive and knows these.
    pub(super) fn topologies(&self, topologies: Topologies) {
        let mut known = self.known();
        known.topologies = Some(topologies);
        known.away_since = None;
    }

    /// The watch of the topologies has lost the Kubernetes API.
    pub(super) fn away(&self, now: String) {
        self.known().away_since.get_or_insert(now);
    }

    /// Takes over the Secret `<rec>-api`. What cannot be read changes nothing.
    pub(super) fn secret(&self, secret: &Secret) {
        let (login, facts) = (read(secret, LOGIN_KEY), read(secret, FACTS_KEY));
        let mut known = self.known();
        if let Some(login) = login {
            known.login = Some(Arc::new(login));
        }
        if let Some(facts) = facts {
            known.facts = Some(Arc::new(facts));
        }
    }
}

fn read<T: DeserializeOwned>(secret: &Secret, key: &str) -> Option<T> {
    let bytes = secret.data.as_ref()?.get(key)?;
    match serde_json::from_slice(&bytes.0) {
        Ok(value) => Some(value),
        Err(error) => {
            warn!(key, %error, "this key of the API's Secret cannot be read; what was known stays");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let entry =
            |(key, text): &(&str, &str)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()));
        Secret {
            data: Some(entries.iter().map(entry).collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn an_unreadable_part_of_the_secret_changes_nothing_and_hides_nothing() {
        let observed = Observed::default();
        let login = r#"{"username":"a","rounds":1,"salt":"00","hash":"00"}"#;
        observed.secret(&secret(&[(LOGIN_KEY, login)]));
        let before = observed.login();
        assert!(before.is_some());
        let facts = r#"{"host":"h","created":"","nodes":3,"release":"r","databaseVersion":"v","memoryBytes":0,"rackAware":false}"#;
        observed.secret(&secret(&[(LOGIN_KEY, "{"), (FACTS_KEY, facts)]));
        assert_eq!(observed.login(), before);
        assert_eq!(observed.now().facts.map(|facts| facts.nodes), Some(3));
    }

    #[test]
    fn the_first_moment_of_an_outage_is_remembered_until_it_ends() {
        let observed = Observed::default();
        observed.away("1".to_owned());
        observed.away("2".to_owned());
        assert_eq!(observed.now().away_since.as_deref(), Some("1"));
        observed.topologies(Topologies::new());
        assert_eq!(observed.now().away_since, None);
    }
}
