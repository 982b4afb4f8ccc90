//! What the log says of the road of a request: by its trace it is followed from here to the members and back.

use meridian_api::ids::ClusterUid;
use meridian_api::link::proto;
use meridian_api::trace::TraceId;

use crate::domain::desired::Desired;
use crate::store::records::Held;

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
