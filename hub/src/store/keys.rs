//! The only place that spells keys. A [`Key`] or [`Prefix`] carries the type of what lies under it.
//!
//! `/meta` store birth, authority, roots, starts, counters · `/doubt`, `/adopted` lineage in question · `/cluster`, `/cluster-name`,
//! `/removed`, `/residue`, `/presence`, `/session`, `/instances`, `/denied` members · `/token`, `/approval`, `/user`, `/user-use` secrets' hashes ·
//! `/repeat` idempotency keys · `/recs`, `/remote`, `/trust` inventory · `/audit`, `/audit-new`, `/audit-ends` audit log ·
//! `/database`, `/membership`, `/waits` intent and its allocations · `/desired`, `/outcome`, `/observed` per member and object ·
//! `/tally` deletions of a member and of the fleet.

use std::fmt;
use std::marker::PhantomData;

use meridian_api::audit::{Event, Record};
use meridian_api::ids::{ClusterUid, ObjectId, Term};

use super::records::{
    AuditEnds, Counters, Filling, Mark, NameHolder, SessionEpoch, StoredObservation, StoredOutcome,
    Transitions,
};
use crate::domain::access::{ApiToken, JoinToken, LastUse, Repeat};
use crate::domain::approval::Approval;
use crate::domain::breaker::{Scope, Tally};
use crate::domain::clones::Instances;
use crate::domain::cluster::{Cluster, PresenceEdge, RecInventory, RemovedCluster};
use crate::domain::database::{Database, Membership, Waits};
use crate::domain::denial::{Denial, Serial};
use crate::domain::desired::Desired;
use crate::domain::lineage::{Accepted, Anchor, Birth, Doubt, Start};
use crate::domain::lost::Residue;
use crate::domain::remote::Remote;
use crate::domain::trust::{Bundle, MemberTrust};

/// Where one record of type `R` lies.
pub struct Key<R> {
    text: String,
    of: PhantomData<fn() -> R>,
}

/// Where all records of type `R` of one kind lie.
pub struct Prefix<R> {
    text: String,
    of: PhantomData<fn() -> R>,
}

impl<R> Key<R> {
    fn new(text: String) -> Self {
        Self {
            text,
            of: PhantomData,
        }
    }

    /// The key as the store knows it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<R> Prefix<R> {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            of: PhantomData,
        }
    }

    /// The prefix as the store knows it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<R> fmt::Debug for Key<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<R> fmt::Debug for Prefix<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $one:ident($($argument:ident: $type:ty),*) / $all:ident: $record:ty = $prefix:literal $format:literal;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $one($($argument: $type),*) -> Key<$record> {
                Key::new(format!(concat!($prefix, $format), $($argument),*))
            }

            /// All of them.
            #[must_use]
            pub fn $all() -> Prefix<$record> {
                Prefix::new($prefix)
            }
        )*
    };
}

