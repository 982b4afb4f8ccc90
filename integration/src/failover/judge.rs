//! The verdict over clients' logs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// A write that was acknowledged. Times are microseconds of the machine's CLOCK_BOOTTIME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// Its key.
    pub key: String,
    /// When the client sent it.
    pub sent: u64,
    /// When the client had the acknowledgement.
    pub acknowledged: u64,
}

/// What one client wrote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// The pod that it wrote to directly; `None`: it wrote to the Service.
    pub(crate) pod: Option<String>,
    /// In the order of the acknowledgements.
    pub(crate) writes: Vec<Acknowledged>,
    /// Answers that were no acknowledgement: how often, by their first word.
    pub(crate) refusals: BTreeMap<String, u64>,
}

/// When somebody became primary, as the topology told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reign {
    /// Microseconds of CLOCK_BOOTTIME at which it was seen.
    pub seen: u64,
    /// The epoch.
    pub epoch: i64,
    /// The pod.
    pub pod: String,
}

/// An acknowledgement that nobody was entitled to any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Double {
    /// Who acknowledged.
    pub pod: String,
    /// What.
    pub write: Acknowledged,
    /// Who had acknowledged before it, as a later primary.
    pub successor: String,
    /// When that one's first acknowledgement had arrived.
    pub since: u64,
}

/// What the judges found.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// Writes that were acknowledged, of all clients.
    pub acknowledged: usize,
    /// Keys of those that are not there any more.
    pub lost: Vec<String>,
    /// How many of them a client of the Service wrote; the others were written in a pod, which no cut keeps away.
    pub lost_by_service: usize,
    /// Whether what is lost of each client is the last that the old primary acknowledged to it.
    pub tail_only: bool,
    /// Acknowledgements of a primary after the first of its successor.
    pub doubles: Vec<Double>,
    /// Longest time without an acknowledgement by the Service, from the fault on, milliseconds.
    pub gap_ms: u64,
    /// The same before the fault.
    pub calm_gap_ms: u64,
    /// From the fault to the first acknowledgement by another pod, milliseconds.
    pub took_over_ms: Option<u64>,
}

/// Judges. `there` are the keys that exist in the end, `fault` when the fault began.
pub(crate) fn judge(
    logs: &[Log],
    reigns: &[Reign],
    there: &BTreeSet<String>,
    fault: u64,
) -> Judgement {
    let direct = direct(logs);
    let reigns = rising(reigns);
    let first_pod = reigns.first().map(|reign| reign.pod.as_str());
    let other = direct
        .iter()
        .find(|(pod, write)| Some(*pod) != first_pod && write.acknowledged >= fault);
    let taken_over = other.map(|(_, write)| write.acknowledged);
    let service: Vec<&Acknowledged> = logs
        .iter()
        .filter(|log| log.pod.is_none())
        .flat_map(|log| &log.writes)
        .collect();
    let (calm_gap_ms, gap_ms) = gaps(&service, fault);
    let is_lost = |write: &&Acknowledged| !there.contains(&write.key);
    let lost: Vec<String> = logs
        .iter()
        .flat_map(|log| &log.writes)
        .filter(is_lost)
        .map(|write| write.key.clone())
        .collect();
    Judgement {
        acknowledged: logs.iter().map(|log| log.writes.len()).sum(),
        tail_only: logs
            .iter()
            .all(|log| is_tail(log, there, taken_over.unwrap_or(u64::MAX))),
        lost_by_service: service.iter().copied().filter(is_lost).count(),
        lost,
        doubles: doubles(&direct, &reigns),
        gap_ms,
        calm_gap_ms,
        took_over_ms: taken_over.map(|at| at.saturating_sub(fault) / 1000),
    }
}

/// The writes to pods directly, in the order of their acknowledgements.
fn direct(logs: &[Log]) -> Vec<(&str, &Acknowledged)> {
    let mut all: Vec<(&str, &Acknowledged)> = logs
        .iter()
        .filter_map(|log| log.pod.as_deref().map(|pod| (pod, log)))
        .flat_map(|(pod, log)| log.writes.iter().map(move |write| (pod, write)))
        .collect();
    all.sort_by_key(|(_, write)| write.acknowledged);
    all
}

/// The reigns of rising epochs: what a store that went back in time tells again has ended before.
fn rising(reigns: &[Reign]) -> Vec<Reign> {
    let mut rising: Vec<Reign> = Vec::new();
    for reign in reigns {
        let known = rising.last().map(|last| (last.epoch, last.pod.as_str()));
        if known.is_none_or(|(epoch, pod)| reign.epoch > epoch && reign.pod != pod) {
            rising.push(reign.clone());
        } else if let Some(last) = rising.last_mut()
            && reign.epoch > last.epoch
        {
            last.epoch = reign.epoch;
        }
    }
    rising
}

/// Walks through the acknowledgements along the reigns: each may belong to the reign that the last one belonged to, or to
/// a later one. One that belongs to none has a pod that was replaced.
fn doubles(direct: &[(&str, &Acknowledged)], reigns: &[Reign]) -> Vec<Double> {
    let mut doubles = Vec::new();
    let (mut now, mut since) = (0, direct.first().map_or(0, |(_, write)| write.acknowledged));
    for (pod, write) in direct {
        let later = reigns.iter().skip(now).position(|reign| reign.pod == **pod);
        match later {
            Some(0) => {}
            Some(further) => {
                now += further;
                since = write.acknowledged;
            }
            None => doubles.push(Double {
                pod: (*pod).to_owned(),
                write: (*write).clone(),
                successor: reigns
                    .get(now)
                    .map(|reign| reign.pod.clone())
                    .unwrap_or_default(),
                since,
            }),
        }
    }
    doubles
}

/// Longest times between two acknowledgements that follow one another, in milliseconds: of those that end before the
/// fault, and of those that end after it.
fn gaps(service: &[&Acknowledged], fault: u64) -> (u64, u64) {
    let (mut before, mut after) = (0, 0);
    for two in service.windows(2) {
        let (from, to) = (two[0].acknowledged, two[1].acknowledged);
        let gap = to.saturating_sub(from) / 1000;
        if to < fault {
            before = before.max(gap);
        } else {
            after = after.max(gap);
        }
    }
    (before, after)
}

/// Whether what a log lost is the end of what was acknowledged until `taken_over`.
fn is_tail(log: &Log, there: &BTreeSet<String>, taken_over: u64) -> bool {
    let (old, new): (Vec<_>, Vec<_>) = log
        .writes
        .iter()
        .partition(|write| write.acknowledged < taken_over);
    let first_lost = old.iter().position(|write| !there.contains(&write.key));
    let last_kept = old.iter().rposition(|write| there.contains(&write.key));
    let in_order = match (first_lost, last_kept) {
        (Some(lost), Some(kept)) => kept < lost,
        (None, _) | (_, None) => true,
    };
    in_order && new.iter().all(|write| there.contains(&write.key))
}

#[cfg(test)]
mod tests;
