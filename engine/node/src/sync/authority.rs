//! Who knows the topologies and takes reports: the Kubernetes API in a pod; a directory that several processes share where there
//! is none (tests, a laptop).

use futures::future::BoxFuture;
use meridian_api::crds::topology::{EntryReport, MemberReport};

use super::topology::Topology;

/// Why the authority gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    /// There is no such topology.
    #[error("there is no topology of this name")]
    Gone,
    /// It cannot be asked, or its answer makes no sense.
    #[error("{0}")]
    Away(String),
}

/// The source of topologies, asked directly.
pub(super) trait Authority: Send + Sync + 'static {
    /// The topology of `database` as it is now: no earlier state than that of the moment of the call (linearizable), from no cache.
    fn read<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<Topology, AuthorityError>>;

    /// Replaces this node's entry in the status of `database`.
    fn report<'a>(
        &'a self,
        database: &'a str,
        member: &'a MemberReport,
    ) -> BoxFuture<'a, Result<(), AuthorityError>>;

    /// Replaces what the status of `database` says of clients that this node takes; `None`: it takes none.
    fn entry<'a>(
        &'a self,
        database: &'a str,
        entry: Option<&'a EntryReport>,
    ) -> BoxFuture<'a, Result<(), AuthorityError>>;
}
