//! Why a request failed, in the terms that every interface shares: HTTP, gRPC, the command line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::validate::FieldError;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The request breaks rules; each is named.
    #[error("{detail}")]
    Invalid {
        /// What is wrong, in a sentence.
        detail: String,
        /// Each broken rule.
        errors: Vec<FieldError>,
    },
    /// The object does not exist.
    #[error("{kind} {name:?} does not exist{hint}")]
    NotFound {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What exists instead, or the next step: beginning with `; `, or empty.
        hint: String,
    },
    /// The object is not in the state that the request expects.
    #[error("{detail}")]
    Conflict {
        /// What was expected, what was found, and the next step.
        detail: String,
    },
    /// The object is not as the caller saw it, and the caller asked for nothing to be done in that case.
    #[error("{detail}")]
    PreconditionFailed {
        /// The object, what was found and expected, and the next step.
        detail: String,
    },
    /// The request must say for which revision of the object it is meant.
    #[error("{detail}")]
    PreconditionRequired {
        /// How it is said.
        detail: String,
    },
    /// The body is larger than any may be.
    #[error("{detail}")]
    TooLarge {
        /// How large it may be.
        detail: String,
    },
    /// The body is of a type that is not read here.
    #[error("{detail}")]
    UnsupportedMediaType {
        /// What was found and expected.
        detail: String,
    },
    /// What was asked for is no longer kept.
    #[error("{detail}")]
    Expired {
        /// What is gone, and the next step.
        detail: String,
    },
    /// The answer cannot be given now, but may be later.
    #[error("{detail}")]
    Unavailable {
        /// What is missing.
        detail: String,
        /// When to try again, milliseconds; 0 if unknown.
        retry_after_ms: u32,
    },
    /// The caller asks for more than one may have at a time.
    #[error("{detail}")]
    TooManyRequests {
        /// What the bound is, and the next step.
        detail: String,
        /// When to try again, milliseconds; 0 if unknown.
        retry_after_ms: u32,
    },
    /// The caller did not prove who it is.
    #[error("{detail}")]
    Unauthorized {
        /// What was missing.
        detail: String,
    },
    /// The caller may not do this.
    #[error("{detail}")]
    Forbidden {
        /// What may not be done and who may.
        detail: String,
    },
    /// A defect. The detail goes to the log; the caller gets the request's number.
    #[error("internal error: {detail}")]
    Internal {
        /// What happened.
        detail: String,
    },
}

/// The kind of a [`Fault`] without its details; its text form is part of the web interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// [`Fault::Invalid`].
    Invalid,
    /// [`Fault::NotFound`].
    NotFound,
    /// [`Fault::Conflict`].
    Conflict,
    /// [`Fault::PreconditionFailed`].
    PreconditionFailed,
    /// [`Fault::PreconditionRequired`].
    PreconditionRequired,
    /// [`Fault::TooLarge`].
    TooLarge,
    /// [`Fault::UnsupportedMediaType`].
    UnsupportedMediaType,
    /// [`Fault::Expired`].
    Expired,
    /// [`Fault::Unavailable`].
    Unavailable,
    /// [`Fault::TooManyRequests`].
    TooManyRequests,
    /// [`Fault::Unauthorized`].
    Unauthorized,
    /// [`Fault::Forbidden`].
    Forbidden,
    /// [`Fault::Internal`].
    Internal,
}

impl Fault {
    /// The kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Invalid { .. } => FaultKind::Invalid,
            Self::NotFound { .. } => FaultKind::NotFound,
            Self::Conflict { .. } => FaultKind::Conflict,
            Self::PreconditionFailed { .. } => FaultKind::PreconditionFailed,
            Self::PreconditionRequired { .. } => FaultKind::PreconditionRequired,
            Self::TooLarge { .. } => FaultKind::TooLarge,
            Self::UnsupportedMediaType { .. } => FaultKind::UnsupportedMediaType,
            Self::Expired { .. } => FaultKind::Expired,
            Self::Unavailable { .. } => FaultKind::Unavailable,
            Self::TooManyRequests { .. } => FaultKind::TooManyRequests,
            Self::Unauthorized { .. } => FaultKind::Unauthorized,
            Self::Forbidden { .. } => FaultKind::Forbidden,
            Self::Internal { .. } => FaultKind::Internal,
        }
    }

    /// Invalid for these reasons.
    pub fn invalid(what: &str, errors: Vec<FieldError>) -> Self {
        let detail = match &errors[..] {
            [only] => format!("{what}: {only}"),
            more => format!("{what}: {} fields are wrong", more.len()),
        };
        Self::Invalid { detail, errors }
    }
}

impl FaultKind {
    /// Its word, as the web interface spells it.
    pub fn word(self) -> &'static str {
        let uri = self.type_uri();
        uri.rsplit(':').next().unwrap_or(uri)
    }

    /// The HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 422,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::PreconditionFailed => 412,
            Self::PreconditionRequired => 428,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Expired => 410,
            Self::Unavailable => 503,
            Self::TooManyRequests => 429,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::Internal => 500,
        }
    }

    /// A short title for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Invalid => "The request is invalid",
            Self::NotFound => "Not found",
            Self::Conflict => "The request conflicts with the present state",
            Self::PreconditionFailed => "The object is not as it was seen",
            Self::PreconditionRequired => "A revision must be named",
            Self::TooLarge => "Too large",
            Self::UnsupportedMediaType => "The type of the body is not read here",
            Self::Expired => "No longer kept",
            Self::Unavailable => "Not available now",
            Self::TooManyRequests => "Too many at a time",
            Self::Unauthorized => "Not authenticated",
            Self::Forbidden => "Not allowed",
            Self::Internal => "Internal error",
        }
    }

    /// The URI that names the kind of problem (RFC 9457, `type`).
    pub fn type_uri(self) -> &'static str {
        match self {
            Self::Invalid => "urn:meridian:problem:invalid",
            Self::NotFound => "urn:meridian:problem:not-found",
            Self::Conflict => "urn:meridian:problem:conflict",
            Self::PreconditionFailed => "urn:meridian:problem:precondition-failed",
            Self::PreconditionRequired => "urn:meridian:problem:precondition-required",
            Self::TooLarge => "urn:meridian:problem:too-large",
            Self::UnsupportedMediaType => "urn:meridian:problem:unsupported-media-type",
            Self::Expired => "urn:meridian:problem:expired",
            Self::Unavailable => "urn:meridian:problem:unavailable",
            Self::TooManyRequests => "urn:meridian:problem:too-many-requests",
            Self::Unauthorized => "urn:meridian:problem:unauthorized",
            Self::Forbidden => "urn:meridian:problem:forbidden",
            Self::Internal => "urn:meridian:problem:internal",
        }
    }
}
