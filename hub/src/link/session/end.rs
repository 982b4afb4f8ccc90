//! How a session ends, and what the agent is told of it.

use std::time::Duration;

use meridian_api::link::proto::hub_frame::Frame;
use meridian_api::link::{codes, proto};
use tonic::Status;

use super::super::wire::{self, Malformed};
use crate::app::AppError;
use crate::domain::comeback::AT_ONCE;
use crate::store::StoreError;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The agent comes back at once over another connection.
    #[error("the agent moves to another connection")]
    Moves,
    /// The agent said goodbye or its stream ended.
    #[error("the agent left: {0}")]
    Left(String),
    /// The hub stops, or leads no more: the agent comes back in its slot.
    #[error("the hub stops; the agent comes back after {0:?}")]
    Drain(Duration),
    /// Too many come at once: the agent comes again after this.
    #[error("{AT_ONCE} others come at this moment; the agent comes again after {0:?}")]
    Busy(Duration),
    /// Nobody reads what is sent.
    #[error("the agent does not read")]
    Deaf,
    /// The hub ends it and says why.
    #[error("{code}: {message}")]
    Bye {
        /// For machines.
        code: &'static str,
        /// For people.
        message: String,
    },
}

impl End {
    /// The reign that opened the session is over, or in doubt.
    pub(super) fn new_reign() -> Self {
        Self::bye(
            codes::NOT_LEADER,
            "the hub's reign changed; say Hello again",
        )
    }

    pub(super) fn bye(code: &'static str, message: impl ToString) -> Self {
        Self::Bye {
            code,
            message: message.to_string(),
        }
    }
}

/// What a call is answered that finds too many others before it.
pub(in crate::link) fn busy(after: Duration) -> Status {
    let told = format!("{AT_ONCE} others come at this moment; come again after {after:?}");
    let mut status = Status::resource_exhausted(told);
    // The convention of gRPC for "not before".
    status
        .metadata_mut()
        .insert("grpc-retry-pushback-ms", millis(after).into());
    status
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

impl End {
    /// The last that the agent hears, if there is something to say.
    pub(super) fn farewell(self, addresses: &[String]) -> Option<Result<proto::HubFrame, Status>> {
        let frame = match self {
            Self::Moves | Self::Left(_) | Self::Deaf => return None,
            Self::Busy(after) => return Some(Err(busy(after))),
            Self::Drain(slot) => Frame::Drain(proto::Drain {
                reason: "the hub stops".to_owned(),
                slot_ms: millis(slot),
                addresses: addresses.to_vec(),
            }),
            Self::Bye { code, message } => wire::bye(code, message),
        };
        Some(Ok(proto::HubFrame { frame: Some(frame) }))
    }
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        Self::bye(codes::PROTOCOL_ERROR, malformed)
    }
}

impl From<AppError> for End {
    fn from(error: AppError) -> Self {
        let code = match &error {
            AppError::Refused(_) => codes::REVOKED,
            AppError::CertificateOver(_) => codes::CERTIFICATE,
            AppError::Quarantined(_) => codes::QUARANTINED,
            AppError::Store(StoreError::NotLeading | StoreError::Fenced { .. }) => {
                codes::NOT_LEADER
            }
            AppError::Invalid { .. }
            | AppError::NotFound { .. }
            | AppError::Conflict(_)
            | AppError::Changed(_)
            | AppError::Repeated(_)
            | AppError::Forbidden(_)
            | AppError::AwaitsApproval(_)
            | AppError::Observing(_)
            | AppError::Busy(_)
            | AppError::Ca(_)
            | AppError::Store(_) => codes::SHUTDOWN,
        };
        if code != codes::SHUTDOWN {
            return Self::bye(code, error);
        }
        // The agent comes back, and the hub may have recovered by then.
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a session could not be served"
        );
        Self::bye(codes::SHUTDOWN, error)
    }
}
