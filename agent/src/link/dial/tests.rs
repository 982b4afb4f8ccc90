use std::{io, time::Duration};

use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::{
    fault::{explain, worse},
    *,
};

mod proxied;
mod sockets;

fn explained(error: &(dyn StdError + 'static)) -> DialError {
    explain(("h:1", ""), error, None)
}

#[derive(Debug, Error)]
#[error("outer")]
struct Outer(#[source] io::Error);

fn wrapped(error: rustls::Error) -> Outer {
    Outer(io::Error::other(error))
}

#[test]
fn a_tls_error_is_found_inside_an_io_error_and_says_what_to_do() {
    let unknown = wrapped(rustls::Error::InvalidCertificate(
        CertificateError::UnknownIssuer,
    ));
    let error = explained(&unknown);
    assert!(matches!(error, DialError::WrongAuthority { .. }), "{error}");
    let expired = wrapped(rustls::Error::AlertReceived(
        AlertDescription::CertificateExpired,
    ));
    assert_eq!(
        explained(&expired),
        DialError::Expired {
            address: "h:1".to_owned()
        }
    );
    let revoked = wrapped(rustls::Error::AlertReceived(
        AlertDescription::CertificateRevoked,
    ));
    assert!(matches!(explained(&revoked), DialError::Unwelcome { .. }));
    let plain = Outer(io::Error::other("connection refused"));
    let error = explained(&plain);
    assert!(
        matches!(&error, DialError::Unreachable { reason, .. } if reason.contains("refused")),
        "{error}"
    );
}

#[test]
fn what_a_connection_died_of_says_more_than_the_call_that_failed_of_it() {
    let closed = Outer(io::Error::other("connection closed"));
    let died_of = |alert| {
        let noted = Arc::new(io::Error::other(rustls::Error::AlertReceived(alert)));
        explain(("h:1", ""), &closed, Some(&noted))
    };
    let error = died_of(AlertDescription::CertificateExpired);
    assert!(matches!(error, DialError::Expired { .. }), "{error}");
    let error = died_of(AlertDescription::UnknownCA);
    assert!(matches!(error, DialError::Unwelcome { .. }), "{error}");
    let error = died_of(AlertDescription::InternalError).to_string();
    for part in ["connection closed", "InternalError"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_clock_that_is_wrong_by_days_is_told_with_what_is_known_of_both() {
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let behind = wrapped(rustls::Error::InvalidCertificate(
        CertificateError::NotValidYetContext {
            time: at(1_767_225_600),
            not_before: at(1_767_225_600 + 3 * 86_400),
        },
    ));
    let told = explained(&behind).to_string();
    for part in ["2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z", "h:1", "NTP"] {
        assert!(told.contains(part), "{told}");
    }
    let ahead = wrapped(rustls::Error::InvalidCertificate(
        CertificateError::ExpiredContext {
            time: at(1_767_225_600),
            not_after: at(1_767_225_600 - 86_400),
        },
    ));
    let told = explained(&ahead).to_string();
    assert!(told.contains("until 2025-12-31T00:00:00Z only"), "{told}");
}

#[test]
fn a_refusal_outweighs_an_address_that_does_not_answer() {
    let dead = |a: &str| DialError::Unreachable {
        address: a.to_owned(),
        reason: "refused".to_owned(),
    };
    let wrong = DialError::WrongAuthority {
        address: "b:1".to_owned(),
        pin: String::new(),
    };
    assert_eq!(worse(Some(dead("a:1")), wrong.clone()), wrong);
    assert_eq!(worse(Some(wrong.clone()), dead("a:1")), wrong);
    let both = DialError::Unreachable {
        address: "a:1, c:1".to_owned(),
        reason: "refused".to_owned(),
    };
    assert_eq!(worse(Some(dead("a:1")), dead("c:1")), both);
}
