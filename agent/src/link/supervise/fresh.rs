//! Who hears of another certificate and of other roots: metrics, the keeper of peer certificates, and people.

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::watch;

use super::{Next, Supervisor, upkeep::Listener};
use crate::{
    k8s::events::Events,
    link::{
        dial::Connection,
        identity::{Identity, Trust},
        inventory::Names,
        join,
        keep::reference,
    },
    metrics::{Certificate, Metrics},
};

/// Reason of the Event.
const NOT_RENEWED: &str = "CertificateNotRenewed";

/// Who hears of it.
pub(super) struct Fresh<'a> {
    membership: &'a watch::Sender<Option<(Names, Trust)>>,
    metrics: &'a Metrics,
    events: &'a Events,
    about: ObjectReference,
    cluster_uid: &'a str,
}

impl Supervisor {
    pub(super) fn fresh(&self) -> Fresh<'_> {
        Fresh {
            membership: &self.membership,
            metrics: &self.metrics,
            events: &self.events,
            about: reference(&self.namespace, join::SECRET, None),
            cluster_uid: &self.context.kube_system_uid,
        }
    }

    /// The connection that stands already, if it was made with this identity.
    pub(super) fn standing(&mut self, identity: &Identity) -> Option<Connection> {
        let next = self.next.take()?;
        let ours = identity.membership.as_ref()?;
        (ours.chain_pem == next.chain_pem).then_some(next.connection)
    }
}

impl Next {
    pub(super) fn of((connection, chain_pem): (Connection, String)) -> Self {
        Self {
            connection,
            chain_pem,
        }
    }
}

impl Fresh<'_> {
    /// Tells what the identity is now.
    pub(super) fn publish(&self, identity: &Identity) {
        let Some(membership) = &identity.membership else {
            return;
        };
        let ends_ms = membership.life.not_after_ms;
        self.metrics.certificate(Certificate::Agent, Some(ends_ms));
        let names = Names {
            cluster_uid: self.cluster_uid.to_owned(),
            cluster_name: membership.cluster_name.clone(),
            trust_domain: membership.trust.domain.clone(),
        };
        let now = Some((names, membership.trust.clone()));
        self.membership
            .send_if_modified(|known| (*known != now).then(|| *known = now).is_some());
    }
}

impl Listener for Fresh<'_> {
    fn changed(&self, identity: &Identity) {
        self.publish(identity);
    }

    async fn failing(&self, note: &str) {
        self.events.warning(&self.about, NOT_RENEWED, note).await;
    }

    fn over(&self) {
        self.events.over(&self.about, NOT_RENEWED);
    }
}
