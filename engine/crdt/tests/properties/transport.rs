//! What a peer gets, and what is taken from a peer.

use crate::view::MemoryView;
use crate::world::config;
use meridian_crdt::{
    ApplyError, Batch, Clock, Effect, Hlc, Incarnation, InstanceId, Limits, Outcome, PullError,
    Replica, Write,
};

const NOW: u64 = 1_000_000;
const ALL: usize = usize::MAX;

/// One region of three with its values.
struct Shard(Replica, MemoryView);

impl Shard {
    fn new(id: u32) -> Self {
        Self::limited(id, Limits::default())
    }

    fn limited(id: u32, limits: Limits) -> Self {
        let mut replica = Replica::new(config(id, 3), limits).unwrap();
        replica.begin(Incarnation(u64::from(id))).unwrap();
        Self(replica, MemoryView::default())
    }

    fn set(&mut self, key: &str, value: &str) -> Effect {
        let write = Write::SetString {
            key: key.into(),
            value: value.into(),
        };
        self.0.write(&mut self.1, NOW, write).unwrap().effect
    }

    fn pull(&self, requester: u32, theirs: &Clock, bytes: usize) -> Batch {
        self.0.pull(InstanceId(requester), theirs, bytes).unwrap()
    }

    fn take(&mut self, source: u32, batch: &Batch) -> Result<u64, ApplyError> {
        let applied = self
            .0
            .apply_batch(&mut self.1, NOW, InstanceId(source), batch);
        applied
            .map(|applied| applied.done)
            .map_err(|refused| refused.error)
    }
}

fn keys(batch: &Batch) -> usize {
    batch.effects.len()
}

#[test]
fn a_peer_gets_own_effects_and_its_own_lost_ones_and_no_others() {
    let (mut one, mut two, mut three) = (Shard::new(1), Shard::new(2), Shard::new(3));
    one.set("a", "1");
    two.set("b", "2");
    three.set("c", "3");
    let from_two = two.pull(1, &Clock::new(), ALL);
    let from_three = three.pull(1, &Clock::new(), ALL);
    assert_eq!(one.take(2, &from_two), Ok(1));
    assert_eq!(one.take(3, &from_three), Ok(1));
    assert_eq!(
        keys(&one.pull(2, two.0.clock(), ALL)),
        1,
        "the third region's effect is not relayed"
    );
    assert_eq!(
        keys(&one.pull(2, &Clock::new(), ALL)),
        2,
        "an emptied region gets its own effects back"
    );
}

#[test]
fn a_batch_never_ends_inside_a_transaction() {
    let mut one = Shard::new(1);
    one.set("before", "x");
    one.0.begin_group();
    for key in ["a", "b", "c"] {
        one.set(key, "1");
    }
    let open = one.pull(2, &Clock::new(), ALL);
    assert_eq!(
        (keys(&open), open.more),
        (1, false),
        "a transaction that is being written is held back"
    );
    one.0.end_group();
    one.0.begin_group();
    one.set("next", "1");
    one.0.end_group();

    let mut two = Shard::new(2);
    let first = one.pull(2, two.0.clock(), 1);
    assert_eq!((keys(&first), first.more), (1, true));
    assert_eq!(two.take(1, &first), Ok(1));
    let group = one.pull(2, two.0.clock(), 1);
    assert_eq!((keys(&group), group.more), (3, true));
    assert_eq!(two.take(1, &group), Ok(3));
    let last = one.pull(2, two.0.clock(), 1);
    assert_eq!((keys(&last), last.more), (1, false));
}

#[test]
fn a_transaction_with_one_refused_effect_leaves_no_trace() {
    let (mut one, mut two) = (Shard::new(1), Shard::new(2));
    one.0.begin_group();
    one.set("a", "1");
    one.0.raise_hlc(Hlc::from_millis(NOW + 60_002));
    one.set("b", "1");
    one.0.end_group();
    let batch = one.pull(2, &Clock::new(), ALL);
    assert!(matches!(
        two.take(1, &batch),
        Err(ApplyError::Future { .. })
    ));
    assert_eq!(
        (&two.1, two.0.clock()),
        (&MemoryView::default(), &Clock::new())
    );
}

#[test]
fn a_backlog_that_is_too_short_is_said_and_nothing_is_left_out() {
    let mut one = Shard::limited(
        1,
        Limits {
            log_bytes: 1_000,
            ..Limits::default()
        },
    );
    for number in 0..100 {
        one.set("key", &number.to_string());
    }
    assert!(one.0.stats().log_bytes <= 1_000);
    let refused = one.0.pull(InstanceId(2), &Clock::new(), ALL).unwrap_err();
    let PullError::BacklogGone {
        requester,
        have,
        first,
        origin,
    } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!(
        (requester, have, origin.instance),
        (InstanceId(2), 0, InstanceId(1))
    );
    let nearly: Clock = [(origin, first - 1)].into_iter().collect();
    let rest = one.pull(2, &nearly, ALL);
    assert_eq!(keys(&rest) as u64, 100 - (first - 1));
    let cut: Clock = [(origin, first - 2)].into_iter().collect();
    assert!(one.0.pull(InstanceId(2), &cut, ALL).is_err());
}

