//! One node: its persisted order, the production core, and a shard that does what the module does.

use std::collections::BTreeSet;

use meridian_agent::controllers::failover::watch::own_shard;
use meridian_api::crds::shared::Persistence as StoredPersistence;
use meridian_api::crds::topology::{
    DatabaseTopology, FollowingState, HeldReport, MemberReport, ReplicaReport, ShardReport,
    ShardRole,
};
use meridian_node::desired::{
    DesiredDatabase, DesiredShard, DesiredState, Engine, Fence, Password, Persistence,
    Role as DesiredRole, obey,
};
use meridian_node::permission::{
    Core, Duty, Event, Facts, Following, Life, Millis, Order, Permission, Position, Progress, Role,
    Until, grant::Obeyed,
};

use super::data::{Content, History};

pub(super) const NAMES: [&str; 3] = ["rec-0", "rec-1", "rec-2"];

/// How long after the end of its permission a shard may still answer writes of before, ms: that of the module's alarm.
const GRACE_MS: u64 = 50;

pub(super) fn index(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).unwrap()
}

/// A shard's process, with the fence of the module.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) life: u64,
    pub(super) position: Position,
    seen: u64,
    revoked: u64,
    permission: Option<Permission>,
    /// It held a permission once: others may copy from it.
    pub(super) ever: bool,
    /// It has led, or has followed to the live stream, in this life.
    pub(super) whole: bool,
    pub(super) content: Content,
    /// Identity of its replication stream.
    pub(super) stream: u64,
    streams: u64,
}

impl Shard {
    pub(super) fn new(life: u64, position: Position, content: Content) -> Self {
        Self {
            life,
            position,
            seen: 0,
            revoked: 0,
            permission: None,
            ever: false,
            whole: false,
            content,
            stream: life << 16,
            streams: 0,
        }
    }

    /// The epoch whose permission it holds.
    pub(super) fn leads_in(&self) -> u64 {
        self.permission.map_or(0, |held| held.epoch)
    }

    pub(super) fn writable(&self, now: Millis) -> bool {
        self.position == Position::Leads
            && self
                .permission
                .is_some_and(|held| Until::At(now) < held.until)
    }

    /// A reply to a write of its permission, made before the process was stopped, still leaves.
    pub(super) fn answers(&self, now: Millis) -> bool {
        self.permission
            .is_some_and(|held| Until::At(now.saturating_sub(GRACE_MS)) < held.until)
    }

    fn permit(&mut self, asked: Permission) -> bool {
        let follows = self.position != Position::Leads;
        if follows || asked.epoch <= self.revoked || asked.epoch < self.seen {
            return false;
        }
        let until = match self.permission {
            Some(held) if held.epoch == asked.epoch && held.until != Until::Forever => {
                held.until.max(asked.until)
            }
            Some(_) | None => asked.until,
        };
        self.seen = asked.epoch;
        self.permission = Some(Permission { until, ..asked });
        self.ever = true;
        self.whole = true;
        true
    }

    fn revoke(&mut self, epoch: u64) {
        self.seen = self.seen.max(epoch);
        self.revoked = self.revoked.max(epoch);
        self.permission = self.permission.filter(|held| held.epoch > self.revoked);
    }

    /// Carries `order` out; `false`: it was refused.
    pub(super) fn execute(&mut self, order: &Order) -> bool {
        match order {
            Order::Record(_) | Order::CloseClients => {}
            Order::Revoke(epoch) => self.revoke(*epoch),
            Order::Permit(permission) => return self.permit(*permission),
            Order::Lead => {
                self.position = Position::Leads;
                self.streams += 1;
                self.stream = (self.life << 16) + self.streams;
            }
            Order::Follow(host) => {
                self.permission = None;
                self.position = Position::Follows {
                    host: host.clone(),
                    state: Following::Down,
                };
            }
        }
        true
    }

    pub(super) fn life(&self) -> Life {
        Life {
            id: self.life.to_string(),
            position: self.position.clone(),
            permission: self.permission,
            revoked: self.revoked,
        }
    }
}

/// A node.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) name: &'static str,
    /// What PID 1 has on disk.
    pub(super) obeyed: DatabaseTopology,
    /// Why what is there is not obeyed.
    pub(super) refused: Option<String>,
    /// What the shard's files hold, and how much of which stream its node knows to be there.
    pub(super) disk: Content,
    pub(super) held: Option<(u64, i64)>,
    pub(super) facts: Facts,
    pub(super) core: Core,
    /// How far its copies are.
    pub(super) progress: Progress,
    /// Counts the starts of the child that drives the core; what was sent to an earlier one arrives nowhere.
    pub(super) driver: u64,
    pub(super) shard: Option<Shard>,
    /// The container runs.
    pub(super) up: bool,
    /// Its processes are stopped until then.
    pub(super) paused_until: u64,
    /// Thousandths by which its clock is fast or slow, and where it began.
    pub(super) rate: u64,
    pub(super) began: u64,
    pub(super) reported: Option<MemberReport>,
    /// The version of what there was at the API server when it started: its first list is no older.
    pub(super) listed: u64,
}

impl Node {
    /// The node's own clock.
    pub(super) fn clock(&self, now: u64) -> Millis {
        self.began + now * self.rate / 1000
    }

    /// It has never heard of the database, or has lost everything that it had of it.
    pub(super) fn is_blank(&self) -> bool {
        self.obeyed.spec.epoch == 0
    }

