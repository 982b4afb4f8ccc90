//! Connections to the hub: TLS with the pinned roots and nothing else, keep-alive, and errors that say what to do.

use std::{error::Error as StdError, time::Duration};

use rustls::{AlertDescription, CertificateError};
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
        match find_tls(error) {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => DialError::WrongAuthority {
                address,
                pin: pin(&self.roots_pem),
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

fn blames_us(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
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
