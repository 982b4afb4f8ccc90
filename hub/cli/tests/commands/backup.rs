//! `meridian hub backup`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use meridian_api::{
    backup::{Encoder, Header},
    ids::{Revision, Term},
};
use serde_json::{Value, json};

use super::fixture::{Hub, Ran, TOKEN};

const LINE: &str = "GET /api/v1/hub/backup";

/// A backup of more than one piece.
fn file() -> Vec<u8> {
    let (mut encoder, mut bytes) = Encoder::begin(&Header {
        store_id: "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11".parse().unwrap(),
        term: Term(3),
        revision: Revision(42),
        taken_at: "2026-11-22T12:00:00Z".to_owned(),
        hub_version: "1.0.0".to_owned(),
        authority: "ab:cd".to_owned(),
        trust_domain: "meridian.local".to_owned(),
    });
    for n in 0..20 {
        let key = format!("/outcome/{n:02}");
        encoder.record(&key, &[n; 50_000], &mut bytes).unwrap();
    }
    bytes.extend(encoder.end());
    bytes
}

async fn backup(hub: &Hub, path: &Path, more: &[&str]) -> Ran {
    let path = path.to_str().unwrap();
    let args = [&["hub", "backup", "--file", path], more].concat();
    hub.run(&args, "").await
}

fn left(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_written_as_it_came_for_its_owner_only_and_described() {
    let hub = Hub::start().await;
    hub.answers_bytes(LINE, 200, file());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.backup");
    let ran = backup(&hub, &path, &[]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fs::read(&path).unwrap(), file());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, left(dir.path()).len()), (0o600, 1));
    let asked = &hub.asked()[0];
    assert_eq!(asked.authorization, format!("Bearer {TOKEN}"));
    let bytes = format!("{} bytes", file().len());
    for part in ["20 records", &bytes, "term 3", "revision 42", "root.key"] {
        assert!(ran.stdout.contains(part), "{part}: {ran:?}");
    }

    let ran = backup(&hub, &path, &["--force", "-o", "json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["backup"]["revision"], json!(42));
    assert_eq!(told["records"], json!(20));
    // As `sha256sum` says it.
    let sum = std::process::Command::new("sha256sum").arg(&path).output();
    let sum = String::from_utf8(sum.unwrap().stdout).unwrap();
    assert_eq!(told["sha256"].as_str(), sum.split(' ').next());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_cut_off_or_changed_on_its_way_leaves_no_file() {
    let (mut cut, mut flipped) = (file(), file());
    cut.truncate(500_000);
    flipped[500_000] ^= 1;
    for (wrong, reason) in [
        (cut, "without its checksum"),
        (flipped, "a byte was changed"),
        (b"a page of a proxy".to_vec(), "no backup of a hub"),
    ] {
        let hub = Hub::start().await;
        hub.answers_bytes(LINE, 200, wrong);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.backup");
        let ran = backup(&hub, &path, &[]).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(reason), "{ran:?}");
        assert_eq!(left(dir.path()), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_exists_is_kept_and_the_hub_is_not_asked_for_what_cannot_be_written() {
    let hub = Hub::start().await;
    let problem = json!({ "status": 401, "title": "t", "detail": "found no such token" });
    hub.answers(LINE, 401, problem);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.backup");
    fs::write(&path, "older").unwrap();
    let nowhere = dir.path().join("missing/hub.backup");
    let below_a_file = path.join("hub.backup");
    for (path, part) in [
        (&*path, "--force"),
        (dir.path(), "a directory"),
        (&nowhere, "cannot be written"),
        (&below_a_file, "cannot be written"),
    ] {
        let ran = backup(&hub, path, &[]).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        let named = ran.stderr.contains(path.to_str().unwrap());
        assert!(named && ran.stderr.contains(part), "{ran:?}");
    }
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());

    // What was refused replaces nothing.
    let ran = backup(&hub, &path, &["--force"]).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("no such token"), "{ran:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "older");
    assert_eq!(left(dir.path()), ["hub.backup"]);
}
