use super::*;

const OLD: &str = "sha256:old";
const NEW: &str = "sha256:new";
const DIGEST: &str = "d";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn root(fingerprint: &str) -> Root {
    Root {
        fingerprint: fingerprint.to_owned(),
        pem: String::new(),
    }
}

fn names(bundle: &Bundle) -> Vec<&str> {
    let roots = bundle.roots.iter();
    roots.map(|root| root.fingerprint.as_str()).collect()
}

/// The bundles of a whole rotation: settled, introduced, signing, settled.
fn rotation() -> [Bundle; 4] {
    let first = Bundle::first(root(OLD), at(0));
    let introduced = first.after(&Step::Rotate(root(NEW)), at(0)).unwrap();
    let signing = introduced.after(&Step::Advance, at(0)).unwrap();
    let last = signing.after(&Step::Advance, at(0)).unwrap();
    [first, introduced, signing, last]
}

fn holds(bundle: &Bundle, signer: &str) -> MemberTrust {
    MemberTrust {
        version: bundle.version,
        digest: DIGEST.to_owned(),
        signer: signer.to_owned(),
        recs: vec![RecTrust {
            rec: "db/rec".to_owned(),
            version: bundle.version,
            signer: signer.to_owned(),
        }],
        since: at(10),
    }
}

/// What holds a step up, with one member `eu-1` that reported this, long ago.
fn found(bundle: &Bundle, step: &Step, held: Option<&MemberTrust>) -> Vec<Obstacle> {
    judged(bundle, step, held, (NEW, 1_000), &[])
}

fn judged(
    bundle: &Bundle,
    step: &Step,
    held: Option<&MemberTrust>,
    (serving, now): (&str, i64),
    even_without: &[&str],
) -> Vec<Obstacle> {
    let facts = Facts {
        bundle,
        digest: DIGEST,
        members: &[Member { name: "eu-1", held }],
        serving,
        now: at(now),
        margin: MARGIN,
    };
    let left = even_without.iter().map(|name| (*name).to_owned());
    obstacles(&facts, step, &left.collect())
}

fn is_held_up(found: &[Obstacle], word: &str) {
    let [Obstacle { member, reason }] = found else {
        panic!("{found:?}")
    };
    assert_eq!(member.as_deref(), Some("eu-1"));
    assert!(reason.contains(word), "{reason}");
}

#[test]
fn a_rotation_is_four_bundles_and_its_versions_rise() {
    let bundles = rotation();
    let expected = [vec![OLD], vec![OLD, NEW], vec![NEW, OLD], vec![NEW]];
    let stages = [
        Stage::Settled,
        Stage::Introduced,
        Stage::Signing,
        Stage::Settled,
    ];
    for (number, bundle) in bundles.iter().enumerate() {
        assert_eq!(bundle.version, number as u64 + 1);
        assert_eq!(names(bundle), expected[number]);
        assert_eq!(bundle.stage(), stages[number]);
    }
    assert_eq!(bundles[3].retired, [OLD]);
}

#[test]
fn every_step_can_be_taken_back_and_the_versions_rise_all_the_same() {
    let [_, introduced, signing, _] = rotation();
    let back = signing.after(&Step::Abort, at(0)).unwrap();
    assert_eq!((names(&back), back.version), (vec![OLD, NEW], 4));
    assert_eq!(back.stage(), Stage::Introduced);
    let settled = introduced.after(&Step::Abort, at(0)).unwrap();
    assert_eq!((names(&settled), settled.version), (vec![OLD], 3));
}

#[test]
fn steps_that_the_stage_does_not_allow_are_refused() {
    let [first, introduced, signing, last] = rotation();
    let now = at(0);
    for bundle in [&introduced, &signing] {
        let again = bundle.after(&Step::Rotate(root("sha256:x")), now);
        assert_eq!(again, Err(Impossible::UnderWay));
    }
    for step in [Step::Advance, Step::Abort] {
        assert_eq!(first.after(&step, now), Err(Impossible::NotUnderWay));
    }
    let same = first.after(&Step::Rotate(root(OLD)), now);
    assert_eq!(same, Err(Impossible::SameKey));
    let gone = last.after(&Step::Rotate(root(OLD)), now);
    assert_eq!(gone, Err(Impossible::Retired));
}

