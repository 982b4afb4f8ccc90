//! Where agents find the hub: which processes listen, and what certificates prove.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use meridian_api::{ids::ClusterUid, link::proto::HubFrame};
use meridian_hub::{
    clock::Clock as _,
    domain::denial::{Serial, Speaker},
};

use super::{
    agent::Member,
    clock::Wall,
    dice::Dice,
    hub::Hub,
    judge::SessionId,
    network::{self, AgentEnd, Unreachable},
    trace::Trace,
};

/// Life of a certificate of an agent.
const CERTIFICATE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Shared by everybody. Clones are the same.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) trace: Trace,
    /// The hub's wall clock.
    pub(crate) wall: Wall,
    dice: Dice,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The newest first; the others were overtaken and still listen.
    listening: Vec<Hub>,
    numbers: u64,
    /// Members that get no hub, but what they heard before.
    replayed: BTreeMap<ClusterUid, Vec<HubFrame>>,
}

impl Site {
    pub(crate) fn new(trace: Trace, wall: Wall, dice: Dice) -> Self {
        Self {
            trace,
            wall,
            dice,
            state: Arc::default(),
        }
    }

    /// From now on these processes listen.
    pub(crate) fn listens(&self, hubs: Vec<Hub>) {
        self.state.lock().unwrap().listening = hubs;
    }

    fn number(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.numbers += 1;
        state.numbers
    }

    /// A name for one start of an agent.
    pub(crate) fn instance_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.number())
    }

    /// A hub that listens: seldom one that should not any more.
    fn some_hub(&self, dice: &Dice) -> Option<Hub> {
        let state = self.state.lock().unwrap();
        let old = dice.in_thousand(300);
        let hub = if old {
            state.listening.last()
        } else {
            state.listening.first()
        };
        hub.cloned()
    }

    /// A connection of the member's agent to a hub.
    pub(crate) async fn dial(&self, member: &Member) -> Result<AgentEnd, Unreachable> {
        let dice = member.dice.fork();
        member.wires.connect(&dice).await?;
        let id = SessionId(self.number());
        let again = self.state.lock().unwrap().replayed.remove(&member.cluster);
        if let Some(frames) = again {
            return Ok(network::recorded(id, frames));
        }
        let hub = self.some_hub(&dice).ok_or(Unreachable)?;
        self.trace.note(id, format_args!("of {}", member.name));
        let (agent, at_hub) = member.wires.open(id, &hub.volume, &dice);
        let ends_at = Timestamp::from_second(*member.certificate_ends.lock().unwrap()).unwrap();
        let speaker = Speaker {
            cluster: member.cluster,
            root: hub.app.ca().fingerprint(),
            serial: Serial::of(member.cluster.uuid().as_bytes()),
            ends_at,
        };
        hub.accept(speaker, at_hub);
        Ok(agent)
    }

    /// From now on the member's agent finds a hub that says this again, and nothing else.
    pub(crate) fn replays(&self, cluster: ClusterUid, frames: Vec<HubFrame>) {
        self.state.lock().unwrap().replayed.insert(cluster, frames);
    }

    /// The member's device key gets it another certificate.
    pub(crate) fn another_certificate(&self, member: &Member) {
        let ends = self.wall.now() + CERTIFICATE;
        *member.certificate_ends.lock().unwrap() = ends.as_second();
    }

    /// Dice that belong to nobody else.
    pub(crate) fn dice(&self) -> Dice {
        self.dice.fork()
    }
}
