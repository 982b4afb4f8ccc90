use meridian_api::ids::{Incarnation, PlanNumber};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::link::{kinds::Kind, order::Drift};

fn id(n: u8) -> ObjectId {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
        .parse()
        .unwrap()
}

fn store(n: u8) -> StoreId {
    format!("00000000-0000-4000-9000-0000000000{n:02x}")
        .parse()
        .unwrap()
}

fn at(term: u64, revision: u64) -> Position {
    Position {
        store_id: store(1),
        term: Term(term),
        incarnation: Incarnation(1),
        revision: Revision(revision),
    }
}

fn order(n: u8, revision: u64) -> Order {
    Order {
        object_id: id(n),
        kind: Kind::Database,
        name: format!("db-{n}"),
        mark: Mark {
            term: Term(1),
            revision: Revision(revision),
        },
        plan_number: PlanNumber(0),
        after: BTreeSet::new(),
        trace: None,
        drift: Drift::Report,
        wish: Wish::Upsert {
            hash: String::new(),
            body: json!({}),
        },
    }
}

fn deletion(n: u8, revision: u64) -> Order {
    Order {
        wish: Wish::Delete {
            reason: String::new(),
            approval: None,
        },
        ..order(n, revision)
    }
}

fn with(orders: Vec<Order>, upto: u64) -> Journal {
    let mut journal = Journal::default();
    journal.accept(&at(1, upto), orders).unwrap();
    journal
}

#[test]
fn a_journal_survives_storage_and_another_version_is_not_taken_for_empty() {
    let mut journal = with(vec![order(1, 3), deletion(2, 4)], 4);
    journal.adopt_object(id(1), "uid");
    assert_eq!(Journal::read(&journal.write().unwrap()).unwrap(), journal);
    let text = String::from_utf8(journal.write().unwrap())
        .unwrap()
        .replace("\"version\":1", "\"version\":2");
    assert!(matches!(
        Journal::read(text.as_bytes()),
        Err(JournalError::Version { found: 2 })
    ));
    assert!(Journal::read(b"").is_err());
}

#[test]
fn the_first_hub_may_be_obeyed_and_a_lower_term_of_it_never_again() {
    let mut journal = Journal::default();
    assert_eq!(journal.judge_head(&at(5, 1)), Ok(()));
    journal.accept(&at(5, 9), vec![]).unwrap();
    let lower = Stranger::LowerTerm {
        known: Term(5),
        found: Term(4),
    };
    assert_eq!(journal.judge_head(&at(4, 99)), Err(lower.clone()));
    let before = journal.clone();
    assert_eq!(journal.accept(&at(4, 99), vec![order(1, 99)]), Err(lower));
    assert_eq!(journal, before);
}

#[test]
fn a_term_that_was_welcomed_counts_even_if_it_ordered_nothing() {
    let mut journal = with(vec![], 9);
    assert!(journal.obey(&at(4, 9)));
    assert!(!journal.obey(&at(4, 9)));
    assert_eq!(
        journal.judge_head(&at(3, 99)),
        Err(Stranger::LowerTerm {
            known: Term(4),
            found: Term(3)
        })
    );
    assert_eq!(
        journal.position(),
        Some(&at(1, 9)),
        "the position stays where the orders ended"
    );
}

#[test]
fn the_hub_of_the_highest_term_is_remembered_as_it_welcomed_first() {
    let mut journal = with(vec![], 9);
    assert_eq!(journal.seen(), None);
    let head = at(4, 12);
    assert!(journal.obey(&head));
    assert!(!journal.obey(&at(4, 30)), "the same start is no news");
    assert_eq!(journal.seen(), Some(&head));
    let stored = Journal::read(&journal.write().unwrap()).unwrap();
    assert_eq!(stored.seen(), Some(&head));
    let anew = Position {
        incarnation: Incarnation(2),
        ..at(4, 13)
    };
    assert!(journal.obey(&anew), "another start of the same term is");
    assert_eq!(journal.seen(), Some(&anew));
    journal.adopt_store(&at(3, 5));
    assert_eq!(journal.seen(), Some(&at(3, 5)));
}

