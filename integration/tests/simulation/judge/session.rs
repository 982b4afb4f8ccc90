//! What one session promised and kept: the hub may have few frames in flight, and may claim a revision only when everything
//! up to it was sent.

use std::{collections::BTreeMap, fmt};

use futures::FutureExt as _;
use meridian_api::{
    ids::{ClusterUid, Incarnation, ObjectId, Revision},
    link::proto::{
        Apply, Hello, HubFrame, Item, ItemOp, SyncMode, Welcome, hub_frame::Frame as Heard,
    },
};
use meridian_hub::{
    domain::desired::Desired,
    store::{
        keys,
        records::{self, Held},
    },
};

use crate::volume::Volume;

/// Which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// One session, seen from the hub's end of the network.
pub(super) struct Session {
    cluster: ClusterUid,
    pub(super) impostor: bool,
    pub(super) epoch: u64,
    pub(super) start: Incarnation,
    pub(super) mode: Option<SyncMode>,
    /// Up to here the member had everything before.
    since: Revision,
    hello: Revision,
    limits: (u32, u64, u32),
    volume: Option<Volume>,
    /// Highest revision that was sent of each object.
    told: BTreeMap<ObjectId, Revision>,
    /// Batches that are not acknowledged: objects and bytes.
    in_flight: BTreeMap<u64, (u32, u64)>,
    pub(super) sent: Vec<HubFrame>,
}

impl Session {
    pub(super) fn of(cluster: ClusterUid) -> Self {
        Self {
            cluster,
            impostor: false,
            epoch: 0,
            start: Incarnation(0),
            mode: None,
            since: Revision(0),
            hello: Revision(0),
            limits: (0, 0, 0),
            volume: None,
            told: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    /// Whether it is one of the member's own that was welcomed.
    pub(super) fn was_welcomed(&self, cluster: ClusterUid) -> bool {
        self.cluster == cluster && self.mode.is_some()
    }

    /// Whether the member was to obey in it.
    pub(super) fn is_to_obey(&self) -> bool {
        self.mode.is_some_and(|mode| mode != SyncMode::Observe)
    }

    pub(super) fn greeted(&mut self, hello: &Hello) {
        self.hello = Revision(hello.last.as_ref().map_or(0, |last| last.revision));
    }

    pub(super) fn welcomed(&mut self, welcome: &Welcome, volume: Volume) {
        self.epoch = welcome.session_epoch;
        self.mode = Some(welcome.mode());
        self.since = match welcome.mode() {
            SyncMode::Resume => self.hello,
            // What the member holds already is not sent, and only the two of them know what that is.
            SyncMode::Buckets => Revision(u64::MAX),
            _ => Revision(0),
        };
        let head = welcome.head.as_ref();
        self.start = Incarnation(head.map_or(0, |head| head.incarnation));
        let limits = welcome.limits.unwrap_or_default();
        self.limits = (
            limits.objects_in_flight,
            limits.bytes_in_flight,
            limits.frame_bytes,
        );
        self.volume = Some(volume);
        let frame = Some(Heard::Welcome(welcome.clone()));
        self.sent.push(HubFrame { frame });
    }

    pub(super) fn acknowledged(&mut self, seq: u64) {
        self.in_flight
            .retain(|unacknowledged, _| *unacknowledged > seq);
    }

    /// Takes a batch into account.
    pub(super) fn sends(&mut self, apply: &Apply) -> Result<(), (&'static str, String)> {
        if self.mode.is_none_or(|mode| mode == SyncMode::Observe) || self.impostor {
            return Err(("I5", format!("an Apply in the mode {:?}", self.mode)));
        }
        for item in &apply.items {
            let (Ok(object), mark) = (item.object_id.parse(), revision_of(item)) else {
                continue;
            };
            let told = self.told.entry(object).or_default();
            *told = (*told).max(mark);
        }
        let frame = Some(Heard::Apply(apply.clone()));
        self.sent.push(HubFrame { frame });
        self.bounded(apply)?;
        self.complete(apply)
    }

    fn bounded(&mut self, apply: &Apply) -> Result<(), (&'static str, String)> {
        let bytes = apply.items.iter().map(|item| item.body.len() as u64).sum();
        let objects = u32::try_from(apply.items.len()).unwrap();
        self.in_flight.insert(apply.seq, (objects, bytes));
        let objects: u32 = self.in_flight.values().map(|(objects, _)| objects).sum();
        let all: u64 = self.in_flight.values().map(|(_, bytes)| bytes).sum();
        let (most_objects, most_bytes, frame) = self.limits;
        if objects <= most_objects && all <= most_bytes && bytes <= u64::from(frame) {
            return Ok(());
        }
        let found = format!("{objects} objects and {all} bytes in flight, {bytes} in one frame");
        Err((
            "I9",
            format!("{found}; promised were at most {:?}", self.limits),
        ))
    }

    /// Nothing that the member lacks may lie at or below the revision that it is said to have reached.
    fn complete(&self, apply: &Apply) -> Result<(), (&'static str, String)> {
        let claimed = Revision(apply.upto.as_ref().map_or(0, |upto| upto.revision));
        let Some(volume) = &self.volume else {
            return Ok(());
        };
        let desired = keys::desired_of(self.cluster);
        let read = records::list(volume.memory(), &desired).now_or_never();
        let wanted: Vec<Held<Desired>> = read.unwrap().unwrap().value;
        // A deletion may be frozen; each session begins with all of them, whatever was reached.
        let mut ordered = wanted.iter().filter(|held| !held.record.is_tombstone());
        let lacks = ordered.find(|held| {
            let told = self.told.get(&held.record.object_id);
            let has = self.since.max(told.copied().unwrap_or_default());
            held.modified <= claimed && held.modified > has
        });
        lacks.map_or(Ok(()), |held| {
            let Desired { kind, name, .. } = &held.record;
            let what = format!(
                "revision {claimed} is claimed, but {kind} {name} of revision {} was not sent",
                held.modified
            );
            Err(("I7", what))
        })
    }
}

fn revision_of(item: &Item) -> Revision {
    match item.op() {
        ItemOp::Delete => Revision(item.tombstone.as_ref().map_or(0, |it| it.revision)),
        _ => Revision(item.revision),
    }
}
