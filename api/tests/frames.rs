//! Frames as releases put them on the wire (`frames/vX.Y/*.bin`). Every later build must still read all of their fields: a
//! hub speaks with agents of two releases before it, and an agent with a hub of the next.
//!
//! `MERIDIAN_WRITE=1 cargo test -p meridian-api --test frames` writes those of this release that are missing. A file that is there is never changed.

#![expect(clippy::unwrap_used, reason = "a file that cannot be read must fail")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use meridian_api::link::{
    Bytes,
    proto::{
        self, AgentFrame, HubFrame, agent_frame::Frame as FromAgent, hub_frame::Frame as FromHub,
    },
};
use prost::Message;

const OBJECT: &str = "00000000-0000-4000-8000-000000000001";
const STORE: &str = "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11";

fn folder() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/frames/v",
        env!("CARGO_PKG_VERSION_MAJOR"),
        ".",
        env!("CARGO_PKG_VERSION_MINOR")
    ))
}

fn position() -> proto::StorePosition {
    proto::StorePosition {
        store_id: STORE.to_owned(),
        term: 3,
        incarnation: u64::MAX,
        revision: 17,
    }
}

fn seen() -> proto::StorePosition {
    proto::StorePosition {
        term: 4,
        revision: 18,
        ..position()
    }
}

/// No trace, as before there were any, and one.
fn traces() -> [Bytes; 2] {
    [Bytes::new(), Bytes::from_static(&[7; 16])]
}

fn outcome(trace_id: Bytes) -> proto::Outcome {
    proto::Outcome {
        object_id: OBJECT.to_owned(),
        revision: 17,
        result: proto::OutcomeResult::Held.into(),
        code: "NEEDS_CONFIRMATION".to_owned(),
        message: "prepared".to_owned(),
        retry_after_ms: 60_000,
        trace_id,
    }
}

fn beat() -> proto::Beat {
    proto::Beat {
        applied_upto_revision: 17,
        outcomes_durable_upto: 16,
        mono_ms: 10_001,
        wall_ms: 1_800_000_000_000,
        echo_mono_ms: 10_002,
        echo_held_ms: 250,
    }
}

fn freeze() -> proto::Freeze {
    proto::Freeze {
        object_ids: vec![OBJECT.to_owned()],
        reason: "many deletions".to_owned(),
        on: true,
    }
}

fn hello(seen: Option<proto::StorePosition>) -> FromAgent {
    FromAgent::Hello(proto::Hello {
        proto_min: 1,
        proto_max: 1,
        agent_version: "0.1.0".to_owned(),
        features: vec!["kind/Secret".to_owned()],
        kube_system_uid: STORE.to_owned(),
        instance_id: OBJECT.to_owned(),
        last: Some(position()),
        digest: Bytes::from(vec![1; 2048]),
        pending_outcomes: vec![outcome(Bytes::new())],
        mono_ms: 10_001,
        wall_ms: 1_800_000_000_000,
        seen,
    })
}

fn status() -> FromAgent {
    FromAgent::Status(proto::StatusDelta {
        object_id: OBJECT.to_owned(),
        status_seq: 2,
        for_revision: 17,
        observed_generation: 4,
        status: Bytes::from_static(b"{\"status\":\"active\"}"),
        links: vec![proto::LinkRow {
            instance_id: 2,
            name: "us-1".to_owned(),
            state: "up".to_owned(),
            last_error: "none".to_owned(),
            lag_ms: Some(12),
            since_ms: 1_800_000_000_000,
            as_of_ms: 1_800_000_000_001,
        }],
        as_of_mono_ms: 5,
        as_of_wall_ms: 1_800_000_000_002,
        kube_uid: "u".to_owned(),
    })
}

fn inventory() -> FromAgent {
    FromAgent::Inventory(proto::InventoryPage {
        bucket: 1,
        entries: vec![proto::InventoryEntry {
            object_id: OBJECT.to_owned(),
            revision: 17,
            hash: Bytes::from_static(b"hash"),
            data_bearing: true,
            kind: "ActiveActiveInstance".to_owned(),
            namespace: "db".to_owned(),
            name: "shop".to_owned(),
            highest_instance_id: 3,
            config_version: 9,
            plan_number: 30,
        }],
        last_of_bucket: true,
        last: true,
    })
}

fn intent() -> FromAgent {
    FromAgent::LocalIntent(proto::LocalIntent {
        intent_id: "w".to_owned(),
        object_id: OBJECT.to_owned(),
        base_revision: 17,
        op: proto::IntentOp::Delete.into(),
        kind: "RedisEnterpriseActiveActiveDatabase".to_owned(),
        namespace: "db".to_owned(),
        name: "shop".to_owned(),
        body: Bytes::from_static(b"{}"),
        author: "alice".to_owned(),
        kube_uid: "u".to_owned(),
    })
}

fn from_agent() -> Vec<(&'static str, FromAgent)> {
    let [before, traced] = traces();
    let ack = proto::Ack {
        seq: 4,
        durable_upto_revision: 17,
    };
    let bye = proto::Bye {
        code: "SHUTDOWN".to_owned(),
        message: "the agent stops".to_owned(),
    };
    vec![
        ("hello", hello(None)),
        ("hello-seen", hello(Some(seen()))),
        ("ack", FromAgent::Ack(ack)),
        ("outcome", FromAgent::Outcome(outcome(before))),
        ("outcome-traced", FromAgent::Outcome(outcome(traced))),
        ("status", status()),
        ("inventory", inventory()),
        ("local-intent", intent()),
        ("beat", FromAgent::Beat(beat())),
        ("bye", FromAgent::Bye(bye)),
    ]
}