    pub(super) fn duty(&self) -> Option<Duty> {
        if self.is_blank() {
            return None;
        }
        let spec = &self.obeyed.spec;
        let shard = &spec.shards[0];
        let primary = shard.primary.clone().unwrap();
        let role = if primary == self.name {
            Role::Lead
        } else if shard.replicas.iter().any(|pod| pod == self.name) {
            Role::Follow(primary)
        } else {
            return None;
        };
        let set = |pods: &[String]| pods.iter().cloned().collect::<BTreeSet<_>>();
        Some(Duty {
            uid: self.obeyed.metadata.uid.clone().unwrap(),
            epoch: spec.epoch.unsigned_abs(),
            fence: spec.fence.as_ref().map(|fence| fence.epoch.unsigned_abs()),
            role,
            in_sync: set(&shard.in_sync),
            joining: set(&shard.joining),
            copies: shard
                .replicas
                .iter()
                .filter(|pod| *pod != self.name)
                .cloned()
                .collect(),
            as_is: shard.as_is == Some(spec.epoch),
            keeps: spec.persistence == StoredPersistence::AofEverySecond,
        })
    }

    pub(super) fn promise(&self, now: Millis) -> Obeyed {
        let spec = &self.obeyed.spec;
        let shard = &spec.shards[0];
        let copies = [&shard.replicas, &shard.in_sync, &shard.joining];
        Obeyed {
            uid: self.obeyed.metadata.uid.clone().unwrap(),
            epoch: spec.epoch.unsigned_abs(),
            fence: spec.fence.as_ref().map(|fence| fence.epoch.unsigned_abs()),
            primary: shard.primary.clone(),
            copies: copies.into_iter().flatten().cloned().collect(),
            apart_ms: self
                .core
                .view(self.clock(now))
                .apart_since
                .map_or(0, |since| self.clock(now) - since),
        }
    }

    /// What PID 1 says to an order that is seen.
    pub(super) fn judge(&self, seen: &DatabaseTopology) -> Option<String> {
        let verdict = obey(&state(&self.obeyed), &state(seen));
        verdict
            .refusals
            .first()
            .map(|refusal| refusal.message.clone())
    }

    /// Where a shard starts: as its configuration file says, which holds the last role.
    pub(super) fn first_position(&self) -> Option<Position> {
        Some(match self.duty()?.role {
            Role::Lead => Position::Leads,
            Role::Follow(host) => Position::Follows {
                host,
                state: Following::Down,
            },
        })
    }

    pub(super) fn report(
        &self,
        now: u64,
        followers: &[ReplicaReport],
        history: &History,
    ) -> MemberReport {
        let view = self.core.view(self.clock(now));
        let mut own = ShardReport::new(0, ShardRole::Stopped, 1);
        if let (Some(shard), Some(duty)) = (&self.shard, self.duty()) {
            let leads = view.leads.unwrap_or(duty.role == Role::Lead);
            own.role = if leads && duty.role == Role::Lead {
                ShardRole::Primary
            } else {
                ShardRole::Replica
            };
            own.ready = true;
            own.writable = view.writable;
            own.counts = view.counts.iter().cloned().collect();
            own.fenced = view.fenced.map(u64::cast_signed);
            own.wants_failover = view.wish.map(|wish| format!("{wish:?}"));
            own.offset = view.complete.then(|| history.offset(shard.content));
            own.served = view.served.map(u64::cast_signed);
            own.held = self
                .held
                .filter(|_| !view.complete)
                .map(|(stream, offset)| HeldReport {
                    stream: stream.to_string(),
                    offset,
                });
            own.following = match &shard.position {
                Position::Leads => None,
                Position::Follows { state, .. } => Some(match state {
                    Following::Down => FollowingState::Down,
                    Following::Copying => FollowingState::Copying,
                    Following::Up => FollowingState::Up,
                }),
            };
            if leads {
                own.replicas = followers.to_vec();
            }
        }
        MemberReport {
            node: self.name.to_owned(),
            topology_uid: self.obeyed.metadata.uid.clone().unwrap(),
            epoch: self.obeyed.spec.epoch,
            generation: self.obeyed.metadata.generation.unwrap(),
            shards: vec![own],
            links: Vec::new(),
            refused: self.refused.clone(),
            peer_files: None,
            as_of: String::new(),
        }
    }

    pub(super) fn up_event(&self) -> Event {
        match &self.shard {
            Some(shard) => Event::Up(shard.life()),
            None => Event::Down,
        }
    }
}

/// As PID 1 has it on disk; of its shard it matters only that there is one.
fn state(topology: &DatabaseTopology) -> DesiredState {
    let spec = &topology.spec;
    let shard = DesiredShard {
        role: DesiredRole::Primary,
        version: None,
        bind: String::new(),
        port: 1,
        max_memory_bytes: 0,
        eviction_policy: String::new(),
        persistence: Persistence::Disabled,
        engine: Engine::Plain,
        password: Password::None,
        users: Vec::new(),
        access: String::new(),
        mutual: meridian_node::desired::Mutual::default(),
        tls: None,
        replication: None,
    };
    let database = DesiredDatabase {
        topology_uid: topology.metadata.uid.clone().unwrap(),
        epoch: spec.epoch.unsigned_abs(),
        generation: topology.metadata.generation.unwrap().unsigned_abs(),
        owner: String::new(),
        fence: spec.fence.as_ref().map(|fence| Fence {
            epoch: fence.epoch.unsigned_abs(),
            candidate: fence.candidate.clone(),
            planned: fence.planned,
        }),
        shards: [(0, shard)].into(),
    };
    let mut all = DesiredState::default();
    all.databases.insert("db".to_owned(), database);
    all
}

/// Whether what stands in `topology` says that `pod` holds a whole copy.
pub(super) fn is_said_whole(topology: &DatabaseTopology, pod: &str) -> bool {
    own_shard(topology, pod).is_some_and(|own| own.offset.is_some())
}
