use super::*;

fn write(key: &str, at: u64) -> Acknowledged {
    Acknowledged {
        key: key.to_owned(),
        sent: at - 1,
        acknowledged: at,
    }
}

fn log(pod: Option<&str>, writes: &[(&str, u64)]) -> Log {
    Log {
        pod: pod.map(str::to_owned),
        writes: writes.iter().map(|(key, at)| write(key, *at)).collect(),
        ..Log::default()
    }
}

fn reigns(all: &[(i64, &str)]) -> Vec<Reign> {
    let reign = |(seen, (epoch, pod)): (usize, &(i64, &str))| Reign {
        seen: seen as u64,
        epoch: *epoch,
        pod: (*pod).to_owned(),
    };
    all.iter().enumerate().map(reign).collect()
}

fn keys(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn an_old_primary_that_acknowledges_after_its_successor_is_found() {
    let logs = [
        log(Some("a"), &[("a1", 1_000), ("a2", 9_000)]),
        log(Some("b"), &[("b1", 8_000)]),
    ];
    let all = keys(&["a1", "a2", "b1"]);
    let found = judge(&logs, &reigns(&[(1, "a"), (2, "b")]), &all, 2_000);
    assert_eq!(found.doubles.len(), 1, "{found:?}");
    let double = &found.doubles[0];
    assert_eq!(
        (double.pod.as_str(), double.write.key.as_str()),
        ("a", "a2")
    );
    assert_eq!((double.successor.as_str(), double.since), ("b", 8_000));
    assert_eq!(found.took_over_ms, Some(6));
}

#[test]
fn a_pod_that_becomes_primary_again_may_acknowledge_again() {
    let logs = [
        log(Some("a"), &[("a1", 1_000), ("a2", 9_000)]),
        log(Some("b"), &[("b1", 5_000)]),
    ];
    let all = keys(&["a1", "a2", "b1"]);
    let back = reigns(&[(1, "a"), (2, "b"), (3, "a")]);
    assert!(judge(&logs, &back, &all, 2_000).doubles.is_empty());
}

#[test]
fn a_store_that_tells_an_old_epoch_again_entitles_nobody() {
    let logs = [
        log(Some("a"), &[("a1", 1_000), ("a2", 9_000)]),
        log(Some("b"), &[("b1", 5_000)]),
    ];
    let all = keys(&["a1", "a2", "b1"]);
    let told = reigns(&[(1, "a"), (2, "b"), (1, "a"), (5, "b")]);
    assert_eq!(judge(&logs, &told, &all, 2_000).doubles.len(), 1);
}

#[test]
fn the_longest_time_without_an_acknowledgement_is_measured_from_the_fault_on() {
    let writes = [
        ("1", 1_000),
        ("2", 4_000),
        ("3", 5_000),
        ("4", 26_000),
        ("5", 27_000),
    ];
    let logs = [log(None, &writes)];
    let found = judge(&logs, &[], &keys(&["1", "2", "3", "4", "5"]), 5_500);
    assert_eq!((found.calm_gap_ms, found.gap_ms), (3, 21));
}

#[test]
fn what_is_lost_is_a_tail_only_if_nothing_after_it_is_there() {
    let logs = [
        log(Some("a"), &[("1", 1_000), ("2", 2_000), ("3", 3_000)]),
        log(Some("b"), &[("4", 9_000)]),
    ];
    let told = reigns(&[(1, "a"), (2, "b")]);
    let tail = judge(&logs, &told, &keys(&["1", "4"]), 500);
    assert_eq!((tail.lost.len(), tail.tail_only), (2, true));
    let hole = judge(&logs, &told, &keys(&["1", "3", "4"]), 500);
    assert_eq!((hole.lost.len(), hole.tail_only), (1, false));
    let of_the_new = judge(&logs, &told, &keys(&["1", "2", "3"]), 500);
    assert!(
        !of_the_new.tail_only,
        "the successor lost what it acknowledged"
    );
}
