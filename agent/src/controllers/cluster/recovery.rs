//! Recovery on order (`clusterRecovery`) of a cluster that lost the majority of its nodes. Pure.
//!
//! The nodes that do not serve are made anew, each from its volume; those that serve stay, because their databases are
//! there. Which pods are to go is written down first (an annotation with their uids), so a restart of the agent neither
//! forgets a pod nor takes a new one for an old. A pod is never deleted by force: what hangs on a dead host waits until
//! the host is back or a person removes it.

use std::collections::BTreeSet;

use super::observe::Node;

/// How far a recovery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Old pods go.
    Reset,
    /// No node serves yet.
    FirstPod,
    /// Some serve, and not the majority yet.
    Majority,
    /// The rest joins.
    Rest,
}

/// The one thing to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing was ordered.
    None,
    /// Write down which pods are to go (uids).
    Begin(Vec<String>),
    /// Delete a pod that was written down.
    Delete {
        /// Name.
        pod: String,
        /// Uid that it must still have.
        uid: String,
    },
    /// Wait for what happens by itself.
    Wait,
    /// Every node serves: the order is taken out of the spec.
    Finish,
    /// The majority serves, so nothing needs recovery: the order is taken out of the spec.
    Decline,
}

/// The next step and the phase to show. `ordered` is the field, `doomed` what was written down.
pub(super) fn next(
    ordered: bool,
    doomed: Option<&BTreeSet<String>>,
    nodes: i32,
    pods: &[Node],
) -> (Step, Option<Phase>) {
    let ready = pods.iter().filter(|pod| pod.ready).count();
    let wanted = usize::try_from(nodes).unwrap_or(0);
    let Some(doomed) = doomed else {
        if !ordered {
            return (Step::None, None);
        }
        if ready.saturating_mul(2) > wanted {
            return (Step::Decline, None);
        }
        let uids = pods
            .iter()
            .filter(|pod| !pod.ready)
            .map(|pod| pod.uid.clone());
        return (Step::Begin(uids.collect()), Some(Phase::Reset));
    };
    let mut old = pods
        .iter()
        .filter(|pod| doomed.contains(&pod.uid) && !pod.ready)
        .peekable();
    if old.peek().is_some() {
        let step = old
            .find(|pod| !pod.terminating)
            .map_or(Step::Wait, |pod| Step::Delete {
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
            });
        return (step, Some(Phase::Reset));
    }
    if ready >= wanted {
        return (Step::Finish, None);
    }
    let phase = match ready {
        0 => Phase::FirstPod,
        some if some.saturating_mul(2) > wanted => Phase::Rest,
        _ => Phase::Majority,
    };
    (Step::Wait, Some(phase))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pods from short texts: uid letter, then `r` ready, `u` not ready, `t` going.
    fn pods(texts: &[&str]) -> Vec<Node> {
        let pod = |(ordinal, text): (u32, &&str)| Node {
            name: format!("rec-{ordinal}"),
            ordinal,
            uid: text[..1].to_owned(),
            template: None,
            image: None,
            ready: text.ends_with('r'),
            terminating: text.ends_with('t'),
            host: None,
            rack: None,
            trouble: None,
        };
        (0..).zip(texts).map(pod).collect()
    }

    /// What is observed | ordered | written down | pods | step | phase.
    const TABLE: &str = "
        no order                                | no  |       | ar bu cu | none          | none
        the majority serves                     | yes |       | ar br cu | decline       | none
        one of three serves: the others go      | yes |       | ar bu cu | begin b,c     | Reset
        the first of them                       | yes | b,c   | ar bu cu | delete rec-1  | Reset
        the second                              | yes | b,c   | ar bt cu | delete rec-2  | Reset
        both are going                          | yes | b,c   | ar bt ct | wait          | Reset
        one came back by itself: it stays       | yes | b,c   | ar br cu | delete rec-2  | Reset
        new pods of the same names are not old  | yes | b,c   | ar du eu | wait          | Majority
        nothing serves yet                      | yes | a,b,c | du eu fu | wait          | FirstPod
        the majority serves again               | yes | b,c   | ar dr eu | wait          | Rest
        all serve                               | yes | b,c   | ar dr er | finish        | none
        withdrawn: what began is finished       | no  | b     | ar bu cr | delete rec-1  | Reset";

    #[test]
    fn the_table_of_a_recovery_from_its_order_to_its_end() {
        for row in TABLE.lines().skip(1) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let doomed: BTreeSet<String> = cells[2]
                .split(',')
                .filter(|uid| !uid.is_empty())
                .map(str::to_owned)
                .collect();
            let texts: Vec<&str> = cells[3].split(' ').collect();
            let written = (!doomed.is_empty()).then_some(&doomed);
            let (step, phase) = next(cells[1] == "yes", written, 3, &pods(&texts));
            let step = match step {
                Step::None => "none".to_owned(),
                Step::Begin(uids) => format!("begin {}", uids.join(",")),
                Step::Delete { pod, .. } => format!("delete {pod}"),
                Step::Wait => "wait".to_owned(),
                Step::Finish => "finish".to_owned(),
                Step::Decline => "decline".to_owned(),
            };
            let phase = phase.map_or("none".to_owned(), |phase| format!("{phase:?}"));
            assert_eq!([step.as_str(), phase.as_str()], cells[4..6], "{row}");
        }
    }
}
