//! One shard of this node with everything that runs for it: the watch, the clock reports, the links.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::desired::DesiredShard;
use crate::layout::{Layout, ShardLayout};
use crate::sync::durable;
use crate::sync::endpoint::Source;
use crate::sync::link::{self, LinkConfig, Security, SharedStatus, StatusView};
use crate::sync::pauses::Pauses;
use crate::sync::shard::{ShardAddress, ShardState, Watched, watch as watch_shard};
use crate::sync::topology::Membership;

/// What a shard should be.
pub(super) struct Wanted {
    pub(super) database: String,
    pub(super) id: u32,
    pub(super) desired: DesiredShard,
    pub(super) membership: Option<Membership>,
}

/// One row of the N×N matrix.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sync) struct LinkRow {
    pub(in crate::sync) instance_id: u32,
    pub(in crate::sync) name: String,
    #[serde(flatten)]
    pub(in crate::sync) status: StatusView,
}

struct Link {
    name: String,
    config: LinkConfig,
    status: SharedStatus,
    paused: watch::Sender<bool>,
    stop: CancellationToken,
}

/// A running shard. Dropping it ends everything that runs for it (not the shard itself).
pub(super) struct Database {
    database: String,
    id: u32,
    wanted: watch::Sender<Watched>,
    state: watch::Receiver<ShardState>,
    links: BTreeMap<u32, Link>,
    reporting: bool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Database {
    pub(super) fn start(
        files: ShardLayout,
        layout: &Layout,
        wanted: &Wanted,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let append_only = files.append_only();
        let name = files
            .directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let address = ShardAddress {
            name,
            socket: files.socket,
            secret: layout.internal_secret(),
            append_only,
        };
        let watched = Watched {
            address,
            desired: wanted.desired.clone(),
            membership: wanted.membership.clone(),
        };
        let (sender, receiver) = watch::channel(watched);
        let (state_sender, state) = watch::channel(ShardState::default());
        let stop = stop.child_token();
        tasks.spawn(watch_shard(receiver, state_sender, stop.clone()));
        Self {
            database: wanted.database.clone(),
            id: wanted.id,
            wanted: sender,
            state,
            links: BTreeMap::new(),
            reporting: false,
            tasks: tasks.clone(),
            stop,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.database
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn state(&self) -> ShardState {
        self.state.borrow().clone()
    }

    pub(super) fn membership(&self) -> Option<Membership> {
        self.wanted.borrow().membership.clone()
    }

    pub(super) fn port(&self) -> u16 {
        self.wanted.borrow().desired.port
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = u32> {
        self.links.keys().copied()
    }

    /// Changes what has changed and leaves the rest alone.
    pub(super) fn become_like(
        &mut self,
        wanted: Wanted,
        pauses: &Pauses,
        security: &Security,
        edges: &watch::Sender<u64>,
    ) {
        let Wanted {
            database: _,
            id: _,
            desired,
            membership,
        } = wanted;
        self.wanted.send_if_modified(|watched| {
            let changed = (&watched.desired, &watched.membership) != (&desired, &membership);
            watched.desired = desired;
            watched.membership.clone_from(&membership);
            changed
        });
        if membership.is_some() && !self.reporting {
            self.reporting = true;
            let address = self.wanted.borrow().address.clone();
            self.tasks
                .spawn(durable::run(address, self.state.clone(), self.stop.clone()));
        }
        let mut configs = BTreeMap::new();
        if let Some(membership) = membership {
            for (id, peer) in &membership.peers {
                let config = LinkConfig {
                    database: self.database.clone(),
                    guid: membership.guid.clone(),
                    instance_id: membership.instance_id,
                    config_version: membership.config_version,
                    peer: peer.clone(),
                    security: security.clone(),
                };
                configs.insert(*id, config);
            }
        }
        self.links.retain(|id, link| {
            let keep = configs
                .get(id)
                .is_some_and(|config| same(config, &link.config));
            if !keep {
                link.stop.cancel();
            }
            keep
        });
        for (id, config) in configs {
            if !self.links.contains_key(&id) {
                let link = self.connect(config, pauses, edges);
                self.links.insert(id, link);
            }
        }
    }

    fn connect(&self, config: LinkConfig, pauses: &Pauses, edges: &watch::Sender<u64>) -> Link {
        let status = SharedStatus::new(edges.clone());
        let (paused, is_paused) =
            watch::channel(pauses.is_paused(&self.database, config.peer.instance_id));
        let stop = self.stop.child_token();
        let name = config.peer.name.clone();
        self.tasks.spawn(link::run(
            config.clone(),
            self.state.clone(),
            is_paused,
            status.clone(),
            stop.clone(),
        ));
        Link {
            name,
            config,
            status,
            paused,
            stop,
        }
    }

    pub(super) fn apply_pauses(&self, pauses: &Pauses) {
        for (id, link) in &self.links {
            let pause = pauses.is_paused(&self.database, *id);
            link.paused
                .send_if_modified(|paused| std::mem::replace(paused, pause) != pause);
        }
    }

    /// What other regions may pull.
    pub(super) fn source(&self) -> Option<Source> {
        let membership = self.membership()?;
        Some(Source {
            database: self.database.clone(),
            membership,
            shard: self.state.clone(),
        })
    }

    pub(super) fn rows(&self) -> Vec<LinkRow> {
        self.links
            .iter()
            .map(|(id, link)| LinkRow {
                instance_id: *id,
                name: link.name.clone(),
                status: link.status.view(),
            })
            .collect()
    }
}

/// Security is the node's, not the link's: it never differs.
fn same(one: &LinkConfig, other: &LinkConfig) -> bool {
    let LinkConfig {
        database,
        guid,
        instance_id,
        config_version,
        peer,
        security: _,
    } = one;
    (database, guid, instance_id, config_version, peer)
        == (
            &other.database,
            &other.guid,
            &other.instance_id,
            &other.config_version,
            &other.peer,
        )
}
