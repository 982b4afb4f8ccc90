//! Between the words of the wire and those of the hub. Nothing here decides; what cannot be read is refused by field.

use std::str::FromStr;

use jiff::Timestamp;
use meridian_api::identity::RecName;
use meridian_api::ids::{Incarnation, ObjectId, Revision, Term};
use meridian_api::link::proto;
use meridian_api::link::proto::hub_frame::Frame;
use meridian_api::trace::TraceId;

use crate::app::enroll::Enrolled;
use crate::app::reign::Reign;
use crate::ca::Authority;
use crate::domain::cluster::Rec;
use crate::domain::desired::{Action, Desired};
use crate::domain::lineage::{Memory, Position};
use crate::domain::trust::{MemberTrust, RecTrust};
use crate::store::records::{Held, LinkReport, OutcomeKind, StoredObservation, StoredOutcome};

/// A field that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(super) struct Malformed {
    field: &'static str,
    reason: String,
}

pub(super) fn malformed(field: &'static str, reason: impl ToString) -> Malformed {
    Malformed {
        field,
        reason: reason.to_string(),
    }
}

pub(super) fn parse<T: FromStr<Err: ToString>>(
    field: &'static str,
    text: &str,
) -> Result<T, Malformed> {
    text.parse()
        .map_err(|e: T::Err| malformed(field, e.to_string()))
}

/// Refuses a text for people that is longer than any of ours: it is stored as it is.
pub(super) fn short(field: &'static str, text: &str) -> Result<(), Malformed> {
    const MOST: usize = 128;
    if text.len() <= MOST {
        return Ok(());
    }
    Err(malformed(
        field,
        format!("found {} bytes, expected at most {MOST}", text.len()),
    ))
}

/// What a member remembers of its hub.
pub(super) fn memory(hello: &proto::Hello) -> Result<Memory, Malformed> {
    let read = |field, wire: &Option<proto::StorePosition>| {
        let wire = wire.as_ref();
        wire.map(|wire| position(field, wire)).transpose()
    };
    Ok(Memory {
        last: read("last.store_id", &hello.last)?,
        seen: read("seen.store_id", &hello.seen)?,
    })
}

pub(super) fn position(
    field: &'static str,
    wire: &proto::StorePosition,
) -> Result<Position, Malformed> {
    let proto::StorePosition {
        store_id,
        term,
        incarnation,
        revision,
    } = wire;
    Ok(Position {
        store_id: parse(field, store_id)?,
        term: Term(*term),
        incarnation: Incarnation(*incarnation),
        revision: Revision(*revision),
    })
}

pub(super) fn store_position(reign: Reign, revision: Revision) -> proto::StorePosition {
    let Reign {
        store_id,
        term,
        incarnation,
    } = reign;
    proto::StorePosition {
        store_id: store_id.to_string(),
        term: term.0,
        incarnation: incarnation.0,
        revision: revision.0,
    }
}

pub(super) fn outcome(
    wire: &proto::Outcome,
    now: Timestamp,
) -> Result<(ObjectId, StoredOutcome), Malformed> {
    use proto::OutcomeResult as Wire;
    let result = match wire.result() {
        Wire::Applied => OutcomeKind::Applied,
        Wire::Noop => OutcomeKind::Noop,
        Wire::Nack => OutcomeKind::Nack,
        Wire::Deferred => OutcomeKind::Deferred,
        Wire::Held => OutcomeKind::Held,
        Wire::Unspecified => {
            return Err(malformed(
                "outcome.result",
                format!("found {}, which no agent sends", wire.result),
            ));
        }
    };
    let stored = StoredOutcome {
        revision: Revision(wire.revision),
        result,
        code: wire.code.clone(),
        message: wire.message.clone(),
        as_of: now,
    };
    Ok((parse("outcome.object_id", &wire.object_id)?, stored))
}

pub(super) fn observation(
    wire: &proto::StatusDelta,
    now: Timestamp,
) -> Result<(ObjectId, StoredObservation), Malformed> {
    let status = serde_json::from_slice(&wire.status).map_err(|e| malformed("status.status", e))?;
    let links = wire.links.iter().map(link).collect::<Result<_, _>>()?;
    let seen = StoredObservation {
        for_revision: Revision(wire.for_revision),
        status,
        links,
        as_of: now,
    };
    Ok((parse("status.object_id", &wire.object_id)?, seen))
}

fn link(wire: &proto::LinkRow) -> Result<LinkReport, Malformed> {
    let since = Timestamp::from_millisecond(wire.since_ms)
        .map_err(|e| malformed("status.links.since_ms", e))?;
    Ok(LinkReport {
        instance_id: u64::from(wire.instance_id),
        from: wire.name.clone(),
        state: wire.state.clone(),
        last_error: wire.last_error.clone(),
        lag_ms: wire.lag_ms,
        since,
    })
}

