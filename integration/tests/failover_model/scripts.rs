//! Misfortunes that chance does not put together: each is a story, told in order, in a world that is calm but for it.
//!
//! Everything that decides is the production code, and the same is judged as in every run. A story ends with an error if
//! what it tells about does not come about. Names: `rec-0` is the first primary, `rec-1` follows it, `rec-2` is the third.

use meridian_agent::controllers::failover::decide::ACCEPT_LOSS;

use super::{
    node::{NAMES, Node},
    world::{Backup, WELL, What, World},
};

const PRIMARY: usize = 0;
const REPLICA: usize = 1;
const THIRD: usize = 2;
/// Where the process is put that runs on after its pod was made again.
const GHOST: usize = NAMES.len();

/// Longer than any story.
const ALWAYS: u64 = 6_000_000;

impl World {
    /// A network splits so that the primary and one of its two members are on one side, without the API server. The other
    /// member takes over; the one that still grants is not enough.
    pub(super) fn two_of_three_are_cut_off(&mut self) -> Result<(), String> {
        self.until("both are in sync", |w| w.in_sync().len() == 2)?;
        self.part(&[PRIMARY, THIRD], 30_000);
        self.until("rec-1 takes over", |w| w.writable() == [REPLICA])?;
        self.lasts(5_000)
    }

    /// A replica is let join while its child of PID 1 hangs, so that it grants nothing, and the primary is cut off as soon as
    /// the replica is in the set.
    pub(super) fn a_newcomer_that_grants_nothing_takes_over(&mut self) -> Result<(), String> {
        self.until("rec-1 joins", |w| w.joining() == ["rec-1"])?;
        self.mute.insert(REPLICA, self.now + 6_000);
        self.until("rec-1 is in sync", |w| w.in_sync() == ["rec-1"])?;
        self.isolate(PRIMARY, 40_000);
        self.until("rec-1 takes over", |w| w.writable() == [REPLICA])?;
        self.lasts(5_000)
    }

    /// Only the API server answers the primary, and its watch is silent: what it asks is all that tells it of its successor.
    /// So little is written meanwhile that nobody need be asked.
    pub(super) fn a_deaf_primary_reads(&mut self) -> Result<(), String> {
        self.until("rec-1 is in sync", |w| w.in_sync() == ["rec-1"])?;
        self.quiet = true;
        self.deaf.insert(PRIMARY, ALWAYS);
        self.cut_but_for_the_api(PRIMARY, ALWAYS);
        self.until("rec-1 takes over", |w| w.writable() == [REPLICA])?;
        self.lasts(5_000)
    }

    /// A host is lost, the pod of the primary is deleted by force and made again elsewhere with its volume, and later leads
    /// again. The process of before still runs where it was, and reaches its old member before it hears anything else.
    pub(super) fn the_pod_is_made_again_and_the_old_one_runs_on(&mut self) -> Result<(), String> {
        self.until("rec-1 is in sync", |w| w.in_sync() == ["rec-1"])?;
        self.isolate(PRIMARY, ALWAYS);
        self.until("rec-1 takes over", |w| w.writable() == [REPLICA])?;
        self.makes_again_elsewhere(PRIMARY);
        self.until("the new rec-0 is in sync", |w| w.in_sync() == ["rec-0"])?;
        self.ask_to_leave();
        self.until("the new rec-0 leads", |w| w.writable() == [PRIMARY])?;
        self.until("rec-1 is in sync", |w| w.in_sync() == ["rec-1"])?;
        self.mend(GHOST, REPLICA);
        self.lasts(10_000)
    }

