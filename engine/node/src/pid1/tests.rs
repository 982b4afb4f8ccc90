use super::*;

fn supervisor(data: &std::path::Path) -> Supervisor {
    let config = Config {
        layout: Layout::new(data, None),
        probe_listen: None,
        servers: Servers::of(&["8.1.1"]),
        module: PathBuf::new(),
        source: Source::Standalone,
        internal: PathBuf::new(),
        shards_log_to_file: false,
        grace: Duration::ZERO,
    };
    Supervisor {
        informed: false,
        obeyed: DesiredState::default(),
        refusals: Vec::new(),
        owed: None,
        course: Course::Serving,
        handing: Vec::new(),
        units: Units::new(config.clone(), String::new()).unwrap(),
        config,
    }
}

#[test]
fn an_order_that_could_not_be_stored_is_said_and_followed_when_it_is_repeated() {
    let data = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(data.path());
    let layout = supervisor.config.layout.clone();
    atomic_file::write_json(&layout.proposed(), &DesiredState::default()).unwrap();
    // Nothing can be written beside the file: as on a full disk, and also for root.
    let beside = layout.obeyed().with_extension("json.new");
    std::fs::create_dir(&beside).unwrap();
    for _ in 0..2 {
        supervisor.apply();
        let owed = supervisor.report().owed.expect("an order that is owed");
        assert!(owed.contains("obeyed.json.new"), "{owed}");
        assert!(!supervisor.report().informed);
    }
    std::fs::remove_dir(&beside).unwrap();
    supervisor.apply();
    assert_eq!(supervisor.report().owed, None);
    assert!(supervisor.report().informed && layout.obeyed().exists());
}

/// Orders for one shard, of which `replicas` hold copies.
fn obeys(role: Role, replicas: &[&str], in_sync: &[&str]) -> DesiredState {
    use crate::desired::tests::{database, state};
    use crate::desired::{DesiredShard, Replication};
    let pods = |names: &[&str]| names.iter().map(|pod| (*pod).to_owned()).collect();
    let mut database = database("u", 1, 1, 1);
    let shard = database.shards.remove(&1).unwrap();
    let replication = Replication {
        replicas: pods(replicas),
        in_sync: pods(in_sync),
        ..Replication::default()
    };
    let shard = DesiredShard {
        role,
        replication: Some(replication),
        ..shard
    };
    database.shards.insert(1, shard);
    state(&[("db", database)])
}

#[test]
fn a_primary_that_is_asked_to_stop_waits_for_a_copy_that_has_not_everything_yet() {
    let replica = || Role::Replica {
        host: "other".to_owned(),
    };
    for (role, replicas, in_sync, waits) in [
        (Role::Primary, &["other"][..], &["other"][..], true),
        (Role::Primary, &["other"], &[], true),
        (Role::Primary, &[], &[], false),
        (replica(), &["me"], &["me"], false),
    ] {
        let data = tempfile::tempdir().unwrap();
        let mut supervisor = supervisor(data.path());
        supervisor.obeyed = obeys(role.clone(), replicas, in_sync);
        supervisor.asked_to_stop("a test");
        let stays = matches!(supervisor.course, Course::HandingOver(_));
        assert_eq!(stays, waits, "{role:?}, {replicas:?}, {in_sync:?}");
    }
}

#[test]
fn a_hand_over_ends_when_another_leads_and_not_when_its_successor_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let mut supervisor = supervisor(data.path());
    let status = |supervisor: &mut Supervisor| {
        let (reply, _answer) = tokio::sync::oneshot::channel();
        let verb = Verb::Status;
        let asker = None;
        supervisor.answer(Request { verb, asker, reply });
        supervisor.course == Course::Stopping
    };
    supervisor.obeyed = obeys(Role::Primary, &["other"], &["other"]);
    supervisor.asked_to_stop("a test");
    assert!(!status(&mut supervisor), "nobody else leads yet");
    supervisor.obeyed = obeys(Role::Primary, &["other"], &[]);
    assert!(
        !status(&mut supervisor),
        "its successor is gone, another may come"
    );
    supervisor.obeyed = obeys(
        Role::Replica {
            host: "other".to_owned(),
        },
        &["me"],
        &[],
    );
    assert!(status(&mut supervisor), "another leads");
}
