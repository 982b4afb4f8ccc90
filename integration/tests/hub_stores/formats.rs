//! Stores and backups of every format that there was. Each folder `format-N` holds what a hub of that format left: its store
//! (gzip), a backup, and the certificate authority and token that belong to them and to nothing else.
//!
//! A change of the format keeps the older folders and adds one, written by the ignored test below.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use super::hub::Hub;
use super::{EU, Members, US};

const FILES: [&str; 3] = ["ca/root.key", "ca/root.crt", "admin-token"];

fn folder(format: u64) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub_stores");
    tests.join(format!("format-{format}"))
}

/// A hub that has the authority and the token of a folder, and no store yet.
fn of(format: u64) -> Hub {
    let hub = Hub::stopped();
    fs::create_dir_all(hub.data().join("ca")).unwrap();
    for file in FILES {
        fs::copy(folder(format).join(file), hub.data().join(file)).unwrap();
    }
    hub
}

/// The database that every folder knows, as it was planned.
async fn knows_the_database(hub: &Hub) {
    let cart = hub.database("cart").await;
    let participants = cart["status"]["participants"].as_array().unwrap();
    let ids = participants.iter().map(|it| it["instanceId"].as_u64());
    assert_eq!(ids.collect::<Vec<_>>(), [Some(1), Some(2)], "{cart}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_of_each_earlier_format_is_read_and_goes_on() {
    for format in [1] {
        let mut hub = of(format);
        let packed = fs::File::open(folder(format).join("hub.redb.gz")).unwrap();
        let mut store = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut store).unwrap();
        fs::write(hub.store(), store).unwrap();
        hub.again().await;
        let status = hub.status().await;
        assert_eq!(status["mode"], "decides", "{status}");
        assert_eq!(status["term"], 2, "{status}");
        knows_the_database(&hub).await;
        hub.creates("today").await;
        assert!(hub.backup().exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backup_of_each_earlier_format_is_restored() {
    for format in [1] {
        let mut hub = of(format);
        let ran = hub.restore(&folder(format).join("hub.backup"), &[]);
        assert!(ran.success, "{ran:?}");
        hub.again().await;
        assert_eq!(hub.status().await["mode"], "observes");
        knows_the_database(&hub).await;
    }
}

/// Writes the folder of the format that this hub has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes into the source; only for a new format"]
async fn the_folder_of_the_present_format_is_written() {
    let folder = folder(1);
    let mut hub = Hub::start().await;
    let members = Members::of(&hub).await;
    assert_eq!((&*members.eu.uid, &*members.us.uid), (EU, US));
    fs::create_dir_all(folder.join("ca")).unwrap();
    fs::copy(hub.backup(), folder.join("hub.backup")).unwrap();
    hub.stop().await;
    for file in FILES {
        fs::copy(hub.data().join(file), folder.join(file)).unwrap();
    }
    let packed = fs::File::create(folder.join("hub.redb.gz")).unwrap();
    let mut packed = GzEncoder::new(packed, Compression::best());
    let mut store = fs::File::open(hub.store()).unwrap();
    std::io::copy(&mut store, &mut packed).unwrap();
    packed.finish().unwrap();
}
