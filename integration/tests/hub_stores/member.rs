//! A member that says only what a test tells it to.

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_agent::link::{dial::Dialer, identity::Identity};
use meridian_api::link::proto::{
    self, AgentFrame, HubFrame, ItemOp, agent_frame::Frame as FromAgent, hub_frame::Frame,
    link_client::LinkClient,
};
use meridian_hub::planner::KINDS;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use meridian_api::link::proto::StorePosition as Position;

/// An object that no hub has made.
pub(crate) const STRANGE: &str = "00000000-0000-4000-8000-000000000001";

/// What a member has obeyed.
#[derive(Clone, Debug)]
pub(crate) struct Obeyed {
    pub(crate) position: Position,
    /// The hub's identities of the objects of the database.
    pub(crate) objects: BTreeSet<String>,
}

/// Longer than two heartbeats.
const PATIENCE: Duration = Duration::from_secs(40);

/// A cluster that has joined.
pub(crate) struct Member {
    pub(crate) identity: Identity,
    pub(crate) uid: String,
}

/// Its stream.
pub(crate) struct Session {
    to_hub: mpsc::Sender<AgentFrame>,
    from_hub: Streaming<HubFrame>,
}

impl Member {
    /// Says Hello and hears Welcome.
    pub(crate) async fn session(&self, last: Option<Position>) -> (Session, proto::Welcome) {
        let membership = self.identity.membership.as_ref().unwrap();
        let dialer = Dialer {
            addresses: membership.addresses.clone(),
            roots_pem: membership.trust.roots_pem.clone(),
            ..Dialer::default()
        };
        let dialled = dialer.connect(Some(&self.identity), || 0.5).await;
        let channel = dialled.unwrap().channel;
        let (to_hub, says) = mpsc::channel(16);
        let hello = proto::Hello {
            proto_min: 1,
            proto_max: 1,
            agent_version: "test".to_owned(),
            kube_system_uid: self.uid.clone(),
            // Each is one start of its agent.
            instance_id: self.uid.clone(),
            features: KINDS.map(|kind| format!("kind/{kind}")).to_vec(),
            last,
            ..proto::Hello::default()
        };
        to_hub.send(framed(FromAgent::Hello(hello))).await.unwrap();
        let opened = LinkClient::new(channel)
            .session(ReceiverStream::new(says))
            .await;
        let mut session = Session {
            to_hub,
            from_hub: opened.unwrap().into_inner(),
        };
        let frame = session.hear().await;
        let Frame::Welcome(welcome) = frame else {
            panic!("{frame:?}, expected Welcome")
        };
        (session, welcome)
    }
}

fn framed(frame: FromAgent) -> AgentFrame {
    AgentFrame { frame: Some(frame) }
}

impl Session {
    pub(crate) async fn say(&self, frame: FromAgent) {
        self.to_hub.send(framed(frame)).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Frame {
        let heard = timeout(PATIENCE, self.from_hub.message()).await;
        let heard = heard.unwrap().unwrap().unwrap();
        heard.frame.unwrap()
    }

    pub(crate) async fn reports_a_rec(&self, cluster: &str) {
        let rec = proto::Rec {
            namespace: "db".to_owned(),
            name: "rec".to_owned(),
            uid: "u".to_owned(),
            replication_address: "10.77.0.1:443".to_owned(),
            suffix: format!(".rec.db.{cluster}.meridian.internal"),
            state: "Running".to_owned(),
            ..proto::Rec::default()
        };
        let recs = proto::RecInventory {
            recs: vec![rec],
            seq: 1,
            ..proto::RecInventory::default()
        };
        self.say(FromAgent::Recs(recs)).await;
    }

    /// Holds these objects, and [`STRANGE`] with higher numbers than any hub here has given.
    pub(crate) async fn holds(&self, objects: &BTreeSet<String>) {
        let strange = proto::InventoryEntry {
            object_id: STRANGE.to_owned(),
            data_bearing: true,
            highest_instance_id: 7,
            config_version: 9,
            plan_number: 30,
            ..proto::InventoryEntry::default()
        };
        let entries = objects.iter().map(|id| proto::InventoryEntry {
            object_id: id.clone(),
            data_bearing: true,
            ..proto::InventoryEntry::default()
        });
        let page = proto::InventoryPage {
            entries: entries.chain([strange]).collect(),
            last: true,
            ..proto::InventoryPage::default()
        };
        self.say(FromAgent::Inventory(page)).await;
    }

    /// Takes every order until both objects of this database have come; none of them may delete.
    pub(crate) async fn obeys(&mut self, database: &str) -> Obeyed {
        let mut objects = BTreeSet::new();
        loop {
            let Frame::Apply(apply) = self.hear().await else {
                continue;
            };
            let position = apply.upto.unwrap();
            let ack = proto::Ack {
                seq: apply.seq,
                durable_upto_revision: position.revision,
            };
            self.say(FromAgent::Ack(ack)).await;
            for item in apply.items {
                assert_eq!(item.op(), ItemOp::Upsert, "{item:?}");
                if item.name == database {
                    objects.insert(item.object_id);
                }
            }
            // The database and its instance.
            if objects.len() == 2 {
                return Obeyed { position, objects };
            }
        }
    }
}
