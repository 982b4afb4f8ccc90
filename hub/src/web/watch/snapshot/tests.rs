use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Records as a store has them: name → revision that made it, revision that changed it.
type Records = BTreeMap<String, (u64, u64)>;

fn listed(records: &Records, revision: u64) -> Read<Vec<Listed>> {
    let listed = |(name, (created, newest)): (&String, &(u64, u64))| Listed {
        name: name.clone(),
        created: Revision(*created),
        newest: Revision(*newest),
        project: None,
        parts: Vec::new(),
        body: json!({ "metadata": { "name": name }, "at": newest }),
    };
    Read {
        value: records.iter().map(listed).collect(),
        revision: Revision(revision),
    }
}

fn all() -> Asked {
    Asked {
        name: None,
        scope: Scope::all(),
    }
}

#[test]
fn only_the_last_event_of_a_revision_carries_it() {
    let events = vec![bookmark(Kind::Token, Revision(7), false); 3];
    let ids: Vec<_> = crate::web::watch::with_id(events, Revision(7))
        .into_iter()
        .map(|(_, id)| id)
        .collect();
    assert_eq!(ids, [None, None, Some(Revision(7))]);
}

#[test]
fn nothing_of_another_project_is_told_whatever_becomes_of_it() {
    let of = |revision: u64, projects: &[(&str, &str)]| {
        let records = projects
            .iter()
            .map(|(name, _)| ((*name).to_owned(), (2, revision)));
        let mut read = listed(&records.collect(), revision);
        for one in &mut read.value {
            let project = projects.iter().find(|(name, _)| *name == one.name);
            one.project = project.map(|(_, project)| (*project).to_owned());
        }
        read
    };
    let mine = Asked {
        name: None,
        scope: Scope::only(BTreeSet::from(["mine".to_owned()])),
    };
    let both = [("a", "mine"), ("b", "theirs")];
    let snapshot = Snapshot::first(Kind::Database, of(3, &both));
    assert_eq!(snapshot.all(&mine).len(), 1);
    let changed = snapshot.next(of(5, &both));
    let gone = changed.next(of(7, &[]));
    for (snapshot, what) in [(changed, What::Modified), (gone, What::Deleted)] {
        let told = snapshot.news(Revision(3), &Past::default(), &mine);
        let told: Vec<_> = told
            .iter()
            .map(|one| (one.what, name(&one.object)))
            .collect();
        assert_eq!(told, [(what, "a".to_owned())]);
    }
}