#[test]
fn without_an_order_a_lower_term_is_not_obeyed_but_another_store_may_be() {
    let mut journal = Journal::default();
    journal.obey(&at(4, 9));
    let lower = Stranger::LowerTerm {
        known: Term(4),
        found: Term(3),
    };
    assert_eq!(journal.judge_head(&at(3, 99)), Err(lower));
    let other = Position {
        store_id: store(2),
        ..at(1, 1)
    };
    assert_eq!(journal.judge_head(&other), Ok(()));
    journal.obey(&other);
    journal.accept(&other, vec![order(1, 1)]).unwrap();
    assert_eq!(journal.judge_head(&other), Ok(()), "its terms are its own");
}

#[test]
fn a_journal_of_an_earlier_release_keeps_its_term() {
    let mut journal = with(vec![], 9);
    journal.obey(&at(4, 9));
    let mut stored: serde_json::Value = serde_json::from_slice(&journal.write().unwrap()).unwrap();
    stored.as_object_mut().unwrap().remove("seen").unwrap();
    let older = Journal::read(stored.to_string().as_bytes()).unwrap();
    assert_eq!(older.seen(), None);
    assert!(older.judge_head(&at(3, 99)).is_err());
}

#[test]
fn a_new_reign_that_has_sent_a_part_is_not_taken_for_whole() {
    let mut journal = with(vec![], 9);
    journal.accept(&at(2, 0), vec![order(1, 20)]).unwrap();
    assert_eq!(journal.position(), Some(&at(2, 0)));
    journal.accept(&at(2, 20), vec![]).unwrap();
    journal.accept(&at(2, 19), vec![]).unwrap();
    assert_eq!(journal.position(), Some(&at(2, 20)));
}

#[test]
fn another_store_is_not_obeyed_until_it_was_adopted() {
    let mut journal = with(vec![], 9);
    let other = Position {
        store_id: store(2),
        ..at(7, 100)
    };
    let stranger = Stranger::OtherStore {
        known: store(1),
        found: store(2),
    };
    assert_eq!(journal.judge_head(&other), Err(stranger.clone()));
    assert_eq!(journal.accept(&other, vec![order(1, 100)]), Err(stranger));
    assert!(journal.pending().is_empty());
    journal.adopt_store(&other);
    assert_eq!(journal.judge_head(&other), Ok(()));
    assert!(
        journal.judge_head(&at(7, 100)).is_err(),
        "the old store is the stranger now"
    );
}

#[test]
fn a_head_below_what_we_stored_went_back_and_a_new_term_may_be_lower() {
    let journal = with(vec![], 9);
    let back = Stranger::WentBack {
        known: Revision(9),
        found: Revision(8),
    };
    assert_eq!(journal.judge_head(&at(1, 8)), Err(back));
    assert_eq!(journal.judge_head(&at(1, 9)), Ok(()));
    assert_eq!(journal.judge_head(&at(2, 8)), Ok(()));
}

#[test]
fn the_newest_order_of_an_object_replaces_the_older_and_not_the_other_way() {
    let mut journal = with(vec![order(1, 3)], 3);
    let taken = journal.accept(&at(1, 5), vec![order(1, 5)]).unwrap();
    assert_eq!(taken, [(id(1), Accepted::New)]);
    let taken = journal
        .accept(&at(1, 5), vec![order(1, 3), order(1, 5)])
        .unwrap();
    let newest = Mark {
        term: Term(1),
        revision: Revision(5),
    };
    assert_eq!(
        taken,
        [
            (id(1), Accepted::Stale { newest }),
            (id(1), Accepted::Known)
        ]
    );
    assert_eq!(journal.pending()[&id(1)].mark, newest);
}

