//! Corrects the stored presence of members that no session speaks for: a hub that was killed wrote no farewell. And ends the
//! sessions of those who are let in no more, because the registration was removed, or the member or its certificate denied.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_api::ids::ClusterUid;
use tokio::time::Instant;

use super::{Outcome, Task, TaskError};
use crate::app::App;
use crate::domain::cluster::{Cluster, Presence};
use crate::domain::denial::Speaker;
use crate::link::sessions::Sessions;
use crate::store::keys;
use crate::store::records::{self, Held};

/// The task.
#[derive(Debug)]
pub struct Liveness {
    /// Use cases.
    pub app: Arc<App>,
    /// Sessions of this hub.
    pub sessions: Sessions,
    /// When the hub started: members get until then plus `grace` to come back before they are called unreachable.
    pub started: Instant,
    /// Time in which every member that is there has come back.
    pub grace: Duration,
}

impl Liveness {
    /// What wakes it: members that come and go, and who is let in no more.
    #[must_use]
    pub fn prefixes() -> Vec<String> {
        let denied = [keys::denied_clusters(), keys::denied_serials()];
        let members = keys::clusters();
        let mut prefixes = vec![members.text().to_owned()];
        prefixes.extend(denied.iter().map(|prefix| prefix.text().to_owned()));
        prefixes
    }
}

impl Liveness {
    /// Ends the sessions of those who are let in no more. One listing, however many sessions there are.
    async fn revoke(&self, members: &[Held<Cluster>]) -> Result<(), TaskError> {
        let store = self.app.store().as_ref();
        let (clusters, serials) = (keys::denied_clusters(), keys::denied_serials());
        let prefixes = [clusters.text(), serials.text()].map(str::to_owned);
        let denied = store.list(prefixes.to_vec()).await?.value;
        let denied: BTreeSet<_> = denied
            .into_iter()
            .flatten()
            .map(|entry| entry.key)
            .collect();
        let known: BTreeSet<_> = members.iter().map(|held| held.record.uid).collect();
        for Speaker {
            cluster, serial, ..
        } in self.sessions.speakers()
        {
            let let_in = !denied.contains(keys::denied_cluster(cluster).text())
                && !denied.contains(keys::denied_serial(&serial).text());
            if !(known.contains(&cluster) && let_in) {
                self.sessions.revoke(cluster);
            }
        }
        Ok(())
    }
}

impl Task for Liveness {
    const NAME: &'static str = "liveness";

    async fn activate(&mut self) -> Result<Outcome, TaskError> {
        let store = self.app.store().as_ref();
        let members = records::list(store, &keys::clusters()).await?.value;
        self.sessions.expect(members.len());
        self.revoke(&members).await?;
        if self.started.elapsed() < self.grace {
            return Ok(Outcome::Settled);
        }
        for held in records::list(store, &keys::presences()).await?.value {
            let Ok(cluster) = keys::last_part(&held.key).parse::<ClusterUid>() else {
                continue;
            };
            let absent = self.sessions.heard_at(cluster).is_none();
            if held.record.presence == Presence::Connected && absent {
                tracing::info!(%cluster, "the cluster did not come back and is unreachable");
                self.app
                    .presence(cluster, Presence::Unreachable, held.record.session_epoch)
                    .await?;
            }
        }
        Ok(Outcome::Settled)
    }
}
