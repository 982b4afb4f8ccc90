//! The hub–agent link: wire messages, version negotiation, and the pure rules that both ends must share.
//!
//! [`proto`] is generated from `proto/*.proto`, which document every message.

pub mod clock;
pub mod codec;
pub mod codes;
pub mod digest;
pub mod enroll;
pub mod meaning;
mod position;

pub use self::position::{Position, PositionError};

/// Messages, clients and servers generated from `proto/link.proto` and what it imports (package `meridian.link.v1`).
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code, not ours to shape"
)]
pub mod proto {
    tonic::include_proto!("meridian.link.v1");
}

pub use prost::bytes::Bytes;

/// Lowest protocol version that this build speaks.
pub const PROTO_MIN: u32 = 1;
/// Highest protocol version that this build speaks.
pub const PROTO_MAX: u32 = 1;

/// Largest body of one object on the wire, bytes. Objects are sent whole: an agent writes down all that it has still to apply in one
/// Secret, which may hold 1 MiB, and so refuses what is larger; a hub accepts no intent of which such an object would be made.
pub const LARGEST_BODY: usize = 192 * 1024;

/// Two ends that have no protocol version in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The peer is older than this build can speak to.
    #[error(
        "the peer speaks protocol versions up to {peer_max}, expected at least {ours}: upgrade the peer"
    )]
    PeerTooOld {
        /// Highest version of the peer.
        peer_max: u32,
        /// Lowest version of this build.
        ours: u32,
    },
    /// This build is older than the peer can speak to.
    #[error(
        "the peer speaks protocol versions from {peer_min}, expected at most {ours}: upgrade this side (the hub first, then the agents)"
    )]
    PeerTooNew {
        /// Lowest version of the peer.
        peer_min: u32,
        /// Highest version of this build.
        ours: u32,
    },
    /// The peer's range is empty or begins at 0.
    #[error(
        "the peer names the protocol versions {peer_min} to {peer_max}, expected a range from 1 upwards"
    )]
    BadRange {
        /// Lowest version of the peer.
        peer_min: u32,
        /// Highest version of the peer.
        peer_max: u32,
    },
}

/// The highest protocol version that this build and a peer with the range `peer_min..=peer_max` both speak.
pub fn negotiate(peer_min: u32, peer_max: u32) -> Result<u32, NegotiationError> {
    negotiate_between((PROTO_MIN, PROTO_MAX), (peer_min, peer_max))
}

fn negotiate_between(
    ours: (u32, u32),
    (peer_min, peer_max): (u32, u32),
) -> Result<u32, NegotiationError> {
    if peer_min == 0 || peer_min > peer_max {
        return Err(NegotiationError::BadRange { peer_min, peer_max });
    }
    if peer_max < ours.0 {
        return Err(NegotiationError::PeerTooOld {
            peer_max,
            ours: ours.0,
        });
    }
    if peer_min > ours.1 {
        return Err(NegotiationError::PeerTooNew {
            peer_min,
            ours: ours.1,
        });
    }
    Ok(peer_max.min(ours.1))
}

#[cfg(test)]
mod tests;
