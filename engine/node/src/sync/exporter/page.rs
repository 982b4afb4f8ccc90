//! The page of one scrape. Pure.

use std::fmt::Display;

use meridian_api::crds::cluster::tag_label;

use super::known;
use super::ours::{self, ShardFamily, float};
use super::snapshot::{LinkSample, ShardSample, Snapshot};
use super::text::{Family, Labels, Page};
use crate::sync::link::{State, StatusView};

/// Samples of one metric.
type Samples = Vec<(Labels, f64)>;

/// Every label that a metric may have; `db_tags` has tags of databases besides.
pub const LABELS: &[&str] = &[
    "cluster",
    "db",
    "node",
    "peer",
    "redis",
    "replica",
    "role",
    "shard",
    "state",
    "syncer_type",
    "version",
];

/// The states of a link, in the order in which they are written.
const STATES: [State; 6] = [
    State::Connecting,
    State::Syncing,
    State::Up,
    State::Paused,
    State::Stalled,
    State::Down,
];

/// Families that are not one number per shard.
const OTHERS: [Family; 22] = [
    known::NODE_UP,
    known::TAGS,
    known::LAG,
    known::STATUS,
    known::INGRESS,
    known::STATE,
    known::SOURCE,
    known::SOURCE_MS,
    known::TARGET,
    known::TARGET_MS,
    known::SOURCE_INGRESS,
    ours::BUILD,
    ours::REFUSED,
    ours::PROBLEMS,
    ours::SYNC_STARTS,
    ours::SYNC_HANGS,
    ours::REPLICA_LAG,
    ours::REPLICA_ONLINE,
    ours::LINK_LAG,
    ours::LINK_STATE,
    ours::LINK_INGRESS,
    ours::LINK_EFFECTS,
];

/// Every metric that a node may show.
#[must_use]
pub fn families() -> Vec<Family> {
    let shards = known::SHARDS.iter().chain(ours::SHARDS);
    OTHERS.into_iter().chain(shards.map(|s| s.family)).collect()
}

/// The page, with the families that `wanted` picks.
pub(super) fn of(snapshot: &Snapshot, wanted: impl Fn(&Family) -> bool) -> String {
    let mut writer = Writer {
        page: Page::default(),
        snapshot,
        wanted,
    };
    writer.node();
    writer.tags();
    for family in known::SHARDS {
        writer.shards(family, known_labels);
    }
    for family in ours::SHARDS {
        writer.shards(family, our_labels);
    }
    writer.replicas();
    writer.links();
    writer.page.into_text()
}

struct Writer<'a, F> {
    page: Page,
    snapshot: &'a Snapshot,
    wanted: F,
}

impl<F: Fn(&Family) -> bool> Writer<'_, F> {
    fn family<Name: Display>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = (Vec<(Name, String)>, f64)>,
    ) {
        if (self.wanted)(family) {
            self.page.family(family, samples);
        }
    }

    fn node(&mut self) {
        let labels = node_labels(self.snapshot);
        let count = |n: usize| float(u64::try_from(n).unwrap_or(u64::MAX));
        let mut build = labels.clone();
        build.push(("version", env!("CARGO_PKG_VERSION").to_owned()));
        let snapshot = self.snapshot;
        self.family(&known::NODE_UP, [(labels.clone(), 1.0)]);
        self.family(&ours::BUILD, [(build, 1.0)]);
        self.family(&ours::REFUSED, [(labels.clone(), count(snapshot.refused))]);
        self.family(
            &ours::PROBLEMS,
            [(labels.clone(), count(snapshot.problems))],
        );
        let starts = snapshot.sync_starts;
        let counted = |n: u64| (labels.clone(), float(n));
        self.family(
            &ours::SYNC_STARTS,
            starts.map(|(starts, _)| counted(starts)),
        );
        self.family(&ours::SYNC_HANGS, starts.map(|(_, hangs)| counted(hangs)));
    }

    /// Without the node among the labels: queries join other series to this one by cluster and database.
    fn tags(&mut self) {
        let snapshot = self.snapshot;
        let tagged = snapshot.tags.iter().filter_map(|(database, tags)| {
            let mut labels = vec![
                ("cluster".to_owned(), snapshot.cluster.clone()),
                ("db".to_owned(), database.clone()),
            ];
            // One name that no label may have would make the whole page unreadable.
            let valid = |label: &str| tag_label(label).as_deref() == Some(label);
            let tags = tags.iter().filter(|(label, _)| valid(label));
            labels.extend(tags.map(|(label, value)| (label.clone(), value.clone())));
            (labels.len() > 2).then_some((labels, 1.0))
        });
        self.family(&known::TAGS, tagged);
    }

    fn shards(&mut self, family: &ShardFamily, labels: fn(&Snapshot, &ShardSample) -> Labels) {
        let snapshot = self.snapshot;
        let samples = snapshot
            .shards
            .iter()
            .filter_map(|shard| Some((labels(snapshot, shard), (family.value)(shard)?)));
        self.family(&family.family, samples);
    }

    fn replicas(&mut self) {
        let snapshot = self.snapshot;
        let rows = || {
            snapshot.shards.iter().flat_map(move |shard| {
                let copies = shard.view.replication.replicas.iter();
                copies.map(move |(name, copy)| {
                    let mut labels = our_labels(snapshot, shard);
                    labels.push(("replica", name.clone()));
                    (labels, *copy)
                })
            })
        };
        self.family(
            &ours::REPLICA_LAG,
            rows().map(|(labels, (_, behind))| (labels, float(behind))),
        );
        self.family(
            &ours::REPLICA_ONLINE,
            rows().map(|(labels, (online, _))| (labels, f64::from(u8::from(online)))),
        );
    }

    /// Of each link whether the shard answers into which its effects are written, and for how long it runs.
    fn targets(&self) -> (Samples, Samples) {
        let (mut answers, mut runs) = (Vec::new(), Vec::new());
        for link in &self.snapshot.links {
            let shards = self.snapshot.shards.iter();
            let mut own = shards.filter(|shard| shard.leads() && shard.database == link.database);
            let info = own.find_map(ShardSample::info);
            let labels = known_link(self.snapshot, link);
            let seconds = info.and_then(|info| info.number("uptime_in_seconds"));
            runs.extend(seconds.map(|seconds| (labels.clone(), seconds * 1000.0)));
            answers.push((labels, f64::from(u8::from(info.is_some()))));
        }
        (answers, runs)
    }

    fn links(&mut self) {
        let known =
            |value: fn(&LinkSample) -> Option<f64>| samples(self.snapshot, known_link, value);
        let lag = known(|l| l.row.status.lag_ms.map(float));
        let status = known(|l| Some(status_number(l.row.status.state)));
        let ingress = known(|l| Some(float(l.row.status.ingress_bytes)));
        let ours = |value: fn(&LinkSample) -> Option<f64>| samples(self.snapshot, our_link, value);
        let our_lag = ours(|l| l.row.status.lag_ms.map(|ms| float(ms) / 1000.0));
        let our_ingress = ours(|l| Some(float(l.row.status.ingress_bytes)));
        let effects = ours(|l| Some(float(l.row.status.effects)));
        self.family(&known::LAG, lag);
        self.family(&known::STATUS, status);
        self.family(&known::INGRESS, ingress.clone());
        self.family(&known::STATE, known(|l| Some(number(l.row.status.state))));
        self.family(
            &known::SOURCE,
            known(|l| Some(connected(l.row.status.state))),
        );
        self.family(&known::SOURCE_MS, known(|l| age_ms(&l.row.status)));
        let (target, target_ms) = self.targets();
        self.family(&known::TARGET, target);
        self.family(&known::TARGET_MS, target_ms);
        self.family(&known::SOURCE_INGRESS, ingress);
        self.family(&ours::LINK_LAG, our_lag);
        self.family(&ours::LINK_INGRESS, our_ingress);
        self.family(&ours::LINK_EFFECTS, effects);
        let snapshot = self.snapshot;
        let states = snapshot.links.iter().flat_map(|link| {
            STATES.into_iter().map(move |state| {
                let mut labels = our_link(snapshot, link);
                labels.push(("state", state.as_str().to_owned()));
                (labels, f64::from(u8::from(link.row.status.state == state)))
            })
        });
        self.family(&ours::LINK_STATE, states);
    }
}

