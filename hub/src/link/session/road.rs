//! What the log says of the road of a request: by its trace it is followed from here to the members and back.

use std::collections::BTreeMap;

use meridian_api::ids::{ClusterUid, ObjectId, Revision};
use meridian_api::link::proto;
use meridian_api::trace::TraceId;

use tokio::time::Instant;

use crate::domain::desired::Desired;
use crate::store::records::{Held, StoredOutcome};

/// What a member was told in this session and has not answered: at most every object that it has.
#[derive(Debug, Default)]
pub(super) struct Unanswered(BTreeMap<ObjectId, (Revision, Instant)>);

impl Unanswered {
    /// It is told an object.
    pub(super) fn told(&mut self, held: &Held<Desired>) {
        let told = (held.modified, Instant::now());
        self.0.insert(held.record.object_id, told);
    }

    /// It answers; since when the answer was waited for, if the object stands as it was told.
    pub(super) fn answered(
        &mut self,
        object: ObjectId,
        outcome: &StoredOutcome,
    ) -> Option<Instant> {
        let (revision, since) = *self.0.get(&object)?;
        if revision > outcome.revision || !outcome.result.is_done() {
            return None;
        }
        self.0.remove(&object);
        (revision == outcome.revision).then_some(since)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A member is told an object.
pub(super) fn told(cluster: ClusterUid, held: &Held<Desired>) {
    let Held {
        record: desired,
        modified,
        ..
    } = held;
    if let Some(trace) = desired.trace {
        let (kind, name) = (&desired.kind, &desired.name);
        tracing::info!(%trace, %cluster, kind, name, revision = %modified, object = %desired.object_id, "a member is told an object");
    }
}

/// A member says what became of an object.
pub(super) fn came_back(cluster: ClusterUid, outcome: &proto::Outcome) {
    if let Some(trace) = TraceId::of_bytes(&outcome.trace_id) {
        let result = outcome.result().as_str_name();
        let (object, revision, code) = (&outcome.object_id, outcome.revision, &outcome.code);
        tracing::info!(%trace, %cluster, object, revision, result, code, "a member says what became of an object");
    }
}
