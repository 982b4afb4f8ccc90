use super::*;
use crate::desired::Keeps;
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

fn changed(files: &ShardLayout, name: &str, text: &[u8], look: Look) -> Option<Damage> {
    let path = files.append_only().join(name);
    let before = fs::read(&path).unwrap();
    fs::write(&path, text).unwrap();
    let found = examine(files, Loads::AppendOnly, look).unwrap();
    fs::write(&path, before).unwrap();
    found
}

fn change(files: &ShardLayout, name: &str, text: &[u8]) -> Option<Damage> {
    changed(files, name, text, Look::Closely)
}

fn closely(files: &ShardLayout) -> Option<Damage> {
    examine(files, Loads::AppendOnly, Look::Closely).unwrap()
}

#[test]
fn only_the_tail_of_the_last_file_may_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    assert_eq!(closely(&files), None);
    let cut = b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI";
    assert_eq!(change(&files, "a.2.incr.aof", cut), None);
    let found = change(&files, "a.1.incr.aof", cut).unwrap();
    assert_eq!((found.whole_up_to, found.size), (14, 24));
    assert!(found.file.ends_with("appendonlydir/a.1.incr.aof"));
    // The tool refuses to repair it as a part of the manifest.
    assert_eq!(found.repair.as_ref(), Some(&found.file));
    // Valkey would refuse it only once.
    let before = changed(&files, "a.1.incr.aof", cut, Look::ForGaps);
    assert_eq!(before.as_ref(), Some(&found));
    let transaction = b"*1\r\n$4\r\nPING\r\n*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nPING\r\n";
    assert_eq!(change(&files, "a.2.incr.aof", transaction), None);
    let found = change(&files, "a.1.incr.aof", transaction).unwrap();
    assert_eq!((found.whole_up_to, found.size), (14, 43));
}

#[test]
fn before_a_start_only_what_valkey_would_make_worse_is_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    for (name, text) in [
        ("appendonly.aof.manifest", b"\0\0\0\0".as_slice()),
        ("a.1.base.rdb", b"REDIS0011"),
        ("a.2.incr.aof", b"\0\0\0\0"),
    ] {
        assert_eq!(changed(&files, name, text, Look::ForGaps), None, "{name}");
        assert!(change(&files, name, text).is_some(), "{name}");
    }
}

#[test]
fn what_is_looked_at_is_what_valkey_loads() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    fs::write(files.snapshot(), b"REDIS0011 cut").unwrap();
    let manifest = fs::read(files.manifest()).unwrap();
    let write = |text: &[u8]| fs::write(files.manifest(), text).unwrap();
    let loads = |appends| {
        let keeps = if appends {
            Keeps::AppendOnly
        } else {
            Keeps::Snapshots
        };
        loads(&files, keeps).unwrap()
    };
    let look = |loads| examine(&files, loads, Look::Closely).unwrap();
    let file = |found: Option<Damage>| found.map(|found| found.file);
    // Append-only files of an earlier time hide no damage of the snapshot.
    assert_eq!(loads(false), Loads::Snapshot);
    assert_eq!(file(look(Loads::Snapshot)), Some(files.snapshot()));
    // And what became of the snapshot does not matter where they are loaded.
    assert_eq!(loads(true), Loads::AppendOnly);
    assert_eq!(look(Loads::AppendOnly), None);
    write(b"\xff\n");
    assert_eq!(loads(true), Loads::AppendOnly, "nobody knows what it named");
    assert_eq!(file(look(Loads::AppendOnly)), Some(files.manifest()));
    assert!(is_manifest_unreadable(&files).unwrap());
    // They were being made when it ended.
    write(b"# nothing yet\n");
    assert_eq!(loads(true), Loads::Snapshot);
    assert!(!is_manifest_unreadable(&files).unwrap());
    fs::remove_file(files.manifest()).unwrap();
    assert_eq!(loads(true), Loads::Snapshot);
    fs::remove_file(files.snapshot()).unwrap();
    assert_eq!(loads(true), Loads::AppendOnly, "it begins with one");
    assert_eq!(loads(false), Loads::Snapshot, "there is nothing");
    write(&manifest);
    assert_eq!(loads(true), Loads::AppendOnly);
    assert_eq!(loads(false), Loads::AppendOnly, "none was saved since");
    let nothing = super::loads(&files, Keeps::Nothing).unwrap();
    assert_eq!(nothing, Loads::Snapshot, "what is old stays away");
}

#[test]
fn a_manifest_that_nobody_needs_goes_out_of_the_way_of_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    for content in ["first", "second"] {
        fs::create_dir_all(files.append_only()).unwrap();
        fs::write(files.manifest(), content).unwrap();
        let aside = set_manifest_aside(&files).unwrap();
        assert!(!files.append_only().exists());
        let kept = fs::read_to_string(aside.join("appendonly.aof.manifest"));
        assert_eq!(kept.unwrap(), content);
    }
}

#[test]
fn a_command_that_nobody_knows_is_said_and_left_to_valkey() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    let found = change(&files, "a.2.incr.aof", b"*1\r\n$4\r\nPXNG\r\n").unwrap();
    assert!(found.what.contains("`PXNG`") && found.doubtful, "{found:?}");
    assert_eq!(found.repair, None, "the tool does not see it");
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
    let text = refused.text();
    assert!(text.contains("set-aside until somebody deletes"), "{text}");
    assert!(text.contains("or a later whole copy"), "{text}");
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
        let found = closely(&files).unwrap();
        assert!(found.file.ends_with(name) && found.what.contains("not there"));
    }
    fs::remove_dir_all(files.append_only()).unwrap();
    assert_eq!(closely(&files), None, "there is nothing to load");
    fs::write(files.snapshot(), b"REDIS0011 cut").unwrap();
    let found = examine(&files, Loads::Snapshot, Look::Closely)
        .unwrap()
        .unwrap();
    assert!(found.what.contains("checksum"), "{found:?}");
}

#[test]
fn what_is_set_aside_is_kept_with_the_record_of_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let files = shard(dir.path());
    fs::write(files.held(), "first").unwrap();
    let aside = set_aside(&files).unwrap();
    assert!(files.unfinished().exists());
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
    // One that was does, also if it had only snapshots, of which no record says how much they hold.
    finished(&files.unfinished()).unwrap();
    fs::write(files.snapshot(), "second").unwrap();
    set_aside(&files).unwrap();
    assert_eq!(
        fs::read_to_string(aside.join("dump.rdb")).unwrap(),
        "second"
    );
    assert!(!aside.join("held.json").exists());
    let all = fs::read_dir(&files.directory).unwrap();
    let folders = all.filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 1, "there is one at most");
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
