//! What the lab needs of the machine, checked before anything is changed.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{LabError, Result, file};

/// Programs of the machine that the lab calls.
const PROGRAMS: [&str; 12] = [
    "ip",
    "iptables",
    "conntrack",
    "setsid",
    "nsenter",
    "unshare",
    "mount",
    "sh",
    "containerd",
    "ctr",
    "runc",
    "containerd-shim-runc-v2",
];
/// Watches of files per user that three clusters of three nodes need; Debian's 128 are used up by one cluster.
const INOTIFY_INSTANCES: u64 = 8192;

/// Refuses, with the next step, a machine that cannot run a lab.
pub(crate) fn check() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(machine(
            "the lab makes network namespaces and mounts",
            "you are not root",
            "call it with sudo -E",
        ));
    }
    for program in PROGRAMS {
        if !in_path(program) {
            return Err(machine(
                &format!("the lab calls {program}"),
                "it is not in PATH",
                "run tools/prerequisites.sh, and put /usr/sbin and /sbin into PATH",
            ));
        }
    }
    if !Path::new("/usr/lib/cni/ptp").exists() {
        return Err(machine(
            "the pod network needs /usr/lib/cni/ptp",
            "there is no such file",
            "run tools/prerequisites.sh",
        ));
    }
    raise(
        Path::new("/proc/sys/fs/inotify/max_user_instances"),
        INOTIFY_INSTANCES,
    )
}

/// Removes the control groups of a lab, whose processes have ended: `/sys/fs/cgroup/NAME`, or with version 1 one below
/// each controller.
pub(crate) async fn remove_control_groups(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_dir(root).map_err(file("read", root))?;
    let below = controllers.flatten().map(|entry| entry.path().join(name));
    let deadline = Instant::now() + Duration::from_secs(10);
    for path in below.chain([root.join(name)]).filter(|path| path.is_dir()) {
        while let Err(error) = remove_group(&path) {
            // The threads of a process that was killed leave its group one by one, after the process itself is gone.
            let leaving = error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error());
            if !leaving || Instant::now() > deadline {
                return Err(file("remove the control group", &path)(error));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

/// The files of a control group are the kernel's; only folders can and must be removed, the innermost first.
fn remove_group(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    std::fs::remove_dir(path)
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    })
}

/// Raises a limit of the kernel that is lower than needed; a higher one stays.
fn raise(path: &Path, needed: u64) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(file("read", path))?;
    if text
        .trim()
        .parse::<u64>()
        .is_ok_and(|found| found >= needed)
    {
        return Ok(());
    }
    std::fs::write(path, needed.to_string()).map_err(file("raise the limit in", path))
}

fn machine(what: &str, found: &str, next: &str) -> LabError {
    LabError::Machine {
        what: what.to_owned(),
        found: found.to_owned(),
        next: next.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_but_never_lowered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limit");
        for (before, after) in [
            ("128\n", "8192"),
            ("8192\n", "8192\n"),
            ("99999\n", "99999\n"),
        ] {
            std::fs::write(&path, before).unwrap();
            raise(&path, 8192).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
