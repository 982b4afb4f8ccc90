//! Whom the kernel ends when the memory of the pod is used up: a process that PID 1 starts again, not PID 1, with which everything
//! would end. For the processes that PID 1 starts; it leaves itself as the kubelet has set it.

use std::fs;
use std::io;

use tracing::warn;

/// How much more likely than PID 1 its children are chosen, thousandths of the memory that is used up. Small beside what the kubelet
/// puts between the classes of pods, so that among the pods of a machine nothing changes; among each other the children differ by
/// what they use.
const RAISE: i32 = 100;

/// The most that the kernel takes.
const MOST: i32 = 1000;

const FILE: &str = "/proc/self/oom_score_adj";

/// Offers this process, and what it becomes, before its parent. Without it everything works but this choice.
pub fn offer() {
    if let Err(error) = raise() {
        warn!(%error, file = FILE, "if memory ends, the kernel may choose PID 1 before this process");
    }
}

fn raise() -> io::Result<()> {
    let text = fs::read_to_string(FILE)?;
    let now = text.trim().parse().map_err(io::Error::other)?;
    fs::write(FILE, raised(now).to_string())
}

fn raised(now: i32) -> i32 {
    now.saturating_add(RAISE).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_more_likely_than_its_parent_and_never_refused_by_the_kernel() {
        // What the kubelet gives pods that are guaranteed, burstable and of best effort.
        for (parent, child) in [(-997, -897), (2, 102), (999, 1000), (1000, 1000)] {
            assert_eq!(raised(parent), child);
        }
    }
}
