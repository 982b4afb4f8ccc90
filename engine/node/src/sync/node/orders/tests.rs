use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::layout::Layout;
use crate::pid1::{Report, Source};
use crate::standalone::{self, Region, StandaloneFile};
use crate::sync::settings::Settings;

/// A PID 1 that counts how often it is asked to follow, and says what it is told to say.
#[derive(Default)]
struct Pid1 {
    asked: u32,
    owed: Option<String>,
}

fn serve(layout: &Layout) -> Arc<Mutex<Pid1>> {
    let pid1 = Arc::new(Mutex::new(Pid1::default()));
    let listener = UnixListener::bind(layout.supervisor_socket()).unwrap();
    let own = Arc::clone(&pid1);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (reading, mut writing) = stream.into_split();
            let mut line = String::new();
            let mut reading = BufReader::new(reading);
            reading.read_line(&mut line).await.unwrap();
            let report = {
                let mut own = own.lock().unwrap();
                let verb: Verb = serde_json::from_str(&line).unwrap();
                own.asked += u32::from(verb == Verb::Apply);
                Report {
                    informed: true,
                    stopping: false,
                    databases: BTreeMap::new(),
                    refusals: Vec::new(),
                    owed: own.owed.clone(),
                    units: BTreeMap::new(),
                }
            };
            let text = serde_json::to_vec(&report).unwrap();
            writing.write_all(&text).await.unwrap();
        }
    });
    pid1
}

struct Place {
    _data: tempfile::TempDir,
    layout: Layout,
    node: Arc<Node>,
    pid1: Arc<Mutex<Pid1>>,
}

/// The region `id`, which this node is if it is 1.
fn region(id: u32) -> StandaloneFile {
    let region = Region {
        id,
        listen: ([127, 0, 0, 1], 10000).into(),
        sync_listen: ([127, 0, 0, 1], 10001).into(),
        peers: BTreeMap::new(),
        certs: None,
        database: format!("db-{id}"),
        max_memory_bytes: 0,
        aof_always: false,
        metrics_listen: None,
    };
    standalone::file(&region, None)
}

fn place() -> Place {
    let data = tempfile::tempdir().unwrap();
    let layout = Layout::new(data.path(), None);
    atomic_file::make_dir(layout.run()).unwrap();
    atomic_file::write_json(&layout.standalone(), &region(1)).unwrap();
    let settings = Settings::load(&layout, Source::Standalone, &PathBuf::new()).unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let node = Node::new(layout.clone(), settings, None, tasks, stop).unwrap();
    Place {
        pid1: serve(&layout),
        _data: data,
        layout,
        node,
    }
}

impl Place {
    fn asked(&self) -> u32 {
        self.pid1.lock().unwrap().asked
    }

    fn says(&self, owed: Option<&str>) {
        self.pid1.lock().unwrap().owed = owed.map(str::to_owned);
    }

    fn owed(&self) -> Option<String> {
        self.node.view().owed
    }

    /// Nothing can be written beside `file`, as on a full disk, and also for root.
    fn fill(&self, file: &str) -> PathBuf {
        let beside = self.layout.data().join(format!("{file}.new"));
        std::fs::create_dir(&beside).unwrap();
        beside
    }
}

#[tokio::test]
async fn an_order_that_a_full_disk_refused_is_repeated_until_there_is_room() {
    let place = place();
    let full = place.fill("proposed.json");
    place.node.follow(Vec::new(), BTreeMap::new()).await;
    for _ in 0..2 {
        let owed = place.owed().expect("orders that are owed");
        assert!(owed.contains("proposed.json.new"), "{owed}");
        assert_eq!(place.asked(), 0);
        place.node.refresh().await;
    }
    std::fs::remove_dir(&full).unwrap();
    place.node.refresh().await;
    assert_eq!((place.owed(), place.asked()), (None, 1));
    place.node.refresh().await;
    assert_eq!(place.asked(), 1, "what is followed is not repeated");
}

#[tokio::test]
async fn an_order_that_pid_1_could_not_store_is_repeated_until_it_did() {
    let place = place();
    place.says(Some("write obeyed.json.new: No space left on device"));
    place.node.follow(Vec::new(), BTreeMap::new()).await;
    assert!(place.owed().is_some_and(|owed| owed.contains("No space")));
    place.node.refresh().await;
    assert_eq!(place.asked(), 2);
    place.says(None);
    place.node.refresh().await;
    assert_eq!((place.owed(), place.asked()), (None, 3));
}

#[tokio::test]
async fn topologies_that_were_not_kept_for_the_next_start_are_kept_later() {
    let place = place();
    let full = place.fill("topologies.json");
    let elsewhere = vec![region(2).topology];
    place.node.follow(elsewhere, BTreeMap::new()).await;
    assert!(place.owed().is_some_and(|owed| owed.contains("topologies")));
    std::fs::remove_dir(&full).unwrap();
    place.node.refresh().await;
    assert_eq!(place.owed(), None);
    assert!(place.layout.topologies().exists());
}
