use meridian_api::version::Bundled;
use serde_json::json;

use super::*;
use crate::controllers::cluster::{validate, version::Choice};

fn rec() -> RedisEnterpriseCluster {
    serde_json::from_value(json!({"metadata": {"name": "rec", "generation": 2}, "spec": {}}))
        .unwrap()
}

fn cluster() -> Cluster {
    let choice = Choice {
        image: "i".to_owned(),
        release: "0.2.0".to_owned(),
        suspended: None,
    };
    validate::validate(&rec(), &choice).unwrap()
}

fn sight(cluster: &Cluster, ready: i32, progress: Progress) -> Sight<'_> {
    Sight {
        cluster,
        view: View {
            nodes: 3,
            existing: 3,
            ready,
            bootstrapped: true,
            progress,
            recovery: None,
        },
        suspended: None,
        rollout: None,
        shards: &[],
        troubles: Vec::new(),
        away: Vec::new(),
        persistence: None,
        racks: None,
        licence: None,
        certificates: None,
        credentials: None,
        bundle: None,
    }
}

fn condition(shown: &RedisEnterpriseClusterStatus, type_: &str) -> String {
    let found = shown
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_);
    found.map_or_else(String::new, |found| {
        format!("{} {}: {}", found.status, found.reason, found.message)
    })
}

#[test]
fn a_deletion_that_waits_says_for_what() {
    let shown = status(
        &rec(),
        &Outcome::Deleting("DatabasesExist", "waits for redb/a"),
        &[],
        "now",
    );
    assert_eq!(shown.state, Some(ClusterState::Deleting));
    assert_eq!(
        condition(&shown, "Ready"),
        "False DatabasesExist: waits for redb/a"
    );
}

#[test]
fn a_foreign_object_is_a_condition_of_its_own() {
    let error = ApplyError::Foreign {
        kind: "StatefulSet".to_owned(),
        name: "rec".to_owned(),
        holder: "`x`".to_owned(),
    };
    let shown = status(&rec(), &Outcome::Failed(&error), &[], "now");
    assert_eq!(shown.state, Some(ClusterState::Error));
    assert!(condition(&shown, "ForeignObject").starts_with("True NameTaken"));
}

#[test]
fn a_refused_version_is_an_invalid_upgrade_with_its_reason() {
    let refused = Refused::Downgrade("cannot go back".to_owned());
    let shown = status(&rec(), &Outcome::InvalidUpgrade(&refused), &[], "now");
    assert_eq!(shown.state, Some(ClusterState::InvalidUpgrade));
    assert_eq!(shown.spec_status, Some(SpecStatus::Invalid));
    assert!(condition(&shown, "Ready").starts_with("False Downgrade: cannot go back"));
}

#[test]
fn a_rollout_tells_how_many_pods_are_left_and_what_it_waits_for() {
    let cluster = cluster();
    let mut seen = sight(&cluster, 2, Progress::Update { left: 1 });
    seen.rollout = Some("waits until pod rec-2 is ready".to_owned());
    seen.troubles = vec!["rec-2: ErrImagePull".to_owned()];
    seen.away = vec!["a".to_owned()];
    let shown = status(&rec(), &Outcome::Seen(&seen), &[], "now");
    assert_eq!(shown.state, Some(ClusterState::RunningRollingUpdate));
    assert_eq!(
        condition(&shown, "UpToDate"),
        "False RollingUpdate: 1 of 3 pods run with an older spec: waits until pod rec-2 is ready"
    );
    assert_eq!(
        condition(&shown, "Ready"),
        "False NodesNotReady: 2 of 3 nodes are ready; rec-2: ErrImagePull"
    );
    assert!(condition(&shown, "DatabasesServed").contains("no replica: a"));
}

#[test]
fn having_served_once_is_remembered_through_every_other_outcome() {
    let cluster = cluster();
    let mut rec = rec();
    rec.status = Some(status(
        &rec,
        &Outcome::Seen(&sight(&cluster, 3, Progress::Current)),
        &[],
        "t1",
    ));
    assert!(bootstrapped(&rec));
    for outcome in [
        Outcome::Invalid(&[]),
        Outcome::Blocked("Racks", "no label"),
        Outcome::Deleting("Deleting", "goes"),
    ] {
        rec.status = Some(status(&rec, &outcome, &[], "t2"));
        assert!(bootstrapped(&rec), "{outcome:?}");
    }
    let lost = sight(&cluster, 0, Progress::Current);
    let shown = status(&rec, &Outcome::Seen(&lost), &[], "t3");
    assert_eq!(shown.state, Some(ClusterState::Error));
    assert!(condition(&shown, "Quorum").contains("spec.clusterRecovery"));
}

#[test]
fn having_served_once_needs_no_condition() {
    let mut rec = rec();
    rec.metadata.uid = Some("u".to_owned());
    let mark = |rec: &mut RedisEnterpriseCluster, uid: &str| {
        let marks = [(BOOTSTRAPPED.to_owned(), uid.to_owned())];
        rec.metadata.annotations = Some(marks.into());
    };
    // As another operator's definition keeps it: the words, and no conditions.
    let word = |state| RedisEnterpriseClusterStatus {
        state: Some(state),
        ..RedisEnterpriseClusterStatus::default()
    };
    rec.status = Some(word(ClusterState::Invalid));
    assert!(!bootstrapped(&rec));
    mark(&mut rec, "u");
    assert!(bootstrapped(&rec));
    mark(&mut rec, "of-another");
    assert!(!bootstrapped(&rec), "copied with its annotations");
}

#[test]
fn licences_are_shown_as_valid_and_shards_are_counted_with_their_replicas() {
    let cluster = cluster();
    let shard = Shard {
        database: "a".to_owned(),
        primary: Some("rec-0".to_owned()),
        replicas: vec!["rec-1".to_owned()],
    };
    let shards = [
        shard.clone(),
        Shard {
            replicas: Vec::new(),
            ..shard
        },
    ];
    let mut seen = sight(&cluster, 3, Progress::Current);
    seen.shards = &shards;
    seen.suspended = Some("older");
    let bundle = Bundle::of(&[Bundled {
        version: "8.1.1".to_owned(),
        active_active: true,
    }]);
    seen.bundle = Some(bundle.clone());
    seen.licence = Some(Finding::yes("LicenseReadable", "InSpec", "4 bytes"));
    let shown = status(&rec(), &Outcome::Seen(&seen), &[], "now");
    let licence = shown.license_status.clone().unwrap();
    assert_eq!(
        (
            licence.license_state.as_deref(),
            licence.shards_usage.as_deref()
        ),
        (Some("Valid"), Some("3/unlimited"))
    );
    assert_eq!(shown.bundled_database_versions, bundle.show());
    let mut later = rec();
    later.status = Some(shown.clone());
    seen.bundle = None;
    let kept = status(&later, &Outcome::Seen(&seen), &[], "now");
    assert_eq!(
        kept.bundled_database_versions,
        bundle.show(),
        "a node that does not answer takes nothing back"
    );
    let modules = shown.modules.iter().map(|module| {
        let name = module.name.clone().unwrap_or_default();
        (name, module.versions.clone())
    });
    assert_eq!(
        modules.collect::<Vec<_>>(),
        [("crdt".to_owned(), vec![cluster.release.clone()])],
        "what the nodes' image contains, and nothing that a person could load"
    );
    assert!(condition(&shown, "UpToDate").starts_with("Unknown Suspended"));
    assert_eq!(condition(&shown, "Suspended"), "True VersionsDiffer: older");
    assert_eq!(condition(&shown, "LicenseReadable"), "True InSpec: 4 bytes");
}
