//! One shard of this node with everything that runs for it: the watch, the clock reports, the links.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::desired::DesiredShard;
use crate::layout::{Layout, ShardLayout};
use crate::sync::authority::Authority;
use crate::sync::durable;
use crate::sync::endpoint::Source;
use crate::sync::entry;
use crate::sync::exit::Following;
use crate::sync::internal::Members;
use crate::sync::link::{self, LinkConfig, Security, SharedStatus, StatusView};
use crate::sync::pauses::Pauses;
use crate::sync::roles::{self, Assigned, RoleView, Shared};
use crate::sync::shard::{ShardAddress, ShardState, Watched, watch as watch_shard};
use crate::sync::topology::Membership;

/// What a shard should be.
pub(super) struct Wanted {
    pub(super) database: String,
    pub(super) id: u32,
    pub(super) desired: DesiredShard,
    pub(super) membership: Option<Membership>,
    /// What the shard's driver must know; `None`: no other node has a part in it.
    pub(super) assigned: Option<Assigned>,
}

/// What every driver of a role needs besides its shard.
#[derive(Clone)]
pub(in crate::sync) struct Cluster {
    /// The name of this node.
    pub(in crate::sync) node: String,
    /// The directory of the cluster's internal Secret.
    pub(in crate::sync) internal: PathBuf,
    /// The other nodes.
    pub(in crate::sync) members: Arc<Members>,
    /// Who knows the topology.
    pub(in crate::sync) authority: Arc<dyn Authority>,
    /// By what replicas and primaries know each other where replication is encrypted.
    pub(in crate::sync) following: Following,
}

struct Driver {
    assigned: watch::Sender<Assigned>,
    shown: watch::Receiver<RoleView>,
    stop: CancellationToken,
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
    /// Ends the reports of durable clocks, which ask copies if there can be some.
    reporting: Option<(bool, CancellationToken)>,
    driver: Option<Driver>,
    /// The entry of replicas that follow by TLS, while there is one.
    entry: Option<(SocketAddr, CancellationToken)>,
    facts: PathBuf,
    held: PathBuf,
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
        let (append_only, facts, saved) = (files.append_only(), files.facts(), files.saved());
        let (held, refused, unfinished) = (files.held(), files.refused(), files.unfinished());
        let trusted = files.trusted();
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
            saved,
            refused,
            unfinished,
            client_pair: layout.client_pair(),
            trusted,
        };
        let watched = Watched {
            address,
            desired: wanted.desired.settings(),
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
            reporting: None,
            driver: None,
            entry: None,
            facts,
            held,
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

    /// Its role and permission; `None`: no other node has a part in it.
    pub(super) fn role(&self) -> Option<RoleView> {
        self.driver.as_ref().map(|d| d.shown.borrow().clone())
    }

    /// Opens or shuts the entry of replicas that follow by TLS.
    pub(super) fn admit(&mut self, desired: &DesiredShard, cluster: &Cluster) {
        let port = desired
            .replication
            .as_ref()
            .and_then(|_| desired.encrypted_replication_port());
        let bind = desired.bind.parse::<IpAddr>().ok();
        let wanted = bind.zip(port).map(|(ip, port)| SocketAddr::new(ip, port));
        if self.entry.as_ref().map(|(address, _)| *address) == wanted {
            return;
        }
        if let Some((_, stop)) = self.entry.take() {
            stop.cancel();
        }
        let Some(address) = wanted else { return };
        let stop = self.stop.child_token();
        let socket = self.wanted.borrow().address.socket.clone();
        let between = cluster.following.between.clone();
        self.tasks
            .spawn(entry::serve(address, socket, between, stop.clone()));
        self.entry = Some((address, stop));
    }

    /// Makes the shard's driver follow what is obeyed.
    pub(super) fn drive(
        &mut self,
        assigned: Option<Assigned>,
        cluster: &Cluster,
        edges: &watch::Sender<u64>,
    ) {
        let Some(assigned) = assigned else {
            if let Some(driver) = self.driver.take() {
                driver.stop.cancel();
            }
            return;
        };
        if let Some(driver) = &self.driver {
            driver.assigned.send_if_modified(|known| {
                let changed = *known != assigned;
                *known = assigned;
                changed
            });
            return;
        }
        let Cluster {
            node,
            internal,
            members,
            authority,
            following,
        } = cluster.clone();
        let shared = Shared {
            node,
            database: self.database.clone(),
            shard: self.id,
            address: self.wanted.borrow().address.clone(),
            facts: self.facts.clone(),
            held: self.held.clone(),
            internal,
            members,
            authority,
            following,
            edges: edges.clone(),
        };
        let (assigned, orders) = watch::channel(assigned);
        let (show, shown) = watch::channel(RoleView::default());
        let stop = self.stop.child_token();
        let address = shared.address.clone();
        self.tasks.spawn(roles::held::run(
            address,
            self.held.clone(),
            shown.clone(),
            stop.clone(),
        ));
        self.tasks
            .spawn(roles::run(shared, orders, show, stop.clone()));
        self.driver = Some(Driver {
            assigned,
            shown,
            stop,
        });
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
            assigned: _,
        } = wanted;
        let desired = desired.settings();
        self.wanted.send_if_modified(|watched| {
            let changed = (&watched.desired, &watched.membership) != (&desired, &membership);
            watched.desired = desired;
            watched.membership.clone_from(&membership);
            changed
        });
        self.report_clocks(membership.is_some());
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

    /// Only a primary reports: what a replica has is its primary's to tell.
    fn report_clocks(&mut self, wanted: bool) {
        let shared = self.driver.is_some();
        if let Some((before, reporting)) = self.reporting.take() {
            if wanted && before == shared {
                self.reporting = Some((before, reporting));
                return;
            }
            reporting.cancel();
        }
        if !wanted {
            return;
        }
        let stop = self.stop.child_token();
        let address = self.wanted.borrow().address.clone();
        let roles = self.driver.as_ref().map(|driver| driver.shown.clone());
        self.tasks.spawn(durable::run(
            address,
            self.state.clone(),
            roles,
            stop.clone(),
        ));
        self.reporting = Some((shared, stop));
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
