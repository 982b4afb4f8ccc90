//! What is not restored, and that nothing is lost by it.

use std::fs;

use super::hub::{Hub, Ran};

fn refused(ran: &Ran, parts: &[&str]) {
    assert!(!ran.success, "{ran:?}");
    for part in parts {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_cannot_be_right_says_why_and_writes_nothing() {
    let mut hub = Hub::start().await;
    let file = hub.backup();
    let whole = fs::read(&file).unwrap();
    let busy = hub.restore(&file, &[]);
    refused(&busy, &["no hub may run on it"]);
    hub.stop().await;
    let kept = fs::read(hub.store()).unwrap();
    refused(
        &hub.restore(&file, &[]),
        &["not empty", "hub.redb", "expected none"],
    );
    refused(&hub.restore(&file, &["--dry-run"]), &["not empty"]);
    hub.again().await;
    assert_eq!(hub.status().await["mode"], "decides", "it goes on");
    hub.stop().await;
    assert!(!kept.is_empty());

    fs::remove_file(hub.store()).unwrap();
    let wrong = hub.dir.path().join("wrong.backup");
    let mut flipped = whole.clone();
    let middle = flipped.len() - 100;
    flipped[middle] ^= 1;
    let mut newer = whole.clone();
    newer[16] = 2;
    for (bytes, parts) in [
        (
            whole[..whole.len() - 1].to_vec(),
            &["cut off", "wrong.backup"][..],
        ),
        (flipped, &["checksum", "another copy"]),
        (newer, &["found backup format 2", "up to 1"]),
        (b"{}".to_vec(), &["no backup of a hub"]),
    ] {
        fs::write(&wrong, bytes).unwrap();
        refused(&hub.restore(&wrong, &[]), parts);
        assert!(!hub.store().exists());
    }
    refused(
        &hub.restore(&hub.dir.path().join("none"), &[]),
        &["none", "--file"],
    );

    let other = Hub::start().await;
    let theirs = other.data().join("ca");
    let theirs = ["--ca-dir", theirs.to_str().unwrap()];
    refused(
        &hub.restore(&file, &theirs),
        &["certificate authority", "root.key"],
    );
    fs::rename(hub.data().join("ca"), hub.dir.path().join("ca")).unwrap();
    refused(
        &hub.restore(&file, &[]),
        &["no certificate authority", "fingerprint"],
    );
    assert!(!hub.store().exists());
}
