//! Why there is no connection, and what an error of the network or of TLS means.

use std::{error::Error as StdError, io, sync::Arc};

use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::tunnel::NoTunnel;
use crate::link::{join::pin, member::chain};

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DialError {
    /// The hub's certificate is not signed by the pinned root.
    #[error(
        "the hub at {address} shows a certificate that the pinned root (ca.crt, sha256 {pin}) did not sign: if the hub \
         was made anew, apply fresh join material; otherwise somebody else answers at this address"
    )]
    WrongAuthority {
        /// The address.
        address: String,
        /// SHA-256 of the pinned root.
        pin: String,
    },
    /// The hub's certificate cannot be accepted for another reason.
    #[error(
        "the certificate of the hub at {address} cannot be accepted: {reason}; check its names, its dates and the clocks"
    )]
    BadServer {
        /// The address.
        address: String,
        /// What the TLS library said.
        reason: String,
    },
    /// By this machine's clock the hub's certificate is not good yet, or no more.
    #[error(
        "the clock of this machine says {ours}, but the certificate that the hub at {address} shows is good {bound}: that is when \
         the hub's clock {theirs}. One of the two clocks is wrong by at least the difference: set both by NTP. If both are right, \
         the hub did not renew its certificate, and its log says why"
    )]
    Clocks {
        /// The address.
        address: String,
        /// Our clock.
        ours: String,
        /// From or until when the certificate is good.
        bound: String,
        /// What that says of the hub's clock.
        theirs: &'static str,
    },
    /// The hub says that our certificate has ended.
    #[error("the hub at {address} says that this agent's certificate has ended")]
    Expired {
        /// The address.
        address: String,
    },
    /// The hub does not accept our certificate.
    #[error(
        "the hub at {address} does not accept this agent's certificate ({reason}): it may be revoked, or the hub lost its root; look at `meridian cluster list`, or join anew"
    )]
    Unwelcome {
        /// The address.
        address: String,
        /// The TLS alert.
        reason: String,
    },
    /// The proxy before the hub makes no connection. The text names both, what the proxy answered, and what helps.
    #[error("{0}")]
    Proxy(String),
    /// No connection.
    #[error("no hub answers at {address}: {reason}")]
    Unreachable {
        /// The address, or several.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
}

/// What `error` means, where `noted` is what the connection itself died of (see [`super::noted`]).
pub(super) fn explain(
    (address, roots_pem): (&str, &str),
    error: &(dyn StdError + 'static),
    noted: Option<&Arc<io::Error>>,
) -> DialError {
    if let Some(refused) = find::<NoTunnel>(error) {
        return DialError::Proxy(refused.to_string());
    }
    let noted = noted.map(|error| -> &(dyn StdError + 'static) { error.as_ref() });
    let address = address.to_owned();
    match find(error).or_else(|| noted.and_then(find)) {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => DialError::WrongAuthority {
            address,
            pin: pin(roots_pem),
        },
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
            time,
            not_before,
        })) => DialError::Clocks {
            address,
            ours: shown(*time),
            bound: format!("from {} on", shown(*not_before)),
            theirs: "was 10 minutes further when it made it",
        },
        Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
            time,
            not_after,
        })) => DialError::Clocks {
            address,
            ours: shown(*time),
            bound: format!("until {} only", shown(*not_after)),
            theirs: "has not reached, or it would have renewed it",
        },
        Some(rustls::Error::InvalidCertificate(reason)) => DialError::BadServer {
            address,
            reason: reason.to_string(),
        },
        Some(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)) => {
            DialError::Expired { address }
        }
        Some(rustls::Error::AlertReceived(alert)) if blames_us(*alert) => DialError::Unwelcome {
            address,
            reason: format!("{alert:?}"),
        },
        _ => DialError::Unreachable {
            address,
            reason: both(chain(error), noted),
        },
    }
}

/// What failed, and what the connection died of where that says something else.
fn both(failed: String, noted: Option<&(dyn StdError + 'static)>) -> String {
    match noted.map(chain) {
        Some(died_of) if !failed.contains(&died_of) => format!("{failed}: {died_of}"),
        _ => failed,
    }
}

fn shown(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(
        |_| format!("{seconds} s since 1970"),
        |time| time.to_string(),
    )
}

/// Alerts with which a hub says that it does not accept our certificate.
const ABOUT_US: [AlertDescription; 8] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
    AlertDescription::CertificateRequired,
];

fn blames_us(alert: AlertDescription) -> bool {
    ABOUT_US.contains(&alert)
}

/// An error of this kind inside another, however deep. `io::Error` hides what it carries from `source()`.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let inner: Option<&(dyn StdError + 'static)> =
        inner.map(|inner| -> &'a (dyn StdError + 'static) { inner });
    inner.or_else(|| error.source()).and_then(find)
}

/// The error that says more.
pub(super) fn worse(known: Option<DialError>, new: DialError) -> DialError {
    match (known, new) {
        (None, new) => new,
        (
            Some(DialError::Unreachable {
                address: a,
                reason: x,
            }),
            DialError::Unreachable {
                address: b,
                reason: y,
            },
        ) => {
            let reason = if x == y { x } else { format!("{x}; {b}: {y}") };
            DialError::Unreachable {
                address: format!("{a}, {b}"),
                reason,
            }
        }
        (Some(DialError::Unreachable { .. }), new) => new,
        (Some(known), _) => known,
    }
}
