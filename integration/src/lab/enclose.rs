//! The mounts of a unit: what the nodes of one machine must not share, each has for itself. All of it is in the unit's
//! mount namespace and gone with its last process; only its control group is the machine's (see `machine`).

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{Result, file};
use super::unit::UnitSpec;
use super::{command, files};

/// Settings of the kernel that every kubelet writes, for the whole machine, and the value it wants. They are no
/// business of a lab (two of them make the machine reboot), so the kubelet gets files of that content to write to.
const KUBELET_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// Settings that a control group of version 1 needs before it takes a process.
const CPUSET_SETTINGS: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Puts this process into the unit's control group and starts it anew with that group as the root of all it sees of
/// control groups; then containers of the unit can have no group elsewhere. Returns only if it cannot.
pub(crate) fn enter_control_group(group: &Path, spec_path: &Path) -> Result<Infallible> {
    for hierarchy in hierarchies()? {
        let own = make_group(&hierarchy, group)?;
        join(&own)?;
    }
    let program = std::env::current_exe().map_err(file("find", Path::new("/proc/self/exe")))?;
    // The next life of this process has the same pid, 1, so the unit still ends with it.
    let error = Command::new("unshare")
        .args(["--cgroup", "--"])
        .arg(program)
        .args(["supervise", "--enclosed"])
        .arg(spec_path)
        .exec();
    Err(file("start `unshare --cgroup` for", spec_path)(error))
}

/// Sets up the mounts of the unit that this process is the first of.
pub(crate) async fn enclose(spec: &UnitSpec) -> Result<()> {
    // The kubelet passes mounts on to containers, which needs shared ones; they are shared within the unit only.
    command::run("mount", &["--make-rshared", "/"]).await?;
    for folder in &spec.private {
        files::make_folder(folder)?;
        let folder = folder.to_string_lossy();
        command::run("mount", &["-t", "tmpfs", "-o", "mode=755", "lab", &folder]).await?;
    }
    let Some(group) = &spec.control_group else {
        return Ok(());
    };
    for (name, value) in KUBELET_SETTINGS {
        let cover = Path::new("/run/lab-settings").join(name);
        files::write(&cover, value)?;
        bind(&cover, &Path::new("/proc/sys").join(name)).await?;
    }
    for hierarchy in hierarchies()? {
        bind(&hierarchy.join(group), &hierarchy).await?;
        if is_version_2(&hierarchy) {
            // There, a group that has processes of its own cannot hand controllers to the groups below it.
            let processes = hierarchy.join("lab");
            files::make_folder(&processes)?;
            join(&processes)?;
        }
    }
    Ok(())
}

/// The roots of the machine's control groups: one, or with version 1 one for each controller.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if is_version_2(&root) {
        return Ok(vec![root]);
    }
    let entries = std::fs::read_dir(&root)
        .map_err(file("read", &root))?
        .flatten();
    // Links are other names of the same controllers.
    Ok(entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect())
}

fn is_version_2(hierarchy: &Path) -> bool {
    hierarchy.join("cgroup.controllers").exists()
}

/// Makes a group below the root of a hierarchy, able to take processes and to limit them.
fn make_group(hierarchy: &Path, group: &Path) -> Result<PathBuf> {
    let mut current = hierarchy.to_owned();
    for part in group {
        hand_down_controllers(&current)?;
        let inner = current.join(part);
        files::make_folder(&inner)?;
        for setting in CPUSET_SETTINGS {
            inherit(&current.join(setting), &inner.join(setting))?;
        }
        current = inner;
    }
    Ok(current)
}

fn join(group: &Path) -> Result<()> {
    let processes = group.join("cgroup.procs");
    // 0 is whoever writes it.
    std::fs::write(&processes, "0").map_err(file("join the control group", &processes))
}

/// Version 2: the groups below get the controllers that this one has.
fn hand_down_controllers(group: &Path) -> Result<()> {
    let (available, control) = (
        group.join("cgroup.controllers"),
        group.join("cgroup.subtree_control"),
    );
    if !available.exists() {
        return Ok(());
    }
    let names = std::fs::read_to_string(&available).map_err(file("read", &available))?;
    let wanted: Vec<String> = names
        .split_ascii_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    std::fs::write(&control, wanted.join(" ")).map_err(file("hand down controllers in", &control))
}

/// Version 1: gives a group that has none of a setting the value of the group above.
fn inherit(from: &Path, to: &Path) -> Result<()> {
    let empty = std::fs::read_to_string(to).is_ok_and(|text| text.trim().is_empty());
    if !empty {
        return Ok(());
    }
    let value = std::fs::read_to_string(from).map_err(file("read", from))?;
    std::fs::write(to, value.trim()).map_err(file("set", to))
}

async fn bind(from: &Path, to: &Path) -> Result<()> {
    command::run(
        "mount",
        &["--bind".as_ref(), from.as_os_str(), to.as_os_str()],
    )
    .await
    .map(drop)
}
