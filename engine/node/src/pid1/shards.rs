//! The files of a shard, made before each start.

use std::path::PathBuf;

use meridian_api::version::Series;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Config;
use crate::atomic_file::{self, FileError};
use crate::clock;
use crate::desired::{DesiredShard, Persistence, ShardName};
use crate::layout::{Layout, ShardLayout, SocketPathTooLong};
use crate::secret::{replication_password, sha256_hex};
use crate::valkey::{ServerError, ShardFiles, needs_module, render_acl, render_config};

/// Why a shard's files could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShardError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    SocketPath(#[from] SocketPathTooLong),
    #[error("move {path} aside: it holds the data of another database of this name")]
    Aside {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("remove {path}: it is older than what the shard had, which keeps nothing on disk")]
    OldSnapshot {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(
        "read {path}, which says by which Valkey the files were written: put its series there, such as 8.1"
    )]
    Ran {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the module {path} is not there; give its path with --module")]
    NoModule { path: PathBuf },
}

#[derive(Serialize, Deserialize)]
struct Owner {
    owner: String,
}

/// The series and program by which `shard` is to run: as it is ordered, and never by an older one than has run on its files.
///
/// # Errors
/// [`ShardError`]: this node brings none, or what has run cannot be read.
pub(super) fn server(
    config: &Config,
    name: &ShardName,
    shard: &DesiredShard,
) -> Result<(Series, PathBuf), ShardError> {
    let ordered = shard.version.as_deref().and_then(|text| text.parse().ok());
    let ran = ran(&config.layout.shard(name.as_str()))?;
    let (series, program) = config.servers.choose(ordered, ran)?;
    Ok((series, program.to_owned()))
}

