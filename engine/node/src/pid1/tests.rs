use super::*;

fn supervisor(data: &std::path::Path) -> Supervisor {
    let config = Config {
        layout: Layout::new(data, None),
        probe_listen: None,
        valkey: PathBuf::new(),
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
