use super::*;
use crate::layout::Layout;

/// A shard's directory with a base and two increments.
fn shard(root: &Path) -> ShardLayout {
    let files = Layout::new(root, None).shard("db-1");
    let directory = files.append_only();
    fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &[u8]| fs::write(directory.join(name), text).unwrap();
    // A snapshot without a checksum.
    write("a.1.base.rdb", b"REDIS0011\xff\0\0\0\0\0\0\0\0");
    write("a.1.incr.aof", b"*1\r\n$4\r\nPING\r\n");
    write("a.2.incr.aof", b"*1\r\n$4\r\nPING\r\n");
    write(
        "appendonly.aof.manifest",
        b"file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\nfile a.2.incr.aof seq 2 type i\n",
    );
    files
}

fn change(files: &ShardLayout, name: &str, text: &[u8]) -> Option<Damage> {
    let path = files.append_only().join(name);
    let before = fs::read(&path).unwrap();
    fs::write(&path, text).unwrap();
    let found = examine(files).unwrap();
    fs::write(&path, before).unwrap();
    found
}

#[test]
fn only_the_tail_of_the_last_file_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    assert_eq!(examine(&files).unwrap(), None);
    let cut = b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI";
    assert_eq!(change(&files, "a.2.incr.aof", cut), None);
    let found = change(&files, "a.1.incr.aof", cut).unwrap();
    assert_eq!(
        (found.whole_up_to, found.size, found.repair),
        (14, 24, None)
    );
    assert!(found.file.ends_with("appendonlydir/a.1.incr.aof"));
}

#[test]
fn a_person_reads_which_file_how_much_of_it_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    let broken = b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nP*1\r\n$4\r\nPING\r\n";
    let damage = change(&files, "a.2.incr.aof", broken).unwrap();
    let mut refused = Refused {
        damage,
        waits: false,
        aside: None,
    };
    let text = refused.text();
    for words in [
        "a.2.incr.aof is whole up to byte 14 of 37",
        "valkey-check-aof --fix",
        "appendonlydir/appendonly.aof.manifest",
        "the last 23 bytes",
        "nothing was thrown away",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    refused.waits = true;
    let text = refused.text();
    assert!(
        text.contains("in-sync set") && !text.contains("--fix"),
        "nobody is told to give writes up that others have: {text}"
    );
    refused.aside = Some(files.aside());
    assert!(refused.text().contains("set-aside until somebody deletes"));
    let base = change(&files, "a.1.base.rdb", b"REDIS0011\xff\0\0\0\0\0\0\0\x01").unwrap();
    let refused = Refused {
        damage: base,
        waits: false,
        aside: None,
    };
    assert!(refused.text().contains("no tool repairs this file"));
}

#[test]
fn missing_files_and_a_manifest_that_is_none_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    let found = change(&files, "appendonly.aof.manifest", b"\0\0\0\0").unwrap();
    assert!(found.what.contains("no manifest"), "{found:?}");
    for name in ["a.2.incr.aof", "a.1.base.rdb"] {
        fs::remove_file(files.append_only().join(name)).unwrap();
        let found = examine(&files).unwrap().unwrap();
        assert!(found.file.ends_with(name) && found.what.contains("not there"));
    }
    fs::remove_dir_all(files.append_only()).unwrap();
    assert_eq!(examine(&files).unwrap(), None, "there is nothing to load");
    fs::write(files.snapshot(), b"REDIS0011 cut").unwrap();
    let found = examine(&files).unwrap().unwrap();
    assert!(found.what.contains("checksum"), "{found:?}");
}

#[test]
fn what_is_set_aside_is_kept_with_the_record_of_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    fs::write(files.held(), "first").unwrap();
    let aside = set_aside(&files).unwrap();
    assert!(files.left().iter().all(|path| !path.exists()));
    assert_eq!(
        fs::read_to_string(aside.join("held.json")).unwrap(),
        "first"
    );
    assert!(aside.join("appendonlydir/a.2.incr.aof").exists());
    // What never was a whole copy does not take the place of one that was.
    shard(dir.path());
    set_aside(&files).unwrap();
    assert!(!files.append_only().exists());
    assert_eq!(
        fs::read_to_string(aside.join("held.json")).unwrap(),
        "first"
    );
    shard(dir.path());
    fs::write(files.held(), "second").unwrap();
    set_aside(&files).unwrap();
    assert_eq!(
        fs::read_to_string(aside.join("held.json")).unwrap(),
        "second"
    );
    let folders = fs::read_dir(&files.directory).unwrap().count();
    assert_eq!(folders, 1, "there is one at most");
}

#[test]
fn setting_aside_goes_on_where_it_was_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    fs::create_dir_all(files.aside()).unwrap();
    let beside = files.aside().with_extension("new");
    fs::create_dir_all(&beside).unwrap();
    fs::write(beside.join("held.json"), "newest").unwrap();
    let aside = set_aside(&files).unwrap();
    assert_eq!(
        fs::read_to_string(aside.join("held.json")).unwrap(),
        "newest"
    );
    assert!(aside.join("appendonlydir").exists() && !files.append_only().exists());
    // Its last step is missing, and the shard has begun anew.
    fs::rename(&aside, &beside).unwrap();
    shard(dir.path());
    set_aside(&files).unwrap();
    assert_eq!(
        fs::read_to_string(aside.join("held.json")).unwrap(),
        "newest"
    );
    assert!(!beside.exists() && !files.append_only().exists());
}
