//! What a command answers when it does not do its work. Where the native command would refuse too, the words are the server's.

use crate::policy::Refusal;

/// Why a command failed, with the words for the client.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("ERR wrong number of arguments for '{name}' command")]
    Arity { name: String },
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    #[error("ERR value is not a valid float")]
    NotFloat,
    #[error("ERR hash value is not an integer")]
    HashNotInteger,
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    #[error("ERR offset is out of range")]
    Offset,
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    #[error("ERR syntax error")]
    Syntax,
    #[error("CROSSSLOT Keys in request don't hash to the same slot")]
    CrossSlot,
    #[error("{0}")]
    Native(String),
    #[error("ERR '{command}' with {option} is not supported in an Active-Active database yet")]
    Option {
        command: &'static str,
        option: String,
    },
    #[error(
        "ERR '{command}' out of a script or function is not supported in an Active-Active database yet; send it as a command"
    )]
    Script { command: String },
    #[error(
        "ERR this Active-Active database has no membership yet, so it takes no writes; the node sets it with CRDT.CONFIG SET"
    )]
    NotConfigured,
    #[error("READONLY You can't write against a read only replica.")]
    Replica,
    #[error("ERR '{command}' is for the internal user on the shard's Unix socket only")]
    Internal { command: String },
    #[error("ERR '{command}' comes only from the append-only file or the primary")]
    ReplayOnly { command: String },
    #[error(
        "ERR the module crdt has failed in an earlier command; writes are refused until this server restarts (see its log)"
    )]
    Broken,
    #[error("ERR the module crdt is busy with another command of the same call")]
    Reentered,
    #[error(
        "ERR this shard was loaded with the fence off, so it needs no permission; load the module with: fence on"
    )]
    NoFence,
    #[error("ERR {command}: argument {place} ({what}): {found}")]
    Argument {
        command: &'static str,
        place: usize,
        what: &'static str,
        found: String,
    },
    #[error(
        "ERR the effect of this write was not taken for the append-only file and the replicas; writes are refused until this server restarts"
    )]
    NotPropagated,
    #[error("ERR {0}")]
    Engine(String),
    /// With a code of its own, which the node acts upon.
    #[error("{code} {text}")]
    Coded { code: &'static str, text: String },
}

impl From<Refusal<'_>> for Error {
    fn from(refusal: Refusal<'_>) -> Self {
        Self::Coded {
            code: refusal.reason.code(),
            text: refusal.to_string(),
        }
    }
}
