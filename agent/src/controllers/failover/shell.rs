//! The I/O around the decision: watches, probes, writes by compare-and-swap, tells.
//!
//! The loop decides from what the watches brought, which costs the API server nothing while all is well. A step that would
//! write is decided a second time on a fresh read of everything that it rests on, and written against the version read.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use kube::{ResourceExt, core::DeserializeGuard};
use meridian_api::crds::{DatabaseTopology, DatabaseTopologyStatus};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use self::{
    act::{Act, Acted},
    world::{World, facts, probed_as, readable},
};
use super::{
    decide::{Loss, Step, View, decide},
    moves,
    probe::{self, Shards},
    show,
    watch::{PodFacts, Watch},
    write,
};
use crate::{
    clock,
    controllers::Context,
    k8s::conditions::{Finding, conditions},
};

mod act;
mod world;

/// Pause between two looks where nothing is reported.
const TICK: Duration = Duration::from_millis(200);
/// Pause between two probes of one pod.
const PROBE: Duration = Duration::from_secs(1);
/// Pause after a step that was not taken: the write did not go through, or a fresh read asked for none; and between two
/// writes of conditions, which wait for no step and hold none up.
const AGAIN: Duration = Duration::from_millis(500);
/// A watch that does not show a write for this long is asked no more: the next step is decided on a fresh read anyway.
const SHOWN: Duration = Duration::from_secs(5);
/// Field manager of the conditions of failover; others on the same object are the rigger's.
const MANAGER: &str = "meridian-agent-failover";

/// What is known about the pods of a REC, by name.
type Facts = BTreeMap<String, PodFacts>;

/// What this leader remembers about one topology.
#[derive(Debug, Default)]
struct Entry {
    uid: Option<String>,
    /// What was looked at last.
    looked: Option<Arc<DeserializeGuard<DatabaseTopology>>>,
    watch: Watch,
    /// A step is being taken.
    busy: bool,
    not_before: Option<Instant>,
    /// Conditions are being written.
    showing: bool,
    show_not_before: Option<Instant>,
    /// What this leader wrote last: before the watch shows it, what the watch shows is decided upon already.
    wrote: Option<(i64, Instant)>,
    /// What was laid before a person last.
    person: Option<Vec<Loss>>,
}

/// Which topologies are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// All of them: time has passed, or a pod has answered.
    All,
    /// Those that a watch has changed since they were looked at, or whose pods it has changed. Where many databases are made
    /// at once, each change of one would be a look at all of them otherwise.
    Changed,
}

/// A task of the loop that ended.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time for each database, moved once"
)]
enum Done {
    Took(Acted),
    Showed(String),
    Told,
}

struct Shell {
    context: Context,
    world: World,
    entries: BTreeMap<String, Entry>,
    /// What was known about the pods of each REC when it was looked at last.
    facts: BTreeMap<String, Facts>,
    start: Instant,
    work: JoinSet<Done>,
    probing: BTreeSet<String>,
    answers: mpsc::Sender<(String, Instant, Option<Shards>)>,
}

/// Runs until the context stops.
pub(in crate::controllers) async fn run(context: Context) {
    let (answers, mut answered) = mpsc::channel(64);
    let stop = context.stop.clone();
    let mut shell = Shell {
        world: World::watch(&context.objects, &stop),
        context,
        entries: BTreeMap::new(),
        facts: BTreeMap::new(),
        start: Instant::now(),
        work: JoinSet::new(),
        probing: BTreeSet::new(),
        answers,
    };
    let (mut tick, mut probe) = (interval(TICK), interval(PROBE));
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let at = tokio::select! {
            () = stop.cancelled() => break,
            () = shell.world.changed() => At::Changed,
            _ = tick.tick() => At::All,
            _ = probe.tick() => {
                shell.probe();
                At::All
            }
            Some((pod, asked, shards)) = answered.recv() => {
                shell.heard(&pod, asked, shards.as_ref());
                At::All
            }
            Some(done) = shell.work.join_next() => {
                shell.done(done);
                At::Changed
            }
        };
        shell.look(at);
    }
    // A write that has begun is brought to its end, so that nobody finds half of it.
    while shell.work.join_next().await.is_some() {}
}

