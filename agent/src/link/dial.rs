//! Connections to the hub: TLS with the pinned roots and nothing else, keep-alive, and errors that say what to do.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tonic::transport::{Channel, Endpoint};

use super::{
    identity::{Identity, Membership},
    join::HubAddress,
    member::chain,
};
use fault::{explain, worse};
use noted::Noted;
use opening::Opening;

pub use fault::DialError;
pub use proxy::{Environment, ProxySettings};

mod fault;
mod noted;
mod opening;
mod proxy;
mod tunnel;

/// How long one address may take to accept a connection, and how long the TLS handshake after it.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// HTTP/2 pings keep a half-open connection from looking alive: without them a channel never recovers from a NAT or
/// node that forgot it.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Largest frame in either direction. The hub's Welcome may ask for less.
pub const LARGEST_FRAME: usize = 4 * 1024 * 1024;

/// What a connection is made with.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    /// Addresses, each tried once per attempt in random order.
    pub addresses: Vec<HubAddress>,
    /// The roots that are trusted, PEM.
    pub roots_pem: String,
    /// Through which proxy.
    pub proxy: ProxySettings,
}

/// A connection that was made, and that makes itself anew after it broke.
#[derive(Clone, Debug)]
pub struct Connection {
    /// For calls.
    pub channel: Channel,
    /// Where the hub answered.
    pub address: String,
    roots_pem: String,
    noted: Noted,
}

impl Connection {
    /// What an error of a call means. TLS 1.3 tells a client that its certificate is refused only after the handshake, when the
    /// connection seems to stand; what it died of then says more than the call that failed of it.
    #[must_use]
    pub fn explain(&self, error: &(dyn StdError + 'static)) -> DialError {
        let hub = (self.address.as_str(), self.roots_pem.as_str());
        explain(hub, error, self.noted.error().as_ref())
    }
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
    ) -> Result<Connection, DialError> {
        let mut worst: Option<DialError> = None;
        for address in shuffled(&self.addresses, random) {
            match self.connect_to(address, identity).await {
                Ok(connection) => return Ok(connection),
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
    ) -> Result<Connection, DialError> {
        let shown = address.to_string();
        let setup =
            |error: &dyn StdError| DialError::Configuration(format!("{shown}: {}", chain(error)));
        let noted = Noted::default();
        let opening = Opening {
            address: address.clone(),
            server: ServerName::try_from(address.host.clone()).map_err(|error| setup(&error))?,
            tls: self.tls(identity).map_err(|error| setup(&*error))?,
            proxy: self.proxy.clone(),
            noted: noted.clone(),
        };
        // TLS is the connector's business: to the transport it is a plain connection to an `https` origin.
        let uri = |scheme: &str| format!("{scheme}://{address}");
        let endpoint = Endpoint::from_shared(uri("http"))
            .map_err(|error| setup(&error))?
            .origin(uri("https").parse().map_err(|error| setup(&error))?)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        match endpoint.connect_with_connector(opening.connector()).await {
            Ok(channel) => Ok(Connection {
                channel,
                address: shown,
                roots_pem: self.roots_pem.clone(),
                noted,
            }),
            Err(error) => Err(explain(
                (&shown, &self.roots_pem),
                &error,
                noted.error().as_ref(),
            )),
        }
    }

    fn tls(
        &self,
        identity: Option<&Identity>,
    ) -> Result<Arc<ClientConfig>, Box<dyn StdError + Send + Sync>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.roots_pem.as_bytes()) {
            roots.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let member = identity.and_then(|identity| Some((identity, identity.membership.as_ref()?)));
        let mut config = match member {
            Some((identity, Membership { chain_pem, .. })) => {
                let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.session_key_pem().as_bytes())?;
                builder.with_client_auth_cert(chain.collect::<Result<_, _>>()?, key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![opening::HTTP_2.to_vec()];
        Ok(Arc::new(config))
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
mod tests;
