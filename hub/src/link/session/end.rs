//! How a session ends, and what the agent is told of it.

use meridian_api::link::codes;

use super::super::wire::Malformed;
use crate::app::AppError;
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
    pub(super) fn bye(code: &'static str, message: impl ToString) -> Self {
        Self::Bye {
            code,
            message: message.to_string(),
        }
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
