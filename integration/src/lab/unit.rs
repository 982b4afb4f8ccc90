//! A unit is what runs together in one network namespace: a control plane, or a node. Its processes live in a process
//! and mount namespace of their own below one supervisor, so they end together and leave no mount behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use super::ending::kill_namespace;
use super::error::{LabError, Result, file};
use super::files;
use super::process::ProcessRecord;

/// What a supervisor is to set up and keep running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitSpec {
    /// Network namespace that the unit lives in.
    pub namespace: String,
    /// Where the unit keeps its files; also the working folder of its processes.
    pub folder: PathBuf,
    /// Folders that get an empty file system of the unit's own.
    pub private: Vec<PathBuf>,
    /// Where its containers' control groups go, below the root of each hierarchy; `None` for a unit without containers.
    pub control_group: Option<PathBuf>,
    /// What to run.
    pub processes: Vec<ProcessSpec>,
}

/// One program of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessSpec {
    /// Name of the program, also of its log.
    pub name: String,
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// It is started once all of these are there: most programs come up late, not early, when they begin by being
    /// refused, since they then wait longer each time.
    pub needs: Vec<Need>,
}

/// What a process needs before it can start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Need {
    /// A socket of another process of the unit.
    Socket(PathBuf),
    /// Somebody who listens there.
    Listener(SocketAddr),
}

/// How often each process of a unit had to be started again.
pub type Restarts = BTreeMap<String, u32>;

impl UnitSpec {
    /// The file that the supervisor reads this from.
    #[must_use]
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("unit.json")
    }

    /// The log of one of its processes.
    #[must_use]
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        log_path(&self.folder, process)
    }

    /// Reads what [`start`] wrote.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(file("read", path))?;
        serde_json::from_str(&text).map_err(|error| LabError::State {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// The log of a process of the unit in this folder.
#[must_use]
pub(crate) fn log_path(folder: &Path, process: &str) -> PathBuf {
    folder.join("logs").join(format!("{process}.log"))
}

/// The file that, while it is there, keeps a process of the unit in this folder from being started.
#[must_use]
pub(crate) fn hold(folder: &Path, process: &str) -> PathBuf {
    folder.join("held").join(process)
}

/// Whether the unit in this folder has a process of this name.
pub(crate) fn runs(folder: &Path, process: &str) -> Result<bool> {
    let spec = UnitSpec::read(&folder.join("unit.json"))?;
    Ok(spec.processes.iter().any(|found| found.name == process))
}

/// The supervisor's record in this folder, if it lives.
pub(crate) fn running(folder: &Path) -> Result<Option<ProcessRecord>> {
    Ok(ProcessRecord::read(&folder.join("supervisor.json"))?.filter(ProcessRecord::is_alive))
}

/// Restarts as the supervisor last wrote them down; empty if it never had to.
pub(crate) fn restarts(folder: &Path) -> Result<Restarts> {
    let path = folder.join("restarts.json");
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Restarts::new()),
        Err(error) => Err(file("read", &path)(error)),
        Ok(text) => serde_json::from_str(&text).map_err(|error| LabError::State {
            path,
            reason: error.to_string(),
        }),
    }
}

/// Starts a unit that outlives this process, unless it runs already. `lab` is the lab's own program.
/// Returns whether it had to be started.
pub(crate) async fn start(spec: &UnitSpec, lab: &Path) -> Result<bool> {
    if running(&spec.folder)?.is_some() {
        return Ok(false);
    }
    // What an earlier supervisor left running would fight with the new one for ports and files.
    kill_namespace(&spec.namespace).await?;
    files::remove(&spec.folder.join("restarts.json"))?;
    files::remove(&spec.folder.join("held"))?;
    for need in spec.processes.iter().flat_map(|process| &process.needs) {
        if let Need::Socket(left_by_the_last_run) = need {
            files::remove(left_by_the_last_run)?;
        }
    }
    let text = serde_json::to_string_pretty(spec).map_err(|error| LabError::State {
        path: spec.path(),
        reason: error.to_string(),
    })?;
    files::write(&spec.path(), &text)?;
    let log_path = spec.log("supervisor");
    files::make_folder(&spec.folder.join("logs"))?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(file("open", &log_path))?;
    let errors = log.try_clone().map_err(file("open", &log_path))?;
    let child = tokio::process::Command::new("setsid")
        .arg("nsenter")
        .arg(format!("--net=/run/netns/{}", spec.namespace))
        .args([
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=SIGKILL",
            "--",
        ])
        .arg(lab)
        .arg("supervise")
        .arg(spec.path())
        .current_dir(&spec.folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| LabError::Command {
            command: format!(
                "setsid nsenter … {} supervise {}",
                lab.display(),
                spec.path().display()
            ),
            status: "no start".to_owned(),
            stderr: error.to_string(),
        })?;
    // setsid, nsenter and unshare replace one another, so the pid stays that of the last.
    let record = child
        .id()
        .and_then(ProcessRecord::of)
        .ok_or_else(|| LabError::NotReady {
            part: format!("the supervisor of {}", spec.namespace),
            reason: "it ended at once".to_owned(),
            tail: files::tail(&log_path, 15),
            log: log_path.clone(),
        })?;
    record.write(&spec.folder.join("supervisor.json"))?;
    Ok(true)
}