kinds! {
    /// One start of the hub.
    start(term: Term) / starts: Start = "/meta/start/" "{:020}";
    /// A reason to apply nothing; named by the cluster that raised it, or `hub`.
    doubt(by: &str) / doubts: Doubt = "/doubt/" "{}";
    /// A position outside of the line that a person accepted for a cluster.
    adopted(cluster: ClusterUid) / all_adopted: Accepted = "/adopted/" "{}";
    /// A member.
    cluster(uid: ClusterUid) / clusters: Cluster = "/cluster/" "{}";
    /// Which cluster has a name.
    cluster_name(name: &str) / cluster_names: NameHolder = "/cluster-name/" "{}";
    /// A removed registration.
    removed(uid: ClusterUid) / all_removed: RemovedCluster = "/removed/" "{}";
    /// More of what may be left on a lost member than its declaration holds, by part.
    residue(uid: ClusterUid, part: u32) / all_residues: Vec<Residue> = "/residue/" "{}/{:05}";
    /// A cluster that is not let in.
    denied_cluster(uid: ClusterUid) / denied_clusters: Denial = "/denied/cluster/" "{}";
    /// A certificate that is accepted no more.
    denied_serial(serial: &Serial) / denied_serials: Denial = "/denied/serial/" "{}";
    /// The instances of a member's agent.
    instances(uid: ClusterUid) / all_instances: Instances = "/instances/" "{}";
    /// Last edge of a member's presence.
    presence(uid: ClusterUid) / presences: PresenceEdge = "/presence/" "{}";
    /// Highest session epoch of a member.
    session(uid: ClusterUid) / sessions: SessionEpoch = "/session/" "{}";
    /// A join token.
    token(id: &str) / tokens: JoinToken = "/token/" "{}";
    /// The approval that a join token demands.
    approval(id: &str) / approvals: Approval = "/approval/" "{}";
    /// A bearer token of the web API.
    user(id: &str) / users: ApiToken = "/user/" "{}";
    /// When a bearer token was used.
    user_use(id: &str) / user_uses: LastUse = "/user-use/" "{}";
    /// What a request with an idempotency key made.
    repeat(key: &str) / repeats: Repeat = "/repeat/" "{}";
    /// A record of the audit log.
    audit(number: u64) / audits: Record = "/audit/" "{:020}";
    /// An event that is not linked into the audit log yet.
    audit_new(id: u64) / audit_news: Event = "/audit-new/" "{:016x}";
    /// The roots that a member holds.
    trust_of(uid: ClusterUid) / all_trust: MemberTrust = "/trust/" "{}";
    /// The RECs of a member.
    recs(cluster: ClusterUid) / all_recs: RecInventory = "/recs/" "{}";
    /// A remote cluster.
    remote(name: &str) / remotes: Remote = "/remote/" "{}";
    /// An Active-Active database as a person wants it.
    database(name: &str) / databases: Database = "/database/" "{}";
    /// What was allocated for an Active-Active database.
    membership(database: ObjectId) / memberships: Membership = "/membership/" "{}";
    /// What a database waits for.
    waits(database: ObjectId) / all_waits: Waits = "/waits/" "{}";
    /// When the steps of an Active-Active database turned.
    transitions(database: ObjectId) / all_transitions: Transitions = "/transitions/" "{}";
    /// What a member is to make true of an object.
    desired(cluster: ClusterUid, object: ObjectId) / all_desired: Desired = "/desired/" "{}/{}";
    /// What became of an object on a member.
    outcome(cluster: ClusterUid, object: ObjectId) / outcomes: StoredOutcome = "/outcome/" "{}/{}";
    /// What is remembered of the deletions in a scope.
    tally(scope: Scope) / tallies: Tally = "/tally/" "{}";
    /// What a member observes of an object.
    observed(cluster: ClusterUid, object: ObjectId) / all_observed: StoredObservation = "/observed/" "{}/{}";
}

/// The store's birth.
#[must_use]
pub fn birth() -> Key<Birth> {
    Key::new("/meta/birth".to_owned())
}

/// The certificate authority of the store's members.
#[must_use]
pub fn anchor() -> Key<Anchor> {
    Key::new("/meta/anchor".to_owned())
}

/// The roots in force; absent as long as the authority was never rotated.
#[must_use]
pub fn trust() -> Key<Bundle> {
    Key::new("/meta/trust".to_owned())
}

/// Stands while the store is being filled from a backup.
#[must_use]
pub fn filling() -> Key<Filling> {
    Key::new("/meta/filling".to_owned())
}

/// Where the chain of the audit log begins and ends.
#[must_use]
pub fn audit_ends() -> Key<AuditEnds> {
    Key::new("/audit-ends".to_owned())
}

/// Records of the audit log whose numbers differ in the last digits only.
pub const AUDIT_BLOCK: u64 = 1000;

/// All records of the audit log in the block of this one.
#[must_use]
pub fn audit_block(number: u64) -> Prefix<Record> {
    Prefix::new(&format!("/audit/{:017}", number / AUDIT_BLOCK))
}

/// Written whenever a member goes: who names members in an intent demands that none has gone meanwhile.
#[must_use]
pub fn departures() -> Key<Mark> {
    Key::new("/meta/departures".to_owned())
}

/// Written whenever an intent names members: who removes a member demands that none did so meanwhile.
#[must_use]
pub fn intents() -> Key<Mark> {
    Key::new("/meta/intents".to_owned())
}

/// The hub's counters.
#[must_use]
pub fn counters() -> Key<Counters> {
    Key::new("/meta/counters".to_owned())
}

/// All that one member is to make true.
#[must_use]
pub fn desired_of(cluster: ClusterUid) -> Prefix<Desired> {
    Prefix::new(&format!("/desired/{cluster}/"))
}

/// All outcomes of one member.
#[must_use]
pub fn outcomes_of(cluster: ClusterUid) -> Prefix<StoredOutcome> {
    Prefix::new(&format!("/outcome/{cluster}/"))
}

/// All observations of one member.
#[must_use]
pub fn observed_of(cluster: ClusterUid) -> Prefix<StoredObservation> {
    Prefix::new(&format!("/observed/{cluster}/"))
}

/// The cluster and the object of a key below `/desired/`, `/outcome/` or `/observed/`; `None` for any other key.
#[must_use]
pub fn cluster_and_object(key: &str) -> Option<(ClusterUid, ObjectId)> {
    let mut parts = key.strip_prefix('/')?.split('/');
    let (_, cluster, object) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((cluster.parse().ok()?, object.parse().ok()?))
}

/// The last part of a key: the name or identity of its record.
#[must_use]
pub fn last_part(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}
