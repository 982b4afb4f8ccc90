//! Decoders: what was encoded comes back, and nothing else does harm.

use crate::steps::{Mix, steps};
use crate::world::World;
use meridian_crdt::{Batch, Clock, DecodeError, Effect, Limits, Replica};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Whatever the bytes are: an answer, no panic.
fn decode_all(bytes: &[u8]) {
    let _ = Clock::decode(bytes);
    let _ = Effect::decode(bytes);
    let _ = Batch::decode(bytes);
    let _ = Replica::restore(bytes, Limits::default())
        .map(|replica| (replica.stats(), replica.snapshot()));
}

proptest! {
    #![proptest_config(crate::runs())]

    #[test]
    fn arbitrary_bytes_do_no_harm(mut bytes in vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        decode_all(&bytes);
    }

    #[test]
    fn damaged_bytes_do_no_harm(
        steps in steps(Mix { crashes: 2, gossip: 2 }, 40),
        damage in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Index>(),
    ) {
        let mut world = World::new(3, true);
        steps.iter().for_each(|step| { world.step(step); });
        let region = &world.regions[0];
        let mut forms = vec![region.replica.snapshot(), region.replica.clock().encode()];
        forms.extend(region.history.iter().map(Effect::encode));
        for mut bytes in forms {
            for (place, value) in &damage {
                let place = place.index(bytes.len());
                bytes[place] ^= value;
            }
            decode_all(&bytes);
            decode_all(&bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn effects_and_clocks_round_trip(steps in steps(Mix { crashes: 2, gossip: 2 }, 40)) {
        let mut world = World::new(3, true);
        steps.iter().for_each(|step| { world.step(step); });
        for region in &world.regions {
            let clock = region.replica.clock();
            prop_assert_eq!(&Clock::decode(&clock.encode()).unwrap(), clock);
            for effect in &region.history {
                let bytes = effect.encode();
                prop_assert_eq!(Effect::decode(&bytes), Ok(effect.clone()));
                prop_assert!(Effect::decode(&bytes[..bytes.len() - 1]).is_err());
                let longer = [bytes.as_slice(), &[0]].concat();
                prop_assert_eq!(Effect::decode(&longer), Err(DecodeError::Trailing { what: "effect", left: 1 }));
            }
        }
    }
}

#[test]
fn a_count_beyond_the_input_is_refused_before_anything_is_reserved() {
    let huge = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let refused = DecodeError::Truncated {
        what: "clock",
        length: 10,
        at: 1,
    };
    assert_eq!(Clock::decode(&huge), Err(refused));
}

#[test]
fn another_version_is_named_with_the_one_that_was_expected() {
    let refused = Effect::decode(&[9]).unwrap_err();
    assert_eq!(
        refused,
        DecodeError::Version {
            what: "effect",
            found: 9,
            expected: 1
        }
    );
    assert_eq!(
        refused.to_string(),
        "effect: format version 9 is unknown, expected 1; upgrade this participant first"
    );
}

#[test]
fn a_clock_prints_as_json() {
    use meridian_crdt::{Incarnation, InstanceId, Origin};
    let origin = |instance, bits| Origin {
        instance: InstanceId(instance),
        incarnation: Incarnation(bits),
    };
    let clock: Clock = [(origin(1, 0xab), 42), (origin(2, u64::MAX), 7)]
        .into_iter()
        .collect();
    assert_eq!(
        clock.to_string(),
        r#"{"1/00000000000000ab":42,"2/ffffffffffffffff":7}"#
    );
}
