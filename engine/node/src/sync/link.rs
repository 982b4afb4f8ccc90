//! One replication link: this region pulls from one other. Links know nothing of each other, so a dead region stops no other.

mod session;
mod status;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::shard::ShardState;
use super::tls::Certificates;
use super::topology::Peer;
use crate::backoff::RECONNECT;
use crate::clock;

pub(super) use status::{LinkStatus, State, StatusView};

/// How regions recognise each other.
#[derive(Clone, Debug)]
pub(super) enum Security {
    /// By certificates.
    Tls(Arc<Certificates>),
    /// Not at all.
    Insecure,
}

/// What a link needs.
#[derive(Clone, Debug)]
pub(super) struct LinkConfig {
    /// The database, for logs.
    pub database: String,
    /// Its identity in all regions.
    pub guid: String,
    /// This region.
    pub instance_id: u32,
    /// The membership this region knows.
    pub config_version: u64,
    /// The other region.
    pub peer: Peer,
    /// How to recognise it.
    pub security: Security,
}

/// The status of a link, shared between the link and those who show it.
#[derive(Clone, Debug)]
pub(super) struct SharedStatus {
    status: Arc<Mutex<LinkStatus>>,
    edges: watch::Sender<u64>,
}

impl SharedStatus {
    /// A link that has not begun. `edges` counts changes of state.
    #[must_use]
    pub(super) fn new(edges: watch::Sender<u64>) -> Self {
        Self {
            status: Arc::new(Mutex::new(LinkStatus::new(clock::now(), clock::wall_ms()))),
            edges,
        }
    }

    /// How it is now.
    #[must_use]
    pub(super) fn view(&self) -> StatusView {
        self.lock().view(clock::now(), clock::wall_ms())
    }

    pub(super) fn change(&self, state: State, error: Option<String>) -> bool {
        let changed = self
            .lock()
            .change(state, error, clock::now(), clock::wall_ms());
        if changed {
            self.edges.send_modify(|count| *count += 1);
        }
        changed
    }

    pub(super) fn update(&self, update: impl FnOnce(&mut LinkStatus)) {
        update(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LinkStatus> {
        // A panic elsewhere leaves a status that is at worst old.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pulls until `stop`.
pub(super) async fn run(
    config: LinkConfig,
    shard: watch::Receiver<ShardState>,
    mut paused: watch::Receiver<bool>,
    status: SharedStatus,
    stop: CancellationToken,
) {
    let mut attempt = 0_u32;
    loop {
        if *paused.borrow_and_update() {
            if status.change(State::Paused, None) {
                info!(
                    database = config.database,
                    peer = config.peer.instance_id,
                    "paused"
                );
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender lives as long as the link.
                _changed = paused.changed() => continue,
            }
        }
        // A link that is down stays so, with its reason, until it is up again.
        if !matches!(status.view().state, State::Down | State::Stalled) {
            status.change(State::Connecting, None);
        }
        let error = tokio::select! {
            () = stop.cancelled() => return,
            _changed = paused.changed() => continue,
            error = session::run(&config, shard.clone(), &status, &mut attempt) => error,
        };
        let text = crate::run::chain(&error);
        let state = if error.stalls() {
            State::Stalled
        } else {
            State::Down
        };
        if status.change(state, Some(text.clone())) {
            warn!(
                database = config.database,
                peer = config.peer.instance_id,
                error = text,
                "{}",
                state.as_str()
            );
        }
        let wait = RECONNECT.delay(attempt, rand::random());
        attempt += 1;
        tokio::select! {
            () = stop.cancelled() => return,
            _changed = paused.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}
