//! Who takes part, as the control plane says, and the bounds of one shard.

use crate::id::InstanceId;
use std::collections::BTreeSet;

/// Membership of one Active-Active database as one participant sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This participant.
    pub instance: InstanceId,
    /// Rises with every change of membership.
    pub version: u64,
    /// All participants, this one included.
    pub members: BTreeSet<InstanceId>,
    /// Participants of the past. They never come back; their effects are refused.
    pub ghosts: BTreeSet<InstanceId>,
}

/// Bounds that do not change the meaning of any write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far a remote stamp may lie ahead of the own wall clock, milliseconds.
    pub max_future_ms: u64,
    /// Bytes of effects kept for peers.
    pub log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_future_ms: 60_000,
            log_bytes: 64 << 20,
        }
    }
}

/// Why a configuration was refused; the one in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A decision that was overtaken.
    #[error(
        "configuration version {found} is older than {current}, which is in force; send a newer one"
    )]
    Older {
        /// Version offered.
        found: u64,
        /// Version in force.
        current: u64,
    },
    /// Two decisions with one number.
    #[error("configuration version {0} is in force with other members; raise the version")]
    Conflict(u64),
    /// A shard belongs to one participant for ever.
    #[error(
        "instance id {found} was offered to a shard of instance {current}; a shard never changes its instance"
    )]
    Instance {
        /// Id offered.
        found: InstanceId,
        /// Id in force.
        current: InstanceId,
    },
    /// The participant is not in its own list.
    #[error("instance {0} is not among the members of its own configuration; add it")]
    NotMember(InstanceId),
    /// One id in both lists, or a ghost that came back.
    #[error(
        "instance {0} was removed and cannot be a member again; give the newcomer a new instance id"
    )]
    GhostMember(InstanceId),
}

impl Config {
    /// Whether `self` may follow `current`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub(crate) fn check_after(&self, current: &Self) -> Result<(), ConfigError> {
        if self.instance != current.instance {
            return Err(ConfigError::Instance {
                found: self.instance,
                current: current.instance,
            });
        }
        if self.version < current.version {
            return Err(ConfigError::Older {
                found: self.version,
                current: current.version,
            });
        }
        if self.version == current.version && self != current {
            return Err(ConfigError::Conflict(self.version));
        }
        if let Some(ghost) = self.members.intersection(&current.ghosts).next() {
            return Err(ConfigError::GhostMember(*ghost));
        }
        self.check()
    }

    /// Whether the configuration makes sense by itself.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(ghost) = self.members.intersection(&self.ghosts).next() {
            return Err(ConfigError::GhostMember(*ghost));
        }
        if self.members.contains(&self.instance) {
            Ok(())
        } else {
            Err(ConfigError::NotMember(self.instance))
        }
    }
}