#[test]
fn an_effect_from_the_future_stalls_its_source_until_the_clocks_agree() {
    let (mut one, mut two) = (Shard::new(1), Shard::new(2));
    one.0.raise_hlc(Hlc::from_millis(NOW + 60_001));
    let early = one.set("a", "1");
    let next = one.set("a", "2");
    let refused = two.0.apply(&mut two.1, NOW, &early).unwrap_err();
    assert_eq!(
        refused,
        ApplyError::Future {
            dot: early.dot,
            ahead_ms: 60_001,
            max_ms: 60_000
        }
    );
    let refused = two.0.apply(&mut two.1, NOW + 60_000, &next).unwrap_err();
    assert!(
        matches!(
            refused,
            ApplyError::Gap {
                found: 2,
                expected: 1,
                ..
            }
        ),
        "it was skipped: {refused}"
    );
    assert_eq!(two.0.apply(&mut two.1, NOW + 1, &early), Ok(Outcome::Done));
    assert_eq!(two.0.apply(&mut two.1, NOW + 1, &next), Ok(Outcome::Done));
    assert_eq!(two.0.stats().refused, 2);
}

#[test]
fn a_write_after_a_received_one_is_stamped_later_whatever_the_wall_clock_says() {
    let (mut one, mut two) = (Shard::new(1), Shard::new(2));
    let seen = two.0.write(
        &mut two.1,
        NOW + 30_000,
        Write::SetString {
            key: b"a".into(),
            value: b"x".into(),
        },
    );
    one.0.apply(&mut one.1, NOW, &seen.unwrap().effect).unwrap();
    let later = one.set("a", "y");
    two.0.apply(&mut two.1, NOW, &later).unwrap();
    assert_eq!(one.1, two.1);
    assert_eq!(
        two.1.0[b"a".as_slice()],
        crate::oracle::Value::Text(b"y".to_vec())
    );
}

#[test]
fn strangers_ghosts_and_foreign_effects_are_refused() {
    let (mut one, mut two) = (Shard::new(1), Shard::new(2));
    let effect = one.set("a", "1");
    let batch = one.pull(2, &Clock::new(), ALL);

    assert_eq!(
        two.take(3, &batch),
        Err(ApplyError::Foreign {
            dot: effect.dot,
            instance: InstanceId(3)
        })
    );
    let mut smaller = config(2, 3);
    smaller.version = 2;
    smaller.members.remove(&InstanceId(1));
    two.0.configure(smaller.clone()).unwrap();
    assert_eq!(
        two.take(1, &batch),
        Err(ApplyError::NonMember {
            dot: effect.dot,
            version: 2
        })
    );
    assert_eq!(
        two.0.pull(InstanceId(1), &Clock::new(), ALL),
        Err(PullError::NonMember(InstanceId(1)))
    );
    smaller.version = 3;
    smaller.ghosts.insert(InstanceId(1));
    two.0.configure(smaller).unwrap();
    assert_eq!(
        two.take(1, &batch),
        Err(ApplyError::Removed { dot: effect.dot })
    );
    assert_eq!(two.0.clock(), &Clock::new());
}

#[test]
fn a_duplicate_is_counted_and_changes_nothing() {
    let (mut one, mut two) = (Shard::new(1), Shard::new(2));
    let write = |delta| Write::Increment {
        key: b"n".to_vec(),
        delta: meridian_crdt::Decimal::from(delta),
        number: meridian_crdt::Number::Integer,
    };
    one.0.write(&mut one.1, NOW, write(5)).unwrap();
    let batch = one.pull(2, &Clock::new(), ALL);
    assert_eq!(two.take(1, &batch), Ok(1));
    two.0
        .write(
            &mut two.1,
            NOW,
            Write::Delete {
                keys: vec![b"n".to_vec()],
            },
        )
        .unwrap();
    assert_eq!(two.take(1, &batch), Ok(0));
    assert_eq!(
        two.1,
        MemoryView::default(),
        "a duplicate revived what was deleted after it"
    );
    assert_eq!(two.0.stats().duplicates, 1);
}

#[test]
fn an_effect_under_the_own_life_that_was_not_written_here_is_refused() {
    let (mut one, mut twin) = (Shard::new(1), Shard::new(1));
    let foreign = twin.set("a", "1");
    let refused = one.0.apply(&mut one.1, NOW, &foreign);
    assert_eq!(refused, Err(ApplyError::OwnLife(foreign.dot)));
    assert_eq!(one.1, MemoryView::default());
}
