use proptest::prelude::*;

use super::*;

fn event(name: &str) -> Event {
    Event {
        at: "2026-11-22T12:00:00Z".to_owned(),
        actor: Actor {
            kind: ActorKind::Token,
            id: "0707070707070707".to_owned(),
            name: "alice".to_owned(),
        },
        address: "10.0.0.1".to_owned(),
        via: String::new(),
        request: "00000000000000ff".to_owned(),
        trace: None,
        verb: "create".to_owned(),
        kind: "Active-Active database".to_owned(),
        name: name.to_owned(),
        project: "default".to_owned(),
        left: Vec::new(),
        outcome: Outcome::Done,
        reason: String::new(),
        revision: Some(Revision(7)),
        unrecorded: 0,
    }
}

fn chain(after: Place, names: &[&str]) -> Vec<Record> {
    let mut last = after;
    let mut records = Vec::new();
    for name in names {
        let record = Record::after(last, event(name));
        last = record.place();
        records.push(record);
    }
    records
}

fn check(after: Place, records: &[Record], noted: &[Place]) -> Result<Verified, Broken> {
    let mut verifier = Verifier::new(after, noted);
    for record in records {
        verifier.next(record)?;
    }
    verifier.end(records.last().map_or(after, Record::place))
}

fn exported(after: Place, records: &[Record], head: Place) -> String {
    let opening = Opening {
        meridian_audit: FORMAT,
        store_id: "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11".parse().unwrap(),
        exported_at: "2026-11-22T12:00:00Z".to_owned(),
        after,
    };
    let mut lines = vec![serde_json::to_string(&opening).unwrap()];
    lines.extend(records.iter().map(|it| serde_json::to_string(it).unwrap()));
    lines.push(serde_json::to_string(&Closing { head }).unwrap());
    lines.join("\n")
}

#[test]
fn the_hash_of_a_record_is_that_of_its_first_release() {
    let record = Record::after(Place::BEGIN, event("shop"));
    let json = r#"{"at":"2026-11-22T12:00:00Z","actor":{"kind":"token","id":"0707070707070707","name":"alice"},"address":"10.0.0.1","request":"00000000000000ff","verb":"create","kind":"Active-Active database","name":"shop","project":"default","outcome":"done","revision":7}"#;
    assert_eq!(serde_json::to_string(&record.event).unwrap(), json);
    let whole = [DOMAIN, &1_u64.to_be_bytes(), &[0; 32], json.as_bytes()].concat();
    let expected = aws_lc_rs::digest::digest(&SHA256, &whole);
    assert_eq!(record.hash.0, expected.as_ref());
}

#[test]
fn every_change_is_told_with_the_record_that_shows_it() {
    let whole = chain(Place::BEGIN, &["a", "b", "c", "d"]);
    check(Place::BEGIN, &whole, &[]).unwrap();

    let mut changed = whole.clone();
    changed[1].event.name = "x".to_owned();
    let told = check(Place::BEGIN, &changed, &[]).unwrap_err();
    assert!(matches!(told, Broken::Changed { number: 2, .. }), "{told}");
    // With a hash that fits, the next one shows it.
    changed[1] = Record::after(whole[0].place(), changed[1].event.clone());
    let told = check(Place::BEGIN, &changed, &[]).unwrap_err();
    assert_eq!(told, Broken::Unlinked { number: 3 });

    let mut removed = whole.clone();
    removed.remove(1);
    let told = check(Place::BEGIN, &removed, &[]).unwrap_err();
    assert_eq!(told, Broken::Removed { after: 1, found: 3 });
    assert!(told.to_string().contains("record 2 was removed"), "{told}");

    let mut inserted = whole.clone();
    inserted.insert(2, whole[1].clone());
    let told = check(Place::BEGIN, &inserted, &[]).unwrap_err();
    assert_eq!(told, Broken::Misplaced { after: 2, found: 2 });

    let mut moved = whole.clone();
    moved.swap(1, 2);
    let told = check(Place::BEGIN, &moved, &[]).unwrap_err();
    assert_eq!(told, Broken::Removed { after: 1, found: 3 });
}

#[test]
fn a_chain_that_was_made_anew_shows_against_a_place_that_was_noted() {
    let old = chain(Place::BEGIN, &["a", "b", "c"]);
    let new = chain(Place::BEGIN, &["a", "x", "c"]);
    let noted = old[1].place();
    assert!(check(Place::BEGIN, &new, &[]).is_ok());
    let told = check(Place::BEGIN, &new, &[noted]).unwrap_err();
    assert!(matches!(told, Broken::Anew { number: 2, .. }), "{told}");
    assert!(check(Place::BEGIN, &old, &[noted, old[2].place()]).is_ok());
    // The first records are kept no more, and what was noted is the last of them.
    assert!(check(noted, &old[2..], &[noted]).is_ok());
    let told = check(noted, &old[2..], &[old[0].place()]).unwrap_err();
    assert!(
        matches!(
            told,
            Broken::NotHeld {
                number: 1,
                first: 3,
                last: 3
            }
        ),
        "{told}"
    );
}

