//! What the lab needs of the machine, checked before anything is changed.

use std::path::Path;

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

/// Removes the control groups of a lab, which its containers left empty: `/sys/fs/cgroup/NAME`, or with version 1 one
/// below each controller.
pub(crate) fn remove_control_groups(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_dir(root).map_err(file("read", root))?;
    let below = controllers.flatten().map(|entry| entry.path().join(name));
    for path in below.chain([root.join(name)]).filter(|path| path.is_dir()) {
        remove_group(&path)?;
    }
    Ok(())
}

/// The files of a control group are the kernel's; only folders can and must be removed, the innermost first.
fn remove_group(path: &Path) -> Result<()> {
    for entry in std::fs::read_dir(path)
        .map_err(file("read", path))?
        .flatten()
    {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path())?;
        }
    }
    std::fs::remove_dir(path).map_err(file("remove the control group", path))
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