fn welcome() -> FromHub {
    FromHub::Welcome(proto::Welcome {
        proto: 1,
        session_id: "3-7".to_owned(),
        session_epoch: 7,
        head: Some(position()),
        mode: proto::SyncMode::Buckets.into(),
        beat_ms: 10_000,
        idle_ms: 30_000,
        reconnect: Some(proto::Reconnect {
            spread_ms: 2_000,
            cap_ms: 20_000,
        }),
        limits: Some(proto::Limits {
            frame_bytes: 1 << 20,
            objects_in_flight: 256,
            bytes_in_flight: 4 << 20,
        }),
        wall_ms: 1_800_000_000_000,
        cluster_name: "eu-1".to_owned(),
        reason: "the store went back".to_owned(),
        freeze: Some(freeze()),
    })
}

fn apply(trace_id: Bytes) -> FromHub {
    let item = proto::Item {
        object_id: OBJECT.to_owned(),
        api_version: "meridian.dev/v1alpha1".to_owned(),
        kind: "ActiveActiveInstance".to_owned(),
        namespace: "db".to_owned(),
        name: "shop".to_owned(),
        op: proto::ItemOp::Delete.into(),
        revision: 17,
        hash: Bytes::from_static(b"hash"),
        body: Bytes::from_static(b"{}"),
        after: vec![STORE.to_owned()],
        delete_class: proto::DeleteClass::DataBearing.into(),
        tombstone: Some(proto::Tombstone {
            revision: 17,
            approval: "alice".to_owned(),
            reason: "confirmed".to_owned(),
        }),
        drift: proto::DriftPolicy::Hold.into(),
        plan_number: 30,
        trace_id,
    };
    FromHub::Apply(proto::Apply {
        seq: 4,
        upto: Some(position()),
        prev_revision: 16,
        items: vec![item],
    })
}

fn from_hub() -> Vec<(&'static str, FromHub)> {
    let [before, traced] = traces();
    let confirm = proto::Confirm {
        object_id: OBJECT.to_owned(),
        action: proto::ConfirmAction::Delete.into(),
        approval: "alice".to_owned(),
        intent_id: "w".to_owned(),
        message: "confirmed".to_owned(),
        revision: 17,
    };
    let drain = proto::Drain {
        reason: "the hub stops".to_owned(),
        slot_ms: 270,
        addresses: vec!["hub.example:8444".to_owned()],
    };
    let buckets = vec![0, 255];
    vec![
        ("welcome", welcome()),
        ("apply", apply(before)),
        ("apply-traced", apply(traced)),
        ("confirm", FromHub::Confirm(confirm)),
        (
            "digest-ask",
            FromHub::DigestAsk(proto::DigestAsk { buckets }),
        ),
        ("beat", FromHub::Beat(beat())),
        ("drain", FromHub::Drain(drain)),
        ("freeze", FromHub::Freeze(freeze())),
    ]
}

/// Writes what this release says and no file shows yet.
fn write_missing() {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let agent = from_agent().into_iter().map(|(name, frame)| {
        let frame = Some(frame);
        (
            format!("agent-{name}"),
            AgentFrame { frame }.encode_to_vec(),
        )
    });
    let hub = from_hub().into_iter().map(|(name, frame)| {
        let frame = Some(frame);
        (format!("hub-{name}"), HubFrame { frame }.encode_to_vec())
    });
    for (name, bytes) in agent.chain(hub) {
        let path = folder.join(name).with_extension("bin");
        if !path.exists() {
            fs::write(path, bytes).unwrap();
        }
    }
}

/// The files of all releases.
fn recorded() -> Vec<(String, Vec<u8>)> {
    let releases = fs::read_dir(folder().parent().unwrap()).unwrap();
    let files = releases.flat_map(|release| fs::read_dir(release.unwrap().path()).unwrap());
    let read = |file: fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        (name, fs::read(file.path()).unwrap())
    };
    files.map(|file| read(file.unwrap())).collect()
}

#[test]
fn frames_of_every_release_are_read_with_all_their_fields() {
    if std::env::var_os("MERIDIAN_WRITE").is_some() {
        write_missing();
    }
    let recorded = recorded();
    assert!(recorded.len() >= 16, "found {} files", recorded.len());
    for (name, bytes) in recorded {
        let again = if name.starts_with("hub-") {
            let frame = HubFrame::decode(bytes.as_slice()).unwrap();
            assert!(frame.frame.is_some(), "{name}: its content is not known");
            frame.encode_to_vec()
        } else {
            let frame = AgentFrame::decode(bytes.as_slice()).unwrap();
            assert!(frame.frame.is_some(), "{name}: its content is not known");
            frame.encode_to_vec()
        };
        // A field whose number or type changed is not known any more, and is dropped.
        assert_eq!(again, bytes, "{name}: a field was lost");
    }
}

#[test]
fn what_this_release_says_is_recorded_as_it_is() {
    let files: BTreeSet<_> = recorded().into_iter().map(|(_, bytes)| bytes).collect();
    for (name, frame) in from_agent() {
        let frame = Some(frame);
        let bytes = AgentFrame { frame }.encode_to_vec();
        assert!(files.contains(&bytes), "agent-{name}: no file shows it");
    }
    for (name, frame) in from_hub() {
        let frame = Some(frame);
        let bytes = HubFrame { frame }.encode_to_vec();
        assert!(files.contains(&bytes), "hub-{name}: no file shows it");
    }
}
