//! Merge semantics of the Active-Active data types: clocks, effects, values, stability. No Valkey, no I/O, no clock.
//!
//! A shard holds one [`Replica`]. Local writes go through [`Replica::write`], which returns the effect for the append-only
//! file, for local replicas and for peers; effects of peers go through [`Replica::apply_batch`], those of the file and of
//! the primary through [`Replica::replay`]. The values that clients read are reached through a [`View`]. Every value is a
//! function of the set of effects received, whatever their order between origins.
//!
//! Used by the Valkey module, and by nobody else.

mod batch;
mod clock;
mod codec;
mod config;
mod decimal;
mod digest;
mod effect;
mod entry;
mod hlc;
mod id;
mod log;
mod replica;
mod stability;
mod view;

pub use batch::Batch;
pub use clock::Clock;
pub use codec::DecodeError;
pub use config::{Config, ConfigError, Limits};
pub use decimal::Decimal;
pub use digest::Digest;
pub use effect::{Effect, Generation, Op};
pub use hlc::{Hlc, Stamp};
pub use id::{Dot, Incarnation, InstanceId, Origin};
pub use replica::{
    Applied, ApplyError, BatchError, BeginError, Number, Outcome, PullError, Replica, RestoreError,
    Stats, Write, WriteError, Written,
};
pub use view::{Kind, View, ViewError};