#[test]
fn a_deleted_object_is_not_made_again_by_an_older_order() {
    let mut journal = with(vec![deletion(1, 5)], 5);
    journal.finish(
        &id(1),
        Mark {
            term: Term(1),
            revision: Revision(5),
        },
    );
    for revision in [3, 5] {
        journal.accept(&at(1, 5), vec![order(1, revision)]).unwrap();
    }
    assert!(journal.pending().is_empty());
    journal.accept(&at(1, 6), vec![order(1, 6)]).unwrap();
    assert_eq!(journal.pending().len(), 1, "a newer order is obeyed");
}

#[test]
fn an_object_that_was_applied_and_is_not_there_is_lost() {
    let mut journal = with(vec![order(1, 3), order(2, 4), order(3, 5)], 5);
    journal.finish(
        &id(1),
        Mark {
            term: Term(1),
            revision: Revision(3),
        },
    );
    journal.finish(
        &id(2),
        Mark {
            term: Term(1),
            revision: Revision(4),
        },
    );
    assert_eq!(
        journal.lost(&BTreeSet::from([id(1)])),
        BTreeSet::from([id(2)])
    );
    journal.accept(&at(1, 6), vec![deletion(2, 6)]).unwrap();
    assert_eq!(
        journal.lost(&BTreeSet::from([id(1)])),
        BTreeSet::new(),
        "its order is pending"
    );
    journal.finish(
        &id(2),
        Mark {
            term: Term(1),
            revision: Revision(6),
        },
    );
    assert_eq!(
        journal.lost(&BTreeSet::from([id(1)])),
        BTreeSet::new(),
        "it was deleted"
    );
    assert_eq!(
        Journal::read(&journal.write().unwrap())
            .unwrap()
            .lost(&BTreeSet::new()),
        BTreeSet::from([id(1)])
    );
}

#[test]
fn finishing_an_order_leaves_the_one_that_replaced_it() {
    let mut journal = with(vec![order(1, 3)], 3);
    journal.accept(&at(1, 4), vec![order(1, 4)]).unwrap();
    journal.finish(
        &id(1),
        Mark {
            term: Term(1),
            revision: Revision(3),
        },
    );
    assert_eq!(journal.pending().len(), 1);
}

#[test]
fn an_order_waits_for_its_dependencies_and_kinds_keep_their_order() {
    let mut instance = Order {
        kind: Kind::Instance,
        ..order(3, 3)
    };
    instance.after.insert(id(2));
    let rerc = Order {
        kind: Kind::RemoteCluster,
        ..order(2, 2)
    };
    let secret = Order {
        kind: Kind::Secret,
        ..order(4, 4)
    };
    let mut journal = with(vec![instance, order(1, 1), rerc, secret], 4);
    assert_eq!(journal.ready(), [id(4), id(2), id(1)]);
    assert_eq!(journal.waits_for(&id(3)), BTreeSet::from([id(2)]));
    journal.finish(
        &id(2),
        Mark {
            term: Term(1),
            revision: Revision(2),
        },
    );
    assert_eq!(journal.ready(), [id(4), id(3), id(1)]);
}

#[test]
fn deletions_come_last_and_in_the_reverse_order_of_kinds() {
    let journal = with(
        vec![
            Order {
                kind: Kind::Secret,
                ..deletion(1, 1)
            },
            deletion(2, 2),
            Order {
                kind: Kind::Secret,
                ..order(3, 3)
            },
        ],
        3,
    );
    assert_eq!(journal.ready(), [id(3), id(2), id(1)]);
}

#[test]
fn a_confirmation_counts_only_for_the_pending_deletion_of_its_revision() {
    let mut journal = with(vec![deletion(1, 5), order(2, 4)], 5);
    assert!(!journal.confirm_delete(&id(1), Revision(4), "admin"));
    assert!(
        !journal.confirm_delete(&id(2), Revision(4), "admin"),
        "an order to create cannot be confirmed into a deletion"
    );
    assert!(!journal.confirm_delete(&id(9), Revision(5), "admin"));
    assert!(journal.confirm_delete(&id(1), Revision(5), "admin"));
    assert!(
        matches!(&journal.pending()[&id(1)].wish, Wish::Delete { approval: Some(by), .. } if by == "admin")
    );
}

