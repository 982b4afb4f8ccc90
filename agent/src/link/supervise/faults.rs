//! Why an attempt came to nothing: what people are told of it, and what the next attempt does.

use std::time::Duration;

use meridian_api::link::codes;

use crate::link::{
    dial::DialError, enroll::EnrollError, identity::IdentityError, join::JoinError,
    keep::KeepError, session::Why,
};

/// Pause after a refusal that only a person can lift; a change of the join material ends it at once.
const REFUSED: Duration = Duration::from_secs(60);

/// Longest pause while a person compares words: who approved looks at the screen.
pub(super) const UNAPPROVED: Duration = Duration::from_secs(5);

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The join material cannot be used.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No membership.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// Own Secrets cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// Keys or certificates cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The hub does not know this cluster any more.
    #[error(
        "this cluster is no member any more: {0}. Its databases run on and nothing is deleted. To join again, apply the \
         Secret that `meridian token create NAME` prints; keys and databases stay"
    )]
    Removed(String),
    /// The hub accepts our certificate no more, and may know our device key.
    #[error(
        "the hub accepts this agent's certificate no more: {0}; the device key is asked for another"
    )]
    CertificateOver(String),
    /// The session ended.
    #[error("{0}")]
    Session(Why),
}

impl LinkError {
    /// The reason of the Event, for what a person should look at.
    pub(super) fn news(&self) -> Option<&'static str> {
        match self {
            Self::Join(_) => Some("JoinMaterialInvalid"),
            Self::Dial(DialError::WrongAuthority { .. }) => Some("HubNotTrusted"),
            Self::Dial(DialError::Clocks { .. }) => Some("ClocksDiffer"),
            Self::Dial(DialError::BadServer { .. }) => Some("HubCertificateInvalid"),
            Self::Dial(DialError::Unwelcome { .. }) => Some("CertificateRefused"),
            Self::Dial(DialError::Proxy(_)) => Some("ProxyRefused"),
            Self::Enroll(error) if error.is_refusal() => Some("JoinRefused"),
            Self::Enroll(EnrollError::AwaitsApproval { .. }) => Some("AwaitsApproval"),
            Self::Enroll(EnrollError::OtherCluster { .. }) => Some("JoinRefused"),
            Self::Keep(KeepError::Foreign { .. }) => Some("ForeignObject"),
            Self::Keep(KeepError::Identity(_)) | Self::Identity(_) => Some("IdentityUnreadable"),
            Self::Removed(_) => Some("MembershipRemoved"),
            Self::Session(Why::Bye { code, .. }) if code == codes::QUARANTINED => {
                Some("Quarantined")
            }
            Self::Session(Why::Bye { code, .. }) if !is_ordinary(code) => Some("SessionRefused"),
            Self::Dial(_)
            | Self::Enroll(_)
            | Self::Keep(_)
            | Self::CertificateOver(_)
            | Self::Session(_) => None,
        }
    }

    pub(super) fn needs_a_person(&self) -> bool {
        match self {
            Self::Join(_) | Self::Removed(_) => true,
            Self::Enroll(error) => error.is_refusal(),
            Self::Session(Why::Bye { code, .. }) => code == codes::QUARANTINED,
            Self::Dial(_)
            | Self::Keep(_)
            | Self::Identity(_)
            | Self::CertificateOver(_)
            | Self::Session(_) => false,
        }
    }

    /// Whether the hub has said that another certificate is needed. Ours may end in silence, too: a failure and our clock together say so.
    pub(super) fn needs_another_certificate(&self) -> bool {
        matches!(
            self,
            Self::CertificateOver(_)
                | Self::Dial(DialError::Expired { .. } | DialError::Unwelcome { .. })
        )
    }

    /// How long to wait after it, where `pause` is due to the attempts alone.
    pub(super) fn pause(&self, pause: Duration) -> Duration {
        if matches!(self, Self::Enroll(EnrollError::AwaitsApproval { .. })) {
            return pause.min(UNAPPROVED);
        }
        if self.needs_a_person() {
            return pause.max(REFUSED);
        }
        pause
    }

    /// Whether the join material itself is at fault, so that an older membership is the better way.
    pub(super) fn rules_out_the_material(&self) -> bool {
        let unapproved = matches!(self, Self::Enroll(EnrollError::AwaitsApproval { .. }));
        unapproved
            || self.needs_a_person()
            || matches!(
                self,
                Self::Dial(
                    DialError::WrongAuthority { .. }
                        | DialError::BadServer { .. }
                        | DialError::Clocks { .. }
                )
            )
    }
}

/// Ends that belong to the life of a hub and are no news.
fn is_ordinary(code: &str) -> bool {
    [
        codes::SHUTDOWN,
        codes::NOT_LEADER,
        codes::SUPERSEDED,
        codes::IDLE,
    ]
    .contains(&code)
}