impl Shell {
    fn millis(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.start).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    /// Asks every pod that holds a shard with replicas, once; one that has not answered the last question is not asked.
    fn probe(&mut self) {
        let holders = self.world.holders();
        for (name, pod) in self.world.pods() {
            let address = pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ip.as_ref());
            let Some(address) = address.and_then(|ip| ip.parse::<IpAddr>().ok()) else {
                // A pod that was made again and has no place yet: what its predecessor answered says nothing any more.
                let now = self.millis(Instant::now());
                for entry in self.entries.values_mut() {
                    entry.watch.failed(&name, now);
                }
                continue;
            };
            if !holders.contains(&name) || !self.probing.insert(name.clone()) {
                continue;
            }
            let (answers, asked) = (self.answers.clone(), Instant::now());
            tokio::spawn(async move {
                let shards = probe::ask(address).await;
                // Nobody listens any more only when this replica stops.
                let _ = answers.send((name, asked, shards)).await;
            });
        }
    }

    fn heard(&mut self, pod: &str, asked: Instant, shards: Option<&Shards>) {
        self.probing.remove(pod);
        let (asked, now) = (self.millis(asked), self.millis(Instant::now()));
        for (name, entry) in &mut self.entries {
            match shards {
                Some(shards) => {
                    let ready = shards.shards.get(&probed_as(name)).map(|shard| shard.ready);
                    entry.watch.answered(pod, ready, now);
                }
                None => entry.watch.failed(pod, asked),
            }
        }
    }

    fn look(&mut self, at: At) {
        let all = self.world.topologies();
        let names: BTreeSet<String> = readable(&all).map(ResourceExt::name_any).collect();
        self.entries
            .retain(|name, entry| entry.at_work() || names.contains(name));
        let mut looked: BTreeMap<String, Facts> = BTreeMap::new();
        for guard in &all {
            let Ok(topology) = &guard.0 else { continue };
            let rec = &topology.spec.cluster;
            if !looked.contains_key(rec) {
                looked.insert(rec.clone(), self.world.facts(rec));
            }
            let pods = &looked[rec];
            let name = topology.name_any();
            let same = |entry: &Entry| {
                let before = entry.looked.as_ref();
                before.is_some_and(|before| Arc::ptr_eq(before, guard))
            };
            if at == At::Changed
                && self.facts.get(rec) == Some(pods)
                && self.entries.get(&name).is_some_and(same)
            {
                continue;
            }
            self.consider(name.clone(), topology, pods);
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.looked = Some(Arc::clone(guard));
            }
        }
        self.facts = looked;
        let moving = readable(&all).filter(|topology| moves::is_moving(topology));
        let mut moving: BTreeSet<String> = moving.map(ResourceExt::name_any).collect();
        let busy = self.entries.iter().filter(|(_, entry)| entry.busy);
        moving.extend(busy.map(|(name, _)| name.clone()));
        self.context.moves.are(moving);
    }

    fn consider(&mut self, name: String, topology: &DatabaseTopology, pods: &Facts) {
        let now = Instant::now();
        let at = self.millis(now);
        let entry = self.entries.entry(name.clone()).or_default();
        entry.is_of(topology);
        entry.watch.saw(topology, pods, at);
        let recent = |at| now.saturating_duration_since(at) < SHOWN;
        let lags = entry.wrote;
        let lags = lags.is_some_and(|(wrote, at)| watch_lags(topology, wrote) && recent(at));
        if entry.busy || lags || entry.not_before.is_some_and(|time| time > now) {
            return;
        }
        let (world, rec) = (&self.world, &topology.spec.cluster);
        let step = decide(&View {
            topology,
            pods,
            spare: world.spare(topology, pods).as_deref(),
            replace_ms: world.replace_ms(rec),
            watch: &entry.watch,
            now: at,
        });
        let writes = write::next(topology, &step).is_some();
        let places = matches!(step, Step::AddReplica { .. });
        let person = match step {
            Step::NeedsPerson { choices } => Some(choices),
            Step::Nothing
            | Step::Fence { .. }
            | Step::Promote
            | Step::AbandonFence { .. }
            | Step::Reinstate { .. }
            | Step::Shrink { .. }
            | Step::Join { .. }
            | Step::Admit { .. }
            | Step::Leave { .. }
            | Step::AddReplica { .. }
            | Step::RemoveReplica { .. }
            | Step::Raise { .. } => None,
        };
        let news = person.is_some() && person != entry.person;
        entry.person = person;
        let act = || Act {
            context: self.context.clone(),
            name: name.clone(),
            rec: topology.spec.cluster.clone(),
            of: topology.spec.database.clone(),
            places,
            watch: entry.watch.clone(),
            start: self.start,
        };
        if writes || news {
            let act = act();
            entry.busy = true;
            self.work.spawn(async move { Done::Took(act.take().await) });
            return;
        }
        if entry.showing || entry.show_not_before.is_some_and(|time| time > now) {
            return;
        }
        let Some(findings) = differing(topology, entry.person.as_deref()) else {
            return;
        };
        let (act, topology) = (act(), topology.clone());
        entry.showing = true;
        self.work.spawn(async move {
            act.show(&topology, &findings).await;
            Done::Showed(act.name)
        });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let acted = match done {
            Ok(Done::Took(acted)) => acted,
            Ok(Done::Showed(name)) => {
                if let Some(entry) = self.entries.get_mut(&name) {
                    entry.showing = false;
                    entry.looked = None;
                    entry.show_not_before = Some(Instant::now() + AGAIN);
                }
                return;
            }
            Ok(Done::Told) => return,
            Err(error) => {
                // The entry stays busy for ever otherwise: the leader starts anew.
                tracing::error!(%error, "a step of a failover ended badly: this replica stops leading");
                self.context.stop.cancel();
                return;
            }
        };
        if let Some(tale) = acted.tale {
            self.work.spawn(async move {
                tale.tell().await;
                Done::Told
            });
        }
        let now = self.millis(Instant::now());
        if let Some(entry) = self.entries.get_mut(&acted.name) {
            entry.busy = false;
            entry.looked = None;
            // Also when the fresh read asked for nothing: the watch lags behind it.
            entry.not_before = acted.wrote.is_none().then(|| Instant::now() + AGAIN);
            entry.wrote = acted.wrote.map(|generation| (generation, Instant::now()));
            if acted.gave_up {
                entry.watch.gave_up(now);
            }
        }
    }
}

