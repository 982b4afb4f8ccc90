//! Asking other nodes of the cluster. One connection a node, made when it is needed and again after any failure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::sync::proto::nodes::nodes_client::NodesClient;
use crate::sync::proto::nodes::{GrantReply, GrantRequest};
use crate::sync::settings::{Host, Internal};
use crate::sync::tls::{Between, TlsError};

/// An answer that takes longer is worth little: a permission counts from the start of the question.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Why another node gave no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::sync) enum MemberError {
    /// This node cannot identify itself.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server name is none.
    #[error("{name:?} is no server name")]
    ServerName {
        /// What the settings say.
        name: String,
        /// Why not.
        #[source]
        source: InvalidDnsNameError,
    },
    /// The address is none.
    #[error("{0:?} is no host:port")]
    Address(String),
    /// No connection.
    #[error("connect to {address}")]
    Dial {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// The call failed.
    #[error("{address} did not answer")]
    Call {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: Box<Status>,
    },
    /// No answer in time.
    #[error("{address} did not answer within {} ms", PATIENCE.as_millis())]
    Late {
        /// Where.
        address: String,
    },
}

/// The other nodes of the cluster.
pub(in crate::sync) struct Members {
    internal: Internal,
    between: Between,
    host: Host,
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Members {
    pub(in crate::sync) fn new(internal: Internal, between: Between, host: Host) -> Arc<Self> {
        Arc::new(Self {
            internal,
            between,
            host,
            channels: Mutex::default(),
        })
    }

    /// Asks `member` for a grant.
    ///
    /// # Errors
    /// [`MemberError`] if there is no answer; the next question then makes a new connection.
    pub(in crate::sync) async fn grant(
        &self,
        member: &str,
        request: GrantRequest,
    ) -> Result<GrantReply, MemberError> {
        let address = format!("{}:{}", (self.host)(member), self.internal.port);
        let asked = tokio::time::timeout(PATIENCE, self.ask(member, &address, request)).await;
        let answer = asked.unwrap_or(Err(MemberError::Late { address }));
        if answer.is_err() {
            self.channels().remove(member);
        }
        answer
    }

    fn channels(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        member: &str,
        address: &str,
        request: GrantRequest,
    ) -> Result<GrantReply, MemberError> {
        let known = self.channels().get(member).cloned();
        let channel = match known {
            Some(channel) => channel,
            None => {
                let channel = self.dial(address).await?;
                self.channels().insert(member.to_owned(), channel.clone());
                channel
            }
        };
        NodesClient::new(channel)
            .grant(request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| MemberError::Call {
                address: address.to_owned(),
                source: Box::new(status),
            })
    }

    async fn dial(&self, address: &str) -> Result<Channel, MemberError> {
        let server_name = &self.internal.server_name;
        let name = ServerName::try_from(server_name.clone()).map_err(|source| {
            MemberError::ServerName {
                name: server_name.clone(),
                source,
            }
        })?;
        let (client, name) = self.between.client(&name)?;
        let uri: Uri = format!("http://{address}")
            .parse()
            .map_err(|_| MemberError::Address(address.to_owned()))?;
        let endpoint = Endpoint::from(uri)
            .connect_timeout(PATIENCE)
            .http2_keep_alive_interval(PATIENCE)
            .keep_alive_timeout(PATIENCE)
            .keep_alive_while_idle(true);
        let to = address.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let (to, client, name) = (to.clone(), client.clone(), name.clone());
            async move {
                let tcp = TcpStream::connect(&to).await?;
                tcp.set_nodelay(true)?;
                let tls = tokio_rustls::TlsConnector::from(client);
                tls.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|source| MemberError::Dial {
                address: address.to_owned(),
                source,
            })
    }
}