    /// The storage of the cluster, API server and volumes, is put back to what it was while the host of the primary is off
    /// the net, and the epoch in which that one led is given to another. It then reaches its member before anything else.
    pub(super) fn everything_but_one_host_is_put_back(&mut self) -> Result<(), String> {
        self.until("both are in sync", |w| w.in_sync().len() == 2)?;
        let backup = (self.backup(), self.volume(PRIMARY), self.volume(THIRD));
        self.apart.insert(THIRD, self.now + 2_000);
        self.lasts(1_500)?;
        self.kill(PRIMARY, ALWAYS);
        self.until("rec-1 takes over", |w| w.writable() == [REPLICA])?;
        self.until("rec-2 is in sync", |w| w.in_sync() == ["rec-2"])?;
        self.isolate(REPLICA, ALWAYS);
        self.kill(THIRD, ALWAYS);
        self.lasts(25)?;

        let (api, primary, third) = backup;
        self.put_back(api);
        self.begins_anew(0);
        self.begins_anew(1);
        // Whoever puts storage back gives up what came after.
        (self.settled, self.acknowledged) = Default::default();
        self.started_from(PRIMARY, primary);
        self.started_from(THIRD, third);
        self.lasts(5_000)?;
        self.a_person_accepts_that("rec-0");
        self.until("rec-0 leads in epoch 2", |w| {
            w.writable() == [PRIMARY] && w.api.topology.spec.epoch == 2
        })?;
        self.until("rec-2 follows it", |w| !w.followers(PRIMARY).is_empty())?;
        self.mend(REPLICA, THIRD);
        self.lasts(10_000)
    }

    /// A failover is begun, the API server is put back to before it and written to since, and the old primary reaches the
    /// candidate again. The failover is begun anew, and a leader that slept meanwhile takes it for the one that it knows.
    pub(super) fn a_fence_is_taken_back(&mut self) -> Result<(), String> {
        const SLEEPS: usize = 0;
        const LEADS_NOW: usize = 1;
        self.until("rec-1 is in sync", |w| w.in_sync() == ["rec-1"])?;
        let backup = self.backup();
        self.isolate(PRIMARY, ALWAYS);
        self.until("rec-1 is a candidate, and says so", |w| {
            w.agents[SLEEPS].watch.confirmed(2, w.now).is_some()
        })?;
        self.agents[SLEEPS].paused_until = self.now + ALWAYS;
        self.begins_anew(LEADS_NOW);
        self.put_back(backup);
        self.edited();
        self.mend(PRIMARY, REPLICA);
        self.until("there is a fence again", |w| {
            w.api.topology.spec.fence.is_some()
        })?;
        self.cut_link(PRIMARY, REPLICA, ALWAYS);
        self.lasts(100)?;
        self.wakes(SLEEPS);
        self.lasts(10_000)?;
        self.recovers().map(drop)
    }

    /// The API server is put back to when another led, just after the primary was cut off, so that nobody says who led last.
    pub(super) fn put_back_and_the_primary_is_cut_off(&mut self) -> Result<(), String> {
        self.until("rec-1 is in sync", |w| w.in_sync() == ["rec-1"])?;
        let backup = self.backup();
        self.ask_to_leave();
        self.until("rec-1 leads", |w| w.writable() == [REPLICA])?;
        self.until("rec-0 is in sync", |w| w.in_sync() == ["rec-0"])?;
        self.isolate(REPLICA, 30_000);
        // What it sent before has arrived, and what it was granted is good for almost three seconds more.
        self.lasts(25)?;
        self.put_back(backup);
        self.until("rec-0 leads again", |w| w.writable() == [PRIMARY])?;
        self.lasts(5_000)
    }

    /// The API server is put back to when a replica was in sync that has fallen far behind since; then the primary is cut off
    /// before it says more, and another agent leads. Nobody may take over by itself.
    pub(super) fn put_back_to_when_it_was_in_sync(&mut self) -> Result<(), String> {
        self.until("rec-1 is in sync", |w| w.in_sync() == ["rec-1"])?;
        let backup = self.backup();
        self.apart.insert(REPLICA, self.now + ALWAYS);
        self.until("rec-1 leaves the set", |w| w.in_sync().is_empty())?;
        self.lasts(30_000)?;
        self.put_back(backup);
        self.until("rec-0 goes on", |w| {
            w.api.topology.spec.epoch > 1 && w.api.topology.spec.fence.is_none()
        })?;
        self.isolate(PRIMARY, 40_000);
        self.begins_anew(0);
        self.begins_anew(1);
        self.lasts(40_000)?;
        self.recovers().map(drop)
    }

