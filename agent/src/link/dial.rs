//! Connections to the hub: TLS with the pinned roots and nothing else, keep-alive, and errors that say what to do.

use std::{error::Error as StdError, time::Duration};

use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::UnixTime;
use thiserror::Error;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};

use super::{
    identity::Identity,
    join::{HubAddress, pin},
    member::chain,
};

/// How long one address may take to accept a connection, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// HTTP/2 pings keep a half-open connection from looking alive: without them a channel never recovers from a NAT or
/// node that forgot it.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Largest frame in either direction. The hub's Welcome may ask for less.
pub const LARGEST_FRAME: usize = 4 * 1024 * 1024;

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

/// What a connection is made with.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Addresses, each tried once per attempt in random order.
    pub addresses: Vec<HubAddress>,
    /// The roots that are trusted, PEM.
    pub roots_pem: String,
}

impl Dialer {
    /// Adds addresses that are not known yet. Whoever answers there must have a certificate of the same roots.
    pub fn also(&mut self, addresses: &[HubAddress]) {
        for address in addresses {
            if !self.addresses.contains(address) {
                self.addresses.push(address.clone());
            }
        }
    }

    /// Connects to the first address that answers; with `identity`, as that member.
    ///
    /// # Errors
    /// The [`DialError`] that says most: a refusal outweighs an address that does not answer.
    pub async fn connect(
        &self,
        identity: Option<&Identity>,
        random: fn() -> f64,
    ) -> Result<(Channel, String), DialError> {
        let mut worst: Option<DialError> = None;
        for address in shuffled(&self.addresses, random) {
            match self.connect_to(address, identity).await {
                Ok(channel) => return Ok((channel, address.to_string())),
                Err(error) => worst = Some(worse(worst, error)),
            }
        }
        Err(worst
            .unwrap_or_else(|| DialError::Configuration("no address of a hub is known".to_owned())))
    }

    async fn connect_to(
        &self,
        address: &HubAddress,
        identity: Option<&Identity>,
    ) -> Result<Channel, DialError> {
        let shown = address.to_string();
        let setup = |error: tonic::transport::Error| {
            DialError::Configuration(format!("{shown}: {}", chain(&error)))
        };
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.roots_pem))
            .domain_name(address.host.clone());
        if let Some((identity, membership)) =
            identity.and_then(|it| Some((it, it.membership.as_ref()?)))
        {
            tls = tls.identity(TlsIdentity::from_pem(
                &membership.chain_pem,
                identity.session_key_pem(),
            ));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .map_err(setup)?
            .tls_config(tls)
            .map_err(setup)?
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let connected = tokio::time::timeout(CONNECT_WITHIN * 2, endpoint.connect()).await;
        match connected {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(self.explain(&shown, &error)),
            Err(_late) => Err(DialError::Unreachable {
                address: shown,
                reason: format!("no answer within {} s", 2 * CONNECT_WITHIN.as_secs()),
            }),
        }
    }

    /// What an error of a connection or of a call means. TLS 1.3 tells a client that its certificate is refused only
    /// after the handshake, so errors of calls are explained here too.
    #[must_use]
    pub fn explain(&self, address: &str, error: &(dyn StdError + 'static)) -> DialError {
        let address = address.to_owned();
        let told = alert_told(&chain(error));
        match find_tls(error).or(told.as_ref()) {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => DialError::WrongAuthority {
                address,
                pin: pin(&self.roots_pem),
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
            Some(rustls::Error::AlertReceived(alert)) if blames_us(*alert) => {
                DialError::Unwelcome {
                    address,
                    reason: format!("{alert:?}"),
                }
            }
            _ => DialError::Unreachable {
                address,
                reason: chain(error),
            },
        }
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

/// The alert that a text tells of. An alert that comes after the handshake, as those about our certificate do, has been turned
/// into text by the HTTP library when a call fails of it; the error itself is gone by then.
fn alert_told(text: &str) -> Option<rustls::Error> {
    let alerts = ABOUT_US
        .into_iter()
        .chain([AlertDescription::CertificateExpired]);
    let mut errors = alerts.map(rustls::Error::AlertReceived);
    errors.find(|error| text.contains(&error.to_string()))
}

/// The TLS error inside an error, however deep. `io::Error` hides what it carries from `source()`.
fn find_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    let inner = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    let inner: Option<&(dyn StdError + 'static)> =
        inner.map(|inner| -> &'a (dyn StdError + 'static) { inner });
    inner.or_else(|| error.source()).and_then(find_tls)
}

/// The error that says more.
fn worse(known: Option<DialError>, new: DialError) -> DialError {
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

fn shuffled(addresses: &[HubAddress], random: fn() -> f64) -> Vec<&HubAddress> {
    let mut keyed: Vec<_> = addresses
        .iter()
        .map(|address| (random(), address))
        .collect();
    keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    keyed.into_iter().map(|(_, address)| address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialer() -> Dialer {
        Dialer {
            addresses: vec![],
            roots_pem: String::new(),
        }
    }

    #[derive(Debug, Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    fn wrapped(error: rustls::Error) -> Outer {
        Outer(std::io::Error::other(error))
    }

    #[test]
    fn a_tls_error_is_found_inside_an_io_error_and_says_what_to_do() {
        let unknown = wrapped(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer,
        ));
        let error = dialer().explain("h:1", &unknown);
        assert!(matches!(error, DialError::WrongAuthority { .. }), "{error}");
        let expired = wrapped(rustls::Error::AlertReceived(
            AlertDescription::CertificateExpired,
        ));
        assert_eq!(
            dialer().explain("h:1", &expired),
            DialError::Expired {
                address: "h:1".to_owned()
            }
        );
        let revoked = wrapped(rustls::Error::AlertReceived(
            AlertDescription::CertificateRevoked,
        ));
        assert!(matches!(
            dialer().explain("h:1", &revoked),
            DialError::Unwelcome { .. }
        ));
        let plain = Outer(std::io::Error::other("connection refused"));
        let error = dialer().explain("h:1", &plain);
        assert!(
            matches!(&error, DialError::Unreachable { reason, .. } if reason.contains("refused")),
            "{error}"
        );
    }

    #[test]
    fn an_alert_of_which_only_the_text_is_left_is_understood() {
        let text = rustls::Error::AlertReceived(AlertDescription::CertificateExpired).to_string();
        let broken = Outer(std::io::Error::other(text));
        let error = dialer().explain("h:1", &broken);
        assert!(matches!(error, DialError::Expired { .. }), "{error}");
        let text = rustls::Error::AlertReceived(AlertDescription::UnknownCA).to_string();
        let broken = Outer(std::io::Error::other(text));
        let error = dialer().explain("h:1", &broken);
        assert!(matches!(error, DialError::Unwelcome { .. }), "{error}");
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
        let told = dialer().explain("h:1", &behind).to_string();
        for part in ["2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z", "h:1", "NTP"] {
            assert!(told.contains(part), "{told}");
        }
        let ahead = wrapped(rustls::Error::InvalidCertificate(
            CertificateError::ExpiredContext {
                time: at(1_767_225_600),
                not_after: at(1_767_225_600 - 86_400),
            },
        ));
        let told = dialer().explain("h:1", &ahead).to_string();
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
}
