//! Who may acknowledge writes, and for how long. Pure: events with a time in, actions out; no I/O, no clock, no randomness.
//!
//! A primary acknowledges writes only while its shard holds a *permission*, which ends by itself [`LEASE_MS`] after the start of
//! the request that obtained it. Either every member that may replace the primary (in-sync set and those about to join it) granted
//! it, or a linearizable read of the topology showed that nobody is being promoted. Who stopped granting, and waits for as long as a
//! permission lasts, can therefore be sure that the primary acknowledges nothing any more. A primary that nobody may replace needs
//! no lease.
//!
//! [`Core`] is the primary's side of one shard (and its duties as a replica), [`grant`] is the other side. The child of PID 1
//! drives one core per shard; a model test may drive many of them against each other.
//!
//! Source: Lin et al., "PacificA: Replication in Log-Based Distributed Storage Systems", Microsoft Research 2008, §2.3; the
//! linearizable read as the second way to a permission is ours.

mod asking;
mod core;
mod fitness;
pub mod grant;
mod progress;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use core::Core;
pub use meridian_api::crds::topology::LEASE_MS;
pub use progress::Progress;

/// Milliseconds of CLOCK_BOOTTIME on one machine. Never compared between machines.
pub type Millis = u64;

/// How often the members are asked, milliseconds.
pub const ROUND_MS: Millis = 500;

/// A member whose newest grant is older than this is late: the topology is read as well, milliseconds.
pub const LATE_MS: Millis = 700;

/// What a node obeys about one shard. A fact only once PID 1 has it on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// `metadata.uid` of the topology.
    pub uid: String,
    /// Its epoch.
    pub epoch: u64,
    /// The epoch of the fence in it.
    pub fence: Option<u64>,
    /// What this node does.
    pub role: Role,
    /// Who may become primary.
    pub in_sync: BTreeSet<String>,
    /// Who is about to.
    pub joining: BTreeSet<String>,
    /// Everybody else who has a part in the shard, in the set or not: who may have more than this node.
    pub copies: BTreeSet<String>,
    /// The agent says that this node leads in this epoch with whatever it holds.
    pub as_is: bool,
    /// Its files have everything but the last moment before a process ended.
    pub keeps: bool,
}

impl Duty {
    /// Whose grants a permission needs.
    #[must_use]
    pub fn members(&self) -> BTreeSet<String> {
        self.in_sync.union(&self.joining).cloned().collect()
    }
}

/// What this node does for a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Lead,
    /// It follows the shard on this host.
    Follow(String),
}

/// What a shard's process is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// It is nobody's replica.
    Leads,
    /// It is the replica of `host`.
    Follows {
        /// Of whom.
        host: String,
        /// How far.
        state: Following,
    },
}

/// How a replica follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// No connection.
    Down,
    /// It takes over a copy of everything; what it had before may be gone already.
    Copying,
    /// It has everything up to the live stream.
    Up,
}

/// When a permission ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// At this time.
    At(Millis),
    /// Never by itself: nobody may replace this primary.
    Forever,
}

/// A permission that a shard holds or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The epoch that it is for.
    pub epoch: u64,
    /// Its end.
    pub until: Until,
}

/// A process of the shard, as found when the connection to it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Differs between any two processes.
    pub id: String,
    /// What it does.
    pub position: Position,
    /// The permission that it holds (perhaps ended).
    pub permission: Option<Permission>,
    /// No permission of an epoch up to this one is valid any more.
    pub revoked: u64,
}

/// What must survive this process and the shard's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The life of the shard that has everything it should have: it has led, or has followed a primary to its live stream.
    pub complete: Option<String>,
    /// The distribution of roles in which it led last.
    pub served: Option<Term>,
    /// The one in which it held a permission last: [`Self::served`] is on disk before the first, this after it.
    #[serde(default)]
    pub led: Option<Term>,
    /// A life with less than it should have was found as primary: it does not lead in any epoch up to this one.
    pub unfit: Option<Term>,
}