    /// A process is stopped with a reply in its hands and goes on when another has taken over.
    pub(super) fn it_wakes_with_a_reply_in_its_hands(&mut self) -> Result<(), String> {
        self.until("rec-1 is in sync", |w| w.in_sync() == ["rec-1"])?;
        self.stop_before_a_reply(PRIMARY, 30_000);
        self.until("rec-1 takes over", |w| w.writable() == [REPLICA])?;
        self.lasts(30_000)
    }
}

/// What the stories are made of.
impl World {
    fn in_sync(&self) -> &[String] {
        &self.api.topology.spec.shards[0].in_sync
    }

    fn joining(&self) -> &[String] {
        &self.api.topology.spec.shards[0].joining
    }

    /// It goes on until that is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), String> {
        const WAITS: u64 = 45_000;
        let end = self.now + WAITS;
        while !is_so(self) {
            if self.now >= end {
                let spec = &self.api.topology.spec;
                return Err(format!("it does not come about that {what}: {spec:?}"));
            }
            self.lasts(1)?;
        }
        Ok(())
    }

    /// It goes on for so long.
    fn lasts(&mut self, length: u64) -> Result<(), String> {
        let end = self.now + length;
        self.play(end)?;
        self.now = end;
        Ok(())
    }

    fn mend(&mut self, one: usize, other: usize) {
        self.cut.remove(&(one.min(other), one.max(other)));
    }

    fn backup(&self) -> Backup {
        (self.api.topology.clone(), self.memory.clone())
    }

    /// What a node has on its volume.
    fn volume(&self, node: usize) -> Node {
        Node {
            shard: None,
            up: false,
            ..self.nodes[node].clone()
        }
    }

    /// A node that was ended starts from the volume.
    fn started_from(&mut self, node: usize, volume: Node) {
        let driver = self.nodes[node].driver;
        self.nodes[node] = Node { driver, ..volume };
        self.start(node);
    }

    /// Another replica of the agent leads, which remembers nothing.
    fn begins_anew(&mut self, agent: usize) {
        let agent = &mut self.agents[agent];
        agent.start += 1;
        (agent.watch, agent.busy) = Default::default();
    }

    /// An agent's process goes on, and looks.
    fn wakes(&mut self, agent: usize) {
        self.agents[agent].paused_until = self.now;
        self.at(self.now, What::AgentLook(agent));
        self.at(self.now, What::Probe(agent));
    }

    /// A person accepts what is lost if `pod` leads.
    fn a_person_accepts_that(&mut self, pod: &str) {
        let mut topology = self.api.topology.as_ref().clone();
        let text = format!("{pod}@{}", topology.spec.epoch);
        topology.metadata.annotations = Some([(ACCEPT_LOSS.to_owned(), text)].into());
        self.api.topology = topology.into();
        self.changed();
    }

    /// A person changes something about the database, twice: roles stay as they are.
    fn edited(&mut self) {
        let mut topology = self.api.topology.as_ref().clone();
        topology.metadata.generation = topology.metadata.generation.map(|number| number + 2);
        self.api.topology = topology.into();
        self.changed();
    }

    /// The pod is deleted by force and made again on another host with its volume. What ran runs on, and nobody hears it.
    fn makes_again_elsewhere(&mut self, node: usize) {
        self.nodes.push(self.nodes[node].clone());
        for (one, what) in [(1, What::Tick(GHOST)), (2, What::Follow(GHOST))] {
            self.at(self.now + one, what);
        }
        self.isolate(GHOST, ALWAYS);
        self.cut
            .retain(|link, _| ![link.0, link.1].contains(&node) || link.1 == GHOST);
        let volume = self.volume(node);
        self.started_from(node, volume);
        self.kubelet(node, WELL);
    }
}
