//! The local side of a database, the same for REDB and REAADB: password, entry in the users Secret, topology, and what
//! the nodes say about it.

pub(super) mod access;
pub(super) mod apply;
pub(super) mod clients;
pub(super) mod fetch;
pub(super) mod look;
pub(super) mod racks;
pub(super) mod remove;
pub(super) mod settings;
pub(super) mod state;
mod stop;

use thiserror::Error;

use super::{secrets::NoRandomness, topology::TopologyError};
use crate::k8s::{apply::ApplyError, drive::Failure, fault::Fault};

/// Why the local side could not be made true.
#[derive(Debug, Error)]
pub(super) enum ServeError {
    /// Something could not be read or written.
    #[error(transparent)]
    Api(#[from] ApplyError),
    /// There is no topology to write.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The random generator failed.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The REC that the spec names does not exist.
    #[error("{0}")]
    NoCluster(String),
    /// Agent and cluster are of different releases: what and the next step.
    #[error("{0}")]
    Suspended(String),
    /// The Secret of the password cannot be used.
    #[error("the Secret `{secret}` {problem}")]
    Secret {
        /// Name of the Secret.
        secret: String,
        /// What is wrong and what is expected.
        problem: &'static str,
    },
    /// A certificate of clients cannot be used: which, what was found and what is expected.
    #[error("{0}")]
    ClientCertificate(String),
    /// The users Secret is not there yet: the REC's controller makes it.
    #[error("the Secret `{0}` does not exist yet: it is made with the cluster")]
    NoUsers(String),
}

impl Failure for ServeError {
    fn fault(&self) -> Fault {
        match self {
            Self::Api(error) => error.fault(),
            Self::Topology(error) => error.fault(),
            Self::Randomness(_) => Fault::Unavailable,
            Self::ClientCertificate(_) => Fault::Refused,
            Self::NoCluster(_) | Self::Suspended(_) | Self::Secret { .. } | Self::NoUsers(_) => {
                Fault::Waiting
            }
        }
    }
}
