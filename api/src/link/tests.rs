use proptest::prelude::*;
use prost::Message;

use super::*;

#[test]
fn the_highest_version_of_both_is_taken() {
    assert_eq!(negotiate_between((2, 5), (1, 3)), Ok(3));
    assert_eq!(negotiate_between((2, 5), (4, 9)), Ok(5));
    assert_eq!(negotiate_between((2, 5), (5, 5)), Ok(5));
    assert_eq!(negotiate(PROTO_MIN, PROTO_MAX), Ok(PROTO_MAX));
}

#[test]
fn ranges_without_overlap_say_which_side_is_too_old() {
    assert_eq!(
        negotiate_between((2, 5), (1, 1)),
        Err(NegotiationError::PeerTooOld {
            peer_max: 1,
            ours: 2
        })
    );
    assert_eq!(
        negotiate_between((2, 5), (6, 9)),
        Err(NegotiationError::PeerTooNew {
            peer_min: 6,
            ours: 5
        })
    );
}

#[test]
fn an_empty_range_or_one_from_zero_is_refused() {
    for (peer_min, peer_max) in [(0, 0), (0, 4), (3, 2)] {
        assert_eq!(
            negotiate(peer_min, peer_max),
            Err(NegotiationError::BadRange { peer_min, peer_max })
        );
    }
}

#[test]
fn a_frame_of_a_later_version_is_read_without_its_unknown_parts() {
    // Field 99 (varint) and a frame member 77 (bytes) that this build does not know.
    let mut wire = vec![0x98, 0x06, 0x01, 0xea, 0x04, 0x02, 0x08, 0x01];
    assert_eq!(proto::HubFrame::decode(&wire[..]).unwrap().frame, None);
    let frame = proto::HubFrame {
        frame: Some(proto::hub_frame::Frame::Bye(proto::Bye {
            code: codes::SHUTDOWN.into(),
            message: String::new(),
        })),
    };
    wire.extend(frame.encode_to_vec());
    assert_eq!(proto::HubFrame::decode(&wire[..]).unwrap(), frame);
}

proptest! {
    #[test]
    fn a_negotiated_version_lies_in_both_ranges(a in 1u32..20, b in 0u32..20, c in 1u32..20, d in 0u32..20) {
        let (ours, peer) = ((a, a + b), (c, c + d));
        match negotiate_between(ours, peer) {
            Ok(version) => {
                prop_assert!((ours.0..=ours.1).contains(&version));
                prop_assert!((peer.0..=peer.1).contains(&version));
                prop_assert_eq!(negotiate_between(peer, ours), Ok(version), "both ends must agree");
            }
            Err(_) => prop_assert!(ours.1 < peer.0 || peer.1 < ours.0),
        }
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = proto::HubFrame::decode(&bytes[..]);
        let _ = proto::AgentFrame::decode(&bytes[..]);
    }
}

#[test]
fn a_position_survives_the_wire() {
    let wire = proto::StorePosition {
        store_id: "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11".into(),
        term: 3,
        incarnation: u64::MAX,
        revision: 9,
    };
    let position = Position::required("Hello.last", Some(&wire)).unwrap();
    assert_eq!(proto::StorePosition::from(position), wire);
}

#[test]
fn a_position_that_is_none_names_the_field() {
    assert_eq!(Position::optional("Hello.last", None), Ok(None));
    let missing = Position::required("Apply.upto", None)
        .unwrap_err()
        .to_string();
    assert!(missing.contains("Apply.upto"), "{missing}");
    let wire = proto::StorePosition {
        store_id: "x".into(),
        ..Default::default()
    };
    let wrong = Position::required("Apply.upto", Some(&wire))
        .unwrap_err()
        .to_string();
    assert!(
        wrong.contains("Apply.upto.store_id") && wrong.contains("\"x\""),
        "{wrong}"
    );
}