fn ran(files: &ShardLayout) -> Result<Option<Series>, ShardError> {
    let path = files.ran();
    let failed = |source| ShardError::Ran {
        path: path.clone(),
        source,
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map(Some)
            .map_err(|error| failed(std::io::Error::other(error))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

/// Everything that Valkey needs to start as `shard`, in the directory that belongs to `owner`'s data. Returns the series and program
/// by which it starts.
pub(super) fn prepare(
    config: &Config,
    name: &ShardName,
    owner: &str,
    shard: &DesiredShard,
    internal_secret: &str,
) -> Result<(Series, PathBuf), ShardError> {
    let files = config.layout.shard(name.as_str());
    Layout::check_socket(&files.socket)?;
    if needs_module(shard) && !config.module.exists() {
        return Err(ShardError::NoModule {
            path: config.module.clone(),
        });
    }
    set_foreign_data_aside(&files, owner)?;
    atomic_file::make_dir(&files.directory)?;
    forget_old_snapshot(&files, shard)?;
    atomic_file::write_json(
        &files.owner(),
        &Owner {
            owner: owner.to_owned(),
        },
    )?;
    let chosen = server(config, name, shard)?;
    // Before it starts: what it writes first may be nothing that an older one reads.
    atomic_file::keep(&files.ran(), chosen.0.to_string().as_bytes())?;
    write_files(config, name, shard, internal_secret)?;
    Ok(chosen)
}

/// Notes that the process `pid` of a shard was stopped in order. One that keeps nothing on disk has saved everything then.
pub(super) fn stopped_in_order(config: &Config, name: &ShardName, pid: i32) {
    let path = config.layout.shard(name.as_str()).saved();
    if let Err(error) = atomic_file::write(&path, pid.to_string().as_bytes()) {
        warn!(shard = %name, error = %crate::run::chain(&error), "without persistence it will start empty");
    }
}

/// A shard that keeps nothing on disk begins with what its last process saved when it was stopped in order, or with nothing: an
/// older snapshot would bring back what was overwritten since.
fn forget_old_snapshot(files: &ShardLayout, shard: &DesiredShard) -> Result<(), ShardError> {
    if shard.persistence != Persistence::Disabled || files.saved().exists() {
        return Ok(());
    }
    let path = files.snapshot();
    match std::fs::remove_file(&path) {
        Ok(()) => {
            warn!(path = %path.display(), "an older snapshot of a shard without persistence is removed");
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ShardError::OldSnapshot { path, source }),
    }
}

/// The configuration and the users. Every order of the node comes here for each of its shards, and nearly always to change
/// nothing: what is right is not written again, because the loop of PID 1 would wait for the disk as often.
pub(super) fn write_files(
    config: &Config,
    name: &ShardName,
    shard: &DesiredShard,
    internal_secret: &str,
) -> Result<(), ShardError> {
    let layout = config.layout.shard(name.as_str());
    let replication_password = replication_password(&config.internal);
    let files = ShardFiles {
        layout: &layout,
        module: &config.module,
        log_to_file: config.shards_log_to_file,
        replication_password: replication_password.as_deref(),
    };
    atomic_file::keep(&layout.config(), render_config(shard, &files).as_bytes())?;
    if let Some(tls) = &shard.tls {
        atomic_file::keep(&layout.trusted(), tls.certificates.as_bytes())?;
    }
    let mut replicas = shard.mutual.accepted();
    if replicas.is_empty() {
        // An order of a release that did not name them.
        replicas.extend(replication_password.as_deref().map(sha256_hex));
    }
    let users = render_acl(shard, internal_secret, &replicas);
    atomic_file::keep(&layout.acl(), users.as_bytes())?;
    Ok(())
}

/// Data of another database with the same name is neither served nor deleted: its directory gets another name.
fn set_foreign_data_aside(files: &ShardLayout, owner: &str) -> Result<(), ShardError> {
    let Some(found) = atomic_file::read_json::<Owner>(&files.owner())? else {
        return Ok(());
    };
    if found.owner == owner {
        return Ok(());
    }
    let aside = files.directory.with_extension(format!(
        "of-{}-until-{}",
        found.owner.replace('/', "_"),
        clock::wall_ms()
    ));
    warn!(found = found.owner, wanted = owner, aside = %aside.display(), "data of another owner is set aside");
    std::fs::rename(&files.directory, &aside).map_err(|source| ShardError::Aside {
        path: files.directory.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::shard;
    use crate::pid1::Source;
    use crate::valkey::Servers;
    use std::time::Duration;

    fn config(data: &std::path::Path) -> Config {
        Config {
            layout: Layout::new(data, None),
            probe_listen: None,
            servers: Servers::of(&["8.1.1", "9.1.2"]),
            module: PathBuf::from("libcrdt.so"),
            source: Source::Standalone,
            internal: PathBuf::from("/absent"),
            shards_log_to_file: true,
            grace: Duration::from_secs(1),
        }
    }

    #[test]
    fn data_of_another_owner_is_set_aside_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let name = ShardName::new("db", 1);
        let files = config.layout.shard(name.as_str());
        prepare(&config, &name, "first", &shard(), "s").unwrap();
        std::fs::write(files.directory.join("data"), "precious").unwrap();
        prepare(&config, &name, "first", &shard(), "s").unwrap();
        assert!(
            files.directory.join("data").exists(),
            "the same owner keeps its directory"
        );
        prepare(&config, &name, "second", &shard(), "s").unwrap();
        assert!(!files.directory.join("data").exists());
        let kept = std::fs::read_dir(config.layout.shards())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.join("data").exists())
            .expect("the first owner's data is still there");
        assert_eq!(
            std::fs::read_to_string(kept.join("data")).unwrap(),
            "precious"
        );
    }

    #[test]
    fn files_that_a_newer_valkey_has_served_are_never_given_to_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let name = ShardName::new("db", 1);
        let starts = |version: Option<&str>| {
            let shard = DesiredShard {
                version: version.map(str::to_owned),
                ..shard()
            };
            prepare(&config, &name, "first", &shard, "s").map(|(series, _)| series.to_string())
        };
        assert_eq!(starts(None).unwrap(), "8.1");
        assert_eq!(starts(Some("8.1")).unwrap(), "8.1");
        assert_eq!(starts(Some("9.1")).unwrap(), "9.1");
        for back in [Some("8.1"), None] {
            assert_eq!(starts(back).unwrap(), "9.1");
        }
        assert!(matches!(starts(Some("9.2")), Err(ShardError::Server(_))));
        std::fs::write(config.layout.shard(name.as_str()).ran(), "9.2").unwrap();
        assert!(matches!(starts(None), Err(ShardError::Server(_))));
        // Another database begins anew.
        prepare(&config, &name, "second", &shard(), "s").unwrap();
    }

    #[test]
    fn what_a_running_shard_reads_is_written_only_where_it_changes() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let name = ShardName::new("db", 1);
        let files = config.layout.shard(name.as_str());
        let written = |shard: &DesiredShard| {
            write_files(&config, &name, shard, "s").unwrap();
            [files.config(), files.acl()].map(|path| std::fs::metadata(path).unwrap().ino())
        };
        atomic_file::make_dir(&files.directory).unwrap();
        let first = written(&shard());
        assert_eq!(written(&shard()), first);
        let larger = DesiredShard {
            max_memory_bytes: shard().max_memory_bytes + 1,
            ..shard()
        };
        let after = written(&larger);
        assert_ne!(after[0], first[0], "the configuration");
        assert_eq!(after[1], first[1], "the users");
    }

    #[test]
    fn without_persistence_only_the_snapshot_of_an_orderly_stop_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let files = Layout::new(dir.path(), None).shard("db-1");
        atomic_file::make_dir(&files.directory).unwrap();
        let keeps_nothing = DesiredShard {
            persistence: Persistence::Disabled,
            ..shard()
        };
        // (persistence, stopped in order, kept?)
        let cases = [
            (&keeps_nothing, false, false),
            (&keeps_nothing, true, true),
            (&shard(), false, true),
        ];
        for (shard, in_order, kept) in cases {
            std::fs::write(files.snapshot(), "data").unwrap();
            if in_order {
                std::fs::write(files.saved(), "7").unwrap();
            }
            forget_old_snapshot(&files, shard).unwrap();
            assert_eq!(
                files.snapshot().exists(),
                kept,
                "{:?} {in_order}",
                shard.persistence
            );
            drop(std::fs::remove_file(files.saved()));
        }
    }
}