#[test]
fn an_exported_log_that_lacks_its_end_or_a_line_of_it_is_refused() {
    let records = chain(Place::BEGIN, &["a", "b", "c"]);
    let head = records[2].place();
    let whole = exported(Place::BEGIN, &records, head);
    assert_eq!(verify(whole.lines(), &[]).unwrap().head, head);
    let lines: Vec<_> = whole.lines().collect();
    for length in 0..lines.len() {
        let cut = lines[..length].iter().copied();
        assert!(verify(cut, &[]).is_err(), "{length} lines");
    }
    let without = exported(Place::BEGIN, &records[..2], head);
    let told = verify(without.lines(), &[]).unwrap_err();
    assert_eq!(
        told,
        Broken::Cut {
            found: 2,
            expected: 3
        }
    );
    let more = whole.replace("\"verb\"", "\"note\":\"x\",\"verb\"");
    let told = verify(more.lines(), &[]).unwrap_err();
    assert!(matches!(told, Broken::Line { line: 2, .. }), "{told}");
    let newer = whole.replacen("\"meridianAudit\":1", "\"meridianAudit\":2", 1);
    let told = verify(newer.lines(), &[]).unwrap_err();
    assert!(told.to_string().contains("found form 2"), "{told}");
}

#[test]
fn places_are_read_as_they_are_printed() {
    let place = Record::after(Place::BEGIN, event("a")).place();
    assert_eq!(place.to_string().parse(), Ok(place));
    for wrong in [
        "",
        "1",
        "1:",
        "x:00",
        "1:00",
        &format!("{place}0"),
        &place.to_string().to_uppercase(),
    ] {
        assert!(wrong.parse::<Place>().is_err(), "{wrong}");
    }
}

/// What somebody may do to a chain.
#[derive(Clone, Debug)]
enum Tamper {
    Remove(usize),
    Repeat(usize, usize),
    Swap(usize, usize),
    Rename(usize),
    Forge(usize),
    Insert(usize),
}

fn tamper() -> impl Strategy<Value = Tamper> {
    let at = 0..20_usize;
    prop_oneof![
        at.clone().prop_map(Tamper::Remove),
        (at.clone(), at.clone()).prop_map(|(a, b)| Tamper::Repeat(a, b)),
        (at.clone(), at.clone()).prop_map(|(a, b)| Tamper::Swap(a, b)),
        at.clone().prop_map(Tamper::Rename),
        at.clone().prop_map(Tamper::Forge),
        at.prop_map(Tamper::Insert),
    ]
}

fn tampered(mut records: Vec<Record>, tamper: &Tamper) -> Vec<Record> {
    let length = records.len();
    let place = |records: &[Record], at: usize| {
        at.checked_sub(1)
            .map_or(Place::BEGIN, |at| records[at].place())
    };
    match *tamper {
        Tamper::Remove(at) => drop(records.remove(at % length)),
        Tamper::Repeat(at, to) => {
            let record = records[at % length].clone();
            records.insert(to % length, record);
        }
        Tamper::Swap(a, b) => records.swap(a % length, b % length),
        Tamper::Rename(at) => records[at % length].event.actor.name.push('x'),
        Tamper::Forge(at) => {
            let at = at % length;
            let mut event = records[at].event.clone();
            event.outcome = Outcome::Refused;
            records[at] = Record::after(place(&records, at), event);
        }
        Tamper::Insert(at) => {
            let at = at % length;
            let forged = Record::after(place(&records, at), event("forged"));
            records.insert(at, forged);
        }
    }
    records
}

proptest! {
    #[test]
    fn whatever_is_done_to_a_log_is_noticed_unless_nothing_is(
        length in 1..20_usize,
        done in prop::collection::vec(tamper(), 1..4),
    ) {
        let names: Vec<_> = (0..length).map(|at| at.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let whole = chain(Place::BEGIN, &names);
        let head = whole[length - 1].place();
        let mut records = whole.clone();
        for one in &done {
            if !records.is_empty() {
                records = tampered(records, one);
            }
        }
        let exported = exported(Place::BEGIN, &records, head);
        let verified = verify(exported.lines(), &[]);
        prop_assert_eq!(verified.is_ok(), records == whole, "{:?}", verified);
    }

    #[test]
    fn arbitrary_lines_are_refused_without_panic(lines in prop::collection::vec(".{0,80}", 0..6)) {
        prop_assert!(verify(lines.iter().map(String::as_str), &[]).is_err());
    }
}