/// A distribution of roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// `metadata.uid` of the topology.
    pub uid: String,
    /// Its epoch.
    pub epoch: u64,
}

/// What happened. Answers may come late, twice or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// PID 1 obeys this from now on.
    Obeys(Duty),
    /// The node was asked to stop.
    Stopping,
    /// There is a connection to the shard, which answers.
    Up(Life),
    /// It does not start: what it left cannot be loaded.
    Refused,
    /// The connection broke, or an [`Order`] failed. What the shard holds is unknown until [`Event::Up`].
    Down,
    /// The shard was looked at.
    Seen(Position),
    /// The outstanding [`Order`] was carried out.
    Done,
    /// A member answered the request of this round.
    Granted {
        /// The round of [`Ask::Grant`].
        round: u64,
        /// Who.
        member: String,
        /// What it said.
        answer: Answer,
    },
    /// A linearizable read that was started by [`Ask::Read`] has ended.
    Read {
        /// The round of [`Ask::Read`].
        round: u64,
        /// What it showed.
        found: Found,
    },
    /// Time has passed.
    Tick,
}

/// What a member said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It will help nobody to replace this primary for as long as a permission lasts.
    Granted,
    /// It did not grant.
    Refused {
        /// The epoch of the fence that it obeys, if it obeys one of the same topology.
        fenced: Option<u64>,
    },
    /// There was no answer.
    Failed,
}

/// What a linearizable read showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A topology.
    Topology(Read),
    /// No answer, or none that can be understood, or no topology.
    Nothing,
}

/// A topology as read for one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Its `metadata.uid`.
    pub uid: String,
    /// Its epoch.
    pub epoch: u64,
    /// The epoch of its fence.
    pub fence: Option<u64>,
    /// This node is the primary in it.
    pub leads: bool,
    /// Who may become primary.
    pub in_sync: BTreeSet<String>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask somebody else; several may be under way.
    Ask(Ask),
    /// Do this on this machine and say [`Event::Done`] or [`Event::Down`]. At most one is under way.
    Do(Order),
}

/// A question to somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Ask `member` for a grant in this epoch of this topology.
    Grant {
        /// Comes back with the answer.
        round: u64,
        /// Whom.
        member: String,
        /// `metadata.uid` of the topology.
        uid: String,
        /// The epoch.
        epoch: u64,
    },
    /// Read the topology, linearizably.
    Read {
        /// Comes back with the answer.
        round: u64,
    },
}

/// Something to do on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Put these facts on disk.
    Record(Facts),
    /// End every permission up to this epoch, and accept none.
    Revoke(u64),
    /// Give the shard this permission.
    Permit(Permission),
    /// Stop following.
    Lead,
    /// Follow the shard on this host.
    Follow(String),
    /// Close the connections of clients, so that they look for the primary again.
    CloseClients,
}

/// Why another must take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The shard's process has less than it should have.
    Unfit {
        /// It led in this epoch before, in a process that has ended.
        served: bool,
        /// The epoch.
        epoch: u64,
    },
    /// It does not start: what it left cannot be loaded, and there are others who have it.
    Refused,
    /// The node was asked to stop.
    Stopping,
}

/// What there is to report of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Its process answers and its position is known: `Some(true)` if it is nobody's replica.
    pub leads: Option<bool>,
    /// It acknowledges writes now.
    pub writable: bool,
    /// Its process has had everything since it led or followed a primary to its live stream; otherwise its position in the stream
    /// says nothing.
    pub complete: bool,
    /// Primary: who may replace it, or is about to be able to, by what is obeyed.
    pub members: BTreeSet<String>,
    /// Whose permission it needs.
    pub counts: BTreeSet<String>,
    /// The newest fence that it obeys.
    pub fenced: Option<u64>,
    /// Why another must take over.
    pub wish: Option<Wish>,
    /// The epoch in which it led last with everything that it should have had.
    pub served: Option<u64>,
    /// Replica: since when it has not followed its primary's live stream; `None`: it does.
    pub apart_since: Option<Millis>,
}

#[cfg(test)]
mod tests;