impl Entry {
    /// Forgets what was known of another topology of this name.
    fn is_of(&mut self, topology: &DatabaseTopology) {
        if self.uid != topology.metadata.uid {
            *self = Self {
                uid: topology.metadata.uid.clone(),
                busy: self.busy,
                showing: self.showing,
                ..Self::default()
            };
        }
    }

    fn at_work(&self) -> bool {
        self.busy || self.showing
    }
}

/// Whether the watch shows an older topology than the one that was written with this generation.
fn watch_lags(shown: &DatabaseTopology, written: i64) -> bool {
    shown
        .metadata
        .generation
        .is_some_and(|shown| shown < written)
}

/// The findings, if the topology does not show them yet.
fn differing(topology: &DatabaseTopology, person: Option<&[Loss]>) -> Option<Vec<Finding>> {
    let findings = show::findings(topology, person);
    let before = topology
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let shown = |finding: &Finding| {
        let status = match finding.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        before.iter().any(|old| {
            old.type_ == finding.type_
                && old.status == status
                && old.reason == finding.reason
                && old.message == finding.message
        })
    };
    (!findings.iter().all(shown)).then_some(findings)
}

/// The status that says these findings and nothing else.
fn status(topology: &DatabaseTopology, findings: &[Finding]) -> DatabaseTopologyStatus {
    let before = topology
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    DatabaseTopologyStatus {
        conditions: conditions(
            before,
            findings,
            topology.metadata.generation,
            &clock::now_text(),
        ),
        ..DatabaseTopologyStatus::default()
    }
}

#[cfg(test)]
mod tests;
