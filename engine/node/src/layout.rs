//! Where things lie. No other module spells a file name.

use std::path::{Path, PathBuf};

/// The longest path that fits into a Unix socket address.
const SOCKET_PATH_MAX: usize = 107;

/// The files of one node: `data` survives restarts, `run` need not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    data: PathBuf,
    run: PathBuf,
}

/// A path of ours that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the socket path {path} is {found} bytes long, the system allows {SOCKET_PATH_MAX}: choose a shorter --dir or --run-dir"
)]
pub struct SocketPathTooLong {
    /// The path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub found: usize,
}

impl Layout {
    /// A layout with the data below `data` and sockets and secrets below `run` (default: `<data>/run`).
    #[must_use]
    pub fn new(data: &Path, run: Option<&Path>) -> Self {
        Self {
            data: data.to_owned(),
            run: run.map_or_else(|| data.join("run"), Path::to_owned),
        }
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The directory of sockets and secrets.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Held by the process that owns the data directory.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// What the child asks PID 1 for.
    #[must_use]
    pub fn proposed(&self) -> PathBuf {
        self.data.join("proposed.json")
    }

    /// What PID 1 accepted: its memory of the highest orders.
    #[must_use]
    pub fn obeyed(&self) -> PathBuf {
        self.data.join("obeyed.json")
    }

    /// The peers whose pulling a person has paused.
    #[must_use]
    pub fn paused(&self) -> PathBuf {
        self.data.join("paused.json")
    }

    /// The topologies that the child followed last, for a start while nobody can be asked.
    #[must_use]
    pub fn topologies(&self) -> PathBuf {
        self.data.join("topologies.json")
    }

    /// The topology of a standalone region.
    #[must_use]
    pub fn standalone(&self) -> PathBuf {
        self.data.join("standalone.json")
    }

    /// Where the topologies are that a node without Kubernetes shares with others.
    #[must_use]
    pub fn directory_source(&self) -> PathBuf {
        self.data.join("directory.json")
    }

    /// The password of the internal user, new at each start.
    #[must_use]
    pub fn internal_secret(&self) -> PathBuf {
        self.run.join("internal-secret")
    }

    /// The certificates that the node shows to people and clients, one directory per role.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.run.join("tls")
    }

    /// The certificate that clients of databases see, and its key.
    #[must_use]
    pub fn client_pair(&self) -> [PathBuf; 2] {
        let directory = self.certificates().join("proxy");
        ["tls.crt", "tls.key"].map(|file| directory.join(file))
    }

    /// PID 1's socket.
    #[must_use]
    pub fn supervisor_socket(&self) -> PathBuf {
        self.run.join("supervisor.sock")
    }

    /// The child's socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("sync.sock")
    }

    /// The directory of all shards.
    #[must_use]
    pub fn shards(&self) -> PathBuf {
        self.data.join("shards")
    }

    /// The files of one shard.
    #[must_use]
    pub fn shard(&self, name: &str) -> ShardLayout {
        ShardLayout {
            directory: self.shards().join(name),
            socket: self.run.join(format!("{name}.sock")),
        }
    }

    /// Refuses socket paths that the system would cut off.
    ///
    /// # Errors
    /// [`SocketPathTooLong`] for a path that does not fit.
    pub fn check_socket(path: &Path) -> Result<(), SocketPathTooLong> {
        let found = path.as_os_str().len();
        if found > SOCKET_PATH_MAX {
            Err(SocketPathTooLong {
                path: path.to_owned(),
                found,
            })
        } else {
            Ok(())
        }
    }
}

/// The files of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLayout {
    /// Its own directory.
    pub directory: PathBuf,
    /// The Unix socket on which the internal user logs in.
    pub socket: PathBuf,
}

impl ShardLayout {
    /// Valkey's configuration, written by PID 1.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join("valkey.conf")
    }

    /// Valkey's users, written by PID 1.
    #[must_use]
    pub fn acl(&self) -> PathBuf {
        self.directory.join("users.acl")
    }

    /// The directory of the append-only files, as Valkey names it.
    #[must_use]
    pub fn append_only(&self) -> PathBuf {
        self.directory.join("appendonlydir")
    }

    /// The list of the append-only files, as Valkey names it.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.append_only().join("appendonly.aof.manifest")
    }

    /// Append-only files that are not loaded and whose list cannot be read, out of the way.
    #[must_use]
    pub fn append_only_aside(&self) -> PathBuf {
        self.directory.join("appendonlydir.unreadable")
    }

    /// Whom Valkey believes: certificates of clients, and the authority of the cluster's nodes. Written by PID 1.
    #[must_use]
    pub fn trusted(&self) -> PathBuf {
        self.directory.join("trusted.pem")
    }

    /// Held by the Valkey process itself as long as it lives.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Whose data this is.
    #[must_use]
    pub fn owner(&self) -> PathBuf {
        self.directory.join("owner.json")
    }

    /// The newest series of Valkey that has run on these files.
    #[must_use]
    pub fn ran(&self) -> PathBuf {
        self.directory.join("series")
    }

    /// What the child must remember of the shard's lives.
    #[must_use]
    pub fn facts(&self) -> PathBuf {
        self.directory.join("facts.json")
    }

    /// Says that the last process was stopped in order and has saved everything: its process id.
    #[must_use]
    pub fn saved(&self) -> PathBuf {
        self.directory.join("saved")
    }

    /// The snapshot, as Valkey names it.
    #[must_use]
    pub fn snapshot(&self) -> PathBuf {
        self.directory.join("dump.rdb")
    }

    /// How much of a replication stream is on disk.
    #[must_use]
    pub fn held(&self) -> PathBuf {
        self.directory.join("held.json")
    }

    /// Why the files were not loaded at the newest start.
    #[must_use]
    pub fn refused(&self) -> PathBuf {
        self.directory.join("refused.json")
    }

    /// Files that could not be loaded, out of the way.
    #[must_use]
    pub fn aside(&self) -> PathBuf {
        self.directory.join("set-aside")
    }

    /// Says that what the shard has began anew without its files and was never whole since.
    #[must_use]
    pub fn unfinished(&self) -> PathBuf {
        self.directory.join("unfinished")
    }

    /// What a process of the shard leaves to the next, the record of how much that is first.
    #[must_use]
    pub fn left(&self) -> [PathBuf; 3] {
        [self.held(), self.append_only(), self.snapshot()]
    }

    /// Valkey's log, where the node does not pass it on to its own output.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.join("valkey.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_would_be_cut_off_is_refused() {
        assert!(Layout::check_socket(Path::new("/run/a.sock")).is_ok());
        let long = PathBuf::from(format!("/{}", "x".repeat(SOCKET_PATH_MAX)));
        let error = Layout::check_socket(&long).unwrap_err();
        assert_eq!(error.found, SOCKET_PATH_MAX + 1);
    }

    #[test]
    fn run_files_default_to_below_the_data() {
        let layout = Layout::new(Path::new("/d"), None);
        assert_eq!(
            layout.supervisor_socket(),
            Path::new("/d/run/supervisor.sock")
        );
        let layout = Layout::new(Path::new("/d"), Some(Path::new("/run/m")));
        assert_eq!(layout.shard("db-1").socket, Path::new("/run/m/db-1.sock"));
        assert_eq!(
            layout.shard("db-1").config(),
            Path::new("/d/shards/db-1/valkey.conf")
        );
    }
}
