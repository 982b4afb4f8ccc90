//! By which Valkey a database runs: chosen once, kept, and raised by its spec alone.

use meridian_api::version::Bundled;

use super::*;

fn bundle(versions: &[&str]) -> Bundle {
    let one = |version: &&str| Bundled {
        version: (*version).to_owned(),
        active_active: true,
    };
    Bundle::of(&versions.iter().map(one).collect::<Vec<_>>())
}

fn asks(field: Option<&str>, policy: Option<UpgradePolicy>, brings: &[&str]) -> Wanted {
    Wanted {
        version: Version {
            asked: Asked::of(field),
            policy,
            bundle: bundle(brings),
        },
        replication: true,
        ..wanted()
    }
}

const BOTH: &[&str] = &["8.1.1", "9.1.2"];

fn made(wanted: &Wanted) -> DatabaseTopology {
    created(decide(wanted, &fresh()).unwrap())
}

/// `topology` with what its primary tells.
fn told(mut topology: DatabaseTopology, version: &str) -> DatabaseTopology {
    let primary = topology.spec.shards[0].primary.clone().unwrap();
    let report = ShardReport {
        version: Some(version.to_owned()),
        ..ShardReport::new(0, ShardRole::Primary, 10_000)
    };
    topology.metadata.uid = Some("T".to_owned());
    topology.status = Some(DatabaseTopologyStatus {
        members: vec![MemberReport {
            node: primary,
            topology_uid: "T".to_owned(),
            shards: vec![report],
            ..MemberReport::default()
        }],
        ..DatabaseTopologyStatus::default()
    });
    topology
}

fn changed(wanted: &Wanted, existing: DatabaseTopology) -> Result<Option<String>, TopologyError> {
    let found = Found {
        existing: Some(existing),
        ..fresh()
    };
    match decide(wanted, &found)? {
        Change::Keep(topology) | Change::Swap(topology) => Ok(topology.spec.version),
        Change::Create { .. } => panic!("it exists"),
    }
}

#[test]
fn a_new_database_gets_the_version_that_it_or_its_cluster_asks_for_in_every_copy() {
    for (field, policy, expected) in [
        (None, None, "8.1"),
        (None, Some(UpgradePolicy::Latest), "9.1"),
        (None, Some(UpgradePolicy::Major), "9.1"),
        (Some("7.4"), Some(UpgradePolicy::Latest), "8.1"),
        (Some("8.2"), None, "9.1"),
        (Some("latest"), None, "9.1"),
    ] {
        let topology = made(&asks(field, policy, BOTH));
        assert_eq!(
            topology.spec.version.as_deref(),
            Some(expected),
            "{field:?}"
        );
        let shard = &topology.spec.shards[0];
        assert_eq!(shard.replicas.len(), 1);
        assert_eq!(shard.versions.len(), 2, "{:?}", shard.versions);
        assert!(shard.versions.values().all(|ordered| ordered == expected));
    }
    let error = decide(&asks(Some("9.2"), None, BOTH), &fresh()).unwrap_err();
    assert_eq!(error.fault(), Fault::Invalid);
    assert!(error.to_string().contains("8.1, 9.1"), "{error}");
}

#[test]
fn before_the_nodes_have_said_what_they_bring_only_who_asks_for_nothing_is_placed() {
    assert_eq!(made(&asks(None, None, &[])).spec.version, None);
    for wanted in [
        asks(Some("7.2"), None, &[]),
        asks(None, Some(UpgradePolicy::Latest), &[]),
    ] {
        let error = decide(&wanted, &fresh()).unwrap_err();
        assert_eq!(error, TopologyError::NoVersions);
        assert_eq!(error.fault(), Fault::Waiting);
        // One that runs goes on.
        let runs = made(&asks(None, None, BOTH));
        assert_eq!(changed(&wanted, runs).unwrap().as_deref(), Some("8.1"));
    }
}

#[test]
fn a_database_that_runs_moves_by_its_own_word_alone() {
    let runs = || made(&asks(None, None, BOTH));
    let newer = &["8.1.1", "9.1.2", "9.2.0"];
    for (field, policy, brings, expected) in [
        (None, Some(UpgradePolicy::Latest), BOTH, "8.1"),
        (None, Some(UpgradePolicy::Major), newer.as_slice(), "8.1"),
        (Some("8.2"), None, BOTH, "9.1"),
        (Some("9.2"), None, newer, "9.2"),
        (Some("latest"), None, newer, "9.2"),
        (Some("major"), None, newer, "9.1"),
        // What it runs by may be missing in another image: it stays what is ordered.
        (None, None, &["8.2.0", "9.1.2"], "8.1"),
    ] {
        let found = changed(&asks(field, policy, brings), runs()).unwrap();
        assert_eq!(found.as_deref(), Some(expected), "{field:?} {brings:?}");
    }
    let newest = || made(&asks(Some("latest"), None, BOTH));
    for field in [None, Some("8.1"), Some("7.2")] {
        let found = changed(&asks(field, None, BOTH), newest()).unwrap();
        assert_eq!(found.as_deref(), Some("9.1"), "{field:?}: never back");
    }
    assert!(changed(&asks(Some("9.2"), None, BOTH), runs()).is_err());
}

/// A topology of a release that chose no version, and one out of a backup.
#[test]
fn what_a_primary_tells_and_what_is_remembered_count_as_chosen() {
    let unsaid = || DatabaseTopology {
        spec: DatabaseTopologySpec {
            version: None,
            ..made(&asks(None, None, BOTH)).spec
        },
        ..made(&asks(None, None, BOTH))
    };
    let latest = asks(None, Some(UpgradePolicy::Latest), BOTH);
    for version in ["8.1.1", "9.1.2"] {
        let series = version.rsplit_once('.').unwrap().0;
        let found = changed(&latest, told(unsaid(), version)).unwrap();
        assert_eq!(found.as_deref(), Some(series));
    }
    let memory = Memory::of(&made(&asks(Some("9.1"), None, BOTH)).spec).unwrap();
    let found = Found {
        memories: vec![
            memory.clone(),
            Memory {
                version: None,
                ..memory.clone()
            },
        ],
        has_served: true,
        ..fresh()
    };
    let again = created(decide(&asks(None, None, BOTH), &found).unwrap());
    assert_eq!(again.spec.version.as_deref(), Some("9.1"));
    assert!(
        again.spec.shards[0]
            .versions
            .values()
            .all(|ordered| ordered == "9.1")
    );
    let backup = Found {
        existing: Some(made(&asks(None, None, BOTH))),
        ..found
    };
    let Change::Swap(kept) = decide(&asks(None, None, BOTH), &backup).unwrap() else {
        panic!("it is older than what is remembered");
    };
    assert_eq!(kept.spec.version.as_deref(), Some("9.1"));
}