/// Position in the list of states.
fn number(state: State) -> f64 {
    let at = STATES.iter().position(|one| *one == state);
    at.map_or(f64::NAN, |at| {
        f64::from(u32::try_from(at).unwrap_or(u32::MAX))
    })
}

/// A source that stalls is heard, and not obeyed.
fn connected(state: State) -> f64 {
    let heard = matches!(state, State::Syncing | State::Up | State::Stalled);
    f64::from(u8::from(heard))
}

fn age_ms(status: &StatusView) -> Option<f64> {
    let at = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let age = at(&status.as_of)?.duration_since(at(&status.since)?);
    Some(float(u64::try_from(age.as_millis()).unwrap_or(0)))
}

fn samples(
    snapshot: &Snapshot,
    labels: fn(&Snapshot, &LinkSample) -> Labels,
    value: fn(&LinkSample) -> Option<f64>,
) -> Vec<(Labels, f64)> {
    let samples = snapshot.links.iter();
    samples
        .filter_map(|link| Some((labels(snapshot, link), value(link)?)))
        .collect()
}

/// The words of the vendor's metric: 0 in sync, 1 syncing, 2 out of sync.
fn status_number(state: State) -> f64 {
    match state {
        State::Up => 0.0,
        State::Connecting | State::Syncing => 1.0,
        State::Paused | State::Stalled | State::Down => 2.0,
    }
}

fn node_labels(snapshot: &Snapshot) -> Labels {
    vec![
        ("cluster", snapshot.cluster.clone()),
        ("node", snapshot.node.clone()),
    ]
}

fn known_labels(snapshot: &Snapshot, shard: &ShardSample) -> Labels {
    let role = if shard.leads() { "master" } else { "slave" };
    let mut labels = node_labels(snapshot);
    labels.push(("db", shard.database.clone()));
    labels.push(("redis", shard.view.id.to_string()));
    labels.push(("role", role.to_owned()));
    labels
}

fn our_labels(snapshot: &Snapshot, shard: &ShardSample) -> Labels {
    let mut labels = node_labels(snapshot);
    labels.push(("db", shard.database.clone()));
    labels.push(("shard", shard.view.id.to_string()));
    labels.push(("role", shard.view.role.to_owned()));
    labels
}

fn our_link(snapshot: &Snapshot, link: &LinkSample) -> Labels {
    let mut labels = node_labels(snapshot);
    labels.push(("db", link.database.clone()));
    labels.push(("peer", link.row.instance_id.to_string()));
    labels
}

fn known_link(snapshot: &Snapshot, link: &LinkSample) -> Labels {
    let mut labels = our_link(snapshot, link);
    labels.push(("syncer_type", "crdt".to_owned()));
    labels
}

#[cfg(test)]
mod tests;
