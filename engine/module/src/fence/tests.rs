use super::{Deadline, Denied, Fence, PermitError};

const AT: fn(u64) -> Deadline = Deadline::At;

fn permitted(epoch: u64, deadline: Deadline) -> Fence {
    let mut fence = Fence::new();
    fence.permit(epoch, deadline, 0).unwrap();
    fence
}

/// Each line: what was said before (epoch, deadline), revoked epoch, the time, and what follows.
#[test]
fn a_write_needs_a_permission_that_has_not_run_out() {
    let table = [
        (None, 0, 5, Err(Denied::None)),
        (None, 3, 5, Err(Denied::None)),
        (Some((2, AT(10))), 0, 0, Ok(())),
        (Some((2, AT(10))), 0, 9, Ok(())),
        (Some((2, AT(10))), 0, 10, Err(Denied::Lapsed)),
        (Some((2, AT(10))), 0, u64::MAX, Err(Denied::Lapsed)),
        (Some((2, AT(10))), 1, 9, Ok(())),
        (Some((2, AT(10))), 2, 9, Err(Denied::Revoked)),
        (Some((2, AT(10))), 3, 99, Err(Denied::Revoked)),
        (Some((2, Deadline::Forever)), 0, u64::MAX, Ok(())),
        (Some((2, Deadline::Forever)), 2, 0, Err(Denied::Revoked)),
        (Some((2, AT(0))), 0, 0, Err(Denied::Lapsed)),
    ];
    for (said, revoked, now, expected) in table {
        let mut fence = said.map_or_else(Fence::new, |(epoch, end)| permitted(epoch, end));
        if revoked > 0 {
            fence.revoke(revoked);
        }
        assert_eq!(
            fence.check(|| now),
            expected,
            "{said:?}, revoked {revoked}, at {now}"
        );
    }
}

/// Each line: permitted, revoked, asked, and the answer.
#[test]
fn a_permission_of_an_epoch_that_is_over_is_not_accepted() {
    let stale = |asked, seen| Err(PermitError::Stale { asked, seen });
    let revoked = |asked| Err(PermitError::Revoked { asked });
    let table = [
        (0, 0, 0, Err(PermitError::Zero)),
        (0, 0, 1, Ok(())),
        (5, 0, 4, stale(4, 5)),
        (5, 0, 5, Ok(())),
        (5, 0, 6, Ok(())),
        (0, 5, 5, revoked(5)),
        (0, 5, 4, revoked(4)),
        (0, 5, 6, Ok(())),
        (7, 5, 6, stale(6, 7)),
        (7, 5, 5, revoked(5)),
        (7, 5, 7, Ok(())),
    ];
    for (held, revoke, asked, expected) in table {
        let mut fence = Fence::new();
        if held > 0 {
            fence.permit(held, AT(9), 0).unwrap();
        }
        if revoke > 0 {
            fence.revoke(revoke);
        }
        let before = fence.clone();
        assert_eq!(
            fence.permit(asked, AT(9), 0),
            expected,
            "{held} {revoke} {asked}"
        );
        assert!(
            expected.is_ok() || fence == before,
            "a refusal changed something"
        );
    }
}

#[test]
fn within_an_epoch_the_later_deadline_counts() {
    let mut fence = permitted(3, AT(10));
    fence.permit(3, AT(5), 0).unwrap();
    assert_eq!(fence.deadline(), Some(AT(10)));
    fence.permit(3, AT(20), 15).unwrap();
    assert_eq!(fence.check(|| 19), Ok(()));
    fence.permit(3, Deadline::Forever, 15).unwrap();
    assert_eq!(fence.deadline(), Some(Deadline::Forever));
}

#[test]
fn a_permission_without_end_gets_one_before_somebody_can_be_promoted() {
    let mut fence = permitted(3, Deadline::Forever);
    fence.permit(3, AT(30), 15).unwrap();
    assert_eq!(fence.check(|| 30), Err(Denied::Lapsed));
}

#[test]
fn a_higher_epoch_begins_with_its_own_deadline() {
    let mut fence = permitted(3, Deadline::Forever);
    fence.permit(4, AT(10), 0).unwrap();
    assert_eq!(fence.check(|| 10), Err(Denied::Lapsed));
}

#[test]
fn whoever_follows_gives_its_permission_away() {
    let mut fence = permitted(3, Deadline::Forever);
    fence.follow(true);
    assert_eq!(fence.permit(4, AT(10), 0), Err(PermitError::Replica));
    fence.follow(false);
    assert_eq!(fence.check(|| 0), Err(Denied::None));
    fence.permit(4, AT(10), 0).unwrap();
    assert_eq!(fence.check(|| 9), Ok(()));
}

#[test]
fn a_primary_is_copied_only_after_it_held_a_permission() {
    let mut fence = Fence::new();
    assert!(!fence.may_be_copied());
    fence.permit(1, AT(10), 10).unwrap();
    assert!(!fence.may_be_copied(), "that one had run out on arrival");
    fence.permit(1, AT(20), 10).unwrap();
    assert!(fence.may_be_copied());
    fence.revoke(1);
    assert!(fence.may_be_copied(), "what it has, it acknowledged itself");
    let mut replica = Fence::new();
    replica.follow(true);
    assert!(replica.may_be_copied());
    replica.follow(false);
    assert!(!replica.may_be_copied());
}

#[test]
fn no_clock_is_read_for_a_permission_without_end() {
    let fence = permitted(1, Deadline::Forever);
    assert_eq!(fence.check(|| unreachable!()), Ok(()));
}
