//! Stores and backups of every format that there was. Each folder `format-N` holds what a hub of that format left: its store
//! (gzip), a backup, and the certificate authority and token that belong to them and to nothing else.
//!
//! A change of the format keeps the older folders and adds one, written by the ignored test below.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use redb::{Database, TableDefinition};

use super::hub::{AUTHORITY, Hub, Ran};
use super::{EU, Members, US};

fn folder(format: u64) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub_stores");
    tests.join(format!("format-{format}"))
}

/// A hub that has the authority and the token of a folder, and no store yet.
fn of(format: u64) -> Hub {
    let hub = Hub::stopped();
    hub.has_the_authority_in(&folder(format));
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

/// A hub on a file, stopped, into whose store something was written as a later release may.
async fn after(written: impl FnOnce(&Path)) -> Ran {
    let mut hub = Hub::start().await;
    hub.stop().await;
    written(&hub.store());
    let ran = hub.refuses_to_start();
    assert!(!ran.success, "{ran:?}");
    ran
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_a_later_release_wrote_is_refused_by_file_or_record() {
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let layout = after(|path| {
        let store = Database::open(path).unwrap();
        let txn = store.begin_write().unwrap();
        let mut meta = txn.open_table(META).unwrap();
        meta.insert("format", 2).unwrap();
        drop(meta);
        txn.commit().unwrap();
    });
    let told = layout.await.stderr;
    for part in ["hub.redb", "store format 2", "up to 1", "newer hub"] {
        assert!(told.contains(part), "{part}: {told}");
    }

    const ENTRIES: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("entries");
    let record = after(|path| {
        let store = Database::open(path).unwrap();
        let txn = store.begin_write().unwrap();
        let mut entries = txn.open_table(ENTRIES).unwrap();
        let birth: &[u8] = b"\x02{}";
        entries.insert("/meta/birth", (1, 1, birth)).unwrap();
        drop(entries);
        txn.commit().unwrap();
    });
    let told = record.await.stderr;
    for part in ["/meta/birth", "version 2", "newer hub"] {
        assert!(told.contains(part), "{part}: {told}");
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
    for file in AUTHORITY {
        fs::copy(hub.data().join(file), folder.join(file)).unwrap();
    }
    let packed = fs::File::create(folder.join("hub.redb.gz")).unwrap();
    let mut packed = GzEncoder::new(packed, Compression::best());
    let mut store = fs::File::open(hub.store()).unwrap();
    std::io::copy(&mut store, &mut packed).unwrap();
    packed.finish().unwrap();
}