#[test]
fn a_step_waits_for_every_member_and_all_of_its_nodes() {
    let [first, introduced, signing, _] = rotation();
    for (bundle, step) in [
        (&first, Step::Rotate(root(NEW))),
        (&introduced, Step::Advance),
        (&signing, Step::Advance),
    ] {
        assert_eq!(found(bundle, &step, Some(&holds(bundle, NEW))), []);
        is_held_up(&found(bundle, &step, None), "has not said");
        let mut behind = holds(bundle, NEW);
        behind.version -= 1;
        // Of the first version: as an agent that says nothing.
        let word = if behind.version == 0 {
            "has not said"
        } else {
            "its agent trusts"
        };
        is_held_up(&found(bundle, &step, Some(&behind)), word);
        let mut nodes = holds(bundle, NEW);
        nodes.recs[0].version = 0;
        is_held_up(&found(bundle, &step, Some(&nodes)), "REC db/rec");
    }
}

#[test]
fn who_acknowledges_what_was_never_made_or_other_roots_acknowledges_nothing() {
    let [_, introduced, ..] = rotation();
    let mut beyond = holds(&introduced, OLD);
    beyond.version += 7;
    is_held_up(
        &found(&introduced, &Step::Advance, Some(&beyond)),
        "never made",
    );
    let mut other = holds(&introduced, OLD);
    other.digest = "e".to_owned();
    is_held_up(
        &found(&introduced, &Step::Advance, Some(&other)),
        "other roots",
    );
}

#[test]
fn a_root_does_not_go_while_a_certificate_of_it_is_in_use() {
    let [_, _, signing, _] = rotation();
    let go = Step::Advance;
    let mut agent = holds(&signing, NEW);
    agent.signer = OLD.to_owned();
    is_held_up(&found(&signing, &go, Some(&agent)), "its agent still uses");
    for (signer, word) in [(OLD, "still use"), ("", "not known")] {
        let mut nodes = holds(&signing, NEW);
        nodes.recs[0].signer = signer.to_owned();
        is_held_up(&found(&signing, &go, Some(&nodes)), word);
    }
    let good = holds(&signing, NEW);
    let hub = judged(&signing, &go, Some(&good), (OLD, 1_000), &[]);
    assert!(hub[0].reason.contains("the hub itself"), "{hub:?}");
    // While both are trusted nobody has to use the new one.
    let [_, introduced, ..] = rotation();
    assert_eq!(found(&introduced, &go, Some(&holds(&introduced, OLD))), []);
}

#[test]
fn a_step_waits_for_a_margin_after_the_last_acknowledgement() {
    let [_, introduced, ..] = rotation();
    let held = holds(&introduced, OLD);
    let end = held.since + MARGIN;
    let judged = |now: i64| judged(&introduced, &Step::Advance, Some(&held), (OLD, now), &[]);
    assert_eq!(judged(end.as_second()), []);
    let early = judged(end.as_second() - 1);
    assert!(early[0].reason.contains("not before"), "{early:?}");
}

#[test]
fn who_is_named_is_left_behind_and_nobody_else() {
    let [_, introduced, ..] = rotation();
    let of = |left: &[&str]| judged(&introduced, &Step::Advance, None, (OLD, 1_000), left);
    assert_eq!(of(&["eu-1"]), []);
    assert_eq!(of(&["eu-2"]).len(), 1);
    let members = [Member {
        name: "eu-1",
        held: None,
    }];
    let named = ["eu-1", "eu-2"].map(str::to_owned);
    assert_eq!(unknown(&named.into(), &members), ["eu-2"]);
}

#[test]
fn a_new_root_that_never_signed_is_taken_back_at_once_and_one_that_did_is_not() {
    let [_, introduced, signing, _] = rotation();
    assert_eq!(found(&introduced, &Step::Abort, None), []);
    assert_eq!(found(&signing, &Step::Abort, None), []);
    let back = signing.after(&Step::Abort, at(0)).unwrap();
    let uses = holds(&back, NEW);
    let of = |held| judged(&back, &Step::Abort, Some(held), (OLD, 1_000), &[]);
    is_held_up(&of(&uses), "still uses");
    assert_eq!(of(&holds(&back, OLD)), []);
}