#[test]
fn keeping_an_object_drops_its_pending_deletion_and_nothing_else() {
    let mut journal = with(vec![deletion(1, 5), order(2, 4)], 5);
    assert_eq!(journal.keep(&id(2)), None);
    assert_eq!(
        journal.keep(&id(1)),
        Some(Mark {
            term: Term(1),
            revision: Revision(5)
        })
    );
    assert_eq!(journal.pending().len(), 1);
    assert_eq!(journal.deleted(&id(1)), None);
}

#[test]
fn applied_upto_stops_below_the_oldest_pending_order() {
    let mut journal = with(vec![order(1, 3), order(2, 6)], 8);
    assert_eq!(journal.applied_upto(), Revision(2));
    journal.finish(
        &id(1),
        Mark {
            term: Term(1),
            revision: Revision(3),
        },
    );
    assert_eq!(journal.applied_upto(), Revision(5));
    journal.refuse(
        &id(2),
        Mark {
            term: Term(1),
            revision: Revision(6),
        },
    );
    assert_eq!(journal.applied_upto(), Revision(8));
}

#[test]
fn tombstones_are_bounded_and_the_oldest_go() {
    let mut journal = Journal::default();
    let many = u64::try_from(TOMBSTONES).unwrap() + 1;
    for n in 1..=many {
        let object_id: ObjectId = format!("00000000-0000-4000-8000-{n:012x}").parse().unwrap();
        journal
            .accept(
                &at(1, n),
                vec![Order {
                    object_id,
                    ..deletion(1, n)
                }],
            )
            .unwrap();
        journal.finish(
            &object_id,
            Mark {
                term: Term(1),
                revision: Revision(n),
            },
        );
    }
    assert_eq!(journal.deleted.len(), TOMBSTONES);
    assert_eq!(journal.deleted(&id(1)), None);
}

proptest! {
    /// Replaying any suffix of what was accepted changes nothing.
    #[test]
    fn a_replay_of_any_suffix_is_a_no_op(
        steps in proptest::collection::vec((0u8..6, 1u64..40, any::<bool>(), any::<bool>()), 1..40), cut in 0usize..40,
    ) {
        let mut journal = Journal::default();
        let mut frames = Vec::new();
        for (at_revision, (n, _, is_deletion, done)) in (1u64..).zip(steps) {
            let order = if is_deletion { deletion(n, at_revision) } else { order(n, at_revision) };
            let frame = (at(1, at_revision), vec![order.clone()]);
            journal.accept(&frame.0, frame.1.clone()).unwrap();
            frames.push(frame);
            if done && is_deletion {
                journal.finish(&order.object_id, order.mark);
            }
        }
        let before = journal.clone();
        for (upto, orders) in frames.into_iter().skip(cut) {
            journal.accept(&upto, orders).unwrap();
        }
        prop_assert_eq!(journal, before);
    }

    /// The mark of an object never falls, whatever arrives in whatever order.
    #[test]
    fn the_mark_of_an_object_never_falls(steps in proptest::collection::vec((1u64..20, any::<bool>(), any::<bool>()), 1..60)) {
        let mut journal = Journal::default();
        let mut highest = None;
        for (revision, is_deletion, done) in steps {
            let order = if is_deletion { deletion(1, revision) } else { order(1, revision) };
            journal.accept(&at(1, revision), vec![order]).unwrap();
            if let Some(pending) = journal.pending().get(&id(1)).cloned() {
                prop_assert!(highest <= Some(pending.mark));
                highest = Some(pending.mark);
                if done && matches!(pending.wish, Wish::Delete { .. }) {
                    journal.finish(&id(1), pending.mark);
                }
            }
        }
    }
}