fn name(object: &Bytes) -> String {
    let object: Value = serde_json::from_slice(object).unwrap();
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// What a reader knows after these events, which must fit what it knew.
fn follow(mut known: Records, events: &[Event]) -> Result<Records, TestCaseError> {
    let mut told = BTreeSet::new();
    for event in events {
        let name = name(&event.object);
        let at: Value = serde_json::from_slice(&event.object).unwrap();
        let at = at["at"].as_u64().unwrap();
        let before = known.get(&name).copied();
        match event.what {
            What::Added => {
                prop_assert!(before.is_none(), "{name} is added twice");
                known.insert(name.clone(), (at, at));
            }
            What::Modified => {
                let before = before.map(|(_, at)| at);
                prop_assert!(
                    before.is_some_and(|before| before < at),
                    "{name} is told again"
                );
                known.insert(name.clone(), (at, at));
            }
            What::Deleted => {
                prop_assert!(known.remove(&name).is_some(), "{name} is deleted twice");
                continue;
            }
            What::Bookmark => {}
        }
        prop_assert!(told.insert(name), "one state of each object is enough");
    }
    Ok(known)
}

fn seen_of(records: &Records) -> BTreeMap<&String, u64> {
    records.iter().map(|(name, (_, at))| (name, *at)).collect()
}

proptest! {
    #[test]
    fn whoever_resumes_at_any_revision_misses_nothing_and_is_told_nothing_twice(
        steps in prop::collection::vec((0..4_u8, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let mut records = Records::new();
        let mut snapshot = Snapshot::first(Kind::Token, listed(&records, 1));
        let mut readers = vec![(1, records.clone())];
        for (at, (which, deletes, lists)) in (2..).zip(steps) {
            let name = format!("object-{which}");
            if deletes {
                records.remove(&name);
            } else {
                let created = records.get(&name).map_or(at, |(created, _)| *created);
                records.insert(name, (created, at));
            }
            if lists {
                snapshot = snapshot.next(listed(&records, at));
                readers.push((at, records.clone()));
            }
        }
        let last = readers.last().unwrap().1.clone();
        for (seen, known) in &readers {
            let news = snapshot.news(Revision(*seen), &Past::default(), &all());
            let known = follow(known.clone(), &news)?;
            prop_assert_eq!(seen_of(&known), seen_of(&last), "since {}", seen);
        }
        let from_nothing = follow(Records::new(), &snapshot.all(&all()))?;
        prop_assert_eq!(seen_of(&from_nothing), seen_of(&last));
    }
}

#[test]
fn only_so_many_deletions_are_remembered_and_it_is_known_from_when_on() {
    let records = |count: usize| -> Records {
        (0..count)
            .map(|i| (format!("object-{i:05}"), (1, 1)))
            .collect()
    };
    let snapshot = Snapshot::first(Kind::Token, listed(&records(MOST_GONE + 2), 1));
    let snapshot = snapshot.next(listed(&records(MOST_GONE + 1), 5));
    assert_eq!(snapshot.since, Revision(1));
    let snapshot = snapshot.next(listed(&records(0), 9));
    assert_eq!(
        (snapshot.gone.len(), snapshot.since),
        (MOST_GONE, Revision(9))
    );
}

#[test]
fn what_the_log_tells_of_the_past_is_told() {
    let records = Records::from([("stays".to_owned(), (1, 1)), ("again".to_owned(), (7, 7))]);
    let object: ObjectId = "0b7dd9f6-6f0b-4ac4-8b7e-3f3fd7dbd3bd".parse().unwrap();
    let mut read = listed(&records, 9);
    read.value[1].parts = vec![object];
    let snapshot = Snapshot::first(Kind::Database, read);
    let mut past = Past::default();
    for key in [
        "/database/again",
        "/database/gone",
        &format!("/outcome/11111111-3b5e-4a3e-9d57-0d9a3c1f1e11/{object}"),
        "/user/x",
    ] {
        past.deleted(Kind::Database, key);
    }
    let news = snapshot.news(Revision(5), &past, &all());
    let told: Vec<_> = news
        .iter()
        .map(|one| (one.what, name(&one.object)))
        .collect();
    let expected = [
        (What::Deleted, "again"),
        (What::Deleted, "gone"),
        (What::Modified, "stays"),
        (What::Added, "again"),
    ];
    assert_eq!(told, expected.map(|(what, name)| (what, name.to_owned())));
    let one = Asked {
        name: Some("gone".to_owned()),
        ..all()
    };
    assert_eq!(snapshot.news(Revision(5), &past, &one).len(), 1);
}

#[test]
fn an_event_is_one_line_and_its_id_stands_before_it() {
    let event = bookmark(Kind::Cluster, Revision(7), false);
    let printed = String::from_utf8(event.print(Some(Revision(7))).to_vec()).unwrap();
    let told = printed.strip_prefix("id: 7\ndata: ").unwrap();
    let told: Value = serde_json::from_str(told.strip_suffix("\n\n").unwrap()).unwrap();
    assert_eq!(told["type"], "BOOKMARK");
    assert_eq!(told["object"]["metadata"]["resourceVersion"], "7");
    assert_eq!(told["object"]["metadata"]["annotations"], Value::Null);
    assert!(event.print(None).starts_with(b"data: "));
}
