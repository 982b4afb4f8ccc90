//! Corrects the stored presence of members that no session speaks for: a hub that was killed wrote no farewell, and a
//! member whose registration was removed must lose its session.

use std::sync::Arc;
use std::time::Duration;

use meridian_api::ids::ClusterUid;
use tokio::time::Instant;

use super::{Outcome, Task, TaskError};
use crate::app::App;
use crate::domain::cluster::Presence;
use crate::link::sessions::Sessions;
use crate::store::{keys, records};

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

impl Task for Liveness {
    const NAME: &'static str = "liveness";

    async fn activate(&mut self) -> Result<Outcome, TaskError> {
        let store = self.app.store().as_ref();
        let members = records::list(store, &keys::clusters()).await?.value;
        for connected in self.sessions.connected() {
            if !members.iter().any(|held| held.record.uid == connected) {
                self.sessions.remove(connected);
            }
        }
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