pub(super) fn rec(wire: proto::Rec) -> Result<Rec, Malformed> {
    let proto::Rec {
        namespace,
        name,
        uid,
        replication_address,
        suffix,
        state,
        peer_spiffe_id,
        api_fqdn_url,
        // The life of a certificate is the member's to look after; the roots are told apart, see `trust_held`.
        peer_not_after_ms: _,
        peer_trust_version: _,
        peer_signer: _,
    } = wire;
    // People are told both in commands for their shell, so they are nothing but names.
    RecName::new(&namespace, &name).map_err(|e| malformed("recs", e))?;
    Ok(Rec {
        namespace,
        name,
        uid,
        replication_address,
        suffix,
        state,
        peer_spiffe_id,
        api_fqdn_url,
    })
}

/// What a member says of the roots that it and its nodes hold, in a session whose certificate `signer` signed.
pub(super) fn trust_held(
    wire: &proto::RecInventory,
    signer: &str,
    now: Timestamp,
) -> Result<MemberTrust, Malformed> {
    let digest = &wire.trust_digest;
    if wire.trust_version > 0 && digest.len() != 32 {
        let reason = format!("found {} bytes, expected 32", digest.len());
        return Err(malformed("recs.trust_digest", reason));
    }
    let mut recs = Vec::with_capacity(wire.recs.len());
    for rec in &wire.recs {
        short("recs.peer_signer", &rec.peer_signer)?;
        recs.push(RecTrust {
            rec: format!("{}/{}", rec.namespace, rec.name),
            version: rec.peer_trust_version,
            signer: rec.peer_signer.clone(),
        });
    }
    recs.sort_by(|a, b| a.rec.cmp(&b.rec));
    Ok(MemberTrust {
        version: wire.trust_version,
        digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        signer: signer.to_owned(),
        recs,
        since: now,
    })
}

pub(super) fn item(held: &Held<Desired>) -> proto::Item {
    let Held {
        record: desired,
        modified,
        ..
    } = held;
    let (op, body, tombstone) = match &desired.action {
        Action::Upsert { body } => (proto::ItemOp::Upsert, body.to_string().into_bytes(), None),
        Action::Delete { approval, reason } => {
            let tombstone = proto::Tombstone {
                revision: modified.0,
                approval: approval.clone(),
                reason: reason.clone(),
            };
            (proto::ItemOp::Delete, Vec::new(), Some(tombstone))
        }
    };
    let class = if desired.data_bearing {
        proto::DeleteClass::DataBearing
    } else {
        proto::DeleteClass::Plain
    };
    proto::Item {
        object_id: desired.object_id.to_string(),
        api_version: desired.api_version.clone(),
        kind: desired.kind.clone(),
        namespace: desired.namespace.clone(),
        name: desired.name.clone(),
        op: op.into(),
        revision: modified.0,
        hash: desired.hash().into(),
        body: body.into(),
        after: desired.after.iter().map(ToString::to_string).collect(),
        delete_class: class.into(),
        tombstone,
        drift: proto::DriftPolicy::Enforce.into(),
        plan_number: desired.plan_number.0,
        trace_id: TraceId::told(desired.trace).into(),
    }
}

pub(super) fn enrolled(
    enrolled: &Enrolled,
    ca: &Authority,
    hub_addresses: &[String],
) -> proto::EnrollResult {
    let Enrolled { cluster, issued } = enrolled;
    proto::EnrollResult {
        certificate_chain: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
        trust: Some(trust(ca)),
        not_after_ms: issued.not_after.as_millisecond(),
        cluster_uid: cluster.uid.to_string(),
        cluster_name: cluster.name.clone(),
        hub_addresses: hub_addresses.to_vec(),
        join_state: cluster.join_state.clone().into_bytes().into(),
        not_before_ms: issued.not_before.as_millisecond(),
    }
}

pub(super) fn trust(ca: &Authority) -> proto::TrustBundle {
    let (version, roots) = ca.versioned();
    proto::TrustBundle {
        version,
        roots: roots.iter().map(|root| root.to_vec().into()).collect(),
        trust_domain: ca.trust_domain().to_string(),
    }
}

pub(super) fn bye(code: &str, message: impl ToString) -> Frame {
    Frame::Bye(proto::Bye {
        code: code.to_owned(),
        message: message.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rec_is_called_as_kubernetes_calls_its_objects() {
        let called = |namespace: &str, name: &str| {
            rec(proto::Rec {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                ..proto::Rec::default()
            })
        };
        assert_eq!(called("redis", "rec.eu-1").unwrap().name, "rec.eu-1");
        for (namespace, name) in [
            ("", "rec"),
            ("redis", ""),
            ("redis.eu", "rec"),
            ("redis; reboot", "rec"),
            ("redis", "$(reboot)"),
            ("redis", "-rec"),
        ] {
            let refused = called(namespace, name).unwrap_err();
            assert_eq!(refused.field, "recs", "{namespace}/{name}");
        }
    }
}
